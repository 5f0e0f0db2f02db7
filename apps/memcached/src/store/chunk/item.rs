//! Items: texts that are complete, and counted.

use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{AcqRel, Relaxed};

use libix::Lease;

use super::{Chunk, LEAD, TRAIL, state};

/// An item that is there as long as this is: in the table, or no longer.
pub struct Item(Chunk);

impl Item {
    /// The item that one of the chunk's counts stands for; the caller gives the count away.
    #[inline]
    pub(super) fn of_count(chunk: Chunk) -> Self {
        Self(chunk)
    }

    /// The chunk that it is in.
    #[inline]
    pub fn chunk(&self) -> Chunk {
        self.0
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.text(LEAD.len()..LEAD.len() + self.0.key_bytes())
    }

    /// The data, without its line end.
    pub fn value(&self) -> &[u8] {
        let at = self.0.data_at();
        self.text(at..at + self.0.value_bytes())
    }

    /// The unique number of its content.
    pub fn cas(&self) -> u64 {
        self.0.cas.load(Relaxed)
    }

    /// Hands the count over to the table. The caller puts the chunk there.
    pub fn into_link(self) -> Chunk {
        let chunk = self.0;
        if chunk.state.fetch_or(state::LINKED, Relaxed) & state::LINKED == 0 {
            core::mem::forget(self);
        }
        chunk
    }

    /// The whole answer to `get`.
    #[inline]
    pub fn into_answer(self) -> Piece {
        let bytes = self.0.data_at() + self.0.data_len() + TRAIL.len();
        Piece {
            item: self,
            start: 0,
            bytes: bytes as u32,
        }
    }

    /// The answer without the `END` after it.
    pub fn into_line_and_data(self) -> Piece {
        let mut piece = self.into_answer();
        piece.bytes -= TRAIL.len() as u32;
        piece
    }

    /// The data with its line end.
    pub fn into_data(self) -> Piece {
        Piece {
            start: self.0.data_at() as u32,
            bytes: self.0.data_len() as u32,
            item: self,
        }
    }

    /// The data without its line end.
    pub fn into_value(self) -> Piece {
        let mut piece = self.into_data();
        piece.bytes -= 2;
        piece
    }

    #[inline]
    fn text(&self, range: Range<usize>) -> &[u8] {
        debug_assert!(range.start <= range.end && range.end <= self.0.room as usize);
        // SAFETY: an item exists, so that the text is complete and does not change. Every range is
        // made of lengths that `Draft::begin` has checked against the room.
        unsafe { core::slice::from_raw_parts(self.0.text().add(range.start), range.len()) }
    }
}

impl Drop for Item {
    #[inline]
    fn drop(&mut self) {
        if self.0.counts.fetch_sub(1, AcqRel) == 1 {
            self.0.store.reclaim(self.0);
        }
    }
}

/// A part of an item's text, with the item.
pub struct Piece {
    item: Item,
    start: u32,
    bytes: u32,
}

// SAFETY: the text of an item neither moves nor changes while the item is there, which the raw count
// is as good for as the item.
unsafe impl Lease for Piece {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let start = self.start as usize;
        self.item.text(start..start + self.bytes as usize)
    }

    #[inline]
    fn into_raw(self) -> *const () {
        let header = self.item.0.0.as_ptr();
        core::mem::forget(self.item);
        header.cast()
    }

    #[inline]
    unsafe fn release(raw: *const ()) {
        // SAFETY: `raw` is from `into_raw`, which took it from a chunk.
        let header = unsafe { NonNull::new_unchecked(raw.cast_mut().cast()) };
        drop(Item(Chunk(header)));
    }
}
