//! Requests in datagrams: a frame header of 8 bytes, then a command, as memcached has it.
//!
//! A request is one datagram; an answer may be several, each with a header that says which one of how
//! many it is. Answers are copied: each begins with a header of its own.

use alloc::vec::Vec;

use libix::Lease;

use crate::output::Output;
use crate::server::Worker;
use crate::session::Session;
use crate::store::Piece;

/// Bytes of a frame header: the request's number, the number of the datagram, how many there are,
/// and a reserved word; 16 bits each, big-endian.
const HEADER: usize = 8;
/// Longest answer in one datagram, with its header; so memcached cuts them.
const DATAGRAM_MAX: usize = 1400;
/// Answers longer than this are not sent: a datagram of few bytes could ask for any number.
const ANSWER_MAX: usize = 2 << 20;

/// Answers to one datagram.
pub fn answers(worker: &Worker, datagram: &[u8]) -> Vec<Vec<u8>> {
    let [
        first,
        second,
        _,
        _,
        several_high,
        several_low,
        _,
        _,
        command @ ..,
    ] = datagram
    else {
        worker.counters.datagrams_ignored.add(1);
        return Vec::new();
    };
    let number = [*first, *second];
    let mut answer = Answer::default();
    if [*several_high, *several_low] == [0, 1] {
        // A command that is not there to its end is not waited for.
        Session::default().feed(worker, command, &mut answer);
    } else {
        answer.fixed("SERVER_ERROR multi-packet request not supported\r\n");
    }
    if answer.bytes.is_empty() || answer.is_full() {
        worker.counters.datagrams_ignored.add(1);
        return Vec::new();
    }
    cut(number, &answer.bytes)
}

fn cut(number: [u8; 2], answer: &[u8]) -> Vec<Vec<u8>> {
    let parts = answer.chunks(DATAGRAM_MAX - HEADER);
    let count = (parts.len() as u16).to_be_bytes();
    let datagram = |(sequence, part): (usize, &[u8])| {
        let sequence = (sequence as u16).to_be_bytes();
        let header = [number, sequence, count, [0, 0]].concat();
        [&header, part].concat()
    };
    parts.enumerate().map(datagram).collect()
}

#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
}

impl Output for Answer {
    fn fixed(&mut self, text: &'static str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn piece(&mut self, piece: Piece) {
        self.bytes.extend_from_slice(piece.bytes());
    }

    fn is_full(&self) -> bool {
        self.bytes.len() > ANSWER_MAX
    }
}
