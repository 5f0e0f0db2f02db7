//! What connections take along when their flow groups go from one engine to another: everything that
//! the engine knows of them, in containers that are allocated once and go back and forth. Queued
//! data and received buffers follow in the order of the connections.

use crate::address::IpAddress;
use crate::config::Config;
use crate::records::{RxRecord, SendRecord};
use crate::tcp::connection::Connection;
use crate::tcp::episode::Episode;
use crate::tcp::time_wait::Entry;
use alloc::collections::VecDeque;
use ix_abi::Handle;
use ix_hal::LentMbuf;

/// Connections on their way, with what they own.
pub struct Luggage {
    pub(crate) connections: VecDeque<Moved>,
    pub(crate) sends: VecDeque<SendRecord>,
    /// Received and not yet given back, then out of order, for each connection.
    pub(crate) received: VecDeque<(LentMbuf, RxRecord)>,
    /// With the address of ours that each belongs to.
    pub(crate) time_waits: VecDeque<(Entry, Option<IpAddress>)>,
    /// Buffers of connections that the other engine had no room for.
    pub(crate) refused: VecDeque<LentMbuf>,
    /// Until when a SYN cookie may come back.
    pub(crate) cookies_until: u64,
}

/// A connection, and how much of the luggage is its own.
pub(crate) struct Moved {
    pub connection: Connection,
    /// The address of ours that it talks from.
    pub own: Option<IpAddress>,
    /// Its recovery, if that is still remembered.
    pub episode: Option<Episode>,
    pub handle: Handle,
    pub group: u8,
    /// Records in its send queue.
    pub sends: u32,
    /// How many of them were sent.
    pub sent: u32,
    /// Buffers received and not yet given back.
    pub owed: u32,
    /// Where its neighbour is, if that is known.
    pub neighbor: Option<[u8; 6]>,
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

impl Luggage {
    /// Room for the connections of one journey from an engine of that configuration. Allocates
    /// memory that both engines use, one after the other.
    pub fn new(config: &Config) -> Self {
        let Capacities {
            connections,
            sends,
            mbufs,
        } = Capacities::new(config);
        Self {
            connections: VecDeque::with_capacity(connections),
            sends: VecDeque::with_capacity(sends),
            received: VecDeque::with_capacity(mbufs),
            time_waits: VecDeque::with_capacity(connections),
            refused: VecDeque::with_capacity(mbufs),
            cookies_until: 0,
        }
    }

    /// Bytes that [`Luggage::new`] allocates.
    pub fn bytes(config: &Config) -> usize {
        let Capacities {
            connections,
            sends,
            mbufs,
        } = Capacities::new(config);
        connections * (size_of::<Moved>() + size_of::<(Entry, Option<IpAddress>)>())
            + sends * size_of::<SendRecord>()
            + mbufs * (size_of::<(LentMbuf, RxRecord)>() + size_of::<LentMbuf>())
    }

    /// Connections in it.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }
}

impl core::fmt::Debug for Luggage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Luggage")
            .field("connections", &self.connections.len())
            .field("sends", &self.sends.len())
            .field("received", &self.received.len())
            .field("time_waits", &self.time_waits.len())
            .finish_non_exhaustive()
    }
}
