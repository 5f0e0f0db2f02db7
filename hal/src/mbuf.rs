//! Frame buffers: a pool is one contiguous array of equal, power-of-two sized buffers and a free
//! list of their numbers, owned by one elastic thread. A buffer is a number everywhere; whoever
//! holds the number owns the buffer.
//!
//! A buffer can be lent to the pool of another thread ([`MbufPool::adopt`]), which names it by a
//! number beyond its own ones, and which hands it back when it is given ([`MbufPool::take_return`]).

use alloc::vec::Vec;

/// Number of a frame buffer in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MbufId(pub u32);

/// A buffer by its owner: the thread whose pool it is part of, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LentMbuf {
    /// The thread.
    pub owner: u32,
    /// The number in its pool.
    pub mbuf: MbufId,
}

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

    /// Copies the first `len` bytes of a buffer that another thread's pool has lent to an own one.
    /// The caller owns both. What would lie beyond either buffer is left out. Not for the packet
    /// path.
    fn fetch(&mut self, from: LentMbuf, to: MbufId, len: usize);
}

/// The free buffers of one elastic thread, and those of other threads that it has borrowed.
#[derive(Debug)]
pub struct MbufPool {
    geometry: MbufGeometry,
    free: Vec<u32>,
    thread: u32,
    borrowed: Borrowed,
}

impl MbufPool {
    /// A pool in which every buffer is free. Allocates its free list once.
    pub fn new(geometry: MbufGeometry) -> Self {
        Self::with_loans(geometry, 0, 0)
    }

    /// The same for a thread that can borrow that many buffers of others.
    pub fn with_loans(geometry: MbufGeometry, thread: u32, loans: u32) -> Self {
        let loans = loans.min(u32::MAX - geometry.count);
        Self {
            geometry,
            free: (0..geometry.count).rev().collect(),
            thread,
            borrowed: Borrowed::new(loans),
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
    #[inline(always)]
    pub fn give(&mut self, mbuf: MbufId) {
        if mbuf.0 < self.geometry.count {
            debug_assert!(self.free.len() < self.free.capacity());
            if self.free.len() < self.free.capacity() {
                self.free.push(mbuf.0);
            }
        } else {
            self.give_borrowed(mbuf);
        }
    }

    /// The end of a loan: the owner is to get the buffer back.
    #[cold]
    fn give_borrowed(&mut self, mbuf: MbufId) {
        let ended = self.borrowed.end(mbuf.0.wrapping_sub(self.geometry.count));
        debug_assert!(ended.is_some(), "a buffer that nobody lent");
        if let Some(lent) = ended {
            self.borrowed.returns.push(lent);
        }
    }

    /// Names a buffer that is part of no pool at the moment: by its own number if it is one of this
    /// thread, else by one beyond the pool's. `None` if too many are borrowed.
    pub fn adopt(&mut self, lent: LentMbuf) -> Option<MbufId> {
        if lent.owner == self.thread {
            return (lent.mbuf.0 < self.geometry.count).then_some(lent.mbuf);
        }
        let loan = self.borrowed.begin(lent)?;
        Some(MbufId(self.geometry.count + loan))
    }

    /// Names a buffer by its owner, so that another pool can adopt it; its number means nothing
    /// here from now on.
    pub fn disown(&mut self, mbuf: MbufId) -> LentMbuf {
        let own = LentMbuf {
            owner: self.thread,
            mbuf,
        };
        let loan = mbuf.0.checked_sub(self.geometry.count);
        loan.and_then(|loan| self.borrowed.end(loan)).unwrap_or(own)
    }

    /// Buffers that can still be borrowed.
    pub fn loans_left(&self) -> usize {
        self.borrowed.free.len() - self.borrowed.returns.len()
    }

    /// Whether [`MbufPool::take_return`] has something to give.
    #[inline]
    pub fn has_returns(&self) -> bool {
        !self.borrowed.returns.is_empty()
    }

    /// Takes one that goes back to that owner, if it is the next one.
    pub fn take_return_to(&mut self, owner: u32) -> Option<LentMbuf> {
        self.borrowed.returns.pop_if(|lent| lent.owner == owner)
    }

    /// Takes a buffer whose loan is over and which its owner is to get.
    pub fn take_return(&mut self) -> Option<LentMbuf> {
        self.borrowed.returns.pop()
    }
}

/// Buffers of other threads.
#[derive(Debug)]
struct Borrowed {
    /// What each loan stands for, if it stands for something.
    lent: Vec<Option<LentMbuf>>,
    /// Loans that stand for nothing.
    free: Vec<u32>,
    /// Those whose loan is over. Their number is bounded by what may be on its way at a time: the
    /// returns are taken out in each cycle.
    returns: Vec<LentMbuf>,
}

impl Borrowed {
    fn new(loans: u32) -> Self {
        Self {
            lent: (0..loans).map(|_| None).collect(),
            free: (0..loans).rev().collect(),
            returns: Vec::with_capacity(loans as usize),
        }
    }

    /// A loan, unless there are as many as there may be: buffers that are not yet on their way back
    /// count.
    fn begin(&mut self, lent: LentMbuf) -> Option<u32> {
        if self.returns.len() >= self.free.len() {
            return None;
        }
        let loan = self.free.pop()?;
        self.lent[loan as usize] = Some(lent);
        Some(loan)
    }

    fn end(&mut self, loan: u32) -> Option<LentMbuf> {
        let lent = self.lent.get_mut(loan as usize)?.take()?;
        self.free.push(loan);
        Some(lent)
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
    fn borrowed_buffers_go_back_to_their_owner_and_own_ones_come_home() {
        let geometry = *pool(3).geometry();
        let mut pools = [0, 1].map(|thread| MbufPool::with_loans(geometry, thread, 2));
        let own = pools[0].take().unwrap();
        let lent = pools[0].disown(own);
        assert_eq!((lent.owner, lent.mbuf), (0, own));
        let there = pools[1].adopt(lent).unwrap();
        assert!(there.0 >= 3);
        // Onward and home, without a return.
        let onward = pools[1].disown(there);
        assert_eq!((onward, pools[0].adopt(onward)), (lent, Some(own)));
        assert_eq!(pools[1].loans_left(), 2);
        let there = pools[1].adopt(lent).unwrap();
        pools[1].give(there);
        assert!(pools[1].has_returns());
        assert_eq!(pools[1].take_return(), Some(lent));
        assert_eq!(pools[1].take_return(), None);
        assert_eq!(pools[1].available(), 3);
    }

    #[test]
    fn no_more_is_borrowed_than_there_is_room_for() {
        let mut pool = MbufPool::with_loans(*pool(3).geometry(), 0, 2);
        let lent = |mbuf| LentMbuf {
            owner: 1,
            mbuf: MbufId(mbuf),
        };
        let first = pool.adopt(lent(0)).unwrap();
        assert!(pool.adopt(lent(1)).is_some());
        assert_eq!(pool.adopt(lent(2)), None);
        pool.give(first);
        assert_eq!(pool.adopt(lent(2)), None, "its return would find no room");
        assert!(pool.take_return().is_some());
        assert!(pool.adopt(lent(2)).is_some());
    }

    #[test]
    fn addresses_are_shifts() {
        let pool = pool(3);
        assert_eq!(pool.geometry().bus_of(MbufId(2)), 0x20_1000);
        assert_eq!(pool.geometry().user_of(MbufId(1)), 0x1000_0800);
        assert_eq!(pool.geometry().bytes(), 3 * 2048);
    }
}
