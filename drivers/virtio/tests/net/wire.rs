//! What a device does to a frame between its queue and the wire, by the header before it.

use ix_conformance::frames::{add, sum};

const NEEDS_CSUM: u8 = 1;
const ETHERNET: usize = 14;

/// The frames that one of a transmit queue becomes.
pub fn sent(header: &[u8], frame: &[u8]) -> Vec<Vec<u8>> {
    let field = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (flags, gso_type) = (header[0], header[1] & 0x7f);
    let (hdr_len, gso_size, start, offset) = (field(2), field(4), field(6), field(8));
    match (gso_type, flags & NEEDS_CSUM) {
        (0, 0) => vec![frame.to_vec()],
        (0, _) => {
            let mut frame = frame.to_vec();
            let checksum = !sum(&frame[start..]);
            frame[start + offset..][..2].copy_from_slice(&checksum.to_be_bytes());
            vec![frame]
        }
        (1 | 4, NEEDS_CSUM) => {
            assert_eq!(offset, 16, "where TCP has its checksum");
            assert_eq!(start, if gso_type == 1 { 34 } else { 54 });
            assert_eq!(hdr_len, start + usize::from(frame[start + 12] >> 4) * 4);
            cut(frame, start, hdr_len, gso_size)
        }
        _ => panic!("a header that is none: {header:02x?}"),
    }
}

/// Cuts a whole packet, which has to be a valid one but for its TCP checksum.
fn cut(frame: &[u8], tcp: usize, hdr_len: usize, size: usize) -> Vec<Vec<u8>> {
    let (headers, payload) = frame.split_at(hdr_len);
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let upper = frame.len() - tcp;
    if tcp == 34 {
        assert_eq!(usize::from(word(16)), frame.len() - ETHERNET);
        assert_eq!(
            sum(&frame[ETHERNET..tcp]),
            0xffff,
            "the IPv4 header's checksum"
        );
    } else {
        assert_eq!(usize::from(word(18)), upper);
    }
    assert_eq!(word(tcp + 16), pseudo(frame, tcp, upper));
    let last = payload.len().div_ceil(size) - 1;
    let pieces = payload.chunks(size).enumerate();
    pieces
        .map(|(number, piece)| {
            let mut segment = [headers, piece].concat();
            let seq = u32::from_be_bytes(frame[tcp + 4..tcp + 8].try_into().expect("four bytes"));
            let seq = seq.wrapping_add((number * size) as u32);
            segment[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
            // FIN and PSH, and CWR (RFC 3168 6.1.2).
            if number != last {
                segment[tcp + 13] &= !0x09;
            }
            if number != 0 {
                segment[tcp + 13] &= !0x80;
            }
            finish(&mut segment, tcp, number as u16);
            segment
        })
        .collect()
}

/// Lengths, identification and checksums of a segment.
fn finish(segment: &mut [u8], tcp: usize, number: u16) {
    let upper = segment.len() - tcp;
    if tcp == 34 {
        let total = (segment.len() - ETHERNET) as u16;
        segment[16..18].copy_from_slice(&total.to_be_bytes());
        let id = u16::from_be_bytes([segment[18], segment[19]]).wrapping_add(number);
        segment[18..20].copy_from_slice(&id.to_be_bytes());
        segment[24..26].fill(0);
        let checksum = !sum(&segment[ETHERNET..tcp]);
        segment[24..26].copy_from_slice(&checksum.to_be_bytes());
    } else {
        segment[18..20].copy_from_slice(&(upper as u16).to_be_bytes());
    }
    let pseudo = pseudo(segment, tcp, upper);
    segment[tcp + 16..tcp + 18].copy_from_slice(&pseudo.to_be_bytes());
    let checksum = !sum(&segment[tcp..]);
    segment[tcp + 16..tcp + 18].copy_from_slice(&checksum.to_be_bytes());
}

/// Sum of TCP's pseudo header (RFC 9293 3.1).
fn pseudo(frame: &[u8], tcp: usize, upper: usize) -> u16 {
    let addresses = if tcp == 34 {
        &frame[26..34]
    } else {
        &frame[22..54]
    };
    add(sum(addresses), add(6, upper as u16))
}

/// The hash of a frame, if its kind is among `types` (5.1.6.4.3): TCP and UDP over either IP.
pub fn hash(frame: &[u8], types: u32, key: &[u8]) -> Option<u32> {
    let (protocol, addresses, ports, first) = match frame[12..14] {
        [0x08, 0x00] => (frame[23], 26..34, 34..38, 1),
        [0x86, 0xdd] => (frame[20], 22..54, 54..58, 4),
        _ => return None,
    };
    let kind = match protocol {
        6 => first,
        17 => first + 1,
        _ => return None,
    };
    let input = [&frame[addresses], &frame[ports]].concat();
    (types >> kind & 1 != 0).then(|| toeplitz(key, &input))
}

/// The Toeplitz hash, bit by bit.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1 != 0;
    let window = |at: usize| (0..32).fold(0, |word, n| word << 1 | u32::from(bit(key, at + n)));
    (0..8 * input.len())
        .filter(|&at| bit(input, at))
        .fold(0, |hash, at| hash ^ window(at))
}
