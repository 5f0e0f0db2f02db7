//! Where control blocks are. A handle names a block and not a slot, so that it stays when its connection
//! goes to another engine; in which slot of which engine the block is stands here.
//!
//! Nobody writes as long as no connection moves. An engine writes of a block when it puts it into a slot, so
//! what it reads of a block that it has is what it has written itself. What it reads of one that it has not is
//! of no use to it: another engine's place, or a slot of its own with another block.

use crate::groups::Sharing;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bits of a place that are its slot; the thread is above.
const SLOT_BITS: u32 = 26;
/// Of a block that was in no slot yet.
const NOWHERE: u32 = u32::MAX;

/// The places of all control blocks of engines that hand connections to each other.
#[derive(Debug)]
pub struct Names {
    places: Vec<AtomicU32>,
    /// Those for the blocks of each engine.
    each: u32,
}

impl Names {
    /// For engines that begin with at most `each` blocks: for their connections, and in their luggage.
    /// Allocates.
    pub fn new(engines: u32, each: u32) -> Self {
        let nowhere = |_| AtomicU32::new(NOWHERE);
        Self {
            places: (0..engines * each).map(nowhere).collect(),
            each,
        }
    }

    /// Bytes that [`Names::new`] allocates.
    pub const fn bytes(engines: u64, each: u64) -> u64 {
        engines * each * size_of::<AtomicU32>() as u64
    }
}

/// The names as one engine knows them.
#[derive(Clone, Copy)]
pub(crate) struct OwnNames {
    /// None of an engine that is alone: there the slot is the name.
    places: &'static [AtomicU32],
    /// Those for the blocks of each engine.
    each: u32,
    /// Its thread, where places have it.
    here: u32,
}

impl OwnNames {
    pub fn new(sharing: Option<&Sharing>) -> Self {
        Self {
            places: sharing.map_or(&[], |sharing| &sharing.names.places),
            each: sharing.map_or(0, |sharing| sharing.names.each),
            here: sharing.map_or(0, |sharing| sharing.thread << SLOT_BITS),
        }
    }

    /// The name of a block that the engine begins with, `number` blocks before it.
    pub fn give(self, number: u32) -> u32 {
        (self.here >> SLOT_BITS) * self.each + number
    }

    /// The slot of a block that is here; of any other name no slot that there is, or one with another block.
    #[inline(always)]
    pub fn slot(self, name: u32) -> Option<usize> {
        if self.places.is_empty() {
            return Some(name as usize);
        }
        let place = self.places.get(name as usize)?.load(Relaxed);
        Some((place ^ self.here) as usize)
    }

    /// A block is in that slot now.
    #[inline(always)]
    pub fn put(self, name: u32, slot: u32) {
        if let Some(place) = self.places.get(name as usize) {
            place.store(self.here | slot, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::FlowGroups;
    use alloc::boxed::Box;

    #[test]
    fn block_is_found_where_it_is_and_nowhere_else() {
        let names: &'static Names = Box::leak(Box::new(Names::new(2, 4)));
        let [one, other] = [0, 1].map(|thread| {
            OwnNames::new(Some(&Sharing {
                thread,
                groups: FlowGroups(&|_, _, _| 0),
                owned: 0,
                loans: 0,
                luggage: 1,
                names,
            }))
        });
        let (name, others) = (one.give(2), other.give(2));
        assert_ne!(name, others);
        let is_slot =
            |names: OwnNames, name| names.slot(name).filter(|slot| slot >> SLOT_BITS == 0);
        assert_eq!((is_slot(one, name), is_slot(other, name)), (None, None));
        one.put(name, 2);
        other.put(others, 0);
        assert_eq!((is_slot(one, name), is_slot(other, name)), (Some(2), None));
        assert_eq!(
            (is_slot(one, others), is_slot(other, others)),
            (None, Some(0))
        );
        other.put(name, 3);
        assert_eq!((is_slot(one, name), is_slot(other, name)), (None, Some(3)));
        assert_eq!(one.slot(u32::MAX), None);
        let alone = OwnNames::new(None);
        assert_eq!((alone.slot(7), alone.give(7)), (Some(7), 7));
    }
}
