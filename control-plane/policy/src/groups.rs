//! How flow groups are dealt out among the threads that serve: evenly, and with the fewest moves.

/// Some flow groups go from one elastic thread to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The thread that has them.
    pub from: usize,
    /// The thread that gets them.
    pub to: usize,
    /// The groups, one a bit.
    pub groups: u128,
}

/// The moves after which each of the threads `serving` has its even share of the groups, and no other
/// thread has any. `owners` are the threads that have them now. Nothing moves if nobody serves.
pub fn spread(owners: &[u8], serving: &[usize]) -> Vec<Move> {
    if serving.is_empty() {
        return Vec::new();
    }
    let mut owned: Vec<Vec<usize>> = vec![Vec::new(); serving.len()];
    let mut homeless = Vec::new();
    for (group, owner) in owners.iter().enumerate() {
        match serving
            .iter()
            .position(|thread| *thread == usize::from(*owner))
        {
            Some(place) => owned[place].push(group),
            None => homeless.push(group),
        }
    }
    let shares = shares(&owned, owners.len());
    for (groups, share) in owned.iter_mut().zip(&shares) {
        let surplus = groups.len().saturating_sub(*share);
        homeless.extend(groups.drain(groups.len() - surplus..));
    }
    let mut moves: Vec<Move> = Vec::new();
    for ((groups, share), to) in owned.iter().zip(&shares).zip(serving) {
        for group in homeless.drain(..(share - groups.len()).min(homeless.len())) {
            let from = usize::from(owners[group]);
            let bit = 1u128 << group;
            match moves
                .iter_mut()
                .find(|known| known.from == from && known.to == *to)
            {
                Some(known) => known.groups |= bit,
                None => moves.push(Move {
                    from,
                    to: *to,
                    groups: bit,
                }),
            }
        }
    }
    moves
}

/// How many groups each thread is to have: as many as any other, and one more for those that have
/// the most already, until all are dealt out.
fn shares(owned: &[Vec<usize>], groups: usize) -> Vec<usize> {
    let even = groups / owned.len();
    let mut shares = vec![even; owned.len()];
    let mut by_wealth: Vec<usize> = (0..owned.len()).collect();
    by_wealth.sort_by_key(|place| std::cmp::Reverse(owned[*place].len()));
    for place in by_wealth.into_iter().take(groups % owned.len()) {
        shares[place] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(owners: &[u8], moves: &[Move]) -> Vec<u8> {
        let mut owners = owners.to_vec();
        for step in moves {
            for (group, owner) in owners.iter_mut().enumerate() {
                if step.groups >> group & 1 == 1 {
                    assert_eq!(usize::from(*owner), step.from, "given by its owner");
                    *owner = step.to as u8;
                }
            }
        }
        owners
    }

    fn moved(moves: &[Move]) -> u32 {
        moves.iter().map(|step| step.groups.count_ones()).sum()
    }

    #[test]
    fn a_thread_that_comes_gets_its_share_and_no_more_moves() {
        let owners = [0u8, 1].repeat(64);
        let moves = spread(&owners, &[0, 1, 2]);
        let owners = after(&owners, &moves);
        let share = |thread| owners.iter().filter(|owner| **owner == thread).count();
        assert_eq!((share(0), share(1), share(2)), (43, 43, 42));
        assert_eq!(moved(&moves), 42);
    }

    #[test]
    fn a_thread_that_goes_leaves_nothing_behind() {
        let owners = [0u8, 1, 2, 3].repeat(32);
        let moves = spread(&owners, &[0, 1, 3]);
        assert!(moves.iter().all(|step| step.from == 2));
        assert_eq!(moved(&moves), 32);
        assert!(!after(&owners, &moves).contains(&2));
    }

    #[test]
    fn what_is_even_stays() {
        assert_eq!(spread(&[0u8, 1].repeat(64), &[0, 1]), []);
        assert_eq!(spread(&[], &[0, 1]), []);
        assert_eq!(spread(&[0; 128], &[]), []);
    }

    #[test]
    fn any_state_becomes_even_in_one_step() {
        for seed in 0u32..200 {
            let mut random = seed;
            let mut next = move || {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                random >> 16
            };
            let owners: Vec<u8> = (0..128).map(|_| (next() % 8) as u8).collect();
            let serving: Vec<usize> = (0..8).filter(|_| next() % 2 == 0).collect();
            if serving.is_empty() {
                continue;
            }
            let owners = after(&owners, &spread(&owners, &serving));
            let share = |thread: usize| {
                let owned = owners.iter().filter(|owner| usize::from(**owner) == thread);
                owned.count()
            };
            let shares: Vec<usize> = serving.iter().map(|thread| share(*thread)).collect();
            assert_eq!(shares.iter().sum::<usize>(), 128, "seed {seed}");
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "seed {seed}: {shares:?}");
        }
    }
}
