//! Memory and registers shared with a device.

use core::sync::atomic::{AtomicU64, Ordering};

/// A device's 32-bit registers.
pub trait Mmio {
    /// Reads the register at a byte offset from the start of BAR 0.
    fn read32(&self, offset: u32) -> u32;
    /// Writes the register at a byte offset from the start of BAR 0.
    fn write32(&self, offset: u32, value: u32);
}

/// A piece of memory that a device reads and writes while we do: descriptor rings and header
/// arenas. Word by word, as atomics, so that sharing it is no undefined behaviour; on x86 the
/// orderings used here cost nothing.
#[derive(Clone, Copy, Debug)]
pub struct DmaSlice {
    words: &'static [AtomicU64],
    bus: u64,
}

impl DmaSlice {
    /// Wraps `words`, which the device sees at bus address `bus`.
    pub fn new(words: &'static [AtomicU64], bus: u64) -> Self {
        Self { words, bus }
    }

    /// Bus address of the first word.
    #[inline]
    pub fn bus(&self) -> u64 {
        self.bus
    }

    /// Length in 64-bit words.
    #[inline]
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// The words in pairs, for rings of 16-byte descriptors; an odd last word is left out. The
    /// caller chooses the ordering of its accesses.
    #[inline]
    pub fn pairs(&self) -> &'static [[AtomicU64; 2]] {
        self.words.as_chunks().0
    }

    /// Loads a word; later loads are not moved before it.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[inline]
    pub fn load(&self, index: usize) -> u64 {
        self.words[index].load(Ordering::Acquire)
    }

    /// Stores a word; earlier stores are not moved after it.
    ///
    /// # Panics
    /// If `index` is out of range.
    #[inline]
    pub fn store(&self, index: usize, value: u64) {
        self.words[index].store(value, Ordering::Release);
    }
}
