//! Intrusive doubly linked lists of connections, so that joining and leaving one costs a few
//! stores, and a connection that ends can leave from the middle.

use crate::records::NONE;
use crate::tcp::connection::Link;
use crate::tcp::connections::Connections;

/// Which pair of links in a connection a list uses: those that wait for a neighbour's address.
pub(crate) const WAITING: usize = 0;
/// Those with out-of-order data that has become deliverable.
pub(crate) const DELIVER: usize = 1;

/// A list through link pair `LINK`. A connection is in at most one list per pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<const LINK: usize> {
    head: u32,
    tail: u32,
}

impl<const LINK: usize> List<LINK> {
    /// The empty list.
    pub const fn new() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }

    /// Whether nothing is in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// The first one.
    #[inline]
    pub fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Appends a connection that is in no list of this pair.
    #[inline]
    pub fn push_back(&mut self, connections: &mut Connections, index: u32) {
        connections[index].links[LINK] = Link {
            prev: self.tail,
            next: NONE,
        };
        match self.tail {
            NONE => self.head = index,
            tail => connections[tail].links[LINK].next = index,
        }
        self.tail = index;
    }

    /// Removes a connection that is in this list.
    #[inline]
    pub fn remove(&mut self, connections: &mut Connections, index: u32) {
        let Link { prev, next } = connections[index].links[LINK];
        match prev {
            NONE => self.head = next,
            prev => connections[prev].links[LINK].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => connections[next].links[LINK].prev = prev,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn contents(list: &List<WAITING>, connections: &Connections) -> Vec<u32> {
        let mut at = list.front().unwrap_or(NONE);
        let mut found = Vec::new();
        while at != NONE {
            found.push(at);
            at = connections[at].links[WAITING].next;
        }
        found
    }

    #[test]
    fn members_leave_from_head_middle_and_tail() {
        let mut connections = Connections::with_slots(4);
        for leaver in 0..4 {
            let mut list = List::<WAITING>::new();
            for index in 0..4 {
                list.push_back(&mut connections, index);
            }
            list.remove(&mut connections, leaver);
            let rest: Vec<u32> = (0..4).filter(|index| *index != leaver).collect();
            assert_eq!(contents(&list, &connections), rest);
            for index in rest {
                list.remove(&mut connections, index);
            }
            assert!(list.is_empty());
            list.push_back(&mut connections, 2);
            assert_eq!(contents(&list, &connections), [2]);
        }
    }
}
