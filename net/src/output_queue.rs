//! The queue of connections that may have something to send: a list of numbers. A connection has at
//! most one entry (`Flags::LISTED`), so that the list cannot overflow; one that no longer wants to
//! send (`Flags::DIRTY`) keeps its entry until its turn, and is passed over then.

use alloc::vec;
use alloc::vec::Vec;

/// A queue of connection numbers. It is emptied again and again; so it begins at the front each time,
/// and does not go round.
pub(crate) struct OutputQueue {
    entries: Vec<u32>,
    head: usize,
    tail: usize,
}

impl OutputQueue {
    /// A queue for connections `0..capacity`.
    pub fn new(capacity: u32) -> Self {
        Self {
            // One more, for one that was taken and is put back.
            entries: vec![0; capacity as usize + 1],
            head: 0,
            tail: 0,
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    /// Whether no connection is listed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Appends a connection that is not listed.
    #[inline(always)]
    pub fn push(&mut self, index: u32) {
        match self.entries.get_mut(self.tail) {
            Some(entry) => {
                *entry = index;
                self.tail += 1;
            }
            None => self.push_moved(index),
        }
    }

    /// Takes the first one.
    #[inline(always)]
    pub fn pop(&mut self) -> Option<u32> {
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
            return None;
        }
        let index = self.entries[self.head];
        self.head += 1;
        Some(index)
    }

    /// Puts one back that was just taken.
    pub fn push_front(&mut self, index: u32) {
        match self.head.checked_sub(1) {
            Some(before) => {
                self.head = before;
                self.entries[before] = index;
            }
            // The queue has moved meanwhile.
            None => self.push(index),
        }
    }

    /// Makes room behind the last one, and appends. There is some before the first: not all are
    /// listed.
    #[cold]
    #[inline(never)]
    fn push_moved(&mut self, index: u32) {
        self.entries.copy_within(self.head..self.tail, 0);
        self.tail -= self.head;
        self.head = 0;
        self.entries[self.tail] = index;
        self.tail += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_keeps_its_order_when_full_and_around_the_end() {
        let mut queue = OutputQueue::new(3);
        for round in 0..10 {
            for index in 0..4 {
                queue.push(round + index);
            }
            assert_eq!(queue.pop(), Some(round));
            queue.push_front(round);
            for index in 0..4 {
                assert_eq!(queue.pop(), Some(round + index));
            }
            assert_eq!(queue.pop(), None);
            queue.push(7);
            assert_eq!(queue.pop(), Some(7));
            assert!(queue.is_empty());
        }
    }
}
