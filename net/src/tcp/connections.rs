//! The table of connections, and the handles that name them.
//!
//! Each control block is a piece of memory of its own, which goes to another engine when its connection
//! does, for one that is not in use. Its name and generation, and so the handle, go with it; the slot's
//! entry in the output queue stays here.

use crate::config::Config;
use crate::tcp::connection::{Connection, Flags, State};
use crate::tcp::names::OwnNames;
use alloc::boxed::Box;
use alloc::vec::Vec;
use ix_abi::Handle;

/// The topmost bit of a generation stays clear, so that a handle is no error.
const GENERATIONS: u32 = u32::MAX >> 1;

/// Where a connection is for as long as it lives, whichever engine has it.
pub(crate) type Block = Box<Connection>;

/// A block outside of a table, and the name by which handles call it.
pub(crate) struct NamedBlock {
    pub block: Block,
    pub name: u32,
}

impl NamedBlock {
    /// One that no connection uses.
    pub fn unused(name: u32) -> Self {
        Self {
            block: Box::new(Connection::unused()),
            name,
        }
    }
}

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
    /// The names of the blocks; none of an engine that is alone, where the slot is the name.
    given: Vec<u32>,
    names: OwnNames,
    free: Vec<u32>,
    /// Free slots that are for connections which are to come from another engine.
    pub promised: u32,
}

impl Connections {
    /// A free slot for each block, in the only engine or in that of a thread.
    pub fn new(blocks: ControlBlocks, names: OwnNames) -> Self {
        let ControlBlocks(mut blocks) = blocks;
        let count = blocks.len() as u32;
        // The table itself is this engine's alone.
        let mut slots = Vec::with_capacity(blocks.len());
        slots.append(&mut blocks);
        Self {
            slots,
            given: names.give(count),
            names,
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
        Self::new(blocks, OwnNames::new(None))
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let each = size_of::<Connection>() + size_of::<Block>();
        let numbers = self.free.capacity() + self.given.capacity();
        self.slots.len() * each + numbers * size_of::<u32>()
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
    pub fn vacate(&mut self, index: u32, block: &mut NamedBlock) {
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
        spare: &mut NamedBlock,
        may_go: impl FnOnce(&Connection) -> bool,
    ) -> Option<Handle> {
        let slot = &mut self.slots[index as usize];
        let connection = &**slot;
        if !may_go(connection) {
            return None;
        }
        let generation = connection.generation;
        let block = &mut *spare.block;
        block.state = State::Free;
        block.flags = Flags::empty();
        core::mem::swap(slot, &mut spare.block);
        self.rename(index, &mut spare.name);
        self.free.push(index);
        Some(handle(generation, spare.name))
    }

    /// Puts a connection of another engine into a slot that was promised, which the caller takes off; its
    /// block is one that is not in
    /// use afterwards. What is in numbers of that engine's tables means nothing here yet. Returns the
    /// slot, and the connection's handle.
    #[inline(always)]
    pub fn settle(&mut self, moved: &mut NamedBlock) -> Option<(u32, Handle)> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        let connection = &mut *moved.block;
        connection.flags |= slot.flags & Flags::LISTED;
        let handle = handle(connection.generation, moved.name);
        core::mem::swap(slot, &mut moved.block);
        self.rename(index, &mut moved.name);
        Some((index, handle))
    }

    /// The block in a slot is another one, of that name; the one that was there is on its way.
    #[inline(always)]
    fn rename(&mut self, index: u32, name: &mut u32) {
        if let Some(given) = self.given.get_mut(index as usize) {
            core::mem::swap(given, name);
            self.names.exchange(*given, index, *name);
        }
    }

    #[inline(always)]
    fn name(&self, index: u32) -> u32 {
        self.given.get(index as usize).copied().unwrap_or(index)
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
        handle(self.slots[index as usize].generation, self.name(index))
    }

    /// The slot with the block that a handle names; it may be free.
    #[inline(always)]
    pub fn slot_mut(&mut self, handle: Handle) -> Option<(u32, &mut Connection)> {
        let index = self.names.slot(handle.0 as u32)?;
        let slot = self.slots.get_mut(index)?;
        (slot.generation == (handle.0 >> 32) as u32).then_some((index as u32, slot))
    }

    /// The connection that a handle names.
    #[inline]
    pub fn find(&self, handle: Handle) -> Option<u32> {
        let index = self.names.slot(handle.0 as u32)?;
        let slot = self.slots.get(index)?;
        let is_it = slot.generation == (handle.0 >> 32) as u32 && slot.state != State::Free;
        is_it.then_some(index as u32)
    }
}

/// The handle of the connection in a block of that name, in its present generation.
#[inline(always)]
fn handle(generation: u32, name: u32) -> Handle {
    Handle(u64::from(generation) << 32 | u64::from(name))
}

/// The generation of a block after this one.
#[inline(always)]
fn following(generation: u32) -> u32 {
    (generation + 1) & GENERATIONS
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
    use crate::groups::{FlowGroups, Sharing};
    use crate::tcp::names::Names;

    #[test]
    fn promised_slot_is_for_a_connection_that_comes() {
        let mut connections = Connections::with_slots(3);
        connections.promised = 2;
        let own = connections.take().unwrap();
        assert!(connections.is_full() && connections.free() == 0);
        assert_eq!(connections.take(), None);
        let mut block = NamedBlock::unused(7);
        let (came, _) = connections.settle(&mut block).unwrap();
        connections.promised -= 1;
        assert_ne!(came, own);
        assert_eq!(connections.take(), None);
        connections.promised = 0;
        assert!(connections.take().is_some());
    }

    #[test]
    fn block_goes_along_with_its_handle_and_what_is_the_slots_stays() {
        let names: &'static Names = Box::leak(Box::new(Names::new(2, 2)));
        let [mut from, mut to] = [0, 1].map(|thread| {
            let sharing = Sharing {
                thread,
                groups: FlowGroups(&|_, _, _| 0),
                owned: 0,
                loans: 0,
                luggage: 1,
                names,
            };
            let config = Config {
                connections: 1,
                sharing: Some(sharing),
                ..Config::default()
            };
            Connections::new(ControlBlocks::new(&config), OwnNames::new(Some(&sharing)))
        });
        let index = from.take().unwrap();
        from[index].state = State::Established;
        from[index].cookie = 7;
        from[index].flags = Flags::LISTED | Flags::SACK;
        let (handle, memory) = (from.handle(index), &raw const from[index]);
        let mut block = NamedBlock::unused(1);
        assert_eq!(from.vacate_if(index, &mut block, |_| false), None);
        assert_eq!(from.find(handle), Some(index));
        from.vacate(index, &mut block);
        assert_eq!((from.find(handle), from.used()), (None, 0));
        assert_eq!(from[index].flags, Flags::LISTED);
        assert_eq!(to.find(handle), None);

        to.promised = 1;
        let (index, same) = to.settle(&mut block).unwrap();
        assert_eq!(&raw const to[index], memory);
        assert_eq!((to[index].cookie, to[index].flags), (7, Flags::SACK));
        assert_eq!((same, to.handle(index)), (handle, handle));
        assert_eq!((to.find(handle), from.find(handle)), (Some(index), None));
        // The block that is at its old place has a handle of its own.
        let other = from.take().unwrap();
        from[other].state = State::Established;
        let others = from.handle(other);
        assert_eq!((from.find(others), to.find(others)), (Some(other), None));
        from.release(other);
        // And back.
        assert_eq!(to.vacate_if(index, &mut block, |_| true), Some(handle));
        from.promised = 1;
        let (index, same) = from.settle(&mut block).unwrap();
        assert!(from[index].flags.contains(Flags::LISTED));
        assert_eq!((same, from.find(handle)), (handle, Some(index)));
        // Gone, it leaves no handle that names the one after it.
        from.release(index);
        from.promised = 0;
        let again = from.take().unwrap();
        from[again].state = State::Established;
        assert_eq!((from.find(handle), from.find(others)), (None, None));
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
