//! Where control blocks are. A handle names a block and not a slot, so that it stays when its connection
//! goes to another engine; in which slot of which engine the block is stands here.
//!
//! Nobody writes as long as no connection moves. An engine writes of blocks that it has in its hands, so
//! what it reads of a block that it has is what it has written itself.

use crate::groups::Sharing;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Bits of a place that are its slot; the thread is above.
const SLOT_BITS: u32 = 26;
/// On its way from one engine to another.
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

    /// The names of the blocks that are in its slots at first, unless it is alone.
    pub fn give(self, slots: u32) -> Vec<u32> {
        let give = |slot| {
            let name = self.spare(slot);
            self.set(name, self.here | slot);
            name
        };
        match self.places {
            [] => Vec::new(),
            _ => (0..slots).map(give).collect(),
        }
    }

    /// The name of a block that the engine begins with in no slot, `number` blocks before it.
    pub fn spare(self, number: u32) -> u32 {
        (self.here >> SLOT_BITS) * self.each + number
    }

    /// The slot of a block that is here; some slot, or none, of a name that nobody has given.
    #[inline(always)]
    pub fn slot(self, name: u32) -> Option<usize> {
        if self.places.is_empty() {
            return Some(name as usize);
        }
        let slot = self.places.get(name as usize)?.load(Relaxed) ^ self.here;
        (slot >> SLOT_BITS == 0).then_some(slot as usize)
    }

    /// A block is in that slot now, and another one on its way.
    #[inline(always)]
    pub fn exchange(self, come: u32, slot: u32, gone: u32) {
        self.set(come, self.here | slot);
        self.set(gone, NOWHERE);
    }

    #[inline(always)]
    fn set(self, name: u32, place: u32) {
        if let Some(known) = self.places.get(name as usize) {
            known.store(place, Relaxed);
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
        let (name, spare) = (one.give(3)[2], one.spare(3));
        assert_eq!((one.slot(name), other.slot(name)), (Some(2), None));
        assert_eq!((one.slot(spare), other.slot(spare)), (None, None));
        let others = other.give(1)[0];
        assert_eq!((one.slot(others), other.slot(others)), (None, Some(0)));
        one.exchange(spare, 2, name);
        assert_eq!((one.slot(spare), one.slot(name)), (Some(2), None));
        other.exchange(name, 0, others);
        assert_eq!((one.slot(name), other.slot(name)), (None, Some(0)));
        assert_eq!((one.slot(others), other.slot(others)), (None, None));
        assert_eq!(one.slot(u32::MAX), None);
        let alone = OwnNames::new(None);
        assert_eq!((alone.slot(7), alone.give(8).len()), (Some(7), 0));
    }
}
