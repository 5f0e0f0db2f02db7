//! The batched calls of one round: written into the thread area one after the other, and
//! remembered, so that the results can be told apart afterwards.
//!
//! Neither array can overflow: whoever adds a call asks for room first, and what finds none waits
//! for the next round.

use alloc::boxed::Box;

use ix_abi::area::CALL_COUNT;
use ix_abi::{CALL_CAPACITY, CallNumber, SCATTER_GATHER_CAPACITY};

use crate::area::Area;

/// See the module.
pub(crate) struct Batch {
    area: Area,
    calls: usize,
    entries: usize,
    awaited: Box<[Awaited; CALL_CAPACITY]>,
    awaited_count: usize,
}

/// A call of this round whose result matters: number, index in the array, and subject (the
/// connection's slot, or the port of a listen call), packed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Awaited(u64);

const _: () = assert!(CALL_CAPACITY <= 1 << 16);

impl Awaited {
    #[inline]
    fn new(number: CallNumber, call: usize, subject: u32) -> Self {
        Self(number as u64 | (call as u64) << 16 | u64::from(subject) << 32)
    }

    /// Whether it is that call.
    #[inline]
    pub fn is(self, number: CallNumber) -> bool {
        self.0 as u16 == number as u16
    }

    /// The connection's slot, or the port of a listen call.
    #[inline]
    pub fn subject(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Batch {
    pub fn new(area: Area) -> Self {
        Self {
            area,
            calls: 0,
            entries: 0,
            awaited: Box::new([Awaited::default(); CALL_CAPACITY]),
            awaited_count: 0,
        }
    }

    /// Starts an empty round.
    #[inline]
    pub fn begin(&mut self) {
        self.calls = 0;
        self.entries = 0;
        self.awaited_count = 0;
    }

    /// Hands the round to the kernel.
    #[inline]
    pub fn publish(&self) {
        self.area.store(CALL_COUNT, self.calls as u64);
    }

    /// Calls in the round.
    #[inline]
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Calls that still fit.
    #[inline]
    pub fn room(&self) -> usize {
        CALL_CAPACITY - self.calls
    }

    /// Adds a call whose result does not matter: it is refused only if the connection is over, of
    /// which `dead` tells. Its caller has asked for [`Batch::room`]. `small` is the high half of
    /// word 0.
    #[inline]
    pub fn call(&mut self, number: CallNumber, small: u32, words: [u64; 3]) {
        debug_assert!(self.room() > 0);
        let first = number as u64 | u64::from(small) << 32;
        let [handle, argument, last] = words;
        self.area
            .set_call(self.calls, [first, handle, argument, last]);
        self.calls += 1;
    }

    /// Adds a call whose result is to be examined; the rest as for [`Batch::call`].
    #[inline]
    pub fn awaited_call(&mut self, number: CallNumber, small: u32, words: [u64; 3], subject: u32) {
        // There are no more of them than calls, so that the index never wraps.
        self.awaited[self.awaited_count & (CALL_CAPACITY - 1)] =
            Awaited::new(number, self.calls, subject);
        self.awaited_count += 1;
        self.call(number, small, words);
    }

    /// Adds a call that concerns a handle and nothing else.
    #[inline]
    pub fn call_on(&mut self, number: CallNumber, handle: u64) {
        self.call(number, 0, [handle, 0, 0]);
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

    /// Number of calls in the round whose results matter.
    #[inline]
    pub fn awaited_count(&self) -> usize {
        self.awaited_count
    }

    /// One of them, with its result. The index wraps at the capacity.
    #[inline]
    pub fn result(&self, index: usize) -> (Awaited, i64) {
        let awaited = self.awaited[index & (CALL_CAPACITY - 1)];
        (awaited, self.area.result((awaited.0 >> 16) as usize))
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
