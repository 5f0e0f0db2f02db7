//! The batched calls of one round: written into the thread area one after the other, and
//! remembered, so that the results can be told apart afterwards.
//!
//! Neither array can overflow: whoever adds a call asks for room first, and what finds none waits
//! for the next round.

use alloc::vec::Vec;

use ix_abi::area::CALL_COUNT;
use ix_abi::{CALL_CAPACITY, CallNumber, SCATTER_GATHER_CAPACITY};

use crate::area::Area;

/// See the module.
pub(crate) struct Batch {
    area: Area,
    issued: Vec<Issued>,
    entries: usize,
}

/// A call of this round.
#[derive(Clone, Copy)]
pub(crate) struct Issued {
    /// Which call.
    pub number: CallNumber,
    /// The connection's slot, or the port of a listen call.
    pub subject: u32,
}

impl Batch {
    pub fn new(area: Area) -> Self {
        Self {
            area,
            issued: Vec::with_capacity(CALL_CAPACITY),
            entries: 0,
        }
    }

    /// Starts an empty round.
    #[inline]
    pub fn begin(&mut self) {
        self.issued.clear();
        self.entries = 0;
    }

    /// Hands the round to the kernel.
    #[inline]
    pub fn publish(&self) {
        self.area.store(CALL_COUNT, self.issued.len() as u64);
    }

    /// Calls that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        CALL_CAPACITY - self.issued.len()
    }

    /// Adds a call; its caller has asked for [`Batch::room`]. `small` is the high half of word 0.
    #[inline]
    pub fn call(&mut self, issued: Issued, small: u32, words: [u64; 3]) {
        debug_assert!(self.room() > 0);
        let first = issued.number as u64 | u64::from(small) << 32;
        let [handle, argument, last] = words;
        self.area
            .set_call(self.issued.len(), [first, handle, argument, last]);
        self.issued.push(issued);
    }

    /// Adds a call that concerns a handle and nothing else.
    #[inline]
    pub fn call_on(&mut self, number: CallNumber, subject: u32, handle: u64) {
        self.call(Issued { number, subject }, 0, [handle, 0, 0]);
    }

    /// The scatter-gather entries not used yet, for one `sendv` call.
    #[inline]
    pub fn entries(&mut self) -> Entries<'_> {
        Entries {
            area: self.area,
            used: &mut self.entries,
        }
    }

    /// Number of the next scatter-gather entry.
    #[inline]
    pub fn next_entry(&self) -> usize {
        self.entries
    }

    /// The calls of the round with their results, to be walked by number up to
    /// [`Batch::issued_count`].
    #[inline]
    pub fn result(&self, index: usize) -> (Issued, i64) {
        (self.issued[index], self.area.result(index))
    }

    /// Number of calls in the round.
    #[inline]
    pub fn issued_count(&self) -> usize {
        self.issued.len()
    }
}

/// The free part of the scatter-gather array.
pub(crate) struct Entries<'a> {
    area: Area,
    used: &'a mut usize,
}

impl Entries<'_> {
    /// Entries that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        SCATTER_GATHER_CAPACITY - *self.used
    }

    /// Adds an entry; its caller has asked for [`Entries::room`].
    #[inline]
    pub fn push(&mut self, address: u64, bytes: u64) {
        debug_assert!(self.room() > 0);
        self.area.set_entry(*self.used, address, bytes);
        *self.used += 1;
    }
}
