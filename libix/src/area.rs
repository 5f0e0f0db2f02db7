//! The thread area as the application sees it: words shared with the kernel, each an atomic, so
//! that sharing them is no undefined behaviour; on x86 a relaxed access is a plain move.
//!
//! [`Area`] can lie over any memory, so that the whole event loop also runs on a host, against a
//! kernel in the same process ([`Kernel`]).

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{CALL_CAPACITY, EVENT_CAPACITY, PIECE_CAPACITY, SCATTER_GATHER_CAPACITY};
use ix_abi::{area, call, event};

use crate::ledger::Crew;

const _: () = assert!(CALL_CAPACITY.is_power_of_two() && EVENT_CAPACITY.is_power_of_two());
const _: () = assert!(SCATTER_GATHER_CAPACITY.is_power_of_two());
const _: () = assert!(PIECE_CAPACITY.is_power_of_two());

/// The other side of the border: executes the calls of the area, then fills in its events.
///
/// # Safety
/// An implementation keeps the contract in `ix_abi`'s module documentation. In particular, the
/// bytes of a `recv` event stay readable and unchanged until `recv_done` has given them back or
/// the handle is released, and memory passed to `sendv` is read only until `sent` or `dead`.
pub unsafe trait Kernel {
    /// The area that this kernel works on.
    fn area(&self) -> Area;

    /// What the application's threads share. A thread on its own shares it with nobody; those that
    /// connections can go between have the same one.
    fn crew(&self) -> &'static Crew {
        Box::leak(Box::new(Crew::new()))
    }

    /// Ends the round: executes the calls, and returns when there are events, or when the wake
    /// time has come.
    fn run_io(&mut self);
}

/// The kernel below a host process: there is none.
#[cfg(not(bare))]
pub(crate) enum NeverKernel {}

// SAFETY: no value exists, so that nothing is ever called.
#[cfg(not(bare))]
unsafe impl Kernel for NeverKernel {
    fn area(&self) -> Area {
        match *self {}
    }

    fn run_io(&mut self) {
        match *self {}
    }
}

/// Why words are no thread area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    /// Shorter than [`area::WORDS`].
    #[error("the thread area has {0} words, too few; it is no area of this ABI")]
    TooShort(usize),
    /// The magic word is missing.
    #[error("the thread area starts with {0:#x}: it is none, or the kernel did not set it up")]
    BadMagic(u64),
    /// Made for another version of the ABI.
    #[error("the kernel speaks ABI version {0}: build kernel and application from one source")]
    BadVersion(u64),
}

/// The words shared with the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    words: &'static [AtomicU64; area::WORDS],
}

impl Area {
    /// Takes words that a kernel has marked as a thread area.
    pub fn new(words: &'static [AtomicU64]) -> Result<Self, AreaError> {
        let words = words
            .first_chunk()
            .ok_or(AreaError::TooShort(words.len()))?;
        let area = Self { words };
        match (area.load(area::MAGIC_WORD), area.load(area::VERSION_WORD)) {
            (area::MAGIC, version) if version == u64::from(ix_abi::VERSION) => Ok(area),
            (area::MAGIC, version) => Err(AreaError::BadVersion(version)),
            (magic, _) => Err(AreaError::BadMagic(magic)),
        }
    }

    /// The area at an address that the kernel gave.
    ///
    /// # Safety
    /// The address must be that of a thread area which stays mapped for good.
    #[cfg(bare)]
    pub(crate) unsafe fn from_address(address: u64) -> Result<Self, AreaError> {
        // SAFETY: by the caller's promise; the kernel aligns areas to pages, and every bit
        // pattern is an `AtomicU64`.
        Self::new(unsafe { core::slice::from_raw_parts(address as *const AtomicU64, area::WORDS) })
    }

    /// Loads a word.
    ///
    /// # Panics
    /// If the index is not below [`area::WORDS`].
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        self.words[index].load(Relaxed)
    }

    /// Stores a word, for those who make calls by hand.
    ///
    /// # Safety
    /// The calls and events that the words come to must be true to the contract in `ix_abi`: for
    /// example, bytes that somebody still reads must not be given back.
    ///
    /// # Panics
    /// If the index is not below [`area::WORDS`].
    pub unsafe fn write(&self, index: usize, value: u64) {
        self.store(index, value);
    }

    /// Stores a word.
    #[inline]
    pub(crate) fn store(&self, index: usize, value: u64) {
        self.words[index].store(value, Relaxed);
    }

    /// Number of events of this round.
    #[inline]
    pub(crate) fn event_count(&self) -> usize {
        (self.load(area::EVENT_COUNT) as usize).min(EVENT_CAPACITY)
    }

    /// Copies an event. The index wraps at the capacity, so that no check of it is needed.
    #[inline]
    pub(crate) fn event(&self, index: usize) -> [u64; event::WORDS] {
        let base = area::EVENTS + (index & (EVENT_CAPACITY - 1)) * event::WORDS;
        [
            self.load(base),
            self.load(base + 1),
            self.load(base + 2),
            self.load(base + 3),
        ]
    }

    /// A received piece. The index wraps at the capacity.
    #[inline]
    pub(crate) fn piece(&self, index: usize) -> u64 {
        self.load(area::PIECES + (index & (PIECE_CAPACITY - 1)))
    }

    /// Writes a call. The index wraps at the capacity.
    #[inline]
    pub(crate) fn set_call(&self, index: usize, words: [u64; call::WORDS]) {
        let base = area::CALLS + (index & (CALL_CAPACITY - 1)) * call::WORDS;
        for (offset, word) in words.into_iter().enumerate() {
            self.store(base + offset, word);
        }
    }

    /// Copies a call, whose last word has become its result. The index wraps at the capacity.
    pub(crate) fn call(&self, index: usize) -> [u64; call::WORDS] {
        let base = area::CALLS + (index & (CALL_CAPACITY - 1)) * call::WORDS;
        [0, 1, 2, 3].map(|offset| self.load(base + offset))
    }

    /// Result of a call. The index wraps at the capacity.
    #[inline]
    pub(crate) fn result(&self, index: usize) -> i64 {
        let base = area::CALLS + (index & (CALL_CAPACITY - 1)) * call::WORDS;
        self.load(base + call::RESULT) as i64
    }

    /// Writes a scatter-gather entry. The index wraps at the capacity.
    #[inline]
    pub(crate) fn set_entry(&self, index: usize, address: u64, bytes: u64) {
        let base = area::SCATTER_GATHER + (index & (SCATTER_GATHER_CAPACITY - 1)) * 2;
        self.store(base, address);
        self.store(base + 1, bytes);
    }
}
