//! The table of connections, and the handles that name them.
//!
//! Each control block is a piece of memory of its own, which goes to another engine when its connection
//! does, for one that is not in use. What belongs to the slot stays here: its generation, and its entry in
//! the output queue.

use crate::config::Config;
use crate::tcp::connection::{Connection, Flags, State};
use alloc::boxed::Box;
use alloc::vec::Vec;
use ix_abi::Handle;

/// Low bits of a generation, which do not count: the number of the engine's thread.
const THREAD_BITS: u32 = 6;
/// The topmost bit of a generation stays clear, so that a handle is no error.
const GENERATIONS: u32 = u32::MAX >> 1;

/// Where a connection is for as long as it lives, whichever engine has it.
pub(crate) type Block = Box<Connection>;

/// The control blocks of an engine, before it is built. Engines that hand connections to each other come to
/// use each other's, so these lie where all of them may.
pub struct ControlBlocks(Vec<Block>);

impl ControlBlocks {
    /// As many as the configuration has connections. Allocates.
    pub fn new(config: &Config) -> Self {
        let unused = |_| Box::new(Connection::unused());
        Self((0..config.connections).map(unused).collect())
    }

    /// Bytes that [`ControlBlocks::new`] allocates, less than the alignment of a block aside.
    pub fn bytes(config: &Config) -> usize {
        let each = size_of::<Connection>() + size_of::<Block>();
        config.connections as usize * each
    }
}

/// All connections, and a stack of the free slots.
pub(crate) struct Connections {
    slots: Vec<Block>,
    free: Vec<u32>,
    /// Free slots that are for connections which are to come from another engine.
    pub promised: u32,
}

impl Connections {
    /// A free slot for each block, in the only engine or in that of a thread.
    pub fn new(blocks: ControlBlocks, thread: Option<u32>) -> Self {
        let ControlBlocks(mut slots) = blocks;
        let count = slots.len() as u32;
        if let Some(thread) = thread {
            // The table itself is this engine's alone.
            let mut own = Vec::with_capacity(slots.len());
            own.append(&mut slots);
            slots = own;
            for slot in &mut slots {
                slot.generation = following(thread % (1 << THREAD_BITS));
            }
        }
        Self {
            slots,
            free: (0..count).rev().collect(),
            promised: 0,
        }
    }

    /// `count` free slots, for a test.
    #[cfg(test)]
    pub fn with_slots(count: u32) -> Self {
        let blocks = ControlBlocks::new(&Config {
            connections: count,
            ..Config::default()
        });
        Self::new(blocks, None)
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let each = size_of::<Connection>() + size_of::<Block>();
        self.slots.len() * each + self.free.capacity() * size_of::<u32>()
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
        **slot = Connection {
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
        slot.generation = following(slot.generation);
        self.free.push(index);
    }

    /// Frees the slot of a connection that goes to another engine: takes its block for one that is not in
    /// use, and the other way round.
    pub fn vacate(&mut self, index: u32, block: &mut Block) {
        let flags = &mut self[index].flags;
        let listed = *flags & Flags::LISTED;
        flags.remove(Flags::LISTED);
        self.vacate_if(index, block, |_| true);
        self[index].flags = listed;
    }

    /// The same for a connection that has no entry in the output queue, if `may_go` lets it. Returns the
    /// handle that is no longer good.
    #[inline(always)]
    pub fn vacate_if(
        &mut self,
        index: u32,
        block: &mut Block,
        may_go: impl FnOnce(&Connection) -> bool,
    ) -> Option<Handle> {
        let slot = &mut self.slots[index as usize];
        let connection = &**slot;
        if !may_go(connection) {
            return None;
        }
        let generation = connection.generation;
        let spare = &mut **block;
        spare.state = State::Free;
        spare.generation = following(generation);
        spare.flags = Flags::empty();
        core::mem::swap(slot, block);
        self.free.push(index);
        Some(named(index, generation))
    }

    /// Puts a connection of another engine into a slot that was promised, which the caller takes off; its
    /// block is one that is not in
    /// use afterwards. What is in numbers of that engine's tables means nothing here yet. Returns the
    /// slot, and the connection's new handle.
    #[inline(always)]
    pub fn settle(&mut self, block: &mut Block) -> Option<(u32, Handle)> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        let (generation, flags) = (slot.generation, slot.flags);
        let connection = &mut **block;
        connection.generation = generation;
        connection.flags |= flags & Flags::LISTED;
        core::mem::swap(slot, block);
        Some((index, named(index, generation)))
    }

    /// Slots that are free and not promised.
    pub fn free(&self) -> usize {
        self.free.len() - self.promised as usize
    }

    /// The connection in a slot, if there is such a slot.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Connection> {
        self.slots.get_mut(index as usize).map(Box::as_mut)
    }

    /// The handle of a connection.
    #[inline(always)]
    pub fn handle(&self, index: u32) -> Handle {
        named(index, self.slots[index as usize].generation)
    }

    /// The slot that a handle names; it may be free.
    #[inline(always)]
    pub fn slot_mut(&mut self, handle: Handle) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(handle.0 as u32 as usize)?;
        (slot.generation == (handle.0 >> 32) as u32).then_some(slot)
    }

    /// The connection that a handle names.
    #[inline]
    pub fn find(&self, handle: Handle) -> Option<u32> {
        let index = handle.0 as u32;
        let slot = self.slots.get(index as usize)?;
        let is_it = slot.generation == (handle.0 >> 32) as u32 && slot.state != State::Free;
        is_it.then_some(index)
    }
}

/// The handle of the connection in a slot of that generation.
#[inline(always)]
fn named(index: u32, generation: u32) -> Handle {
    Handle(u64::from(generation) << 32 | u64::from(index))
}

/// The generation of a slot after this one.
#[inline(always)]
fn following(generation: u32) -> u32 {
    generation.wrapping_add(1 << THREAD_BITS) & GENERATIONS
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
        let mut connections = Connections::with_slots(3);
        connections.promised = 2;
        let own = connections.take().unwrap();
        assert!(connections.is_full() && connections.free() == 0);
        assert_eq!(connections.take(), None);
        let mut block = Box::new(Connection::unused());
        let (came, _) = connections.settle(&mut block).unwrap();
        connections.promised -= 1;
        assert_ne!(came, own);
        assert_eq!(connections.take(), None);
        connections.promised = 0;
        assert!(connections.take().is_some());
    }

    #[test]
    fn block_goes_along_and_what_is_the_slots_stays() {
        let [mut from, mut to] = [3, 5].map(|thread| {
            let config = Config {
                connections: 1,
                ..Config::default()
            };
            Connections::new(ControlBlocks::new(&config), Some(thread))
        });
        let index = from.take().unwrap();
        from[index].state = State::Established;
        from[index].cookie = 7;
        from[index].flags = Flags::LISTED | Flags::SACK;
        let (old, memory) = (from.handle(index), &raw const from[index]);
        let mut block = Box::new(Connection::unused());
        assert_eq!(from.vacate_if(index, &mut block, |_| false), None);
        assert_eq!(from.find(old), Some(index));
        from.vacate(index, &mut block);
        assert_eq!((from.find(old), from.used()), (None, 0));
        assert_eq!(from[index].flags, Flags::LISTED);

        to.promised = 1;
        let (index, new) = to.settle(&mut block).unwrap();
        assert_eq!(&raw const to[index], memory);
        assert_eq!((to[index].cookie, to[index].flags), (7, Flags::SACK));
        assert_eq!(new, to.handle(index));
        assert_ne!(new, old);
        assert_eq!((to.find(new), to.find(old)), (Some(index), None));
        // Back, the slot is one generation further.
        assert_eq!(to.vacate_if(index, &mut block, |_| true), Some(new));
        from.promised = 1;
        let (index, new) = from.settle(&mut block).unwrap();
        assert!(from[index].flags.contains(Flags::LISTED));
        assert_ne!(new, old);
    }

    #[test]
    fn handle_of_a_released_connection_is_no_longer_good() {
        let mut connections = Connections::with_slots(2);
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
