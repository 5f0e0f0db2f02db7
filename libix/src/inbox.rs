//! A list that any thread adds to and one thread takes as a whole (Treiber's stack, 1986). Nobody
//! waits for anybody: an addition is one compare-and-swap, repeated if another one came between.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// See the module.
pub(crate) struct Inbox<T> {
    newest: AtomicPtr<Node<T>>,
}

struct Node<T> {
    value: T,
    older: *mut Node<T>,
}

impl<T: Send> Inbox<T> {
    pub const fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Whether nothing has been added since [`Inbox::take`].
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.newest.load(Ordering::Relaxed).is_null()
    }

    /// Adds a value. Returns whether it is the first one since [`Inbox::take`].
    pub fn push(&self, value: T) -> bool {
        let older = self.newest.load(Ordering::Relaxed);
        let node = Box::into_raw(Box::new(Node { value, older }));
        loop {
            // SAFETY: the node is this call's alone until the exchange below succeeds.
            let older = unsafe { (*node).older };
            match self.newest.compare_exchange_weak(
                older,
                node,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return older.is_null(),
                // SAFETY: as above; it failed.
                Err(newest) => unsafe { (*node).older = newest },
            }
        }
    }

    /// Takes everything, in the order in which it was added.
    pub fn take(&self) -> Vec<T> {
        let mut values = Vec::new();
        let mut next = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        while !next.is_null() {
            // SAFETY: `push` made it of a box, and the exchange above took it off the list, so that
            // nobody else has it.
            let node = unsafe { Box::from_raw(next) };
            next = node.older;
            values.push(node.value);
        }
        values.reverse();
        values
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        let mut next = *self.newest.get_mut();
        while !next.is_null() {
            // SAFETY: as in `take`; nobody else has the list any more.
            next = unsafe { Box::from_raw(next) }.older;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn it_keeps_the_order_and_says_when_it_was_empty() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty());
        assert!(inbox.push(1));
        assert!(!inbox.push(2));
        assert!(!inbox.is_empty());
        assert_eq!(inbox.take(), [1, 2]);
        assert!(inbox.is_empty() && inbox.take().is_empty());
        assert!(inbox.push(3));
    }

    #[test]
    fn nothing_is_lost_or_reordered_between_threads() {
        const EACH: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let inbox = Inbox::new();
        let mut seen = [0; 3];
        thread::scope(|scope| {
            for sender in 0..seen.len() {
                let inbox = &inbox;
                scope.spawn(move || {
                    for number in 0..EACH {
                        inbox.push((sender, number));
                    }
                });
            }
            while seen.iter().sum::<u32>() < EACH * seen.len() as u32 {
                for (sender, number) in inbox.take() {
                    assert_eq!(number, seen[sender]);
                    seen[sender] += 1;
                }
                thread::yield_now();
            }
        });
        assert!(inbox.is_empty());
    }
}
