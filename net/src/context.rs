//! What one cycle hands down to the engine, and the event conditions that come back up.

use crate::address::Endpoint;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Instant, MbufId, MbufPool, Transmit};

/// What one cycle hands down: the time, the way out, the event sink and the buffer pool.
pub struct Context<'a, T: Transmit, E: Events> {
    /// Time of this half-cycle, read once.
    pub now: Instant,
    /// Where frames go.
    pub tx: &'a mut T,
    /// Where event conditions go.
    pub events: &'a mut E,
    /// Where frame buffers come from and return to.
    pub pool: &'a mut MbufPool,
}

/// A sink for event conditions.
pub trait Events {
    /// Appends an event. The engine makes sure that there is [`Events::room`].
    fn push(&mut self, event: Event);

    /// How many more events fit.
    fn room(&self) -> usize;

    /// Appends a [`Event::Migrated`] for each of these connections, which have gone from one thread to
    /// another; the engine makes sure that there is room.
    #[inline(always)]
    fn push_migrated(
        &mut self,
        from: u32,
        to: u32,
        connections: impl Iterator<Item = (u64, Handle)>,
    ) {
        for (cookie, handle) in connections {
            self.push(Event::Migrated {
                cookie,
                handle,
                from,
                to,
            });
        }
    }
}

/// An event condition; `ix-abi` describes the life of a connection that they make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer asks for a connection; answer with `accept` or `close`.
    Knock {
        /// Names the connection from now on.
        handle: Handle,
        /// The peer.
        peer: Endpoint,
        /// The port it asked for.
        local_port: u16,
    },
    /// The handshake of an accepted or connecting connection completed, or failed.
    Connected {
        /// The application's name for the connection.
        cookie: u64,
        /// The engine's name for it.
        handle: Handle,
        /// How the handshake ended.
        outcome: Result<(), Error>,
    },
    /// In-order payload.
    Recv {
        /// The application's name for the connection.
        cookie: u64,
        /// The buffer that holds the payload; the engine owns it until `recv_done`.
        mbuf: MbufId,
        /// Where in the buffer the payload starts.
        offset: u16,
        /// Bytes of payload, at least 1.
        len: u16,
    },
    /// A datagram.
    Datagram {
        /// Who sent it.
        peer: Endpoint,
        /// The port that it was sent to.
        local_port: u16,
        /// The buffer that holds the payload; the engine owns it until `udp_recv_done`.
        mbuf: MbufId,
        /// Where in the buffer the payload starts.
        offset: u16,
        /// Bytes of payload.
        len: u16,
    },
    /// The peer sends no more.
    EndOfStream {
        /// The application's name for the connection.
        cookie: u64,
    },
    /// Sent bytes were acknowledged, or more would be accepted.
    Sent {
        /// The application's name for the connection.
        cookie: u64,
        /// Bytes newly acknowledged.
        bytes: u32,
        /// Bytes that `send` would accept now.
        window: u32,
    },
    /// The connection went from one thread to another: its last event on the one, its first on the
    /// other.
    Migrated {
        /// The application's name for the connection, 0 before `accept`.
        cookie: u64,
        /// The engine's name for it, which stays.
        handle: Handle,
        /// The thread that it was on.
        from: u32,
        /// The thread that it is on from now on.
        to: u32,
    },
    /// The connection is over: its last event.
    Dead {
        /// The application's name for the connection, 0 before `accept`.
        cookie: u64,
        /// Why.
        reason: DeadReason,
        /// The engine's name for it.
        handle: Handle,
    },
}
