//! Gathering: which records make up the next frame, be it one segment or a large frame that the
//! device cuts into segments of one size (TCP segmentation offload).
//!
//! A record that was sent begins where a segment begins, or lies within one segment. Hence the
//! peer's word about whole segments is always about whole records or about whole multiples of the
//! segment size from a record's start, and [`Engine::cut_segments`] can part what has arrived from
//! what has not.

use crate::engine::Engine;
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags};
use ix_hal::{Fragment, MAX_FRAGMENTS};

/// log2 of the segments that one large frame stays below.
const SEGMENTS_SHIFT: u32 = 7;

/// Pieces of payload for one frame.
pub(crate) struct Pieces {
    fragments: [Fragment; MAX_FRAGMENTS],
    count: usize,
    /// Their length together.
    pub bytes: u32,
    /// The record behind the last piece.
    pub next: u32,
}

impl Pieces {
    /// None yet; the first one is to come from a record.
    fn before(first: u32) -> Self {
        Self {
            fragments: [Fragment::default(); MAX_FRAGMENTS],
            count: 0,
            bytes: 0,
            next: first,
        }
    }

    /// The pieces.
    #[inline]
    pub fn fragments(&self) -> &[Fragment] {
        &self.fragments[..self.count]
    }

    /// Whether a piece that begins at that bus address continues the last one.
    #[inline]
    fn continues(&self, bus: u64) -> bool {
        self.count != 0 && {
            let last = &self.fragments[self.count - 1];
            last.bus + u64::from(last.len) == bus
        }
    }

    /// Appends a piece for which there is room.
    #[inline]
    fn push(&mut self, bus: u64, len: u32) {
        if self.continues(bus) {
            self.fragments[self.count - 1].len += len;
        } else {
            self.fragments[self.count] = Fragment { bus, len };
            self.count += 1;
        }
        self.bytes += len;
    }

    /// Takes the last `excess` bytes off.
    fn shorten(&mut self, mut excess: u32) {
        self.bytes -= excess;
        while excess != 0 {
            let last = &mut self.fragments[self.count - 1];
            let cut = last.len.min(excess);
            last.len -= cut;
            excess -= cut;
            self.count -= usize::from(last.len == 0);
        }
    }
}

impl Engine {
    /// Takes whole records, cutting the last one, until `len` bytes are together or one frame's
    /// fragments are used up. Records are cut where a segment ends if they begin within it.
    pub(crate) fn gather(&mut self, index: u32, first: u32, len: u32) -> Pieces {
        let mss = u32::from(self.connections[index].mss);
        let mut pieces = Pieces::before(first);
        // Bytes of the segment that the last piece ends in.
        let mut begun = 0;
        while pieces.next != NONE && pieces.bytes < len {
            let record = self.send_records.get(pieces.next);
            if pieces.count == MAX_FRAGMENTS && !pieces.continues(record.bus) {
                break;
            }
            let mut left = len - pieces.bytes;
            if begun != 0 {
                left = left.min(mss - begun);
            }
            if record.len > left && !self.cut_record(index, pieces.next, left) {
                break;
            }
            let record = self.send_records.get(pieces.next);
            pieces.push(record.bus, record.len);
            pieces.next = record.next;
            begun = remainder(begun + record.len, mss);
        }
        if begun != 0 && pieces.bytes < len && pieces.bytes > mss {
            self.give_back(index, first, &mut pieces, begun);
        }
        pieces
    }

    /// Ends the pieces, which begin with the record `first`, `excess` bytes earlier: where a segment
    /// ends. Without a record for the rest they stay as they are.
    #[cold]
    fn give_back(&mut self, index: u32, first: u32, pieces: &mut Pieces, excess: u32) {
        let (mut at, mut kept) = (first, pieces.bytes - excess);
        while self.send_records.get(at).len <= kept {
            kept -= self.send_records.get(at).len;
            at = self.send_records.get(at).next;
        }
        if kept != 0 {
            if !self.cut_record(index, at, kept) {
                return;
            }
            at = self.send_records.get(at).next;
        }
        pieces.next = at;
        pieces.shorten(excess);
    }

    /// Cuts one of a connection's records after `len` bytes; `false` if there is no record left.
    pub(crate) fn cut_record(&mut self, index: u32, record: u32, len: u32) -> bool {
        let is_cut = self.send_records.cut(record, len);
        let connection = &mut self.connections[index];
        if is_cut && connection.send_tail == record {
            connection.send_tail = self.send_records.get(record).next;
        }
        is_cut
    }

    /// Cuts a record that was sent, where the last whole segment of its first `len` bytes ends.
    /// `false` if there is no such place within it. Since the peer says where, this leaves the
    /// reserve of records alone.
    pub(crate) fn cut_segments(&mut self, index: u32, record: u32, len: u32) -> bool {
        let mss = u32::from(self.connections[index].mss);
        let len = len - remainder(len, mss);
        let is_inside = len != 0 && len < self.send_records.get(record).len;
        let is_cut =
            is_inside && self.send_records.has_room() && self.cut_record(index, record, len);
        self.counters.tcp_sack_cuts += u64::from(is_cut);
        is_cut
    }
}

impl Connection {
    /// Payload of a large frame: of the `allowed` bytes as many as make whole segments and fit
    /// `most`, what the device takes. The end of the queue may come with it where it need not wait
    /// (RFC 9293 3.7.4).
    #[inline]
    pub(crate) fn large_frame_len(&self, allowed: u32, most: u32, nagle: bool) -> u32 {
        let mss = u32::from(self.mss);
        let len = allowed.min(most).min((mss << SEGMENTS_SHIFT) - 1);
        let is_end = len == self.snd_end - self.snd_nxt;
        match is_end && (!nagle || self.flags.contains(Flags::FIN_QUEUED)) {
            true => len,
            false => len - remainder(len, mss),
        }
    }

    /// Segments that a device makes of a frame with so much payload.
    #[inline]
    pub(crate) fn segments_of(&self, payload: u32) -> u32 {
        let (count, rest) = divide(payload, u32::from(self.mss));
        count + u32::from(rest != 0)
    }
}

/// What is left of `len` after whole segments.
#[inline]
fn remainder(len: u32, mss: u32) -> u32 {
    divide(len, mss).1
}

/// Whole segments in `len`, and what is left: bit by bit, since a division of what the segment size
/// happens to be has no place on the packet path. Of a length beyond all large frames the rest may
/// hold whole segments too.
#[inline]
fn divide(len: u32, mss: u32) -> (u32, u32) {
    if len < mss {
        return (0, len);
    }
    let (mut count, mut rest) = (0, len);
    for shift in (0..SEGMENTS_SHIFT).rev() {
        if rest >= mss << shift {
            rest -= mss << shift;
            count += 1 << shift;
        }
    }
    (count, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_large_frames_are_divided_as_usual() {
        for mss in [1, 48, 536, 1448, 1460, 8948] {
            for len in 0..(mss << SEGMENTS_SHIFT).min(70_000) {
                assert_eq!(divide(len, mss), (len / mss, len % mss), "{len} by {mss}");
            }
            let (count, rest) = divide(u32::MAX, mss);
            assert_eq!(count * mss + rest, u32::MAX);
        }
    }

    #[test]
    fn pieces_grow_together_and_are_shortened_from_the_end() {
        let mut pieces = Pieces::before(NONE);
        pieces.push(100, 50);
        pieces.push(150, 50);
        pieces.push(500, 30);
        let piece = |bus, len| Fragment { bus, len };
        assert_eq!(pieces.fragments(), [piece(100, 100), piece(500, 30)]);
        pieces.shorten(40);
        assert_eq!(pieces.fragments(), [piece(100, 90)]);
        assert_eq!(pieces.bytes, 90);
    }
}
