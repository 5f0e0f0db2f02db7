//! A wire that loses, reorders and duplicates frames, the same way for the same seed.

use std::os::fd::BorrowedFd;

use super::{MAX_FRAME_BYTES, Wire, WireError};

/// How long a reordered frame waits for another to overtake it before it goes on alone.
const HOLD_NS: u64 = 1_000_000;

/// How bad a wire is; each probability is between 0 and 1 and applies to each frame in each
/// direction.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Impairment {
    /// Probability that a frame is lost.
    pub loss: f64,
    /// Probability that a frame is held back until the next one has passed.
    pub reorder: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Seed of the dice.
    pub seed: u64,
}

impl Impairment {
    /// Whether frames pass unharmed.
    pub fn is_none(&self) -> bool {
        self.loss <= 0.0 && self.reorder <= 0.0 && self.duplicate <= 0.0
    }
}

/// A wire with an [`Impairment`].
#[derive(Debug)]
pub struct Impaired<W> {
    inner: W,
    /// `None`: frames pass straight through.
    dice: Option<Dice>,
    outgoing: Lane,
    incoming: Lane,
    scratch: Vec<u8>,
    now_ns: u64,
}

/// The state of one direction: the frame held back, and frames that are due.
#[derive(Debug, Default)]
struct Lane {
    held: Option<(u64, Vec<u8>)>,
    due: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Dice {
    impairment: Impairment,
    state: u64,
}

impl<W: Wire> Impaired<W> {
    /// Impairs `inner`.
    pub fn new(inner: W, impairment: Impairment) -> Self {
        let dice = (!impairment.is_none()).then_some(Dice {
            impairment,
            state: impairment.seed,
        });
        Self {
            inner,
            scratch: dice
                .as_ref()
                .map_or(Vec::new(), |_| vec![0; MAX_FRAME_BYTES]),
            dice,
            outgoing: Lane::default(),
            incoming: Lane::default(),
            now_ns: 0,
        }
    }

    fn send_due(&mut self) -> Result<(), WireError> {
        let mut result = Ok(());
        for frame in self.outgoing.due.drain(..) {
            result = result.and(self.inner.send(&frame));
        }
        result
    }
}

impl<W: Wire> Wire for Impaired<W> {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        let Some(dice) = &mut self.dice else {
            return self.inner.send(frame);
        };
        self.outgoing.pass(frame, dice, self.now_ns);
        self.send_due()
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        let Some(dice) = &mut self.dice else {
            return self.inner.receive(frame);
        };
        loop {
            if !self.incoming.due.is_empty() {
                let due = self.incoming.due.remove(0);
                if let Some(room) = frame.get_mut(..due.len()) {
                    room.copy_from_slice(&due);
                    return Ok(Some(due.len()));
                }
                continue;
            }
            let Some(length) = self.inner.receive(&mut self.scratch)? else {
                return Ok(None);
            };
            self.incoming
                .pass(&self.scratch[..length], dice, self.now_ns);
        }
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.inner.advance(now_ns);
        for lane in [&mut self.outgoing, &mut self.incoming] {
            if let Some((_, frame)) = lane.held.take_if(|(until, _)| *until <= now_ns) {
                lane.due.push(frame);
            }
        }
        if let Err(error) = self.send_due() {
            log::debug!("a delayed frame was lost: {error}");
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let held = [&self.outgoing, &self.incoming]
            .into_iter()
            .filter_map(|lane| lane.held.as_ref().map(|(until, _)| *until));
        // Frames that are due wait for the next `receive` only.
        let due = (!self.incoming.due.is_empty()).then_some(self.now_ns);
        held.chain(due).chain(self.inner.deadline_ns()).min()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }
}

impl Lane {
    /// Rolls the dice for a frame; what is to arrive now is appended to `due`.
    fn pass(&mut self, frame: &[u8], dice: &mut Dice, now_ns: u64) {
        let Impairment {
            loss,
            reorder,
            duplicate,
            ..
        } = dice.impairment;
        let (lost, late, twice) = (dice.roll(loss), dice.roll(reorder), dice.roll(duplicate));
        if lost {
            return;
        }
        if late && self.held.is_none() {
            self.held = Some((now_ns.saturating_add(HOLD_NS), frame.to_vec()));
            return;
        }
        self.due.push(frame.to_vec());
        if twice {
            self.due.push(frame.to_vec());
        }
        if let Some((_, frame)) = self.held.take() {
            self.due.push(frame);
        }
    }
}

impl Dice {
    /// True with probability `probability` (SplitMix64, 53 bits).
    fn roll(&mut self, probability: f64) -> bool {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) as f64) < probability * (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cable;
    use super::*;

    fn run(impairment: Impairment, frames: u8) -> Vec<u8> {
        let (far, near) = Cable::pair(1024);
        let mut far = far;
        let mut wire = Impaired::new(near, impairment);
        for number in 0..frames {
            wire.send(&[number; 60]).unwrap();
        }
        wire.advance(HOLD_NS);
        let mut arrived = Vec::new();
        while let Some(frame) = far.take() {
            arrived.push(frame[0]);
        }
        arrived
    }

    #[test]
    fn a_good_wire_changes_nothing() {
        let good = Impairment::default();
        assert_eq!(run(good, 100), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn the_same_seed_does_the_same_harm() {
        let bad = Impairment {
            loss: 0.1,
            reorder: 0.1,
            duplicate: 0.1,
            seed: 7,
        };
        let arrived = run(bad, 250);
        assert_eq!(arrived, run(bad, 250));
        assert_ne!(arrived, run(Impairment { seed: 8, ..bad }, 250));
    }

    #[test]
    fn loss_is_near_its_probability() {
        let bad = Impairment {
            loss: 0.2,
            seed: 1,
            ..Impairment::default()
        };
        let arrived = run(bad, 250).len();
        assert!((170..=230).contains(&arrived), "{arrived} of 250 arrived");
    }

    #[test]
    fn reordering_loses_nothing_and_the_last_frame_is_not_held_for_ever() {
        let bad = Impairment {
            reorder: 0.5,
            seed: 3,
            ..Impairment::default()
        };
        let mut arrived = run(bad, 200);
        assert!(!arrived.is_sorted());
        arrived.sort_unstable();
        assert_eq!(arrived, (0..200).collect::<Vec<u8>>());
    }

    #[test]
    fn duplicates_arrive_twice_on_the_way_in_too() {
        let (mut far, near) = Cable::pair(8);
        let twice = Impairment {
            duplicate: 1.0,
            ..Impairment::default()
        };
        let mut wire = Impaired::new(near, twice);
        far.send(&[9; 70]).unwrap();
        let mut frame = [0; 128];
        assert_eq!(wire.receive(&mut frame).unwrap(), Some(70));
        assert!(wire.deadline_ns().is_some());
        assert_eq!(wire.receive(&mut frame).unwrap(), Some(70));
        assert_eq!(wire.receive(&mut frame).unwrap(), None);
    }
}
