//! What an application implements ([`Service`]), and the words in which events come to it.

use core::net::SocketAddr;

use ix_abi::{DeadReason, Error};

use crate::context::{Connection, Context};
use crate::println;
use crate::received::Received;

/// An application on one elastic thread; each thread has an instance of its own. Every method is called from the event loop and must not
/// wait for anything; the kernel is told of all that the methods asked for at the end of the
/// round.
///
/// The life of a connection: [`on_knock`](Service::on_knock) gives it a state (or
/// [`Context::connect`] does), then comes [`on_connected`](Service::on_connected), then data in
/// both directions, and last, exactly once for each state given,
/// [`on_close`](Service::on_close), which gives it back.
pub trait Service: Sized {
    /// What the application keeps for each connection. It goes along when a connection changes its
    /// thread, hence it must be [`Send`], and all threads must agree on it: what comes with a state
    /// of another type is reset.
    type State: Send + 'static;

    /// The thread starts: the place to listen and to connect.
    fn on_start(&mut self, cx: &mut Context<Self::State>);

    /// The kernel answered [`Context::listen`]. By default, a refusal ends the application.
    fn on_listen(&mut self, cx: &mut Context<Self::State>, port: u16, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            println!("cannot listen on port {port}: {error:?}");
            cx.stop(1);
        }
    }

    /// A peer asks for a connection, and nothing was answered yet. `Some` accepts it, `None`
    /// refuses (the peer gets a reset).
    fn on_knock(&mut self, cx: &mut Context<Self::State>, knock: &Knock) -> Option<Self::State> {
        let _ = (cx, knock);
        None
    }

    /// The connection is open.
    fn on_connected(&mut self, connection: &mut Connection<'_, Self::State>) {
        let _ = connection;
    }

    /// Data arrived, in order. Dropping `data` opens the receive window again; holding it holds
    /// the window, which is the way to slow a peer down.
    fn on_data(&mut self, connection: &mut Connection<'_, Self::State>, data: Received);

    /// The peer sends no more (FIN). By default, the connection is closed after what is queued.
    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, Self::State>) {
        connection.close();
    }

    /// The peer acknowledged `bytes` more of what was sent.
    fn on_sent(&mut self, connection: &mut Connection<'_, Self::State>, bytes: usize) {
        let _ = (connection, bytes);
    }

    /// There is room again after a send was refused with [`Unsent::WouldBlock`](crate::Unsent).
    fn on_writable(&mut self, connection: &mut Connection<'_, Self::State>) {
        let _ = connection;
    }

    /// The kernel answered [`Context::udp_bind`]. By default, a refusal ends the application.
    fn on_udp_bind(
        &mut self,
        cx: &mut Context<Self::State>,
        port: u16,
        outcome: Result<(), Error>,
    ) {
        if let Err(error) = outcome {
            println!("cannot bind UDP port {port}: {error:?}");
            cx.stop(1);
        }
    }

    /// A datagram arrived on a port that was asked for. Its buffer goes back to the kernel when
    /// the last part of its data is dropped or, if sent, has left.
    fn on_datagram(&mut self, cx: &mut Context<Self::State>, datagram: Datagram) {
        let _ = (cx, datagram);
    }

    /// The connection is over. Its state comes back.
    fn on_close(
        &mut self,
        cx: &mut Context<Self::State>,
        id: ConnectionId,
        state: Self::State,
        reason: CloseReason,
    ) {
        let _ = (cx, id, state, reason);
    }

    /// The connection goes to another thread, since its flow group does. Called on both: on the old
    /// one as the last thing about this connection, so that what this service has of it can be put
    /// into the state; on the new one as the first. Nothing needs to be done: what was received, sent
    /// and asked for goes along.
    fn on_migrated(
        &mut self,
        connection: &mut Connection<'_, Self::State>,
        from: usize,
        to: usize,
    ) {
        let _ = (connection, from, to);
    }

    /// All events of a round are delivered; the calls that came of them are about to be made.
    fn on_round(&mut self, cx: &mut Context<Self::State>) {
        let _ = cx;
    }

    /// The time given to [`Context::wake_at`] has come.
    fn on_wake(&mut self, cx: &mut Context<Self::State>) {
        let _ = cx;
    }
}

/// A peer that asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// The peer.
    pub peer: SocketAddr,
    /// The port that it asks on.
    pub local_port: u16,
}

/// A datagram that arrived.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it.
    pub peer: SocketAddr,
    /// The port that it was sent to.
    pub local_port: u16,
    /// What it says; may be empty.
    pub data: Received,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The kernel's reason.
    Dead(DeadReason),
    /// It could not be opened, or could not go on.
    Failed(Error),
}

impl CloseReason {
    /// Whether both sides closed in order and everything was acknowledged.
    pub fn is_orderly(self) -> bool {
        self == Self::Dead(DeadReason::Closed)
    }
}

/// Names a connection, wherever it is, and also after its end. Calls with it are good on the thread
/// that the connection is on; elsewhere, and after its end, they are refused, never applied to another
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    #[inline]
    pub(crate) fn new(cookie: u64) -> Self {
        Self(cookie)
    }

    #[inline]
    pub(crate) fn cookie(self) -> u64 {
        self.0
    }
}
