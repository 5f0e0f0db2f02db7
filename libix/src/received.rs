//! Received bytes: a read-only slice of the kernel's frame buffers, owned by the application.
//!
//! The protocol is in the type: dropping a [`Received`] gives its bytes back (`recv_done`), sending
//! it back keeps them until the peer has acknowledged them, and a connection's handle is not
//! released while any of its bytes are out. The kernel takes bytes back in order, so a slice that
//! is held also holds those that came after it on the same connection.
//!
//! A `Received` may go to other threads. It does not reach into the connection table: the end of
//! its [`Hold`] is posted to the thread that the connection is on, whose table settles that once a
//! round.

use core::fmt;
use core::ops::{Bound, Deref, RangeBounds};
use core::ptr::NonNull;

use crate::hold::{Anchor, Hold};

/// A part that was split off gets one in so many, as a power of two, of the weight: it is seldom
/// divided again, but the rest may be, a thousand times.
const SPLIT_OFF: u32 = 12;

/// Received bytes, read-only, not copied. Clones and parts share the memory; it goes back to the
/// kernel when the last of them is dropped or, if sent, acknowledged.
#[derive(Clone)]
pub struct Received {
    start: NonNull<u8>,
    bytes: u32,
    hold: Hold,
}

// SAFETY: the bytes may be read on any thread; what its hold does at its end is fit for any, too.
unsafe impl Send for Received {}

impl Received {
    /// Wraps the bytes of a `recv` event.
    ///
    /// # Safety
    /// `address` is not zero; the `bytes` there stay readable and unchanged until `hold` and all
    /// its clones have been dropped and a table has settled that.
    #[inline]
    pub(crate) unsafe fn new(address: u64, bytes: u32, hold: Hold) -> Self {
        Self {
            // SAFETY: not zero, says the caller.
            start: unsafe { NonNull::new_unchecked(address as *mut u8) },
            bytes,
            hold,
        }
    }

    /// Splits off the first `at` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_to(&mut self, at: usize) -> Received {
        assert!(at <= self.len(), "split beyond the end");
        let mut front = Self {
            hold: self.hold.share(SPLIT_OFF),
            ..*self
        };
        front.truncate(at);
        self.advance(at);
        front
    }

    /// Forgets the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes as usize, "advanced beyond the end");
        // SAFETY: not beyond the end, so inside of, or one past, the same buffer.
        self.start = unsafe { self.start.add(count) };
        self.bytes -= count as u32;
    }

    /// Keeps only the first `len` bytes, if there are more.
    #[inline]
    pub fn truncate(&mut self, len: usize) {
        self.bytes = self.bytes.min(len.min(u32::MAX as usize) as u32);
    }

    /// A part of it that shares the memory.
    ///
    /// # Panics
    /// If the range does not lie inside.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Received {
        let first = match range.start_bound() {
            Bound::Included(&first) => first,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        assert!(first <= end && end <= self.len(), "slice out of range");
        let mut part = self.clone();
        part.truncate(end);
        part.advance(first);
        part
    }

    /// Number and weight of the segment that it is of, if that is one of this connection.
    #[inline]
    pub(crate) fn part_of(&self, anchor: &Anchor) -> Option<(u32, u32)> {
        self.hold.part_of(anchor)
    }

    /// Ends it without posting the end of its hold to a ledger: the caller settles that.
    #[inline]
    pub(crate) fn forget(self) {
        core::mem::forget(self);
    }

    /// What the kernel reads, and what keeps it alive.
    #[inline]
    pub(crate) fn into_parts(self) -> (*const u8, usize, Hold) {
        (self.start.as_ptr(), self.bytes as usize, self.hold)
    }
}

impl Deref for Received {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `new`'s caller promised readable, unchanging bytes as long as `hold` lives;
        // `advance` and `truncate` only make the range smaller.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.bytes as usize) }
    }
}

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Received({} bytes)", self.bytes)
    }
}
