//! The table of connections, and the handles that name them.

use crate::names::Names;
use crate::tcp::connection::{Connection, Flags, State};
use alloc::vec::Vec;
use ix_abi::Handle;

/// Bits of a generation that count; those above are the number of the engine's thread. The topmost
/// bit stays clear, so that a handle is no error.
const COUNT_BITS: u32 = 25;

/// All connections, and a stack of the free slots.
pub(crate) struct Connections {
    slots: Vec<Connection>,
    free: Vec<u32>,
    /// Free slots that are for connections which are to come from another engine.
    pub promised: u32,
    /// Handles of those that came from another engine.
    names: Names,
}

impl Connections {
    /// `count` free slots.
    pub fn new(count: u32) -> Self {
        Self {
            slots: (0..count).map(|_| Connection::unused()).collect(),
            free: (0..count).rev().collect(),
            promised: 0,
            names: Names::new(0),
        }
    }

    /// `count` free slots of one among several engines: that of thread `thread`.
    pub fn shared(count: u32, thread: u32) -> Self {
        let mut connections = Self::new(count);
        for slot in &mut connections.slots {
            slot.generation |= (thread & 63) << COUNT_BITS;
        }
        connections.names = Names::new(count);
        connections
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.free.capacity() * size_of::<u32>()
    }

    /// Connections in use.
    pub fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether every slot is in use, or promised.
    pub fn is_full(&self) -> bool {
        self.free.len() <= self.promised as usize
    }

    /// Takes a slot that was not promised, and resets it.
    #[inline(always)]
    pub fn take(&mut self) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        *slot = Connection {
            generation: slot.generation,
            flags: slot.flags & Flags::LISTED,
            ..Connection::unused()
        };
        Some(index)
    }

    /// Gives a slot back; handles of its last user are no longer good.
    #[inline(always)]
    pub fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.enter(State::Free);
        let counted = (1 << COUNT_BITS) - 1;
        let next = slot.generation.wrapping_add(1) & counted;
        slot.generation = slot.generation & !counted | next;
        self.names.remove(index);
        self.free.push(index);
    }

    /// Frees the slot of a connection that goes to another engine. Its entry in the output queue stays
    /// the slot's.
    #[inline(always)]
    pub fn vacate(&mut self, index: u32) {
        self.slots[index as usize].flags &= Flags::LISTED;
        self.release(index);
    }

    /// Puts a connection of another engine into a slot that was promised, with the handle that it had
    /// there. What is in numbers of that engine's tables means nothing here yet.
    #[inline(always)]
    pub fn settle(&mut self, connection: &Connection, handle: Handle) -> Option<u32> {
        let index = self.free.pop()?;
        self.promised -= 1;
        let slot = &mut self.slots[index as usize];
        let (generation, listed) = (slot.generation, slot.flags & Flags::LISTED);
        connection.copy_to(slot);
        slot.generation = generation;
        slot.flags = (slot.flags - Flags::LISTED) | listed;
        slot.neighbor_epoch = 0;
        slot.episode = 0;
        self.names.insert(index, handle);
        Some(index)
    }

    /// Slots that are free and not promised.
    pub fn free(&self) -> usize {
        self.free.len() - self.promised as usize
    }

    /// The connection in a slot, if there is such a slot.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.slots.get_mut(index as usize)
    }

    /// The handle of a connection.
    #[inline(always)]
    pub fn handle(&self, index: u32) -> Handle {
        let generation = self.slots[index as usize].generation;
        let own = Handle(u64::from(generation) << 32 | u64::from(index));
        self.names.of(index).unwrap_or(own)
    }

    /// The slot that a handle names, if it was given out here; it may be free.
    #[inline(always)]
    pub fn slot_mut(&mut self, handle: Handle) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(handle.0 as u32 as usize)?;
        (slot.generation == (handle.0 >> 32) as u32).then_some(slot)
    }

    /// The connection that a handle names.
    #[inline]
    pub fn find(&self, handle: Handle) -> Option<u32> {
        let index = handle.0 as u32;
        if let Some(slot) = self.slots.get(index as usize)
            && slot.generation == (handle.0 >> 32) as u32
            && slot.state != State::Free
        {
            return Some(index);
        }
        self.names.find(handle)
    }
}

impl core::ops::Index<u32> for Connections {
    type Output = Connection;
    #[inline]
    fn index(&self, index: u32) -> &Connection {
        &self.slots[index as usize]
    }
}

impl core::ops::IndexMut<u32> for Connections {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Connection {
        &mut self.slots[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promised_slot_is_for_a_connection_that_comes() {
        let mut connections = Connections::shared(3, 1);
        connections.promised = 2;
        let own = connections.take().unwrap();
        assert!(connections.is_full() && connections.free() == 0);
        assert_eq!(connections.take(), None);
        let mut stranger = Connection::unused();
        stranger.state = State::Established;
        let handle = Handle(7);
        let came = connections.settle(&stranger, handle).unwrap();
        assert_ne!(came, own);
        assert_eq!(connections.find(handle), Some(came));
        assert_eq!((connections.promised, connections.take()), (1, None));
        connections.promised = 0;
        assert!(connections.take().is_some());
    }

    #[test]
    fn handle_of_a_released_connection_is_no_longer_good() {
        let mut connections = Connections::new(2);
        let index = connections.take().unwrap();
        connections[index].state = State::Knocking;
        let handle = connections.handle(index);
        assert_eq!(connections.find(handle), Some(index));
        connections.release(index);
        assert_eq!(connections.find(handle), None);
        let again = connections.take().unwrap();
        connections[again].state = State::Knocking;
        assert_eq!(connections.find(handle), None);
        assert_eq!(connections.find(Handle(u64::MAX)), None);
    }
}
