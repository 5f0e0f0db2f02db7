//! The thread area as the kernel sees it: plain words that the application may change at any
//! moment. Every word is loaded at most once per use, and every index is masked or checked, so
//! that nothing in here depends on what user mode wrote.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{CALL_CAPACITY, EVENT_CAPACITY, PIECE_CAPACITY, SCATTER_GATHER_CAPACITY};
use ix_abi::{area, call, event};

mod events;

pub(crate) use events::EventWriter;

const _: () = assert!(CALL_CAPACITY.is_power_of_two() && EVENT_CAPACITY.is_power_of_two());
const _: () = assert!(SCATTER_GATHER_CAPACITY.is_power_of_two());
const _: () = assert!(PIECE_CAPACITY.is_power_of_two());

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

    /// Some of the events, or none if there are not so many.
    fn events(&self, range: Range<usize>) -> &'static [[AtomicU64; event::WORDS]] {
        let (events, _) = self.words[area::EVENTS..area::CALLS].as_chunks();
        events.get(range).unwrap_or_default()
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

/// The first word of an event. `index` wraps at the capacity.
#[inline(always)]
fn slot(index: usize) -> usize {
    area::EVENTS + (index & (EVENT_CAPACITY - 1)) * event::WORDS
}
