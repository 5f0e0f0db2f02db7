//! The queue of connections that may have something to send: a ring of numbers. A connection has at
//! most one entry (`Flags::LISTED`), so that the ring cannot overflow; one that no longer wants to
//! send (`Flags::DIRTY`) keeps its entry until its turn, and is passed over then.

use alloc::vec;
use alloc::vec::Vec;

/// A ring of connection numbers.
pub(crate) struct OutputQueue {
    entries: Vec<u32>,
    head: u32,
    len: u32,
}

impl OutputQueue {
    /// A queue for connections `0..capacity`.
    pub fn new(capacity: u32) -> Self {
        Self {
            entries: vec![0; capacity.max(1).next_power_of_two() as usize],
            head: 0,
            len: 0,
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
        self.len == 0
    }

    /// Appends a connection that is not listed.
    #[inline]
    pub fn push(&mut self, index: u32) {
        let at = self.slot(self.head.wrapping_add(self.len));
        self.entries[at] = index;
        self.len += 1;
    }

    /// Takes the first one.
    #[inline]
    pub fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let index = self.entries[self.slot(self.head)];
        self.head = self.head.wrapping_add(1);
        self.len -= 1;
        Some(index)
    }

    /// Puts one back that was just taken.
    pub fn push_front(&mut self, index: u32) {
        self.head = self.head.wrapping_sub(1);
        let at = self.slot(self.head);
        self.entries[at] = index;
        self.len += 1;
    }

    #[inline]
    fn slot(&self, position: u32) -> usize {
        (position & (self.entries.len() as u32).wrapping_sub(1)) as usize
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
