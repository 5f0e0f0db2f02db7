//! A split virtqueue (2.7): descriptors, the ring of those that the device may use, and the ring of
//! those that it has used. Who owns which descriptor is the business of its users.
//!
//! Memory is words of 64 bits, while the rings hold entries of 16 and 32. Of the available ring the
//! driver is the only writer, so that it writes the word that an entry lies in; the used ring it only
//! reads.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicU64, fence};

use ix_hal::DmaSlice;

use crate::Error;

/// The descriptor goes on in the next.
pub(crate) const NEXT: u16 = 1;
/// The device writes to it.
pub(crate) const WRITE: u16 = 2;
/// The device shall not interrupt (2.7.7), or need not be notified (2.7.10).
const NO_CALL: u64 = 1;

/// A virtqueue's memory.
#[derive(Debug)]
pub struct Ring {
    descriptors: &'static [[AtomicU64; 2]],
    /// flags, idx, then entries of 16 bits.
    available: &'static [AtomicU64],
    /// flags, idx, then entries of two times 32 bits, so that one begins in the middle of a word.
    used: &'static [AtomicU64],
    mask: u16,
    /// Bus addresses of the three.
    parts: [u64; 3],
    /// Entries made available and used so far.
    posted: u16,
    taken: u16,
    /// Of the available ring's flags.
    flags: u64,
}

/// What the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// The first descriptor, whatever the device says.
    pub id: u32,
    /// Bytes that it has written.
    pub len: u32,
}

impl Ring {
    /// Words that a queue of that many descriptors takes.
    pub const fn words(size: u16) -> usize {
        let size = size as usize;
        2 * size + Self::available_words(size) + Self::used_words(size)
    }

    const fn available_words(size: usize) -> usize {
        // An even number, since descriptors are aligned to two words where rings follow each other.
        (4 + 2 * size).div_ceil(16) * 2
    }

    const fn used_words(size: usize) -> usize {
        (4 + 8 * size).div_ceil(16) * 2
    }

    /// An empty queue of `size` descriptors, a power of two of at least four, whose device does not
    /// interrupt.
    pub fn new(memory: &DmaSlice, size: u16) -> Result<Self, Error> {
        let words = memory.pairs().as_flattened();
        let is_aligned = memory.bus().is_multiple_of(16);
        if words.len() < Self::words(size) || !is_aligned || size < 4 || !size.is_power_of_two() {
            return Err(Error::Memory("ring"));
        }
        for word in words {
            word.store(0, Relaxed);
        }
        let count = usize::from(size);
        let (descriptors, rest) = words.split_at(2 * count);
        let (available, used) = rest.split_at(Self::available_words(count));
        let available_bus = memory.bus() + 16 * count as u64;
        let used_bus = available_bus + 8 * available.len() as u64;
        let mut ring = Self {
            descriptors: descriptors.as_chunks().0,
            available,
            used: &used[..Self::used_words(count)],
            mask: size - 1,
            parts: [memory.bus(), available_bus, used_bus],
            posted: 0,
            taken: 0,
            flags: NO_CALL,
        };
        ring.publish();
        Ok(ring)
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.mask + 1
    }

    /// Bus addresses of descriptors, available ring and used ring.
    pub fn parts(&self) -> [u64; 3] {
        self.parts
    }

    /// Writes a descriptor, whose number is cut to those that there are.
    #[inline]
    pub(crate) fn describe(&self, index: u16, bus: u64, len: u32, flags: u16, next: u16) {
        let [address, rest] = &self.descriptors[usize::from(index & self.mask)];
        address.store(bus, Relaxed);
        let rest_word = u64::from(len) | u64::from(flags) << 32 | u64::from(next) << 48;
        rest.store(rest_word, Relaxed);
    }

    /// Adds a chain to those that the device may use; it learns of it by [`Ring::publish`].
    #[inline]
    pub(crate) fn post(&mut self, head: u16) {
        let entry = 2 + usize::from(self.posted & self.mask);
        let (word, shift) = (&self.available[entry / 4], 16 * (entry % 4));
        let others = word.load(Relaxed) & !(0xffff << shift);
        word.store(others | u64::from(head) << shift, Relaxed);
        self.posted = self.posted.wrapping_add(1);
    }

    /// Lets the device see what was posted.
    #[inline]
    pub(crate) fn publish(&mut self) {
        let word = &self.available[0];
        let entries = word.load(Relaxed) & !0xffff_ffff;
        let word_value = entries | u64::from(self.posted) << 16 | self.flags;
        // 2.7.13.3.1: descriptors and entries are there before the index is.
        word.store(word_value, Release);
    }

    /// Whether the device wants to be told of what was published (2.7.13.4.1): what it looked at last
    /// may be older than that.
    #[inline]
    pub(crate) fn wants_notice(&self) -> bool {
        fence(SeqCst);
        self.used[0].load(Relaxed) & NO_CALL == 0
    }

    /// Lets the device interrupt, or not. What it used before it saw this has to be looked for.
    pub(crate) fn set_interrupts(&mut self, on: bool) {
        self.flags = if on { 0 } else { NO_CALL };
        self.publish();
        fence(SeqCst);
    }

    /// Chains that the device has used and that were not taken, as it says.
    #[inline]
    pub(crate) fn waiting(&self) -> u16 {
        let idx = (self.used[0].load(Acquire) >> 16) as u16;
        let waiting = idx.wrapping_sub(self.taken);
        // More than were posted is nonsense: none then.
        if waiting <= self.posted.wrapping_sub(self.taken) {
            waiting
        } else {
            0
        }
    }

    /// Takes one of those. Call it for as many as are waiting only.
    #[inline]
    pub(crate) fn take(&mut self) -> Used {
        let entry = usize::from(self.taken & self.mask);
        self.taken = self.taken.wrapping_add(1);
        Used {
            id: (self.used[entry].load(Relaxed) >> 32) as u32,
            len: self.used[entry + 1].load(Relaxed) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    fn memory(words: usize, bus: u64) -> DmaSlice {
        let words: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(u64::MAX)).collect();
        DmaSlice::new(Box::leak(words.into_boxed_slice()), bus)
    }

    fn ring(size: u16) -> (Ring, DmaSlice) {
        let memory = memory(Ring::words(size), 0x1000);
        (Ring::new(&memory, size).unwrap(), memory)
    }

    #[test]
    fn the_parts_lie_as_the_standard_asks() {
        for size in [4, 8, 256, 1024] {
            let (ring, memory) = ring(size);
            let [descriptors, available, used] = ring.parts();
            assert_eq!(descriptors, 0x1000);
            assert!(available >= descriptors + 16 * u64::from(size));
            assert!(used >= available + 4 + 2 * u64::from(size) && used.is_multiple_of(4));
            assert!(memory.bus() + 8 * memory.words() as u64 >= used + 4 + 8 * u64::from(size));
        }
    }

    #[test]
    fn memory_that_does_not_fit_is_refused() {
        let small = memory(Ring::words(8) - 2, 0x1000);
        let crooked = memory(Ring::words(8), 0x1008);
        let whole = memory(Ring::words(8), 0x1000);
        assert!(Ring::new(&small, 8).is_err());
        assert!(Ring::new(&crooked, 8).is_err());
        for size in [0, 2, 6] {
            assert!(Ring::new(&whole, size).is_err(), "{size}");
        }
    }

    #[test]
    fn entries_are_where_the_device_looks() {
        let (mut ring, memory) = ring(8);
        let word = |ring: &Ring, n: usize| ring.available[n].load(Relaxed);
        for head in 0..8 {
            ring.post(head + 1);
        }
        assert_eq!(word(&ring, 0), 0x0002_0001_0000_0001, "not published");
        ring.publish();
        assert_eq!(word(&ring, 0), 0x0002_0001_0008_0001);
        assert_eq!(word(&ring, 1), 0x0006_0005_0004_0003);
        ring.post(7);
        ring.set_interrupts(true);
        assert_eq!(word(&ring, 0), 0x0002_0007_0009_0000);
        ring.describe(3, 0x1234, 60, NEXT | WRITE, 4);
        assert_eq!(
            (memory.load(6), memory.load(7)),
            (0x1234, 0x0004_0003_0000_003c)
        );
    }

    #[test]
    fn used_entries_are_taken_in_order_and_nonsense_is_not() {
        let (mut ring, _) = ring(4);
        ring.post(0);
        ring.post(2);
        ring.publish();
        assert_eq!(ring.waiting(), 0);
        ring.used[0].store(2 << 32 | 2 << 16, Relaxed);
        ring.used[1].store(5 << 32 | 70, Relaxed);
        ring.used[2].store(80, Relaxed);
        assert_eq!(ring.waiting(), 2);
        assert_eq!(ring.take(), Used { id: 2, len: 70 });
        assert_eq!(ring.take(), Used { id: 5, len: 80 });
        assert_eq!(ring.waiting(), 0);
        ring.used[0].store(9 << 16, Relaxed);
        assert_eq!(ring.waiting(), 0, "more than there were");
    }

    #[test]
    fn the_device_says_whether_it_wants_to_be_told() {
        let (ring, _) = ring(4);
        assert!(ring.wants_notice());
        ring.used[0].store(NO_CALL, Relaxed);
        assert!(!ring.wants_notice());
    }
}
