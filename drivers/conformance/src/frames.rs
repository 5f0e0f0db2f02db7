//! Ethernet frames, and checksums computed in the plainest way (RFC 1071), apart from both the
//! driver's device and the model's code.

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

const IP: usize = 14;
const L4: usize = 34;
const IPV6_L4: usize = 54;

/// A TCP or UDP frame of `length` bytes to the station, all checksums right. `seed` varies ports
/// and payload.
pub fn ipv4(protocol: u8, length: usize, seed: u32) -> Vec<u8> {
    let mut frame = unfinished(protocol, length, seed);
    let ip = !sum(&frame[IP..L4]);
    frame[24..26].copy_from_slice(&ip.to_be_bytes());
    let at = checksum_offset(protocol);
    let l4 = !add(pseudo_header(&frame), sum(&frame[L4..]));
    frame[at..at + 2].copy_from_slice(&l4.to_be_bytes());
    frame
}

/// The same as software hands it to a device that inserts the checksums: the IPv4 header's is zero,
/// the other is the sum of the pseudo header.
pub fn ipv4_for_offload(protocol: u8, length: usize, seed: u32) -> Vec<u8> {
    let mut frame = unfinished(protocol, length, seed);
    let at = checksum_offset(protocol);
    let pseudo = pseudo_header(&frame);
    frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

/// The same over IPv6.
pub fn ipv6(protocol: u8, length: usize, seed: u32) -> Vec<u8> {
    let mut frame = ipv6_for_offload(protocol, length, seed);
    let at = ipv6_checksum_offset(protocol);
    let l4 = !sum(&frame[IPV6_L4..]);
    frame[at..at + 2].copy_from_slice(&l4.to_be_bytes());
    frame
}

/// The same over IPv6, with the sum of the pseudo header in place of the checksum.
pub fn ipv6_for_offload(protocol: u8, length: usize, seed: u32) -> Vec<u8> {
    // The headers above IP and the payload are those of the frame over IPv4.
    let ipv4 = unfinished(protocol, length - 20, seed);
    let upper = (length - IPV6_L4) as u16;
    let mut frame = ipv4[..12].to_vec();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend(upper.to_be_bytes());
    frame.extend([protocol, 64]);
    for station in [seed.to_be_bytes()[0], 2] {
        frame.extend([0xfd, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, station]);
    }
    frame.extend(&ipv4[L4..]);
    let pseudo = add(sum(&frame[22..IPV6_L4]), add(u16::from(protocol), upper));
    let at = ipv6_checksum_offset(protocol);
    frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

fn ipv6_checksum_offset(protocol: u8) -> usize {
    checksum_offset(protocol) + IPV6_L4 - L4
}

fn unfinished(protocol: u8, length: usize, seed: u32) -> Vec<u8> {
    let header = if protocol == TCP { 54 } else { 42 };
    assert!(length >= header);
    let [s0, s1, s2, s3] = seed.to_be_bytes();
    let mut frame = Vec::with_capacity(length);
    frame.extend(crate::MAC);
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    let [l0, l1] = ((length - IP) as u16).to_be_bytes();
    frame.extend([0x45, 0, l0, l1, s2, s3, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([10, 9, s0, 1, 10, 9, 0, 2, s2, s3, 0, 80]);
    if protocol == TCP {
        frame.extend([0, 0, s0, s1, 0, 0, 0, 0, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
    } else {
        frame.extend(((length - L4) as u16).to_be_bytes());
        frame.extend([0, 0]);
    }
    let mut state = seed | 1;
    frame.resize_with(length, || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    frame
}

/// Whether both checksums of a frame are right.
pub fn checksums_hold(frame: &[u8]) -> bool {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let frame = &frame[..IP + total];
    sum(&frame[IP..L4]) == 0xffff && add(pseudo_header(frame), sum(&frame[L4..])) == 0xffff
}

/// Sum of the pseudo header.
fn pseudo_header(frame: &[u8]) -> u16 {
    let length = (frame.len() - L4) as u16;
    let protocol = u16::from(frame[23]);
    add(sum(&frame[26..L4]), add(protocol, length))
}

fn checksum_offset(protocol: u8) -> usize {
    L4 + if protocol == TCP { 16 } else { 6 }
}

/// One's complement sum of 16-bit words, the last padded with zero.
pub fn sum(bytes: &[u8]) -> u16 {
    bytes
        .chunks(2)
        .map(|pair| u16::from(pair[0]) << 8 | u16::from(*pair.get(1).unwrap_or(&0)))
        .fold(0, add)
}

/// One's complement sum of two words.
pub fn add(left: u16, right: u16) -> u16 {
    let (sum, carry) = left.overflowing_add(right);
    sum + u16::from(carry)
}
