//! A piece of memory in this process that a guest shares: a mapping of the guest's file, or words
//! of our own that a driver in the same process uses. All unsafe code of guest memory is here.
//!
//! The other side writes at any time, so there are no references into the memory: bulk copies are
//! volatile, descriptor words are atomic.
//!
//! A guest that truncates its file under a mapping makes the next access raise SIGBUS. Device and
//! virtual machine are one unit of failure, so that ends both.

#![expect(
    unsafe_code,
    reason = "the one place that touches memory shared with a guest"
)]

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use super::Protection;

/// Memory shared with a guest: page-aligned, or at least aligned to 8 bytes, and of a length that
/// is a multiple of 8.
#[derive(Debug)]
pub struct HostMemory {
    base: NonNull<u8>,
    length: usize,
    owned: bool,
}

// SAFETY: the memory is reachable from any thread, and all accesses through `&self` are volatile
// or atomic; the mapping is removed only in `drop`, which has exclusive access.
unsafe impl Send for HostMemory {}

impl HostMemory {
    /// Maps `length` bytes of a file from `offset`.
    ///
    /// # Errors
    /// The operating system's error; `EINVAL` where the file is shorter than that, so that an
    /// access beyond its end cannot happen later.
    pub fn map_file(
        file: impl AsFd,
        offset: u64,
        length: u64,
        protection: Protection,
    ) -> rustix::io::Result<Self> {
        let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        let end = offset.checked_add(length).ok_or(rustix::io::Errno::INVAL)?;
        let length = usize::try_from(length).map_err(|_| rustix::io::Errno::INVAL)?;
        if length == 0 || !length.is_multiple_of(8) || end > size {
            return Err(rustix::io::Errno::INVAL);
        }
        let mut flags = ProtFlags::empty();
        flags.set(ProtFlags::READ, protection.readable);
        flags.set(ProtFlags::WRITE, protection.writable);
        // SAFETY: a fresh shared mapping at an address of the kernel's choice aliases no memory
        // that Rust knows of.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                flags,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                offset,
            )
        }?;
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(rustix::io::Errno::NOMEM)?,
            length,
            owned: true,
        })
    }

    /// Uses words that live for ever and that others access as atomics.
    pub fn from_words(words: &'static [AtomicU64]) -> Self {
        Self {
            base: NonNull::from(words).cast(),
            length: size_of_val(words),
            owned: false,
        }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no memory.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies out of the memory.
    ///
    /// # Panics
    /// If the range is not within the memory.
    #[inline]
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.check(offset, into.len());
        let source = self.at(offset);
        let head = source.align_offset(8).min(into.len());
        let (head, rest) = into.split_at_mut(head);
        let (body, tail) = rest.as_chunks_mut::<8>();
        // SAFETY: `check` found the range within the memory, `head` ends at an aligned address,
        // and each access is as large as what is left of the range at least.
        unsafe {
            let mut from = source;
            for byte in head {
                *byte = from.read_volatile();
                from = from.add(1);
            }
            for word in body {
                *word = from.cast::<u64>().read_volatile().to_ne_bytes();
                from = from.add(8);
            }
            for byte in tail {
                *byte = from.read_volatile();
                from = from.add(1);
            }
        }
    }

    /// Copies into the memory.
    ///
    /// # Panics
    /// If the range is not within the memory.
    #[inline]
    pub fn write(&self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        let target = self.at(offset);
        let head = target.align_offset(8).min(from.len());
        let (head, rest) = from.split_at(head);
        let (body, tail) = rest.as_chunks::<8>();
        // SAFETY: `check` found the range within the memory, `head` ends at an aligned address,
        // and each access is as large as what is left of the range at least. Writing through a
        // pointer made from shared words is allowed since they are atomics.
        unsafe {
            let mut to = target;
            for byte in head {
                to.write_volatile(*byte);
                to = to.add(1);
            }
            for word in body {
                to.cast::<u64>().write_volatile(u64::from_ne_bytes(*word));
                to = to.add(8);
            }
            for byte in tail {
                to.write_volatile(*byte);
                to = to.add(1);
            }
        }
    }

    /// Loads a word; later accesses are not moved before it.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 8 within the memory.
    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Stores a word; earlier accesses are not moved after it.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 8 within the memory.
    #[inline]
    pub fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Loads a 32-bit word; later accesses are not moved before it.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 4 within the memory.
    #[inline]
    pub fn load32(&self, offset: usize) -> u32 {
        self.word32(offset).load(Ordering::Acquire)
    }

    /// Stores a 32-bit word; earlier accesses are not moved after it.
    ///
    /// # Panics
    /// If `offset` is not a multiple of 4 within the memory.
    #[inline]
    pub fn store32(&self, offset: usize, value: u32) {
        self.word32(offset).store(value, Ordering::Release);
    }

    #[inline]
    fn word32(&self, offset: usize) -> &AtomicU32 {
        self.check(offset, 4);
        assert!(offset.is_multiple_of(4), "unaligned word at {offset:#x}");
        // SAFETY: within the memory (`check`), aligned (the memory is aligned to 8 bytes and the
        // offset to 4), alive as long as `self`, and atomic accesses tolerate other writers.
        unsafe { AtomicU32::from_ptr(self.at(offset).cast()) }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.check(offset, 8);
        assert!(offset.is_multiple_of(8), "unaligned word at {offset:#x}");
        // SAFETY: within the memory (`check`), aligned (the memory is aligned to 8 bytes and so
        // is the offset), alive as long as `self`, and atomic accesses tolerate other writers.
        unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
    }

    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        self.base.as_ptr().wrapping_add(offset)
    }

    #[inline]
    fn check(&self, offset: usize, length: usize) {
        assert!(
            offset <= self.length && length <= self.length - offset,
            "{length} bytes at {offset:#x} are outside of {:#x}",
            self.length
        );
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: `map_file` made this mapping, nothing else unmaps it, and no reference to
            // it outlives `self`.
            let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.length) };
            debug_assert_eq!(unmapped, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> &'static [AtomicU64] {
        Box::leak((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    #[test]
    fn copies_keep_their_hands_off_the_neighbours() {
        for offset in 0..10 {
            for length in 0..40 {
                let memory = HostMemory::from_words(words(8));
                memory.write(0, &[0xEE; 64]);
                let data: Vec<u8> = (1..=length as u8).collect();
                memory.write(offset, &data);
                let mut all = [0; 64];
                memory.read(0, &mut all);
                assert_eq!(all[offset..offset + length], data[..]);
                assert!(all[..offset].iter().all(|byte| *byte == 0xEE));
                assert!(all[offset + length..].iter().all(|byte| *byte == 0xEE));
                let mut back = vec![0; length];
                memory.read(offset, &mut back);
                assert_eq!(back, data);
            }
        }
    }

    #[test]
    #[should_panic(expected = "outside of")]
    fn a_copy_beyond_the_end_is_refused() {
        HostMemory::from_words(words(1)).read(usize::MAX, &mut [0; 2]);
    }

    #[test]
    fn a_file_shorter_than_the_mapping_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let map = |offset, length| {
            HostMemory::map_file(&file, offset, length, Protection::READ_WRITE).map(drop)
        };
        assert_eq!(map(0, 4096), Ok(()));
        assert_eq!(map(4096, 4096), Err(rustix::io::Errno::INVAL));
        assert_eq!(map(u64::MAX, 4096), Err(rustix::io::Errno::INVAL));
        assert_eq!(map(0, 0), Err(rustix::io::Errno::INVAL));
    }

    #[test]
    fn mappings_of_one_file_show_each_other_s_writes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let map = |offset| HostMemory::map_file(&file, offset, 4096, Protection::READ_WRITE);
        let (one, two) = (map(4096).unwrap(), map(4096).unwrap());
        one.store(8, 0x1234);
        assert_eq!(two.load(8), 0x1234);
    }
}
