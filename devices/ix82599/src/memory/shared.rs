//! Guest memory for tests and benchmarks that run a driver and the model in one process.

use std::sync::atomic::AtomicU64;

use super::{GuestMemory, HostMemory, PAGE_BYTES, Protection};

/// Zeroed memory that a driver uses as words and a model as [`GuestMemory`]. It is never freed:
/// the words are `'static`, as a driver's DMA memory is.
#[derive(Clone, Copy, Debug)]
pub struct SharedMemory {
    words: &'static [AtomicU64],
    bus: u64,
}

impl SharedMemory {
    /// Allocates `bytes`, rounded up to whole pages, which the device sees at bus address `bus`.
    ///
    /// # Panics
    /// If `bus` is not a multiple of the page size, or the memory would reach beyond 2^64.
    pub fn new(bytes: usize, bus: u64) -> Self {
        assert!(
            bus.is_multiple_of(PAGE_BYTES),
            "bus address {bus:#x} is not page aligned"
        );
        let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES as usize);
        assert!(
            bus.checked_add(bytes as u64 - 1).is_some(),
            "memory at {bus:#x} wraps around"
        );
        let words = (0..bytes / 8).map(|_| AtomicU64::new(0)).collect();
        Self {
            words: Box::leak(words),
            bus,
        }
    }

    /// Bus address of the first byte.
    pub fn bus(&self) -> u64 {
        self.bus
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words)
    }

    /// The words from byte offset `offset` on, `bytes` of them in length.
    ///
    /// # Panics
    /// If the range is not within the memory or not made of whole words.
    pub fn words(&self, offset: usize, bytes: usize) -> &'static [AtomicU64] {
        assert!(
            offset.is_multiple_of(8) && bytes.is_multiple_of(8),
            "words at {offset:#x}+{bytes:#x} are not whole"
        );
        &self.words[offset / 8..][..bytes / 8]
    }

    /// The same memory as the device sees it, bus mastering off.
    ///
    /// # Panics
    /// Never: the only region of an empty address space cannot overlap another.
    pub fn memory(&self) -> GuestMemory {
        let mut memory = GuestMemory::new();
        memory
            .map(
                self.bus,
                self.bytes() as u64,
                Protection::READ_WRITE,
                Some(self.host()),
            )
            .expect("one well-formed region in an empty address space");
        memory
    }

    /// The same memory as a region to map elsewhere.
    pub fn host(&self) -> HostMemory {
        HostMemory::from_words(self.words)
    }

    /// Copies bytes to byte offset `offset`.
    ///
    /// # Panics
    /// If the range is not within the memory.
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.host().write(offset, from);
    }

    /// Copies bytes from byte offset `offset`.
    ///
    /// # Panics
    /// If the range is not within the memory.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.host().read(offset, into);
    }
}
