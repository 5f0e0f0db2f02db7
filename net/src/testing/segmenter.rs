//! Cuts large frames into TCP segments, as a NIC does.

use crate::wire::{self, control};
use alloc::vec::Vec;

/// Where the control bits are in a frame.
const CONTROL: usize = 47;

/// The segments of a frame whose first `header_len` bytes are the header of all of them. Their
/// checksum fields hold what those of single segments do.
///
/// # Panics
/// If the header says how long the segments are: that is for the NIC.
pub fn segments(frame: &[u8], header_len: usize, segment_size: usize) -> Vec<Vec<u8>> {
    assert_eq!(wire::be16(frame, 16), 0, "IPv4 length of a large frame");
    let (header, payload) = frame.split_at(header_len);
    let count = payload.len().div_ceil(segment_size);
    let each = payload.chunks(segment_size).enumerate();
    each.map(|(number, payload)| {
        let mut segment = [header, payload].concat();
        let len = segment.len() as u16;
        wire::put16(&mut segment, 16, len - wire::ETHERNET as u16);
        let seq = wire::be32(header, 38).wrapping_add((number * segment_size) as u32);
        wire::put32(&mut segment, 38, seq);
        if number != 0 {
            segment[CONTROL] &= !control::CWR;
        }
        if number + 1 != count {
            segment[CONTROL] &= !(control::FIN | control::PSH);
        }
        let pseudo = u64::from(wire::be16(header, 50)) + u64::from(len - 34);
        wire::put16(&mut segment, 50, wire::fold(pseudo));
        segment
    })
    .collect()
}
