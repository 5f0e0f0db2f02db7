//! The batched calls of one round: written into the thread area one after the other, and
//! remembered, so that the results can be told apart afterwards.
//!
//! Neither array can overflow: whoever adds a call asks for room first, and what finds none waits
//! for the next round.

use alloc::vec::Vec;

use ix_abi::area::CALL_COUNT;
use ix_abi::{CALL_CAPACITY, CallNumber, Error, SCATTER_GATHER_CAPACITY};

use crate::area::Area;

/// See the module.
pub(crate) struct Batch {
    area: Area,
    calls: usize,
    entries: usize,
    awaited: Vec<Awaited>,
}

/// A call of this round whose result matters; those of `sendv` calls are known to their slots.
#[derive(Clone, Copy)]
pub(crate) struct Awaited {
    /// Which call.
    pub number: CallNumber,
    /// Its index in the array.
    pub call: usize,
    /// The connection's slot, or the port of a listen call.
    pub subject: u32,
}

impl Batch {
    pub fn new(area: Area) -> Self {
        Self {
            area,
            calls: 0,
            entries: 0,
            awaited: Vec::new(),
        }
    }

    /// Starts an empty round.
    #[inline]
    pub fn begin(&mut self) {
        self.calls = 0;
        self.entries = 0;
        self.awaited.clear();
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

    /// Adds a call; its caller has asked for [`Batch::room`]. `small` is the high half of word 0.
    #[inline]
    pub fn call(&mut self, number: CallNumber, small: u32, words: [u64; 3]) {
        debug_assert!(self.room() > 0);
        let first = number as u64 | u64::from(small) << 32;
        let [handle, argument, last] = words;
        self.area
            .set_call(self.calls, [first, handle, argument, last]);
        self.calls += 1;
    }

    /// Adds a call that [`Batch::awaited`] is to remember.
    pub fn awaited_call(&mut self, number: CallNumber, small: u32, words: [u64; 3], subject: u32) {
        self.awaited.push(Awaited {
            number,
            call: self.calls,
            subject,
        });
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

    /// The calls of the round that are to be remembered.
    pub fn awaited(&self) -> &[Awaited] {
        &self.awaited
    }

    /// What the kernel was told in the round about a connection that it no longer had here.
    pub fn misdirected(&self, handle: u64) -> impl Iterator<Item = (CallNumber, u64)> {
        let bad_handle = Error::BadHandle.to_result();
        let calls = (0..self.calls).map(|index| (self.area.call(index), self.area.result(index)));
        calls.filter_map(move |([first, subject, argument, _], result)| {
            let number = CallNumber::from_raw(first as u32)?;
            (subject == handle && result == bad_handle).then_some((number, argument))
        })
    }

    /// Result of a call of the round.
    #[inline]
    pub fn result(&self, call: usize) -> i64 {
        self.area.result(call)
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
