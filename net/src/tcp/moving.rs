//! Connections that go from one engine to another with their flow group. `pack` takes them out of
//! every table and list of this engine, `unpack` puts them into those of the other one. Neither
//! sends, answers or forgets anything: deadlines are points in time and stay, sequence numbers and
//! queues too, and the peer cannot see that anything happened.
//!
//! What they need is promised before the first one leaves ([`Engine::promise_room`]). One that has come
//! to need more meanwhile is reset where it is, since there its slot and its buffers are: the application
//! may be looking into these, and gives them back as ever.

mod pack;
mod unpack;

use crate::address::Endpoint;
use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::flow::FlowKey;
use crate::groups::numbers;
use crate::luggage::Luggage;
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags, Slow};
use ix_hal::Transmit;

/// What says that a connection is on some list of this engine, or that something is to be done for it.
const INVOLVED: Flags = LISTS.union(Flags::HALF_OPEN).union(Flags::NEIGHBOR_FAILED);

/// What says that a connection is on some list of this engine.
const LISTS: Flags = Flags::DIRTY
    .union(Flags::LISTED)
    .union(Flags::AWAITING_NEIGHBOR)
    .union(Flags::DELIVERING)
    .union(Flags::STARVED);

/// So many records and buffers are asked for without counting which connections have them.
const NEEDS_UNCOUNTED: u32 = 64;

/// What the connections of some flow groups need room for at their new place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Connections.
    pub connections: u32,
    /// Records of data that is queued or not yet acknowledged.
    pub sends: u32,
    /// Received buffers.
    pub mbufs: u32,
}

impl Needs {
    /// The same with something to spare for what comes until they leave: without that, they do not go.
    pub fn with_spare(self) -> Self {
        let spare = |count: u32| count + (count >> 3) + 16;
        Self {
            connections: spare(self.connections),
            sends: spare(self.sends),
            mbufs: spare(self.mbufs),
        }
    }

    /// Takes that much off, if there is that much.
    fn spend(&mut self, part: Self) -> bool {
        let has_enough = part.connections <= self.connections
            && part.sends <= self.sends
            && part.mbufs <= self.mbufs;
        if has_enough {
            self.connections -= part.connections;
            self.sends -= part.sends;
            self.mbufs -= part.mbufs;
        }
        has_enough
    }
}

impl Engine {
    /// Number of its thread among those that share its address, 0 if there are none.
    pub fn thread(&self) -> u32 {
        self.config
            .sharing
            .as_ref()
            .map_or(0, |sharing| sharing.thread)
    }

    /// The flow groups that this engine serves, a bit each; connections are opened from these only.
    pub fn flow_groups(&self) -> u128 {
        self.groups.owned
    }

    /// Changes which flow groups this engine serves.
    pub fn set_flow_groups(&mut self, owned: u128) {
        self.groups.owned = owned;
    }

    /// What the connections of some flow groups need elsewhere.
    pub fn needs(&self, groups: u128) -> Needs {
        let all = Needs {
            connections: numbers(groups).map(|group| self.groups.count(group)).sum(),
            sends: self.send_records.taken() - self.promised_sends,
            mbufs: self.rx.held,
        };
        // What all connections have, of these groups or others, is soon said, and mostly little.
        if all.sends + all.mbufs <= NEEDS_UNCOUNTED {
            return all;
        }
        let mut needs = Needs::default();
        for group in numbers(groups) {
            let mut at = self.groups.first(group);
            while let Some(index) = at {
                let part = self.needs_of(index);
                needs.connections += part.connections;
                needs.mbufs += part.mbufs;
                needs.sends += part.sends;
                at = self.groups.next(index);
            }
        }
        needs
    }

    /// Of some flow groups, the first ones whose connections fit into the luggage together, one at least.
    pub fn groups_that_fit(&self, groups: u128, luggage: &Luggage) -> u128 {
        if self.connections.used() <= luggage.capacity() {
            return groups;
        }
        let (mut fitting, mut room) = (0, luggage.capacity() as u32);
        for group in numbers(groups) {
            let count = self.groups.count(group);
            if count > room && fitting != 0 {
                break;
            }
            room = room.saturating_sub(count);
            fitting |= 1 << group;
        }
        fitting
    }

    fn needs_of(&self, index: u32) -> Needs {
        let connection = &self.connections[index];
        let mut sends = u32::from(connection.has_single());
        let mut at = connection.send_head;
        while at != NONE {
            at = self.send_records.get(at).next;
            sends += 1;
        }
        Needs {
            connections: 1,
            sends,
            mbufs: connection.rx_held.into(),
        }
    }

    /// Keeps room for connections that are to come, if there is as much as they need: nobody else gets
    /// it until [`Engine::end_promise`]. They may need more when they come, so that half of what is free
    /// is promised if that is more, and all buffers that can still be borrowed, `loans_left`, since nobody
    /// but [`Engine::unpack`] does so. There is one such promise at a time. Returns what is promised.
    pub fn promise_room(&mut self, needs: Needs, loans_left: usize) -> Option<Needs> {
        let free = Needs {
            connections: self.connections.free() as u32,
            sends: self.send_records.available(),
            mbufs: loans_left as u32,
        };
        let mut rest = free;
        if !rest.spend(needs) {
            return None;
        }
        let promised = Needs {
            connections: needs.connections.max(free.connections / 2),
            sends: needs.sends.max(free.sends / 2),
            mbufs: free.mbufs,
        };
        self.connections.promised = promised.connections;
        self.send_records.promise_many(promised.sends);
        self.promised_sends = promised.sends;
        Some(promised)
    }

    /// All have come that were promised room.
    pub fn end_promise(&mut self) {
        self.connections.promised = 0;
        self.send_records.forgo_promises(self.promised_sends);
        self.promised_sends = 0;
    }

    /// Which flow group the segments of a connection come by, if there are flow groups.
    #[inline(always)]
    pub(crate) fn flow_group(&self, key: &FlowKey, own: IpAddress) -> Option<u8> {
        let peer = Endpoint {
            address: key.remote,
            port: key.remote_port(),
        };
        self.groups.of_flow(peer, own, key.local_port())
    }

    /// That many buffers of other threads went back to their owners.
    pub fn loans_ended(&mut self, count: u32) {
        self.local.mbufs_held -= count;
    }
}

/// How many connections may move before the application has to hear of it.
#[inline(always)]
fn events_left<T: Transmit, E: Events>(cx: &Context<'_, T, E>) -> usize {
    (cx.events.room() + 1).saturating_sub(EVENTS_AT_ONCE)
}

impl Connection {
    /// Whether it is established, its control block is all that there is of it, and it is on no list that
    /// few are on.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.is_queue_empty()
            && self.rx_held == 0
            && self.episode == 0
            && !self.slow.intersects(Slow::IPV6 | Slow::UNESTABLISHED)
            && !self.flags.intersects(INVOLVED)
    }
}
