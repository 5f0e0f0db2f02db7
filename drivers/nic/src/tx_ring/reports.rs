//! Which descriptors of a transmit ring report their completion.

use alloc::boxed::Box;
use alloc::vec;

/// Positions that report, oldest first. There are never more than descriptors.
#[derive(Debug)]
pub(super) struct Reports {
    positions: Box<[u32]>,
    first: u32,
    end: u32,
}

impl Reports {
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            positions: vec![0; descriptors].into(),
            first: 0,
            end: 0,
        }
    }

    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != self.end).then(|| self.positions[self.slot(self.first)])
    }

    #[inline]
    pub(super) fn pop(&mut self) {
        self.first = self.first.wrapping_add(1);
    }

    #[inline]
    pub(super) fn push(&mut self, position: u32) {
        let slot = self.slot(self.end);
        self.positions[slot] = position;
        self.end = self.end.wrapping_add(1);
    }

    #[inline]
    fn slot(&self, position: u32) -> usize {
        position as usize & (self.positions.len() - 1)
    }
}
