//! The event array of a cycle, as it is filled.

use core::sync::atomic::Ordering::Relaxed;

use ix_abi::{CALL_CAPACITY, EVENT_CAPACITY, EventKind, Handle, PIECE_CAPACITY};
use ix_abi::{area, event, piece};
use ix_hal::MbufGeometry;
use ix_net::{Event, Events};

use super::{Area, slot};

/// Most events that wait for an application that stays away: a full call array and a full batch fit
/// beside them.
const APPENDED_MAX: usize = EVENT_CAPACITY - CALL_CAPACITY - 4 * crate::cycle::BATCH_MAX;

/// Where `recv` events count their pieces, in word 0.
const PIECES_SHIFT: u32 = 48;

/// Fills the event array of one cycle. What happens to one connection several times in a row
/// becomes one `recv` and one `sent`: the application pays for an event, not for a frame.
pub(crate) struct EventWriter {
    area: Area,
    count: usize,
    /// Where the array ends, for now.
    end: usize,
    /// Events that are the application's.
    published: usize,
    /// Entries used of the array of received pieces.
    pieces: usize,
    run: Run,
    mbuf_user: u64,
    mbuf_shift: u32,
}

/// What the latest events say of one connection, so that nothing is read back to go on with them.
#[derive(Default)]
struct Run {
    cookie: u64,
    /// One beyond the index of its `recv` event, 0 if there is none.
    received_end: usize,
    /// Where its first piece is.
    received_at: u64,
    /// Bytes of all pieces.
    received_bytes: u64,
    /// Number of pieces, if there are several. The event says so, and how many bytes they are,
    /// only when the run is over.
    pieces: usize,
    /// One beyond the index of its `sent` event, 0 if there is none.
    sent_end: usize,
    /// Bytes that it acknowledges.
    sent_bytes: u64,
}

impl EventWriter {
    pub fn new(area: Area, geometry: &MbufGeometry) -> Self {
        Self {
            area,
            count: 0,
            end: EVENT_CAPACITY,
            published: 0,
            pieces: 0,
            run: Run::default(),
            mbuf_user: geometry.user,
            mbuf_shift: geometry.size_shift,
        }
    }

    /// Events written since the last were published.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes the events written so far the application's, and starts over with an empty array.
    #[inline]
    pub fn publish(&mut self) {
        self.end_run();
        self.area.words[area::EVENT_COUNT].store(self.count as u64, Relaxed);
        self.published = self.count;
        self.count = 0;
        self.pieces = 0;
    }

    /// From now on, writes behind the events that the application is busy with, where it does not
    /// look. No more than leave room for what the calls of its round may cause; and each piece is an
    /// event of its own, since the array of pieces has no end to append to.
    #[cold]
    pub fn append(&mut self) {
        self.count = self.published;
        self.end = EVENT_CAPACITY.min(self.published + APPENDED_MAX);
        self.pieces = PIECE_CAPACITY;
    }

    /// Moves what was appended to the front: the application has come back.
    #[cold]
    pub fn carry(&mut self) {
        self.end_run();
        let appended = self.count - self.published;
        for index in 0..appended {
            let (from, to) = (slot(self.published + index), slot(index));
            for word in 0..event::WORDS {
                let value = self.area.words[from + word].load(Relaxed);
                self.area.words[to + word].store(value, Relaxed);
            }
        }
        self.count = appended;
        self.end = EVENT_CAPACITY;
        self.pieces = 0;
    }

    /// Whatever comes next is an event of its own.
    #[inline(always)]
    fn end_run(&mut self) {
        if self.run.pieces != 0 {
            self.finish_pieces();
        }
        self.run.received_end = 0;
        self.run.sent_end = 0;
    }

    /// Has a `recv` event say what its pieces are, which are the last ones in their array.
    #[inline(never)]
    fn finish_pieces(&mut self) {
        let Run {
            received_end,
            received_bytes,
            pieces,
            ..
        } = self.run;
        let first = (self.pieces - pieces) as u64;
        let kind = EventKind::Recv as u64 | (pieces as u64) << PIECES_SHIFT;
        let base = slot(received_end.wrapping_sub(1));
        for (offset, word) in [(0, kind), (2, first), (3, received_bytes)] {
            self.area.words[base + offset].store(word, Relaxed);
        }
        self.run.pieces = 0;
    }

    #[inline(always)]
    fn received(&mut self, cookie: u64, address: u64, len: u16) {
        if self.run.cookie == cookie && self.run.received_end != 0 {
            if self.pieces + 2 <= PIECE_CAPACITY {
                self.extend(address, len);
                return;
            }
            self.end_run();
        } else if self.run.cookie != cookie {
            self.end_run();
            self.run.cookie = cookie;
        }
        self.run.received_end = self.count + 1;
        self.run.received_at = address;
        self.run.received_bytes = u64::from(len);
        self.write(EventKind::Recv as u64, cookie, address, u64::from(len));
    }

    /// Appends a piece to the run's `recv` event.
    #[inline(always)]
    fn extend(&mut self, address: u64, len: u16) {
        if self.run.pieces == 0 {
            let first_len = self.run.received_bytes as u16;
            self.push_piece(piece::new(self.run.received_at, first_len));
        }
        self.push_piece(piece::new(address, len));
        self.run.received_bytes += u64::from(len);
    }

    #[inline]
    fn push_piece(&mut self, piece: u64) {
        let at = area::PIECES + (self.pieces & (PIECE_CAPACITY - 1));
        self.area.words[at].store(piece, Relaxed);
        self.pieces += 1;
        self.run.pieces += 1;
    }

    #[inline(always)]
    fn acknowledged(&mut self, cookie: u64, bytes: u32, window: u32) {
        let (bytes, window) = (u64::from(bytes), u64::from(window));
        if self.run.cookie != cookie {
            self.end_run();
            self.run.cookie = cookie;
        } else if self.run.sent_end != 0 {
            self.run.sent_bytes += bytes;
            let base = slot(self.run.sent_end - 1);
            self.area.words[base + 2].store(self.run.sent_bytes, Relaxed);
            self.area.words[base + 3].store(window, Relaxed);
            return;
        }
        self.run.sent_end = self.count + 1;
        self.run.sent_bytes = bytes;
        self.write(EventKind::Sent as u64, cookie, bytes, window);
    }

    /// Writes an event that ends the run.
    #[inline]
    fn write_other(&mut self, first: u64, second: u64, third: u64, fourth: u64) {
        self.end_run();
        self.write(first, second, third, fourth);
    }

    #[inline(always)]
    fn write(&mut self, first: u64, second: u64, third: u64, fourth: u64) {
        self.area
            .write_event(self.count, [first, second, third, fourth]);
        self.count += 1;
    }
}

/// The first word of the news that a connection has moved.
#[inline(always)]
fn migrated(from: u32, to: u32) -> u64 {
    let threads = u64::from(from as u16) << 16 | u64::from(to as u16) << 32;
    EventKind::Migrated as u64 | threads
}

impl Events for EventWriter {
    /// Inlined, because its callers know the kind of their event: what is left are four stores.
    #[inline(always)]
    fn push(&mut self, event: Event) {
        debug_assert!(self.room() > 0, "the cycle promised room that is not there");
        if self.room() == 0 {
            return;
        }
        match event {
            Event::Recv {
                cookie,
                mbuf,
                offset,
                len,
            } => {
                let address =
                    self.mbuf_user + (u64::from(mbuf.0) << self.mbuf_shift) + u64::from(offset);
                self.received(cookie, address, len);
            }
            Event::Sent {
                cookie,
                bytes,
                window,
            } => self.acknowledged(cookie, bytes, window),
            Event::Datagram {
                peer,
                local_port,
                mbuf,
                offset,
                len,
            } => {
                let address =
                    self.mbuf_user + (u64::from(mbuf.0) << self.mbuf_shift) + u64::from(offset);
                let ports = u64::from(peer.port) << 16 | u64::from(local_port) << 32;
                self.write_other(
                    EventKind::UdpRecv as u64 | ports | u64::from(len) << 48,
                    address,
                    peer.address.high,
                    peer.address.low,
                );
            }
            Event::EndOfStream { cookie } => self.write_other(EventKind::Recv as u64, cookie, 0, 0),
            Event::Knock {
                handle,
                peer,
                local_port,
            } => {
                let ports = u64::from(peer.port) << 16 | u64::from(local_port) << 32;
                self.write_other(
                    EventKind::Knock as u64 | ports,
                    handle.0,
                    peer.address.high,
                    peer.address.low,
                );
            }
            Event::Connected {
                cookie,
                handle,
                outcome,
            } => {
                let code = outcome.map_or_else(|error| error.to_result(), |()| 0);
                self.write_other(EventKind::Connected as u64, cookie, handle.0, code as u64);
            }
            Event::Migrated {
                cookie,
                handle,
                from,
                to,
            } => {
                self.write_other(migrated(from, to), cookie, handle.0, 0);
            }
            Event::Dead {
                cookie,
                reason,
                handle,
            } => {
                self.write_other(EventKind::Dead as u64, cookie, reason as u64, handle.0);
            }
        }
    }

    #[inline]
    fn room(&self) -> usize {
        self.end - self.count
    }

    /// Four stores for each.
    #[inline(always)]
    fn push_migrated(
        &mut self,
        from: u32,
        to: u32,
        connections: impl Iterator<Item = (u64, Handle)>,
    ) {
        self.end_run();
        let mut room = self.area.events(self.count..self.end).iter();
        for (cookie, handle) in connections {
            debug_assert!(
                !room.as_slice().is_empty(),
                "the engine promised room that is not there"
            );
            let Some([first, second, third, fourth]) = room.next() else {
                break;
            };
            first.store(migrated(from, to), Relaxed);
            second.store(cookie, Relaxed);
            third.store(handle.0, Relaxed);
            fourth.store(0, Relaxed);
        }
        self.count = self.end - room.len();
    }
}

#[cfg(test)]
mod tests;
