//! Flow groups: which of them this engine serves, and which connections belong to each. A group is an
//! entry of the NIC's redirection table, so that all frames of a connection come to one queue; when
//! the entry changes, the connections of the group have to follow.

use crate::address::{Endpoint, IpAddress};
use crate::records::NONE;
use crate::tcp::names::Names;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Flow groups that there are.
pub(crate) const GROUPS: usize = ix_abi::control::GROUPS_MAX;

/// Which flow group the segments of a connection come by. Called with the peer, our address, which
/// is of the same family, and the local port.
#[derive(Clone, Copy)]
pub struct FlowGroups(pub &'static (dyn Fn(Endpoint, IpAddress, u16) -> u8 + Sync));

impl fmt::Debug for FlowGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowGroups")
    }
}

/// An engine's place among those that share its address and hand connections to each other.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    /// Number of its thread, below 64.
    pub thread: u32,
    /// Which connection belongs to which group.
    pub groups: FlowGroups,
    /// The groups that it serves at first, a bit each.
    pub owned: u128,
    /// Most buffers of other threads that its connections may hold.
    pub loans: u32,
    /// Most connections that leave at a time.
    pub luggage: u32,
    /// Where the connections of all of them are.
    pub names: &'static Names,
}

/// A connection's place in the list of its group.
#[derive(Clone, Copy)]
struct Member {
    /// Means nothing for the first one.
    prev: u32,
    next: u32,
    /// [`GROUPS`] if it is in no list.
    group: u8,
}

/// Where a list begins to which connections are added.
pub(crate) struct Front {
    group: u8,
    first: u32,
    second: u32,
}

impl Front {
    /// The first one, if `prev` is in front of it.
    #[inline(always)]
    fn member(&self, prev: u32) -> Member {
        Member {
            prev,
            next: self.second,
            group: self.group,
        }
    }
}

const OUTSIDE: Member = Member {
    prev: NONE,
    next: NONE,
    group: GROUPS as u8,
};

/// The connections of each group. Empty if the engine shares its address with nobody.
pub(crate) struct Groups {
    members: Vec<Member>,
    heads: [u32; GROUPS],
    /// How many connections are in each.
    counts: [u32; GROUPS],
    /// Groups that this engine serves, a bit each.
    pub owned: u128,
    group_of: Option<FlowGroups>,
}

impl Groups {
    /// Lists for connections `0..connections`.
    pub fn new(connections: u32, sharing: Option<&Sharing>) -> Self {
        Self {
            members: match sharing {
                Some(_) => vec![OUTSIDE; connections as usize],
                None => Vec::new(),
            },
            heads: [NONE; GROUPS],
            counts: [0; GROUPS],
            owned: sharing.map_or(u128::MAX, |sharing| sharing.owned),
            group_of: sharing.map(|sharing| sharing.groups),
        }
    }

    /// Which flow group the segments of a connection come by, if there are flow groups.
    #[inline(always)]
    pub fn of_flow(&self, peer: Endpoint, own: IpAddress, local_port: u16) -> Option<u8> {
        let FlowGroups(group_of) = self.group_of?;
        Some(group_of(peer, own, local_port) & (GROUPS - 1) as u8)
    }

    /// Whether this engine serves a group.
    pub fn serves(&self, group: u8) -> bool {
        self.owned >> group & 1 != 0
    }

    /// How many connections a group has.
    pub fn count(&self, group: u8) -> u32 {
        self.counts[usize::from(group)]
    }

    /// The first connection of a group.
    pub fn first(&self, group: u8) -> Option<u32> {
        let head = self.heads[usize::from(group)];
        (head != NONE).then_some(head)
    }

    /// The connection behind another one of its group.
    pub fn next(&self, index: u32) -> Option<u32> {
        let next = self.members[index as usize].next;
        (next != NONE).then_some(next)
    }

    /// The group of a connection that is in a list; any if there are none.
    pub fn of(&self, index: u32) -> u8 {
        let member = self.members.get(index as usize);
        member.map_or(0, |member| member.group)
    }

    /// Lists a connection.
    pub fn join(&mut self, index: u32, group: u8) {
        let group = group & (GROUPS - 1) as u8;
        let head = core::mem::replace(&mut self.heads[usize::from(group)], index);
        self.counts[usize::from(group)] += 1;
        let member = &mut self.members[index as usize];
        member.next = head;
        member.group = group;
        if head != NONE {
            self.members[head as usize].prev = index;
        }
    }

    /// Begins to put connections in front of a list. It is in order again after [`Groups::end`].
    #[inline(always)]
    pub fn begin(&self, group: u8) -> Front {
        let group = group & (GROUPS - 1) as u8;
        let first = self.heads[usize::from(group)];
        let second = self.members.get(first as usize);
        Front {
            group,
            first,
            second: second.map_or(NONE, |member| member.next),
        }
    }

    /// Puts a connection in front of such a list. What was the first one is written, as it has both
    /// neighbours now.
    #[inline(always)]
    pub fn prepend(&mut self, front: &mut Front, index: u32) {
        if let Some(member) = self.members.get_mut(front.first as usize) {
            *member = front.member(index);
        }
        front.second = front.first;
        front.first = index;
    }

    /// `count` connections have been put in front of it.
    #[inline(always)]
    pub fn end(&mut self, front: Front, count: u32) {
        if let Some(member) = self.members.get_mut(front.first as usize) {
            *member = front.member(NONE);
        }
        self.heads[usize::from(front.group)] = front.first;
        self.counts[usize::from(front.group)] += count;
    }

    /// The first connection of a list is on none any more; returns the second one. The list is in order
    /// again after [`Groups::begin_with`].
    #[inline(always)]
    pub fn forget(&mut self, index: u32) -> Option<u32> {
        let member = &mut self.members[index as usize];
        member.group = OUTSIDE.group;
        (member.next != NONE).then_some(member.next)
    }

    /// A list begins with this connection now that `count` in front of it have been forgotten.
    #[inline(always)]
    pub fn begin_with(&mut self, group: u8, first: Option<u32>, count: u32) {
        self.heads[usize::from(group)] = first.unwrap_or(NONE);
        self.counts[usize::from(group)] -= count;
    }

    /// Takes a connection off its list, if it is on one.
    pub fn leave(&mut self, index: u32) {
        let Some(member) = self.members.get_mut(index as usize) else {
            return;
        };
        let Member { prev, next, group } = core::mem::replace(member, OUTSIDE);
        let Some(head) = self.heads.get_mut(usize::from(group)) else {
            return;
        };
        self.counts[usize::from(group)] -= 1;
        match *head == index {
            true => *head = next,
            false => self.members[prev as usize].next = next,
        }
        if next != NONE {
            self.members[next as usize].prev = prev;
        }
    }
}

/// The numbers of the groups in a mask.
pub(crate) fn numbers(mut mask: u128) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let number = mask.trailing_zeros() as u8;
        mask &= mask.wrapping_sub(1);
        (usize::from(number) < GROUPS).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;

    fn contents(groups: &Groups, group: u8) -> Vec<u32> {
        core::iter::successors(groups.first(group), |index| groups.next(*index)).collect()
    }

    fn sharing() -> Sharing {
        Sharing {
            thread: 0,
            groups: FlowGroups(&|_, _, _| 0),
            owned: 0,
            loans: 0,
            luggage: 0,
            names: Box::leak(Box::new(Names::new(4, 64))),
        }
    }

    #[test]
    fn members_leave_from_head_middle_and_tail() {
        let mut groups = Groups::new(4, Some(&sharing()));
        for leaver in 0..3 {
            for index in 0..3 {
                groups.join(index, 127);
            }
            groups.join(3, 1);
            groups.leave(leaver);
            groups.leave(leaver);
            let mut rest: Vec<u32> = (0..3).filter(|index| *index != leaver).collect();
            rest.reverse();
            assert_eq!(contents(&groups, 127), rest);
            assert_eq!(contents(&groups, 1), [3]);
            for index in 0..4 {
                groups.leave(index);
            }
            assert_eq!((groups.first(127), groups.first(1)), (None, None));
        }
    }

    #[test]
    fn the_first_ones_leave_together() {
        let mut groups = Groups::new(4, Some(&sharing()));
        for index in 0..4 {
            groups.join(index, 5);
        }
        assert_eq!((contents(&groups, 5).len(), groups.count(5)), (4, 4));
        let second = groups.forget(3);
        assert_eq!(second, Some(2));
        let third = groups.forget(2);
        groups.begin_with(5, third, 2);
        assert_eq!((contents(&groups, 5), groups.count(5)), (vec![1, 0], 2));
        groups.leave(3);
        groups.leave(1);
        groups.join(2, 5);
        assert_eq!((contents(&groups, 5), groups.count(5)), (vec![2, 0], 2));
    }

    #[test]
    fn several_come_in_front() {
        for there in 0..3 {
            let mut groups = Groups::new(6, Some(&sharing()));
            (0..there).for_each(|index| groups.join(index, 5));
            let mut front = groups.begin(5);
            (3..6).for_each(|index| groups.prepend(&mut front, index));
            groups.end(front, 3);
            let mut all: Vec<u32> = (3..6).rev().chain((0..there).rev()).collect();
            assert_eq!(
                (contents(&groups, 5), groups.count(5)),
                (all.clone(), there + 3)
            );
            // Each is linked both ways.
            for leaver in [4, 3, 5] {
                groups.leave(leaver);
                all.retain(|index| *index != leaver);
                assert_eq!(contents(&groups, 5), all);
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_bits() {
        assert!(numbers(0).next().is_none());
        assert!(numbers(1 | 1 << 64 | 1 << 127).eq([0, 64, 127]));
        assert_eq!(numbers(u128::MAX).count(), GROUPS);
    }
}
