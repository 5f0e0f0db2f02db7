//! What connections take along when their flow groups go from one engine to another: everything that
//! the engine knows of them, in containers that are allocated once and go back and forth. A control block
//! is not copied: it is taken out of one table and put into another, for one that is not in use. Queued
//! data and received buffers follow in the order of the connections.

use crate::address::IpAddress;
use crate::config::Config;
use crate::records::{RxRecord, SendRecord};
use crate::tcp::connection::Connection;
use crate::tcp::connections::{self, Block, ControlBlocks};
use crate::tcp::episode::Episode;
use crate::tcp::names::OwnNames;
use crate::tcp::time_wait::Entry;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use ix_hal::{LentMbuf, MbufId};

/// The memory of an engine that others come to use too: where connections lie, and what they move in.
pub struct Movable {
    /// Where its connections lie at first.
    pub blocks: ControlBlocks,
    /// What those move in that leave it.
    pub luggage: Box<Luggage>,
}

impl Movable {
    /// For an engine of that configuration. Allocates.
    pub fn new(config: &Config) -> Self {
        Self {
            blocks: ControlBlocks::new(config),
            luggage: Luggage::new(config),
        }
    }

    /// Bytes that [`Movable::new`] allocates.
    pub fn bytes(config: &Config) -> usize {
        ControlBlocks::bytes(config) + Luggage::bytes(config)
    }
}

/// Connections on their way, with what they own.
pub struct Luggage {
    /// Those from `next` to `end` are in it. The others have control blocks that are not in use.
    connections: Vec<Moved>,
    next: usize,
    end: usize,
    pub(crate) sends: VecDeque<SendRecord>,
    /// Received and not yet given back, then out of order, for each connection.
    pub(crate) received: VecDeque<(LentMbuf, RxRecord)>,
    /// Recoveries, of those connections that have one.
    pub(crate) episodes: VecDeque<Episode>,
    /// With the address of ours that each belongs to.
    pub(crate) time_waits: VecDeque<(Entry, Option<IpAddress>)>,
    /// Buffers that the other engine has copied, of the thread whose luggage this is.
    pub(crate) copied: VecDeque<MbufId>,
    /// Until when a SYN cookie may come back.
    pub(crate) cookies_until: u64,
    /// What the epoch of its neighbours is where the connections come from.
    pub(crate) neighbor_epoch: u32,
}

/// A connection, and how much of the luggage is its own.
pub(crate) struct Moved {
    /// As it was, links and numbers of records included.
    pub connection: Block,
    pub group: u8,
    /// What else goes with it.
    pub belongings: Option<Belongings>,
}

/// What there is of a connection beside its control block.
#[derive(Clone, Copy, Default)]
pub(crate) struct Belongings {
    /// Whether its recovery is still remembered.
    pub has_episode: bool,
    /// Records in its send queue.
    pub sends: u32,
    /// How many of them were sent.
    pub sent: u32,
    /// Buffers received and not yet given back.
    pub owed: u32,
    /// The address of ours that it talks from, over IPv6.
    pub own: Option<IpAddress>,
}

/// How much there may be of each kind.
struct Capacities {
    connections: usize,
    sends: usize,
    mbufs: usize,
}

impl Capacities {
    fn new(config: &Config) -> Self {
        let sharing = config.sharing.as_ref();
        let connections = sharing.map_or(0, |sharing| sharing.luggage.min(config.connections));
        let mbufs = sharing.map_or(0, |sharing| config.mbufs + sharing.loans);
        let sends = sharing.map_or(0, |_| config.send_fragments);
        Self {
            connections: connections as usize,
            sends: sends as usize,
            mbufs: mbufs as usize,
        }
    }
}

/// Most bytes that are lost because each container begins where its elements may.
const ALIGNMENTS: usize = 8 * align_of::<Connection>();

impl Luggage {
    /// Room for the connections of one journey from an engine of that configuration. Allocates
    /// memory that both engines use, one after the other.
    pub fn new(config: &Config) -> Box<Self> {
        let Capacities {
            connections,
            sends,
            mbufs,
        } = Capacities::new(config);
        let names = OwnNames::new(config.sharing.as_ref());
        let spare = |number| Moved {
            connection: connections::unused(names.give(number)),
            group: 0,
            belongings: None,
        };
        Box::new(Self {
            connections: (config.connections..)
                .take(connections)
                .map(spare)
                .collect(),
            next: 0,
            end: 0,
            sends: VecDeque::with_capacity(sends),
            received: VecDeque::with_capacity(mbufs),
            episodes: VecDeque::with_capacity(connections),
            time_waits: VecDeque::with_capacity(connections),
            copied: VecDeque::with_capacity(mbufs),
            cookies_until: 0,
            neighbor_epoch: 0,
        })
    }

    /// Bytes that [`Luggage::new`] allocates.
    pub fn bytes(config: &Config) -> usize {
        let Capacities {
            connections,
            sends,
            mbufs,
        } = Capacities::new(config);
        let each = size_of::<Moved>() + size_of::<Connection>() + size_of::<Episode>();
        size_of::<Self>()
            + ALIGNMENTS
            + connections * (each + size_of::<(Entry, Option<IpAddress>)>())
            + sends * size_of::<SendRecord>()
            + mbufs * (size_of::<(LentMbuf, RxRecord)>() + size_of::<MbufId>())
    }

    /// Connections in it.
    pub fn connections(&self) -> usize {
        self.end - self.next
    }

    /// Most connections that fit.
    pub fn capacity(&self) -> usize {
        self.connections.len()
    }

    /// The first places that are free, so many at most.
    #[inline(always)]
    pub(crate) fn places(&mut self, most: usize) -> &mut [Moved] {
        let end = self.connections.len().min(self.end + most);
        self.connections.get_mut(self.end..end).unwrap_or_default()
    }

    /// So many of these have been taken.
    #[inline(always)]
    pub(crate) fn fill(&mut self, count: usize) {
        self.end += count;
    }

    /// The first connections that are in it, so many at most.
    #[inline(always)]
    pub(crate) fn rest(&mut self, most: usize) -> &mut [Moved] {
        let end = self.end.min(self.next + most);
        self.connections.get_mut(self.next..end).unwrap_or_default()
    }

    /// So many of these are out.
    #[inline(always)]
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.next += count;
    }

    /// All connections are out.
    pub(crate) fn clear(&mut self) {
        self.next = 0;
        self.end = 0;
    }
}

impl core::fmt::Debug for Luggage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Luggage")
            .field("connections", &self.connections())
            .field("sends", &self.sends.len())
            .field("received", &self.received.len())
            .field("time_waits", &self.time_waits.len())
            .finish_non_exhaustive()
    }
}
