//! The memory of a machine, mapped into this process.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use rustix::mm::{MapFlags, ProtFlags, mmap};

const PAGE: usize = 4096;

/// The words of the memory; offsets are bus addresses. It stays mapped for good: the words are `'static`,
/// as a driver's DMA memory is.
pub struct Memory {
    words: &'static [AtomicU64],
    /// First byte that was not given out.
    free: Cell<usize>,
}

impl Memory {
    /// The file's first `bytes`, of which those from `start` on are given out.
    pub fn map(file: &Path, bytes: usize, start: usize) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(file);
        let file = file.expect("open the machine's memory");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice, of a file that is as long.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        let base = base.expect("map the machine's memory").cast::<AtomicU64>();
        // SAFETY: the mapping is `bytes` long, page-aligned, never unmapped, and only ever accessed through
        // these atomics here; the file keeps its length as long as the test runs.
        let words = unsafe { std::slice::from_raw_parts(base, bytes / 8) };
        Self {
            words,
            free: Cell::new(start),
        }
    }

    /// Gives out some bytes, page by page, for [`Memory::read`] and [`Memory::write`].
    pub fn allocate(&self, bytes: usize) -> usize {
        let offset = self.free.get();
        let end = (offset + bytes).next_multiple_of(PAGE);
        assert!(end <= 8 * self.words.len(), "the machine is too small");
        self.free.set(end);
        offset
    }

    /// Gives out words, and where they are.
    pub fn words(&self, count: usize) -> (&'static [AtomicU64], usize) {
        let offset = self.allocate(8 * count);
        (&self.words[offset / 8..][..count], offset)
    }

    /// Gives out rooms of `N` bytes each, and where they are.
    pub fn rooms<const N: usize>(&self, count: usize) -> (&'static mut [[u8; N]], usize) {
        let (words, offset) = self.words((count * N).div_ceil(8));
        // SAFETY: the range is given out this once, here. The words are atomics, hence writable through a
        // shared reference, and QEMU, which reads them, is another process.
        let rooms =
            unsafe { std::slice::from_raw_parts_mut(words.as_ptr().cast_mut().cast(), count) };
        (rooms, offset)
    }

    /// Replaces a word.
    pub fn swap(&self, offset: usize, value: u64) -> u64 {
        self.words[offset / 8].swap(value, SeqCst)
    }

    /// Copies bytes from a byte offset, a multiple of 8.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let words = &self.words[offset / 8..][..len.div_ceil(8)];
        let mut bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| word.load(SeqCst).to_le_bytes())
            .collect();
        bytes.truncate(len);
        bytes
    }

    /// Copies bytes to a byte offset, a multiple of 8, and clears what is left of the last word.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        for (word, chunk) in self.words[offset / 8..].iter().zip(bytes.chunks(8)) {
            let mut value = [0; 8];
            value[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(value), SeqCst);
        }
    }
}
