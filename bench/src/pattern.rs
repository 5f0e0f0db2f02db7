//! The bytes that are sent: a different one at every position of every connection, so that bytes
//! lost, repeated, reordered, changed, or of another connection are told from the right ones.

/// Fills `bytes` with what connection `connection` sends from `position` on.
pub fn fill(bytes: &mut [u8], connection: u64, position: u64) {
    let mut position = position;
    let mut rest = bytes;
    while !rest.is_empty() {
        let word = word(connection, position / 8).to_le_bytes();
        let part = &word[(position % 8) as usize..];
        let count = part.len().min(rest.len());
        let (front, back) = rest.split_at_mut(count);
        front.copy_from_slice(&part[..count]);
        position += count as u64;
        rest = back;
    }
}

/// The first byte in which `bytes` differ from what connection `connection` sends from `position`
/// on, if there is one: its index, and what it should be.
pub fn mismatch(bytes: &[u8], connection: u64, position: u64) -> Option<(usize, u8)> {
    let mut index = 0;
    while index < bytes.len() {
        let at = position + index as u64;
        let word = word(connection, at / 8).to_le_bytes();
        let part = &word[(at % 8) as usize..];
        let count = part.len().min(bytes.len() - index);
        let found = &bytes[index..index + count];
        if *found != part[..count] {
            let differs = |&offset: &usize| found[offset] != part[offset];
            let offset = (0..count).find(differs).expect("the slices differ");
            return Some((index + offset, part[offset]));
        }
        index += count;
    }
    None
}

/// SplitMix64 (Steele, Lea, Flood 2014) of connection and index.
fn word(connection: u64, index: u64) -> u64 {
    let mut mixed = (connection << 40 ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_the_stream_is_the_same() {
        let mut whole = [0; 100];
        fill(&mut whole, 3, 0);
        for first in 0..100 {
            for end in first..100 {
                let mut part = vec![0; end - first];
                fill(&mut part, 3, first as u64);
                assert_eq!(part, whole[first..end]);
                assert_eq!(mismatch(&part, 3, first as u64), None);
            }
        }
    }

    #[test]
    fn every_wrong_byte_is_found() {
        let mut bytes = [0; 50];
        fill(&mut bytes, 1, 13);
        for index in 0..bytes.len() {
            let right = bytes[index];
            bytes[index] ^= 0x10;
            assert_eq!(mismatch(&bytes, 1, 13), Some((index, right)));
            bytes[index] = right;
        }
    }

    #[test]
    fn connections_and_positions_differ() {
        let at = |connection, position| {
            let mut bytes = [0; 16];
            fill(&mut bytes, connection, position);
            bytes
        };
        for number in 1..2000 {
            assert_ne!(at(0, 0), at(number, 0));
            assert_ne!(at(0, 0), at(0, number));
        }
    }
}
