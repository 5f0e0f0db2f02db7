//! Cuts large frames into TCP segments, as a NIC does.

use crate::wire::{self, control};
use alloc::vec::Vec;

/// The segments of a frame whose first `header_len` bytes are the header of all of them. Their
/// checksum fields hold what those of single segments do.
///
/// # Panics
/// If the header says how long the segments are: that is for the NIC.
pub fn segments(frame: &[u8], header_len: usize, segment_size: usize) -> Vec<Vec<u8>> {
    // Where the IP length is, from where on it counts, and where the TCP header starts.
    let (length, counted_from, tcp) = match wire::be16(frame, 12) {
        wire::ETHERTYPE_IPV6 => (18, 54, 54),
        _ => (16, 14, 34),
    };
    assert_eq!(wire::be16(frame, length), 0, "IP length of a large frame");
    let (header, payload) = frame.split_at(header_len);
    let count = payload.len().div_ceil(segment_size);
    let each = payload.chunks(segment_size).enumerate();
    each.map(|(number, payload)| {
        let mut segment = [header, payload].concat();
        let len = segment.len();
        wire::put16(&mut segment, length, (len - counted_from) as u16);
        let seq = wire::be32(header, tcp + 4).wrapping_add((number * segment_size) as u32);
        wire::put32(&mut segment, tcp + 4, seq);
        if number != 0 {
            segment[tcp + 13] &= !control::CWR;
        }
        if number + 1 != count {
            segment[tcp + 13] &= !(control::FIN | control::PSH);
        }
        let pseudo = u64::from(wire::be16(header, tcp + 16)) + (len - tcp) as u64;
        wire::put16(&mut segment, tcp + 16, wire::fold(pseudo));
        segment
    })
    .collect()
}
