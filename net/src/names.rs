//! Handles of connections that came from another engine. A handle says which slot of which engine
//! its connection was opened in; where that is not the slot it is in, this table knows the place.
//! Only connections that moved are in it, and only their calls look into it.

use crate::records::NONE;
use alloc::vec;
use alloc::vec::Vec;
use ix_abi::Handle;

#[derive(Clone, Copy)]
struct Entry {
    handle: Handle,
    /// Next slot of the bucket.
    next: u32,
}

/// Chained table from handles to slots; the entry of a slot is at its number.
pub(crate) struct Names {
    entries: Vec<Entry>,
    buckets: Vec<u32>,
}

/// No engine makes this one: its thread number would be beyond the last.
const NOBODY: Handle = Handle(u64::MAX);

impl Names {
    /// Room for the handles of slots `0..count`.
    pub fn new(count: u32) -> Self {
        let unused = Entry {
            handle: NOBODY,
            next: NONE,
        };
        Self {
            entries: vec![unused; count as usize],
            buckets: match count {
                0 => Vec::new(),
                count => vec![NONE; count.next_power_of_two() as usize],
            },
        }
    }

    /// The slot of the connection that a handle names.
    #[cold]
    #[inline(never)]
    pub fn find(&self, handle: Handle) -> Option<u32> {
        let mut at = *self.buckets.get(self.bucket(handle))?;
        while at != NONE {
            let entry = &self.entries[at as usize];
            if entry.handle == handle {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// The handle of the connection in a slot, if that came from elsewhere.
    #[inline(always)]
    pub fn of(&self, slot: u32) -> Option<Handle> {
        let handle = self.entries.get(slot as usize)?.handle;
        (handle != NOBODY).then_some(handle)
    }

    /// Names the connection in a slot that has no name yet.
    pub fn insert(&mut self, slot: u32, handle: Handle) {
        let bucket = self.bucket(handle);
        let next = core::mem::replace(&mut self.buckets[bucket], slot);
        self.entries[slot as usize] = Entry { handle, next };
    }

    /// Forgets the name of the connection in a slot, if it has one.
    pub fn remove(&mut self, slot: u32) {
        let Some(handle) = self.of(slot) else {
            return;
        };
        let bucket = self.bucket(handle);
        let next = self.entries[slot as usize].next;
        if self.buckets[bucket] == slot {
            self.buckets[bucket] = next;
        } else {
            let mut at = self.buckets[bucket];
            while at != NONE {
                let entry = &mut self.entries[at as usize];
                if entry.next == slot {
                    entry.next = next;
                    break;
                }
                at = entry.next;
            }
        }
        self.entries[slot as usize].handle = NOBODY;
    }

    fn bucket(&self, handle: Handle) -> usize {
        let mixed = handle.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed as usize & self.buckets.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_until_they_are_removed() {
        let mut names = Names::new(64);
        let handle = |slot: u32| Handle(u64::from(slot) << 32 | u64::from(slot / 8));
        for slot in 0..64 {
            names.insert(slot, handle(slot));
        }
        for slot in (0..64).step_by(2) {
            names.remove(slot);
            names.remove(slot);
        }
        for slot in 0..64 {
            let expected = (slot % 2 == 1).then_some(slot);
            assert_eq!(names.find(handle(slot)), expected);
            assert_eq!(names.of(slot), expected.map(handle));
        }
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        let names = Names::new(0);
        assert_eq!((names.find(Handle(1)), names.of(0)), (None, None));
    }
}
