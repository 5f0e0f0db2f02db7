//! What an application can ask for: [`Context`] for the thread, [`Connection`] for the connection
//! that an event is about.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use ix_abi::area::NOW_NS;

use crate::area::Area;
use crate::background::Notifier;
use crate::boot::BootBlock;
use crate::ledger::Crew;
use crate::payload::{Payload, Unsent};
use crate::received::Received;
use crate::service::ConnectionId;
use crate::slot::{Ending, Phase};
use crate::table::{Statistics, Table};

/// The thread, as an application sees it. `T` is [`Service::State`](crate::Service::State).
pub struct Context<T> {
    area: Area,
    pub(crate) table: Table,
    /// States of connections opened since the last flush.
    pub(crate) opened: Vec<(u32, T)>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) wake_ns: Option<u64>,
}

impl<T> Context<T> {
    pub(crate) fn new(area: Area, crew: &'static Crew) -> Self {
        Self {
            area,
            table: Table::new(area, crew),
            opened: Vec::new(),
            exit_code: None,
            wake_ns: None,
        }
    }

    /// Time of this round since boot; the same for all events of a round.
    #[inline]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.area.load(NOW_NS))
    }

    /// What the kernel told the thread at its start.
    pub fn boot(&self) -> BootBlock {
        BootBlock::new(self.area)
    }

    /// Number of this elastic thread, from 0.
    pub fn thread(&self) -> usize {
        self.boot().thread() as usize
    }

    /// How many elastic threads the application has.
    pub fn threads(&self) -> usize {
        self.boot().threads() as usize
    }

    /// Has this thread run a round when others want it to.
    pub fn notifier(&self) -> Notifier {
        Notifier {
            thread: self.thread(),
        }
    }

    /// Asks for knocks on a port; [`Service::on_listen`](crate::Service::on_listen) follows.
    pub fn listen(&mut self, port: u16) {
        self.table.listen(port, true);
    }

    /// No longer asks for knocks on a port. Connections that were accepted go on.
    pub fn unlisten(&mut self, port: u16) {
        self.table.listen(port, false);
    }

    /// Asks for the datagrams to a UDP port;
    /// [`Service::on_udp_bind`](crate::Service::on_udp_bind) follows.
    pub fn udp_bind(&mut self, port: u16) {
        self.table.udp_bind(port, true);
    }

    /// No longer asks for the datagrams to a UDP port.
    pub fn udp_unbind(&mut self, port: u16) {
        self.table.udp_bind(port, false);
    }

    /// Sends a datagram from a port that was asked for, without copying it; the payload's owner is
    /// kept until the NIC has read it. It may get lost, on the way as well as here: if it is longer
    /// than a packet, if its destination cannot be reached, or if the kernel has no room for it for
    /// a second ([`Statistics::datagrams_lost`]).
    pub fn send_datagram(
        &mut self,
        local_port: u16,
        peer: impl Into<SocketAddr>,
        payload: impl Into<Payload>,
    ) {
        self.table
            .datagrams
            .send(local_port, peer.into(), payload.into());
    }

    /// Opens a connection. `on_connected` follows, or `on_close` with what went wrong; payloads
    /// may be sent at once and go out when it is open.
    pub fn connect(&mut self, remote: impl Into<SocketAddr>, state: T) -> ConnectionId {
        let index = self.table.connect(remote.into());
        self.opened.push((index, state));
        self.table.id_of(index)
    }

    /// See [`Connection::send`].
    #[inline]
    pub fn send(&mut self, id: ConnectionId, payload: impl Into<Payload>) -> Result<(), Unsent> {
        match self.table.find(id.cookie()) {
            Some(index) => self.table.send(index, payload.into()),
            None => Err(Unsent::Closed(payload.into())),
        }
    }

    /// See [`Connection::shutdown`]. No effect on a connection that is over.
    pub fn shutdown(&mut self, id: ConnectionId) {
        self.end(id, Ending::Shutdown);
    }

    /// See [`Connection::close`]. No effect on a connection that is over.
    pub fn close(&mut self, id: ConnectionId) {
        self.end(id, Ending::Close);
    }

    /// See [`Connection::abort`]. No effect on a connection that is over.
    pub fn abort(&mut self, id: ConnectionId) {
        self.end(id, Ending::Abort);
    }

    /// Whether the connection is open: connected, and not over.
    pub fn is_open(&mut self, id: ConnectionId) -> bool {
        let index = self.table.find(id.cookie());
        index.is_some_and(|index| self.table.slot(index).phase == Phase::Open)
    }

    /// Connections of this thread, those that open and those that end included.
    pub fn connections(&self) -> usize {
        self.table.connections()
    }

    /// From how many unacknowledged bytes on a connection takes no more payloads (256 KiB unless
    /// set). The payload that crosses the limit is still taken whole.
    pub fn set_send_limit(&mut self, bytes: usize) {
        self.table.send_limit = bytes;
    }

    /// Has [`Service::on_wake`](crate::Service::on_wake) called once when [`Context::now`] reaches
    /// that time. A later call replaces an earlier one.
    pub fn wake_at(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.wake_ns = Some(ns.max(1));
    }

    /// Ends the application after this round's events with that exit code. What is not
    /// acknowledged by then is lost.
    pub fn stop(&mut self, code: i32) {
        self.exit_code = Some(code);
    }

    /// What the event loop has done so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            datagrams_lost: self.table.datagrams.lost,
            ..self.table.statistics
        }
    }

    fn end(&mut self, id: ConnectionId, ending: Ending) {
        if let Some(index) = self.table.find(id.cookie()) {
            self.table.end(index, ending);
        }
    }
}

/// The connection that an event is about.
pub struct Connection<'a, T> {
    pub(crate) context: &'a mut Context<T>,
    pub(crate) index: u32,
    /// What the application keeps for it.
    pub state: &'a mut T,
}

impl<T> Connection<'_, T> {
    /// Its name, for use with [`Context`] in other events.
    #[inline]
    pub fn id(&self) -> ConnectionId {
        self.context.table.id_of(self.index)
    }

    /// The thread.
    #[inline]
    pub fn context(&mut self) -> &mut Context<T> {
        self.context
    }

    /// Queues bytes, without copying them; the payload's owner is kept until they are
    /// acknowledged. A full queue or an ended connection gives the payload back. Received bytes
    /// are always taken while the connection lives: the receive window bounds them already.
    #[inline]
    pub fn send(&mut self, payload: impl Into<Payload>) -> Result<(), Unsent> {
        self.context.table.send(self.index, payload.into())
    }

    /// Bytes that were sent and are not acknowledged.
    #[inline]
    pub fn pending(&mut self) -> usize {
        self.context.table.slot(self.index).send.pending()
    }

    /// The sending side and the state, where both are needed at a time.
    #[inline]
    pub fn split(&mut self) -> (SendHalf<'_, T>, &mut T) {
        let sender = SendHalf {
            context: self.context,
            index: self.index,
        };
        (sender, self.state)
    }

    /// Gives received bytes back. To drop them does the same, for which it has to find out first what
    /// they belong to: this is the short way for those of the connection at hand.
    #[inline]
    pub fn give_back(&mut self, data: Received) {
        self.context.table.give_back(self.index, data);
    }

    /// Sends no more after what is queued (FIN); receiving goes on.
    pub fn shutdown(&mut self) {
        self.context.table.end(self.index, Ending::Shutdown);
    }

    /// Closes both directions after what is queued. Nothing but
    /// [`Service::on_close`](crate::Service::on_close) follows.
    pub fn close(&mut self) {
        self.context.table.end(self.index, Ending::Close);
    }

    /// Resets the connection, as soon as the application has dropped what it received on it.
    /// Nothing but [`Service::on_close`](crate::Service::on_close) follows.
    pub fn abort(&mut self) {
        self.context.table.end(self.index, Ending::Abort);
    }
}

/// The sending side of the connection that an event is about: see [`Connection::split`].
pub struct SendHalf<'a, T> {
    context: &'a mut Context<T>,
    index: u32,
}

impl<T> SendHalf<'_, T> {
    /// See [`Connection::send`].
    #[inline]
    pub fn send(&mut self, payload: impl Into<Payload>) -> Result<(), Unsent> {
        self.context.table.send(self.index, payload.into())
    }
}
