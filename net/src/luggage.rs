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
    /// The control blocks of those that are in it, from `next` to `end`; the others are not in use.
    blocks: Vec<Block>,
    next: usize,
    end: usize,
    /// What these are, in the same order.
    runs: VecDeque<Run>,
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

/// Connections of one flow group that lie in a row. Their blocks are as they were, links and numbers of
/// records included.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub group: u8,
    pub count: usize,
    /// What else goes with them; with that, it is one.
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
        let spare = |number| connections::unused(names.give(number));
        Box::new(Self {
            blocks: (config.connections..)
                .take(connections)
                .map(spare)
                .collect(),
            next: 0,
            end: 0,
            runs: VecDeque::with_capacity(connections),
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
        let block = size_of::<Block>() + size_of::<Connection>();
        let each = block + size_of::<Run>() + size_of::<Episode>();
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
        self.blocks.len()
    }

    /// The first places that are free, so many at most.
    #[inline(always)]
    pub(crate) fn places(&mut self, most: usize) -> &mut [Block] {
        let end = self.blocks.len().min(self.end + most);
        self.blocks.get_mut(self.end..end).unwrap_or_default()
    }

    /// These connections are in the first places now.
    pub(crate) fn fill(&mut self, run: Run) {
        if run.count != 0 {
            self.end += run.count;
            self.runs.push_back(run);
        }
    }

    /// What comes out next.
    pub(crate) fn front(&self) -> Option<Run> {
        self.runs.front().copied()
    }

    /// The blocks of the first connections, as many as there are in all at most.
    #[inline(always)]
    pub(crate) fn blocks(&mut self, count: usize) -> &mut [Block] {
        let end = self.end.min(self.next + count);
        self.blocks.get_mut(self.next..end).unwrap_or_default()
    }

    /// So many of what comes out next are out. The places are free again when all are.
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.next += count;
        if let Some(run) = self.runs.front_mut() {
            run.count -= count;
            if run.count == 0 {
                self.runs.pop_front();
            }
        }
        if self.runs.is_empty() {
            (self.next, self.end) = (0, 0);
        }
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
