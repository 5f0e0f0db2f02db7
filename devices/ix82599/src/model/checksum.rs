//! Sums of the Internet checksum (RFC 1071), and the Ethernet FCS.

/// The one's complement sum of big-endian 16-bit words; an odd last byte counts as the high one.
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let total: u64 = words
        .iter()
        .chain([&last])
        .map(|word| u64::from(u32::from_be_bytes(*word)))
        .sum();
    fold(total)
}

/// The one's complement sum of two sums.
pub(super) fn add(left: u16, right: u16) -> u16 {
    fold(u64::from(left) + u64::from(right))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

/// The FCS of a frame (IEEE 802.3, 3.2.9), in the order of transmission. Bit by bit: only drivers
/// that keep the FCS in received frames need it.
pub(super) fn fcs(frame: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in frame {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&example), 0xddf2);
        assert_eq!(sum(&example[..6]), 0xe6fa);
        assert_eq!(sum(&[0x12]), 0x1200);
        assert_eq!(sum(&[]), 0);
        assert_eq!(add(0xffff, 0x0001), 0x0001);
    }

    #[test]
    fn the_fcs_of_the_check_string_is_the_known_one() {
        assert_eq!(fcs(b"123456789"), 0xcbf4_3926_u32.to_le_bytes());
    }
}
