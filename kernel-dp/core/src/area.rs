//! The thread area as the kernel sees it: plain words that the application may change at any
//! moment. Every word is loaded at most once per use, and every index is masked or checked, so
//! that nothing in here depends on what user mode wrote.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{
    CALL_CAPACITY, EVENT_CAPACITY, EventKind, Handle, PIECE_CAPACITY, SCATTER_GATHER_CAPACITY,
};
use ix_abi::{area, call, event, piece};
use ix_hal::MbufGeometry;
use ix_net::{Event, Events};

const _: () = assert!(CALL_CAPACITY.is_power_of_two() && EVENT_CAPACITY.is_power_of_two());
const _: () = assert!(SCATTER_GATHER_CAPACITY.is_power_of_two());
const _: () = assert!(PIECE_CAPACITY.is_power_of_two());

/// Most events that wait for an application that stays away: a full call array and a full batch fit
/// beside them.
const APPENDED_MAX: usize = EVENT_CAPACITY - CALL_CAPACITY - 4 * crate::cycle::BATCH_MAX;

/// Where `recv` events count their pieces, in word 0.
const PIECES_SHIFT: u32 = 48;

/// The shared words of one elastic thread.
#[derive(Clone, Copy)]
pub(crate) struct Area {
    words: &'static [AtomicU64; area::WORDS],
}

/// A batched call, copied out of the area.
#[derive(Clone, Copy)]
pub(crate) struct RawCall {
    pub number: u32,
    pub small: u32,
    pub handle: u64,
    pub argument: u64,
    pub last: u64,
}

impl Area {
    /// Takes the first [`area::WORDS`] words and marks them with magic and version.
    ///
    /// # Panics
    /// If there are fewer: the kernel sized the area wrongly.
    pub fn new(words: &'static [AtomicU64]) -> Self {
        let words = words
            .first_chunk()
            .expect("thread area shorter than the ABI says");
        let area = Self { words };
        area.words[area::VERSION_WORD].store(u64::from(ix_abi::VERSION), Relaxed);
        area.words[area::MAGIC_WORD].store(area::MAGIC, Relaxed);
        area
    }

    #[inline]
    pub fn set_now(&self, now_ns: u64) {
        self.words[area::NOW_NS].store(now_ns, Relaxed);
    }

    /// The time that the application sees.
    pub fn now(&self) -> u64 {
        self.words[area::NOW_NS].load(Relaxed)
    }

    /// Tells the application how many of its datagrams have left.
    #[inline]
    pub fn set_udp_sent(&self, count: u64) {
        self.words[area::UDP_SENT].store(count, Relaxed);
    }

    /// When the application wants to run even without events; 0 = only with events.
    #[inline]
    pub fn wake_ns(&self) -> u64 {
        self.words[area::WAKE_NS].load(Relaxed)
    }

    /// Whether the application knows what to do when a connection changes its thread.
    pub fn follows_moves(&self) -> bool {
        self.words[area::FOLLOWS_MOVES].load(Relaxed) != 0
    }

    /// Number of calls the application claims to have filled in; the claim is consumed.
    #[inline]
    pub fn take_call_count(&self) -> u64 {
        let count = self.words[area::CALL_COUNT].load(Relaxed);
        if count != 0 {
            self.words[area::CALL_COUNT].store(0, Relaxed);
        }
        count
    }

    /// Puts the application's claim back.
    pub fn set_call_count(&self, count: u64) {
        self.words[area::CALL_COUNT].store(count, Relaxed);
    }

    /// Copies a call. `index` wraps at the capacity.
    #[inline]
    pub fn call(&self, index: usize) -> RawCall {
        let base = area::CALLS + (index & (CALL_CAPACITY - 1)) * call::WORDS;
        let first = self.words[base + call::NUMBER].load(Relaxed);
        RawCall {
            number: first as u32,
            small: (first >> 32) as u32,
            handle: self.words[base + call::HANDLE].load(Relaxed),
            argument: self.words[base + call::ARGUMENT].load(Relaxed),
            last: self.words[base + call::RESULT].load(Relaxed),
        }
    }

    #[inline]
    pub fn set_result(&self, index: usize, result: i64) {
        let base = area::CALLS + (index & (CALL_CAPACITY - 1)) * call::WORDS;
        self.words[base + call::RESULT].store(result as u64, Relaxed);
    }

    /// Writes an event. `index` wraps at the capacity.
    #[inline(always)]
    fn write_event(&self, index: usize, [first, second, third, fourth]: [u64; event::WORDS]) {
        let base = slot(index);
        self.words[base].store(first, Relaxed);
        self.words[base + 1].store(second, Relaxed);
        self.words[base + 2].store(third, Relaxed);
        self.words[base + 3].store(fourth, Relaxed);
    }

    /// Copies a scatter-gather entry: address and length. `index` wraps at the capacity.
    #[inline]
    pub fn scatter_gather(&self, index: usize) -> (u64, u64) {
        let base = area::SCATTER_GATHER + (index & (SCATTER_GATHER_CAPACITY - 1)) * 2;
        (
            self.words[base].load(Relaxed),
            self.words[base + 1].load(Relaxed),
        )
    }
}

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

/// The first word of an event. `index` wraps at the capacity.
#[inline(always)]
fn slot(index: usize) -> usize {
    area::EVENTS + (index & (EVENT_CAPACITY - 1)) * event::WORDS
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
        let (area, mut count) = (self.area, self.count);
        for (cookie, handle) in connections {
            debug_assert!(
                count < self.end,
                "the engine promised room that is not there"
            );
            area.write_event(count, [migrated(from, to), cookie, handle.0, 0]);
            count += 1;
        }
        self.count = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use ix_hal::MbufId;

    const POOL: u64 = 0x7000_0000;

    fn writer() -> EventWriter {
        let words: Vec<AtomicU64> = (0..area::WORDS).map(|_| AtomicU64::new(0)).collect();
        let geometry = MbufGeometry {
            count: 64,
            size_shift: 11,
            bus: 0,
            user: POOL,
        };
        EventWriter::new(Area::new(words.leak()), &geometry)
    }

    fn recv(cookie: u64, mbuf: u32) -> Event {
        Event::Recv {
            cookie,
            mbuf: MbufId(mbuf),
            offset: 66,
            len: 1000 + mbuf as u16,
        }
    }

    fn sent(cookie: u64, bytes: u32) -> Event {
        let window = 5000 - bytes;
        Event::Sent {
            cookie,
            bytes,
            window,
        }
    }

    fn address(mbuf: u64) -> u64 {
        POOL + (mbuf << 11) + 66
    }

    impl EventWriter {
        fn words(&self, index: usize) -> [u64; event::WORDS] {
            [0, 1, 2, 3].map(|word| self.area.words[slot(index) + word].load(Relaxed))
        }

        fn piece(&self, index: usize) -> (u64, u16) {
            let word = self.area.words[area::PIECES + index].load(Relaxed);
            (piece::address(word), piece::len(word))
        }
    }

    const RECV: u64 = EventKind::Recv as u64;
    const SENT: u64 = EventKind::Sent as u64;

    #[test]
    fn a_run_of_one_connection_is_one_event() {
        let mut events = writer();
        for mbuf in 1..=3 {
            events.push(recv(9, mbuf));
        }
        assert_eq!(events.count(), 1);
        events.end_run();
        assert_eq!(events.words(0), [RECV | 3 << 48, 9, 0, 3006]);
        let pieces = [0, 1, 2].map(|index| events.piece(index));
        assert_eq!(
            pieces,
            [(address(1), 1001), (address(2), 1002), (address(3), 1003)]
        );
        // The next run's pieces follow.
        for mbuf in 4..=5 {
            events.push(recv(8, mbuf));
        }
        events.publish();
        assert_eq!(events.words(1), [RECV | 2 << 48, 8, 3, 2009]);
        events.push(recv(8, 6));
        assert_eq!(events.count(), 1);
        assert_eq!(events.words(0), [RECV, 8, address(6), 1006]);
    }

    #[test]
    fn data_and_acknowledgements_of_one_connection_are_two_events() {
        let mut events = writer();
        for round in 1..=3 {
            events.push(sent(9, 100 * round));
            events.push(recv(9, round));
        }
        assert_eq!(events.count(), 2);
        events.publish();
        assert_eq!(events.words(0), [SENT, 9, 600, 4700]);
        assert_eq!(events.words(1), [RECV | 3 << 48, 9, 0, 3006]);
    }

    #[test]
    fn other_connections_and_other_events_end_a_run() {
        let mut events = writer();
        events.push(recv(1, 1));
        events.push(recv(2, 2));
        events.push(recv(1, 3));
        assert_eq!(events.count(), 3);
        events.push(Event::EndOfStream { cookie: 1 });
        assert_eq!(events.words(3), [RECV, 1, 0, 0]);
        events.push(Event::Dead {
            cookie: 1,
            reason: ix_abi::DeadReason::Reset,
            handle: ix_abi::Handle(7),
        });
        // Another connection that goes by the same name.
        events.push(recv(1, 4));
        events.push(sent(1, 10));
        assert_eq!(events.count(), 7);
        assert_eq!(events.words(5), [RECV, 1, address(4), 1004]);
    }

    #[test]
    fn what_is_appended_comes_to_the_front_later() {
        let mut events = writer();
        for mbuf in 1..=2 {
            events.push(recv(9, mbuf));
        }
        events.push(sent(8, 10));
        events.publish();
        let published = [0, 1].map(|index| events.words(index));
        events.append();
        for mbuf in 3..=4 {
            events.push(recv(9, mbuf));
            events.push(sent(9, 100));
        }
        // The application still sees what it had.
        assert_eq!([0, 1].map(|index| events.words(index)), published);
        assert_eq!(events.area.words[area::EVENT_COUNT].load(Relaxed), 2);
        assert_eq!(events.piece(1), (address(2), 1002));
        events.carry();
        assert_eq!(events.count(), 4);
        events.push(sent(7, 1));
        events.publish();
        let carried = [0, 1, 2, 3, 4].map(|index| events.words(index));
        let expected = [
            [RECV, 9, address(3), 1003],
            [SENT, 9, 100, 4900],
            [RECV, 9, address(4), 1004],
            [SENT, 9, 100, 4900],
            [SENT, 7, 1, 4999],
        ];
        assert_eq!(carried, expected);
    }

    #[test]
    fn what_is_appended_leaves_room_for_the_round_that_follows() {
        for published in [0, 1000, EVENT_CAPACITY] {
            let mut events = writer();
            for _ in 0..published {
                events.push(Event::EndOfStream { cookie: 1 });
            }
            events.publish();
            events.append();
            while events.room() > 0 {
                events.push(Event::EndOfStream { cookie: 2 });
            }
            events.carry();
            assert!(events.room() >= CALL_CAPACITY + 4 * crate::cycle::BATCH_MAX);
            assert_eq!(
                events.count(),
                (EVENT_CAPACITY - published).min(APPENDED_MAX)
            );
        }
    }

    #[test]
    fn a_full_array_of_pieces_leaves_an_event_to_each() {
        let mut events = writer();
        for _ in 0..PIECE_CAPACITY + 10 {
            events.push(recv(1, 1));
        }
        // The last place but one went to the last piece of the run.
        assert_eq!(events.words(0)[0] >> 48, PIECE_CAPACITY as u64 - 1);
        assert_eq!(events.count(), 1 + 11);
        assert_eq!(events.words(1), [RECV, 1, address(1), 1001]);
    }
}
