//! What keeps received bytes from being given back: a [`Hold`] for each owner of a part of a
//! segment, wherever in the application it is.
//!
//! A connection may change its thread while the application holds bytes of it, and holds may go to
//! other threads. So a hold refers to the connection's [`Anchor`], which says who owns the
//! connection at present; the end of a hold is posted there ([`Ledger::post`]). Holds have weights
//! (Bevan 1987; Watson and Watson 1987): a segment arrives with the full weight in one hold, a clone
//! takes a part of it over, and what is posted at the end is the weight. A segment is free when all
//! weight is back, in whatever order it comes, and a clone needs to tell nobody.

use alloc::sync::Arc;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::ledger::{Entry, Ledger};

/// Weight of a segment that has just arrived.
pub(crate) const FULL: u32 = u32::MAX;

/// Where a connection is. Belongs to the slot that the connection was made in, for good.
pub(crate) struct Anchor {
    ledger: AtomicPtr<Ledger>,
    slot: AtomicU32,
}

impl Anchor {
    /// Slot of a connection that has left one thread and not been put in at the other.
    pub const UNDER_WAY: u32 = u32::MAX - 1;

    pub fn new(ledger: &'static Ledger, slot: u32) -> Self {
        Self {
            ledger: AtomicPtr::new(ptr::from_ref(ledger).cast_mut()),
            slot: AtomicU32::new(slot),
        }
    }

    /// The ledger of the thread that the connection is on, or on its way to.
    #[inline]
    pub fn ledger(&self) -> &'static Ledger {
        // SAFETY: what `new` and `send_to` store is `&'static`.
        unsafe { &*self.ledger.load(Ordering::Acquire) }
    }

    /// The connection's slot, if it is on the thread of that ledger or on its way there.
    #[inline]
    pub fn slot_at(&self, ledger: &Ledger) -> Option<u32> {
        ptr::eq(self.ledger(), ledger).then(|| self.slot.load(Ordering::Relaxed))
    }

    /// The connection goes to another thread. Called by the thread that it is on.
    pub fn send_to(&self, ledger: &'static Ledger) {
        self.slot.store(Self::UNDER_WAY, Ordering::Relaxed);
        let ledger = ptr::from_ref(ledger).cast_mut();
        self.ledger.store(ledger, Ordering::Release);
    }

    /// The connection has been put into that slot. Called by the thread that it is on.
    pub fn settle(&self, slot: u32) {
        self.slot.store(slot, Ordering::Relaxed);
    }
}

/// Keeps one segment of one connection from being given back.
pub(crate) struct Hold {
    /// The [`Anchor`], or, if `weight` is 0, an [`Arc`] of a [`Rest`].
    target: Cell<*const ()>,
    segment: u32,
    weight: Cell<u32>,
}

// SAFETY: the target is an `&'static Anchor` or an `Arc<Rest>`, which are `Send`. What a drop does is
// fit for any thread: see `Ledger::post`.
unsafe impl Send for Hold {}

/// A hold whose weight cannot be divided any more, and that several others share.
struct Rest(#[expect(dead_code, reason = "it is there for its drop")] Hold);

// SAFETY: nobody does anything with the hold inside but drop it, once.
unsafe impl Sync for Rest {}

impl Hold {
    /// The hold on a segment that has just arrived.
    #[inline]
    pub fn new(anchor: &'static Anchor, segment: u32) -> Self {
        Self {
            target: Cell::new(ptr::from_ref(anchor).cast()),
            segment,
            weight: Cell::new(FULL),
        }
    }

    /// Number and weight of the segment that it holds, if that is one of this connection.
    #[inline]
    pub fn part_of(&self, anchor: &Anchor) -> Option<(u32, u32)> {
        // What a shared hold refers to lies elsewhere than any anchor.
        let is_of = self.target.get() == ptr::from_ref(anchor).cast();
        is_of.then(|| (self.segment, self.weight.get()))
    }

    /// Another hold on the segment, with one part in 2^`shift` of the weight.
    #[inline]
    pub fn share(&self, shift: u32) -> Self {
        let weight = self.weight.get();
        if weight <= 1 {
            return self.share_last();
        }
        let given = (weight >> shift).max(1);
        self.weight.set(weight - given);
        Self {
            target: self.target.clone(),
            segment: self.segment,
            weight: Cell::new(given),
        }
    }

    /// The same when the weight cannot be divided any more: then all share what is left of it.
    #[cold]
    fn share_last(&self) -> Self {
        if self.weight.get() != 0 {
            let last = Self {
                target: self.target.clone(),
                segment: self.segment,
                weight: self.weight.clone(),
            };
            self.target.set(Arc::into_raw(Arc::new(Rest(last))).cast());
            self.weight.set(0);
        }
        let shared = self.target.get();
        // SAFETY: the weight is 0, so that it came from `Arc::into_raw` above, and this hold has one
        // of its counts.
        unsafe { Arc::increment_strong_count(shared.cast::<Rest>()) };
        Self {
            target: Cell::new(shared),
            segment: self.segment,
            weight: Cell::new(0),
        }
    }

    #[cold]
    fn drop_shared(&self) {
        // SAFETY: as in `share_last`; the count that this hold has ends here.
        drop(unsafe { Arc::from_raw(self.target.get().cast::<Rest>()) });
    }
}

impl Clone for Hold {
    #[inline]
    fn clone(&self) -> Self {
        self.share(1)
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        let weight = self.weight.get();
        if weight == 0 {
            return self.drop_shared();
        }
        Ledger::post(Entry {
            // SAFETY: the weight is not 0, so that it came from an `&'static Anchor`.
            anchor: unsafe { &*self.target.get().cast() },
            segment: self.segment,
            weight,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::thread;
    use std::vec::Vec;

    use super::*;
    use crate::ledger::{Crew, Message};

    fn anchor() -> (&'static Ledger, &'static Anchor) {
        let crew: &'static Crew = Box::leak(Box::new(Crew::new()));
        let ledger = crew.claim(3);
        (ledger, Box::leak(Box::new(Anchor::new(ledger, 5))))
    }

    fn weight_back(ledger: &Ledger) -> u64 {
        let local = ledger.exchange(Vec::new());
        let remote = ledger.take_post().into_iter();
        let remote = remote.filter_map(|message| match message {
            Message::Released(entry) => Some(entry),
            _ => None,
        });
        let entries = local.into_iter().chain(remote);
        entries.map(|entry| u64::from(entry.weight)).sum()
    }

    #[test]
    fn however_often_a_hold_is_divided_all_weight_comes_back() {
        for shift in [1, 12] {
            let (ledger, anchor) = anchor();
            let hold = Hold::new(anchor, 7);
            assert_eq!(hold.part_of(anchor), Some((7, FULL)));
            let mut chain = hold.clone();
            let mut parts = Vec::new();
            for _ in 0..200 {
                let next = chain.share(shift);
                parts.push(core::mem::replace(&mut chain, next));
                parts.push(hold.share(shift));
            }
            drop((hold, parts));
            let back = weight_back(ledger);
            assert!(back < u64::from(FULL));
            drop(chain);
            assert_eq!(back + weight_back(ledger), u64::from(FULL));
        }
    }

    #[test]
    fn holds_that_end_on_other_threads_are_posted() {
        let (ledger, anchor) = anchor();
        let hold = Hold::new(anchor, 7);
        let mut shared = hold.clone();
        for _ in 0..40 {
            shared = shared.clone();
        }
        thread::scope(|scope| {
            for _ in 0..3 {
                let (one, other) = (hold.clone(), shared.clone());
                scope.spawn(move || {
                    let third = other.clone();
                    drop((one, other));
                    drop(third);
                });
            }
        });
        drop((hold, shared));
        assert_eq!(weight_back(ledger), u64::from(FULL));
    }
}
