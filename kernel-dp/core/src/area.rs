//! The thread area as the kernel sees it: plain words that the application may change at any
//! moment. Every word is loaded at most once per use, and every index is masked or checked, so
//! that nothing in here depends on what user mode wrote. Events are read back to be extended: what
//! the application makes of them meanwhile changes what it is told, and nothing else.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{CALL_CAPACITY, EVENT_CAPACITY, EventKind, PIECE_CAPACITY, SCATTER_GATHER_CAPACITY};
use ix_abi::{area, call, event, piece};
use ix_hal::MbufGeometry;
use ix_net::{Event, Events};

const _: () = assert!(CALL_CAPACITY.is_power_of_two() && EVENT_CAPACITY.is_power_of_two());
const _: () = assert!(SCATTER_GATHER_CAPACITY.is_power_of_two());
const _: () = assert!(PIECE_CAPACITY.is_power_of_two());

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

    /// Number of calls the application claims to have filled in; the claim is consumed.
    #[inline]
    pub fn take_call_count(&self) -> u64 {
        let count = self.words[area::CALL_COUNT].load(Relaxed);
        if count != 0 {
            self.words[area::CALL_COUNT].store(0, Relaxed);
        }
        count
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
    /// Entries used of the array of received pieces.
    pieces: usize,
    mbuf_user: u64,
    mbuf_shift: u32,
}

impl EventWriter {
    pub fn new(area: Area, geometry: &MbufGeometry) -> Self {
        Self {
            area,
            count: 0,
            pieces: 0,
            mbuf_user: geometry.user,
            mbuf_shift: geometry.size_shift,
        }
    }

    /// Starts over with an empty array.
    #[inline]
    pub fn restart(&mut self) {
        self.count = 0;
        self.pieces = 0;
    }

    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes the events written so far the application's.
    #[inline]
    pub fn publish(&self) {
        self.area.words[area::EVENT_COUNT].store(self.count as u64, Relaxed);
    }

    /// The first word of the last event of that kind, if at most one of the `other` kind followed,
    /// both of the same connection: where data and acknowledgements come, the two alternate.
    #[inline(always)]
    fn latest(&self, kind: EventKind, other: EventKind, cookie: u64) -> Option<usize> {
        for back in 1..=2 {
            let base = slot(self.count.checked_sub(back)?);
            if self.area.words[base + 1].load(Relaxed) != cookie {
                return None;
            }
            let found = self.area.words[base].load(Relaxed) as u16;
            if found == kind as u16 {
                return Some(base);
            }
            if found != other as u16 {
                return None;
            }
        }
        None
    }

    #[inline(always)]
    fn received(&mut self, cookie: u64, address: u64, len: u16) {
        match self.latest(EventKind::Recv, EventKind::Sent, cookie) {
            Some(base) if self.pieces + 2 <= PIECE_CAPACITY => {
                self.extend(base, piece::new(address, len));
            }
            _ => self.write(EventKind::Recv as u64, cookie, address, u64::from(len)),
        }
    }

    /// Appends a piece to the last `recv` event, whose pieces are the last ones in their array.
    #[inline(never)]
    fn extend(&mut self, base: usize, next: u64) {
        let words = &self.area.words[base..base + event::WORDS];
        let [kind, bytes] = [0, 3].map(|word| words[word].load(Relaxed));
        let mut count = kind >> PIECES_SHIFT;
        if count == 0 {
            let address = words[2].load(Relaxed);
            words[2].store(self.pieces as u64, Relaxed);
            self.push_piece(piece::new(address, bytes as u16));
            count = 1;
        }
        self.push_piece(next);
        let bytes = bytes.wrapping_add(u64::from(piece::len(next)));
        words[0].store(
            EventKind::Recv as u64 | (count + 1) << PIECES_SHIFT,
            Relaxed,
        );
        words[3].store(bytes, Relaxed);
    }

    #[inline]
    fn push_piece(&mut self, piece: u64) {
        let at = area::PIECES + (self.pieces & (PIECE_CAPACITY - 1));
        self.area.words[at].store(piece, Relaxed);
        self.pieces += 1;
    }

    #[inline(always)]
    fn acknowledged(&mut self, cookie: u64, bytes: u32, window: u32) {
        let mut bytes = u64::from(bytes);
        match self.latest(EventKind::Sent, EventKind::Recv, cookie) {
            Some(base) => {
                bytes = bytes.wrapping_add(self.area.words[base + 2].load(Relaxed));
                self.area.words[base + 2].store(bytes, Relaxed);
                self.area.words[base + 3].store(u64::from(window), Relaxed);
            }
            None => self.write(EventKind::Sent as u64, cookie, bytes, u64::from(window)),
        }
    }

    #[inline(always)]
    fn write(&mut self, first: u64, second: u64, third: u64, fourth: u64) {
        let base = slot(self.count);
        self.area.words[base].store(first, Relaxed);
        self.area.words[base + 1].store(second, Relaxed);
        self.area.words[base + 2].store(third, Relaxed);
        self.area.words[base + 3].store(fourth, Relaxed);
        self.count += 1;
    }
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
                self.write(
                    EventKind::UdpRecv as u64 | ports | u64::from(len) << 48,
                    address,
                    peer.address.high,
                    peer.address.low,
                );
            }
            Event::EndOfStream { cookie } => self.write(EventKind::Recv as u64, cookie, 0, 0),
            Event::Knock {
                handle,
                peer,
                local_port,
            } => {
                let ports = u64::from(peer.port) << 16 | u64::from(local_port) << 32;
                self.write(
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
                self.write(EventKind::Connected as u64, cookie, handle.0, code as u64);
            }
            Event::Migrated {
                cookie,
                handle,
                from,
                to,
            } => {
                let threads = u64::from(from as u16) << 16 | u64::from(to as u16) << 32;
                self.write(EventKind::Migrated as u64 | threads, cookie, handle.0, 0);
            }
            Event::Dead {
                cookie,
                reason,
                handle,
            } => {
                self.write(EventKind::Dead as u64, cookie, reason as u64, handle.0);
            }
        }
    }

    #[inline]
    fn room(&self) -> usize {
        EVENT_CAPACITY - self.count
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
        assert_eq!(events.words(1), [RECV | 2 << 48, 8, 3, 2009]);
        events.restart();
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

    #[test]
    fn whatever_is_read_back_the_arrays_are_kept() {
        let mut events = writer();
        for round in 0..5000u64 {
            events.push(recv(1, 1));
            events.push(sent(1, 10));
            for word in 0..2 * event::WORDS {
                if word % event::WORDS != 1 {
                    let garbage = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (word * 5);
                    events.area.words[area::EVENTS + word].store(garbage | 3, Relaxed);
                }
            }
            assert!(events.count() <= EVENT_CAPACITY && events.pieces <= PIECE_CAPACITY);
            if events.room() < 2 {
                events.restart();
            }
        }
    }
}
