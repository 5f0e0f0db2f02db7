//! The table of connections, and the handles that name them.
//!
//! Each control block is a piece of memory of its own, which goes to another engine when its connection
//! does, for one that is not in use. The handle is in it and goes along; the slot's entry in the output
//! queue stays here.

use crate::config::Config;
use crate::tcp::connection::{Connection, Flags, State};
use crate::tcp::names::OwnNames;
use alloc::boxed::Box;
use alloc::vec::Vec;
use ix_abi::Handle;

/// Where a connection is for as long as it lives, whichever engine has it.
pub(crate) type Block = Box<Connection>;

/// A block that no connection has used, of that name.
pub(crate) fn unused(name: u32) -> Block {
    Box::new(Connection::unused(following(Handle(name.into()))))
}

/// The control blocks of an engine, before it is built. Engines that hand connections to each other come to
/// use each other's, so these lie where all of them may.
pub struct ControlBlocks(Vec<Block>);

impl ControlBlocks {
    /// As many as the configuration has connections. Allocates.
    pub fn new(config: &Config) -> Self {
        let names = OwnNames::new(config.sharing.as_ref());
        let unused = |number| unused(names.give(number));
        Self((0..config.connections).map(unused).collect())
    }

    /// Bytes that [`ControlBlocks::new`] allocates, less than the alignment of a block aside.
    pub fn bytes(config: &Config) -> usize {
        let each = size_of::<Connection>() + size_of::<Block>();
        config.connections as usize * each
    }
}

/// What is true of every block that no connection uses and that is in no slot.
const FREE: (State, Flags) = (State::Free, Flags::empty());

/// All connections, and a stack of the free slots.
pub(crate) struct Connections {
    slots: Vec<Block>,
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
        for (slot, block) in (0..).zip(&slots) {
            names.put(block.name(), slot);
        }
        Self {
            slots,
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
            flags: slot.flags & Flags::LISTED,
            ..Connection::unused(slot.handle)
        };
        Some(index)
    }

    /// Gives a slot back; handles of its last user are no longer good.
    #[inline(always)]
    pub fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        slot.enter(State::Free);
        slot.handle = following(slot.handle);
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

    /// The same for a connection that has no entry in the output queue, if `may_go` lets it, which is
    /// returned then.
    #[inline(always)]
    pub fn vacate_if<'a>(
        &mut self,
        index: u32,
        block: &'a mut Block,
        may_go: impl FnOnce(&Connection) -> bool,
    ) -> Option<&'a mut Connection> {
        debug_assert_eq!((block.state, block.flags & Flags::LISTED), FREE);
        let slot = &mut self.slots[index as usize];
        if !may_go(slot) {
            return None;
        }
        core::mem::swap(slot, block);
        let gone = &mut **block;
        self.names.put(slot.name(), index);
        self.free.push(index);
        Some(gone)
    }

    /// Puts a connection of another engine into a slot that was promised, which the caller takes off; its
    /// block is one that is not in use afterwards. What is in numbers of that engine's tables means nothing
    /// here yet. Returns the slot.
    #[inline(always)]
    pub fn settle(&mut self, moved: &mut Block) -> Option<u32> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[index as usize];
        if slot.flags.contains(Flags::LISTED) {
            slot.flags.remove(Flags::LISTED);
            moved.flags.insert(Flags::LISTED);
        }
        core::mem::swap(slot, moved);
        self.names.put(slot.name(), index);
        Some(index)
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
        self.slots[index as usize].handle
    }

    /// The slot with the block that a handle names; it may be free.
    #[inline(always)]
    pub fn slot_mut(&mut self, handle: Handle) -> Option<(u32, &mut Connection)> {
        let index = self.names.slot(name(handle))?;
        let slot = self.slots.get_mut(index)?;
        (slot.handle == handle).then_some((index as u32, slot))
    }

    /// The connection that a handle names.
    #[inline]
    pub fn find(&self, handle: Handle) -> Option<u32> {
        let index = self.names.slot(name(handle))?;
        let slot = self.slots.get(index)?;
        (slot.handle == handle && slot.state != State::Free).then_some(index as u32)
    }
}

impl Connection {
    /// By which handles call its block.
    #[inline(always)]
    fn name(&self) -> u32 {
        name(self.handle)
    }
}

/// The block that a handle is about: its low half.
#[inline(always)]
fn name(handle: Handle) -> u32 {
    handle.0 as u32
}

/// The handle of the next connection in the same block: the high half says which one it is. Its topmost bit
/// stays clear, so that a handle is no error.
#[inline(always)]
fn following(handle: Handle) -> Handle {
    Handle((handle.0 + (1 << 32)) & (u64::MAX >> 1))
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
        let mut block = unused(7);
        let came = connections.settle(&mut block).unwrap();
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
        let mut block = unused(1);
        assert!(from.vacate_if(index, &mut block, |_| false).is_none());
        assert_eq!(from.find(handle), Some(index));
        from.vacate(index, &mut block);
        assert_eq!((from.find(handle), from.used()), (None, 0));
        assert_eq!(from[index].flags, Flags::LISTED);
        assert_eq!(to.find(handle), None);

        to.promised = 1;
        let index = to.settle(&mut block).unwrap();
        assert_eq!(&raw const to[index], memory);
        assert_eq!((to[index].cookie, to[index].flags), (7, Flags::SACK));
        assert_eq!(to.handle(index), handle);
        assert_eq!((to.find(handle), from.find(handle)), (Some(index), None));
        // The block that is at its old place has a handle of its own.
        let other = from.take().unwrap();
        from[other].state = State::Established;
        let others = from.handle(other);
        assert_eq!((from.find(others), to.find(others)), (Some(other), None));
        from.release(other);
        // And back.
        assert!(to.vacate_if(index, &mut block, |_| true).is_some());
        from.promised = 1;
        let index = from.settle(&mut block).unwrap();
        assert!(from[index].flags.contains(Flags::LISTED));
        assert_eq!(
            (from.handle(index), from.find(handle)),
            (handle, Some(index))
        );
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
