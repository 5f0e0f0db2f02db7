//! The receiving side of one connection: which segments the application still holds.
//!
//! The kernel takes bytes back in the order in which it gave them. So a segment is given back
//! when nobody holds it and every one before it has been given back.

use crate::front_queue::FrontQueue;
use crate::hold::FULL;

/// See the module.
pub(crate) struct ReceiveQueue {
    segments: FrontQueue<Segment>,
    /// Number of the first segment in the queue; numbers wrap.
    first: u32,
    /// Bytes that can be given back.
    done: u64,
}

#[derive(Clone, Copy, Default)]
struct Segment {
    bytes: u32,
    /// What the holds on it weigh.
    weight: u32,
}

/// Room kept for the slot's next connection.
const KEPT_CAPACITY: usize = 64;

impl ReceiveQueue {
    pub fn new() -> Self {
        Self {
            segments: FrontQueue::new(),
            first: 0,
            done: 0,
        }
    }

    /// A segment arrived; it has one hold, of full weight. Returns its number.
    #[inline]
    pub fn arrived(&mut self, bytes: u32) -> u32 {
        let number = self.first.wrapping_add(self.segments.len() as u32);
        self.segments.push_back(Segment {
            bytes,
            weight: FULL,
        });
        number
    }

    /// A segment lost a hold of that weight.
    #[inline]
    pub fn released(&mut self, number: u32, weight: u32) {
        // One segment with one hold, the usual case: it is the one.
        if weight == FULL
            && let Some(&segment) = self.segments.only()
        {
            self.segments.take_only();
            self.first = number.wrapping_add(1);
            self.done += u64::from(segment.bytes);
        } else {
            self.lighten(number, weight);
        }
    }

    /// Lets go of a segment that lost its last hold, if it is the first one and the one behind it
    /// is held: how a run of segments goes that was dropped as it came. `false` if it is not so.
    #[inline]
    pub fn released_in_order(&mut self, number: u32, weight: u32) -> bool {
        let first = self.segments.get(0);
        let is_first = number == self.first
            && first.is_some_and(|first| first.weight == weight)
            && self.segments.get(1).is_none_or(|second| second.weight != 0);
        if is_first && let Some(segment) = self.segments.pop_front() {
            self.first = number.wrapping_add(1);
            self.done += u64::from(segment.bytes);
        }
        is_first
    }

    /// A segment lost a hold, and perhaps not its last one.
    #[inline(never)]
    pub fn lighten(&mut self, number: u32, weight: u32) {
        let index = number.wrapping_sub(self.first) as usize;
        let Some(segment) = self.segments.get_mut(index) else {
            debug_assert!(false, "a hold on a segment that was given back");
            return;
        };
        segment.weight -= weight;
        while let Some(segment) = self.segments.get(0)
            && segment.weight == 0
        {
            self.done += u64::from(segment.bytes);
            self.segments.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// What all holds on all segments weigh.
    #[inline]
    pub fn held(&self) -> u64 {
        if self.segments.len() == 0 {
            return 0;
        }
        let weight = |segment: &Segment| u64::from(segment.weight);
        self.segments.iter().map(weight).sum()
    }

    /// Whether there are bytes to give back.
    #[inline]
    pub fn has_done(&self) -> bool {
        self.done != 0
    }

    /// Takes the count of bytes to give back.
    #[inline]
    pub fn take_done(&mut self) -> u64 {
        core::mem::take(&mut self.done)
    }

    /// The kernel did not take so many bytes, although they were offered.
    pub fn not_taken(&mut self, bytes: u64) {
        self.done += bytes;
    }

    /// Starts over for the next connection. Nothing may be held any more.
    pub fn clear(&mut self) {
        debug_assert!(
            self.segments.len() == 0,
            "a slot is released before its bytes"
        );
        self.segments.clear(KEPT_CAPACITY);
        self.done = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_go_back_in_order() {
        let mut queue = ReceiveQueue::new();
        let numbers = [10, 20, 30].map(|bytes| queue.arrived(bytes));
        queue.lighten(numbers[1], FULL);
        assert_eq!(queue.take_done(), 0);
        queue.lighten(numbers[0], FULL);
        assert_eq!(queue.take_done(), 30);
        assert_eq!(queue.held(), u64::from(FULL));
        queue.lighten(numbers[2], FULL);
        assert_eq!(queue.take_done(), 30);
        assert_eq!(queue.held(), 0);
    }

    #[test]
    fn segments_dropped_as_they_came_go_back_one_by_one() {
        let mut queue = ReceiveQueue::new();
        let numbers = [10, 20, 30, 40].map(|bytes| queue.arrived(bytes));
        assert!(!queue.released_in_order(numbers[1], FULL));
        assert!(queue.released_in_order(numbers[0], FULL));
        assert_eq!(queue.take_done(), 10);
        // What was let go of before its turn goes with the one before it.
        queue.lighten(numbers[2], FULL);
        assert!(!queue.released_in_order(numbers[1], FULL));
        queue.lighten(numbers[1], FULL);
        assert_eq!(queue.take_done(), 50);
        assert!(!queue.released_in_order(numbers[3], FULL - 1));
        queue.lighten(numbers[3], FULL - 1);
        assert!(queue.released_in_order(numbers[3], 1));
        assert_eq!((queue.take_done(), queue.held()), (40, 0));
    }

    #[test]
    fn a_shared_segment_waits_for_its_last_hold() {
        let mut queue = ReceiveQueue::new();
        let number = queue.arrived(7);
        queue.lighten(number, 2);
        queue.lighten(number, FULL - 5);
        assert_eq!(queue.take_done(), 0);
        queue.lighten(number, 3);
        assert_eq!(queue.take_done(), 7);
    }

    #[test]
    fn numbers_wrap() {
        let mut queue = ReceiveQueue::new();
        queue.first = u32::MAX;
        let numbers = [1, 2, 4].map(|bytes| queue.arrived(bytes));
        assert_eq!(numbers, [u32::MAX, 0, 1]);
        for number in numbers.into_iter().rev() {
            queue.lighten(number, FULL);
        }
        assert_eq!(queue.take_done(), 7);
    }
}
