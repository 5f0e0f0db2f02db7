//! The thread area as the kernel sees it: plain words that the application may change at any
//! moment. Every word is loaded at most once per use, and every index is masked or checked, so
//! that nothing in here depends on what user mode wrote.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{CALL_CAPACITY, EVENT_CAPACITY, EventKind, SCATTER_GATHER_CAPACITY};
use ix_abi::{area, call, event};
use ix_hal::MbufGeometry;
use ix_net::{Event, Events};

const _: () = assert!(CALL_CAPACITY.is_power_of_two() && EVENT_CAPACITY.is_power_of_two());
const _: () = assert!(SCATTER_GATHER_CAPACITY.is_power_of_two());

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

/// Fills the event array of one cycle.
pub(crate) struct EventWriter {
    area: Area,
    count: usize,
    mbuf_user: u64,
    mbuf_shift: u32,
}

impl EventWriter {
    pub fn new(area: Area, geometry: &MbufGeometry) -> Self {
        Self {
            area,
            count: 0,
            mbuf_user: geometry.user,
            mbuf_shift: geometry.size_shift,
        }
    }

    /// Starts over with an empty array.
    #[inline]
    pub fn restart(&mut self) {
        self.count = 0;
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

    #[inline(always)]
    fn write(&mut self, first: u64, second: u64, third: u64, fourth: u64) {
        let base = area::EVENTS + (self.count & (EVENT_CAPACITY - 1)) * event::WORDS;
        self.area.words[base].store(first, Relaxed);
        self.area.words[base + 1].store(second, Relaxed);
        self.area.words[base + 2].store(third, Relaxed);
        self.area.words[base + 3].store(fourth, Relaxed);
        self.count += 1;
    }
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
                self.write(EventKind::Recv as u64, cookie, address, u64::from(len));
            }
            Event::Sent {
                cookie,
                bytes,
                window,
            } => {
                self.write(
                    EventKind::Sent as u64,
                    cookie,
                    u64::from(bytes),
                    u64::from(window),
                );
            }
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
