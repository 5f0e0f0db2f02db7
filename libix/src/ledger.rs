//! What an elastic thread is told about its connections outside of events: which holds on received
//! bytes have ended ([`Entry`]), which connections come from other threads ([`Traveller`]), and
//! which of those that went have ended.
//!
//! A [`Crew`] has a [`Ledger`] for each thread. Only its own thread writes into the list in it, which
//! costs as much as any list; the others post to its [`Inbox`], and have the kernel run a round of its
//! thread when there was nothing in it: a thread that waits for events would not look.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::RefCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use ix_abi::THREADS_MAX;

use crate::hold::Anchor;
use crate::inbox::Inbox;
use crate::platform;
use crate::slot::Slot;

/// What the elastic threads of one application share.
pub struct Crew {
    ledgers: [Ledger; THREADS_MAX],
}

impl Crew {
    /// For threads that have not started.
    pub const fn new() -> Self {
        Self {
            ledgers: [const { Ledger::new() }; THREADS_MAX],
        }
    }

    /// The ledger of a thread.
    pub(crate) fn ledger(&'static self, thread: usize) -> Option<&'static Ledger> {
        self.ledgers.get(thread)
    }

    /// The ledger of the thread of that number, which is the caller.
    ///
    /// # Panics
    /// If it has been claimed before.
    pub(crate) fn claim(&'static self, thread: usize) -> &'static Ledger {
        let ledger = &self.ledgers[thread];
        ledger.thread.store(thread, Ordering::Relaxed);
        let before = ledger
            .owner
            .compare_exchange(0, here(), Ordering::Release, Ordering::Relaxed);
        assert!(before.is_ok(), "an elastic thread runs one event loop");
        ledger
    }
}

impl Default for Crew {
    fn default() -> Self {
        Self::new()
    }
}

/// See the module. In cache lines of its own, two of which a processor may fetch at once.
#[repr(align(128))]
pub(crate) struct Ledger {
    /// The thread that has claimed it, as [`here`] names it; 0 before.
    owner: AtomicUsize,
    /// Number of that thread.
    thread: AtomicUsize,
    /// Accessed by the owner alone.
    entries: RefCell<Vec<Entry>>,
    inbox: Inbox<Message>,
}

// SAFETY: `entries` is only accessed where `is_mine` has said that the caller runs on the owner's
// thread, and by the table that has claimed the ledger, which cannot leave that thread. All else is
// `Sync`.
unsafe impl Sync for Ledger {}

/// The end of a hold on a segment.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    pub anchor: &'static Anchor,
    pub segment: u32,
    pub weight: u32,
}

/// What one thread tells another.
pub(crate) enum Message {
    /// A hold ended.
    Released(Entry),
    /// A connection comes.
    Traveller(Box<Traveller>),
    /// The connection of that cookie, made by the thread that is told, is over.
    Over(u64),
}

/// A connection on its way to another thread.
pub(crate) struct Traveller {
    pub slot: Slot,
    /// The application's state, if it has not been given back yet.
    pub state: Option<Box<dyn Any + Send>>,
}

impl Ledger {
    const fn new() -> Self {
        Self {
            owner: AtomicUsize::new(0),
            thread: AtomicUsize::new(0),
            entries: RefCell::new(Vec::new()),
            inbox: Inbox::new(),
        }
    }

    /// Books the end of a hold with the thread that its connection is on.
    #[inline]
    pub fn post(entry: Entry) {
        let ledger = entry.anchor.ledger();
        match ledger.is_mine() {
            true => ledger.entries.borrow_mut().push(entry),
            false => ledger.send(Message::Released(entry)),
        }
    }

    /// Tells the owner something.
    #[inline(never)]
    pub fn send(&self, message: Message) {
        // Who has not started yet reads it when it does.
        if self.inbox.push(message) && self.owner.load(Ordering::Acquire) != 0 {
            platform::notify(self.thread.load(Ordering::Relaxed));
        }
    }

    /// Whether the caller runs on the owner's thread.
    #[inline]
    fn is_mine(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == here()
    }

    /// Whether no hold ended on the owner's thread.
    #[inline]
    pub fn is_empty(&self) -> bool {
        debug_assert!(self.is_mine());
        self.entries.borrow().is_empty()
    }

    /// Exchanges the entries for an empty list, whose capacity is used for those to come.
    #[inline]
    pub fn exchange(&self, empty: Vec<Entry>) -> Vec<Entry> {
        debug_assert!(empty.is_empty() && self.is_mine());
        self.entries.replace(empty)
    }

    /// Whether the others have something to tell.
    #[inline]
    pub fn has_post(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// What the others have to tell.
    pub fn take_post(&self) -> Vec<Message> {
        self.inbox.take()
    }
}

/// The thread that this runs on; not 0, and different for all threads.
#[cfg(bare)]
#[inline]
fn here() -> usize {
    crate::bare::thread() + 1
}

/// The thread that this runs on; not 0, and different for all threads that ever were.
#[cfg(not(bare))]
fn here() -> usize {
    use core::cell::Cell;

    static LAST: AtomicUsize = AtomicUsize::new(0);
    std::thread_local! {
        static HERE: Cell<usize> = const { Cell::new(0) };
    }
    HERE.with(|here| {
        if here.get() == 0 {
            here.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        here.get()
    })
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;
    use crate::host::NOTIFICATIONS;

    #[test]
    fn the_first_message_since_it_looked_notifies_the_owner() {
        let crew: &'static Crew = Box::leak(Box::new(Crew::new()));
        let before = NOTIFICATIONS.get();
        let ledger = crew.ledger(2).unwrap();
        ledger.send(Message::Over(1));
        assert_eq!(NOTIFICATIONS.get(), before, "nobody is there yet");
        assert!(core::ptr::eq(crew.claim(2), ledger));
        assert_eq!(ledger.take_post().len(), 1);
        for (message, notifications) in [(2, 1), (3, 1)] {
            ledger.send(Message::Over(message));
            assert_eq!(NOTIFICATIONS.get() - before, notifications);
        }
        assert_eq!(ledger.take_post().len(), 2);
        assert!(!ledger.has_post());
        ledger.send(Message::Over(4));
        assert_eq!(NOTIFICATIONS.get() - before, 2);
    }
}
