//! Frame buffers: a pool is one contiguous array of equal, power-of-two sized buffers and a free
//! list of their numbers, owned by one elastic thread. A buffer is a number everywhere; whoever
//! holds the number owns the buffer.

use alloc::vec::Vec;

/// Number of a frame buffer in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MbufId(pub u32);

/// Where a pool lies. `size` is a power of two of at least 2048, so that addresses are shifts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MbufGeometry {
    /// Number of buffers.
    pub count: u32,
    /// log2 of the size of a buffer in bytes.
    pub size_shift: u32,
    /// Bus address of buffer 0.
    pub bus: u64,
    /// Address of buffer 0 in the application's address space.
    pub user: u64,
}

impl MbufGeometry {
    /// Size of one buffer in bytes.
    #[inline]
    pub fn size(&self) -> usize {
        1 << self.size_shift
    }

    /// Size of the whole pool in bytes.
    #[inline]
    pub fn bytes(&self) -> u64 {
        u64::from(self.count) << self.size_shift
    }

    /// Bus address of a buffer.
    #[inline]
    pub fn bus_of(&self, mbuf: MbufId) -> u64 {
        self.bus + (u64::from(mbuf.0) << self.size_shift)
    }

    /// The application's address of a buffer.
    #[inline]
    pub fn user_of(&self, mbuf: MbufId) -> u64 {
        self.user + (u64::from(mbuf.0) << self.size_shift)
    }
}

/// Access to frames in the pool's memory.
pub trait MbufMemory {
    /// The first `len` bytes of a buffer that the caller owns (no device writes to it now).
    /// `len` is cut to the buffer's size.
    fn frame(&self, mbuf: MbufId, len: usize) -> &[u8];

    /// Copies `len` bytes from a place in one buffer to a place in another; the caller owns both.
    /// What would lie beyond either buffer is left out. Not for the packet path.
    fn copy(&mut self, from: (MbufId, usize), to: (MbufId, usize), len: usize);
}

/// The free buffers of one elastic thread.
#[derive(Debug)]
pub struct MbufPool {
    geometry: MbufGeometry,
    free: Vec<u32>,
}

impl MbufPool {
    /// A pool in which every buffer is free. Allocates its free list once.
    pub fn new(geometry: MbufGeometry) -> Self {
        Self {
            geometry,
            free: (0..geometry.count).rev().collect(),
        }
    }

    /// Where the pool lies.
    #[inline]
    pub fn geometry(&self) -> &MbufGeometry {
        &self.geometry
    }

    /// Free buffers.
    #[inline]
    pub fn available(&self) -> usize {
        self.free.len()
    }

    /// Takes a buffer, or `None` when the pool is empty.
    #[inline]
    pub fn take(&mut self) -> Option<MbufId> {
        self.free.pop().map(MbufId)
    }

    /// Returns a buffer. One that is not of this pool, or one too many, is ignored: the free list
    /// never grows beyond what it was built with.
    #[inline]
    pub fn give(&mut self, mbuf: MbufId) {
        debug_assert!(mbuf.0 < self.geometry.count && self.free.len() < self.free.capacity());
        if mbuf.0 < self.geometry.count && self.free.len() < self.free.capacity() {
            self.free.push(mbuf.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u32) -> MbufPool {
        MbufPool::new(MbufGeometry {
            count,
            size_shift: 11,
            bus: 0x20_0000,
            user: 0x1000_0000,
        })
    }

    #[test]
    fn each_buffer_is_given_out_once() {
        let mut pool = pool(3);
        let mut seen = [false; 3];
        while let Some(mbuf) = pool.take() {
            assert!(!core::mem::replace(&mut seen[mbuf.0 as usize], true));
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(pool.available(), 0);
        pool.give(MbufId(1));
        assert_eq!(pool.take(), Some(MbufId(1)));
    }

    #[test]
    fn addresses_are_shifts() {
        let pool = pool(3);
        assert_eq!(pool.geometry().bus_of(MbufId(2)), 0x20_1000);
        assert_eq!(pool.geometry().user_of(MbufId(1)), 0x1000_0800);
        assert_eq!(pool.geometry().bytes(), 3 * 2048);
    }
}
