//! A queue whose first element lies in the structure itself: a connection that exchanges requests
//! and responses has one element at a time, and then touches no other memory and computes no
//! position.

use alloc::collections::VecDeque;

/// See the module.
pub(crate) struct FrontQueue<T> {
    len: usize,
    /// The first element; the default if the queue is empty.
    front: T,
    /// The others.
    rest: VecDeque<T>,
}

impl<T: Default> FrontQueue<T> {
    pub fn new() -> Self {
        Self {
            len: 0,
            front: T::default(),
            rest: VecDeque::new(),
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn push_back(&mut self, value: T) {
        if self.len == 0 {
            // What it replaces is the default, which owns nothing; to forget that spares the code
            // that would drop it.
            core::mem::forget(core::mem::replace(&mut self.front, value));
        } else {
            self.rest.push_back(value);
        }
        self.len += 1;
    }

    /// The element of a queue that has just one.
    #[inline]
    pub fn only(&self) -> Option<&T> {
        (self.len == 1).then_some(&self.front)
    }

    /// Takes the element of a queue that has just one.
    #[inline]
    pub fn take_only(&mut self) -> Option<T> {
        if self.len != 1 {
            return None;
        }
        self.len = 0;
        Some(core::mem::take(&mut self.front))
    }

    /// Drops the element of a queue that has just one, where it lies.
    #[inline]
    pub fn drop_only(&mut self) {
        if self.len == 1 {
            self.len = 0;
            self.front = T::default();
        }
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        match index {
            0 if self.len == 0 => None,
            0 => Some(&self.front),
            _ => self.rest.get(index - 1),
        }
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index {
            0 if self.len == 0 => None,
            0 => Some(&mut self.front),
            _ => self.rest.get_mut(index - 1),
        }
    }

    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let next = self.rest.pop_front().unwrap_or_default();
        Some(core::mem::replace(&mut self.front, next))
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.get(0).into_iter().chain(&self.rest)
    }

    /// Drops all elements. Room for `kept` of them stays allocated, if there is so much.
    #[inline]
    pub fn clear(&mut self, kept: usize) {
        if self.len != 0 || self.rest.capacity() > kept {
            self.clear_some(kept);
        }
    }

    #[inline(never)]
    fn clear_some(&mut self, kept: usize) {
        self.len = 0;
        self.front = T::default();
        self.rest.clear();
        self.rest.shrink_to(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_queue() {
        let mut queue = FrontQueue::new();
        let mut model = VecDeque::new();
        // Grows, shrinks to nothing, and grows again.
        for step in 0..1000_u32 {
            if step % 7 < 4 - step / 300 {
                queue.push_back(step);
                model.push_back(step);
            } else {
                assert_eq!(queue.pop_front(), model.pop_front());
            }
            assert_eq!(queue.len(), model.len());
            let only = model.front().filter(|_| model.len() == 1);
            assert_eq!(queue.only(), only);
            assert!(queue.iter().eq(&model));
            for index in 0..=model.len() {
                assert_eq!(queue.get(index), model.get(index));
                assert_eq!(queue.get_mut(index), model.get_mut(index));
            }
        }
        queue.push_back(3);
        queue.clear(2);
        assert_eq!((queue.len(), queue.get(0)), (0, None));
        assert!(queue.rest.capacity() >= 2);
        // Nothing is in it, but there is room that is not wanted.
        queue.clear(0);
        assert_eq!((queue.rest.capacity(), queue.pop_front()), (0, None));
        queue.push_back(5);
        assert_eq!(queue.take_only(), Some(5));
        assert_eq!(queue.take_only(), None);
        assert_eq!((queue.len(), queue.get(0)), (0, None));
        queue.push_back(6);
        queue.drop_only();
        assert_eq!((queue.len(), queue.only()), (0, None));
        queue.push_back(7);
        queue.push_back(8);
        queue.drop_only();
        assert_eq!(queue.len(), 2);
    }
}
