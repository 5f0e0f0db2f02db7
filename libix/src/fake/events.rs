//! The event array of a round. As the dataplane does, it makes one event of payload that comes in
//! several pieces in a row.

use std::vec::Vec;

use ix_abi::area::{EVENT_COUNT, EVENTS, PIECES};
use ix_abi::{EventKind, PIECE_CAPACITY, event, piece};

use crate::area::Area;

/// Writes the events, each a `recv` of one piece at most.
pub(super) fn publish(area: Area, events: impl Iterator<Item = [u64; event::WORDS]>) {
    let mut written: Vec<[u64; event::WORDS]> = Vec::new();
    let mut pieces: Vec<u64> = Vec::new();
    for words in events {
        match written.last_mut() {
            Some(last) if continues(last, &words) && pieces.len() + 2 <= PIECE_CAPACITY => {
                append(last, words, &mut pieces);
            }
            _ => written.push(words),
        }
    }
    for (index, word) in written.iter().flatten().enumerate() {
        area.store(EVENTS + index, *word);
    }
    for (index, word) in pieces.iter().enumerate() {
        area.store(PIECES + index, *word);
    }
    area.store(EVENT_COUNT, written.len() as u64);
}

/// Whether both bring payload of one connection.
fn continues(last: &[u64; event::WORDS], next: &[u64; event::WORDS]) -> bool {
    let is_payload =
        |words: &[u64; event::WORDS]| words[0] as u16 == EventKind::Recv as u16 && words[3] != 0;
    is_payload(last) && is_payload(next) && last[1] == next[1]
}

fn append(
    last: &mut [u64; event::WORDS],
    [_, _, address, bytes]: [u64; event::WORDS],
    pieces: &mut Vec<u64>,
) {
    if last[0] >> 48 == 0 {
        let first = pieces.len() as u64;
        pieces.push(piece::new(last[2], last[3] as u16));
        last[0] |= 1 << 48;
        last[2] = first;
    }
    pieces.push(piece::new(address, bytes as u16));
    last[0] += 1 << 48;
    last[3] += bytes;
}
