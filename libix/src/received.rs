//! Received bytes: a read-only slice of the kernel's frame buffers, owned by the application.
//!
//! The protocol is in the type: dropping a [`Received`] gives its bytes back (`recv_done`), sending
//! it back keeps them until the peer has acknowledged them, and a connection's handle is not
//! released while any of its bytes are out. The kernel takes bytes back in order, so a slice that
//! is held also holds those that came after it on the same connection.
//!
//! A `Received` does not reach into the connection table: it posts its end to the [`Ledger`] of
//! its thread, which the table settles once a round.

use core::cell::RefCell;
use core::fmt;
use core::ops::{Bound, Deref, RangeBounds};
use core::ptr::NonNull;

use alloc::vec::Vec;

/// Received bytes, read-only, not copied. Clones and parts share the memory; it goes back to the
/// kernel when the last of them is dropped or, if sent, acknowledged.
#[derive(Clone)]
pub struct Received {
    start: NonNull<u8>,
    bytes: u32,
    hold: Hold,
}

impl Received {
    /// Wraps the bytes of a `recv` event.
    ///
    /// # Safety
    /// `address` is not zero; the `bytes` there stay readable and unchanged until `hold` and all
    /// its clones have been dropped and the table has settled the ledger.
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
        let front = self.slice(..at);
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

/// Keeps one segment of one connection from being given back.
pub(crate) struct Hold {
    ledger: &'static Ledger,
    slot: u32,
    segment: u32,
}

impl Hold {
    /// A hold that the table has counted already.
    #[inline]
    pub fn new(ledger: &'static Ledger, slot: u32, segment: u32) -> Self {
        Self {
            ledger,
            slot,
            segment,
        }
    }

    /// Number of the segment that it holds.
    #[inline]
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Whether it holds a segment of that connection.
    #[inline]
    pub fn is_of(&self, ledger: &Ledger, slot: u32) -> bool {
        self.slot == slot && core::ptr::eq(self.ledger, ledger)
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.ledger.post(self.slot, self.segment, Change::More);
        Self { ..*self }
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        self.ledger.post(self.slot, self.segment, Change::Less);
    }
}

/// What happened to holds since the table looked last, in order.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: RefCell<Vec<Entry>>,
}

/// One hold more or less on a segment.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub slot: u32,
    pub segment: u32,
    pub change: Change,
}

/// See [`Entry`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    More,
    Less,
}

impl Ledger {
    #[inline]
    fn post(&self, slot: u32, segment: u32, change: Change) {
        self.entries.borrow_mut().push(Entry {
            slot,
            segment,
            change,
        });
    }

    /// Whether nothing happened.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    /// Exchanges the entries for an empty list, whose capacity is used for those to come.
    #[inline]
    pub fn exchange(&self, empty: Vec<Entry>) -> Vec<Entry> {
        debug_assert!(empty.is_empty());
        self.entries.replace(empty)
    }
}
