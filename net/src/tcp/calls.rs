//! What the application asks for. Every call names a connection by its handle; a handle that is no
//! longer good gets `BadHandle`, a call that does not fit the state `BadState`.

use crate::address::{Endpoint, IpAddress};
use core::hint::cold_path;

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::flow::FlowKey;
use crate::records::{NONE, RxRecords, SendRecords};
use crate::tcp::connection::{Connection, Flags, Slow, State};
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Fragment, MbufId, MbufPool, Transmit};

impl Engine {
    /// Opens a connection to `remote`; `Connected` tells the outcome.
    pub fn connect<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        cookie: u64,
        remote: Endpoint,
    ) -> Result<Handle, Error> {
        if self.is_own(remote.address) {
            return Err(Error::Unreachable);
        }
        if remote.port == 0 || !self.is_host(remote.address) {
            return Err(Error::Invalid);
        }
        let own = self.own_address_for(remote.address);
        let Some(own) = own.filter(|_| self.next_hop(remote.address).is_some()) else {
            return Err(Error::Unreachable);
        };
        if self.connections.is_full() {
            return Err(Error::Exhausted);
        }
        let Some(key) = self.choose_port(own, remote) else {
            self.counters.tcp_ports_exhausted += 1;
            return Err(Error::NoPort);
        };
        let index = self
            .open(cx.now, key, State::SynSent)
            .ok_or(Error::Exhausted)?;
        self.counters.tcp_active_opens += 1;
        let deadline = cx.now + self.config.handshake_timeout;
        let connection = &mut self.connections[index];
        connection.cookie = cookie;
        connection.state_deadline = deadline.0;
        self.arm_timer(cx.now, index, deadline.0);
        self.mark_dirty(index);
        Ok(self.connections.handle(index))
    }

    /// A local port for a connection to `remote` (RFC 6056 3.3.3): a keyed start for each peer, and
    /// on from there.
    fn choose_port(&mut self, own: (u32, IpAddress), remote: Endpoint) -> Option<FlowKey> {
        let first = self.config.ephemeral_first.max(1);
        let range = u32::from(self.config.ephemeral_last.checked_sub(first)?) + 1;
        let (number, own) = own;
        let base = FlowKey::new(remote.address, remote.port, number, 0);
        // Scaled into the range without a division.
        let start = (u64::from(self.secret.port_offset(&base)) * u64::from(range)) >> 32;
        for _ in 0..range {
            self.next_port = if self.next_port + 1 >= range {
                0
            } else {
                self.next_port + 1
            };
            let offset = start as u32 + self.next_port;
            let offset = if offset >= range {
                offset - range
            } else {
                offset
            };
            let port = first + offset as u16;
            let key = FlowKey::new(remote.address, remote.port, number, port);
            if self.may_open(&key, own)
                && !self.is_listening(key.local_port())
                && self.lookup(&key).is_none()
            {
                return Some(key);
            }
        }
        None
    }

    /// Whether the segments of a connection come to this engine.
    fn may_open(&self, key: &FlowKey, own: IpAddress) -> bool {
        let group = self.flow_group(key, own);
        group.is_none_or(|group| self.groups.owned >> group & 1 != 0)
    }

    /// Takes a knocking connection and names it `cookie`; sends SYN-ACK. If a SYN cookie has
    /// completed the handshake already, `Connected` follows at once. Pushes at most 1 event.
    pub fn accept<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        handle: Handle,
        cookie: u64,
    ) -> Result<(), Error> {
        let index = match self.connections.slot_mut(handle) {
            Some((index, connection)) if connection.state == State::Knocking => index,
            _ => self.find(handle)?,
        };
        let connection = &mut self.connections[index];
        if connection.state != State::Knocking {
            return Err(Error::BadState);
        }
        connection.cookie = cookie;
        self.counters.tcp_passive_opens += 1;
        if connection.flags.contains(Flags::PROVEN) {
            connection.flags.remove(Flags::PROVEN);
            self.enter_established(cx, index);
            return Ok(());
        }
        connection.enter(State::SynReceived);
        if !self.answer_knock(cx, index) {
            // The TX ring is full.
            self.mark_dirty(index);
        }
        Ok(())
    }

    /// Queues payload by reference; returns how many bytes were accepted. They are referenced
    /// until `Sent` events have covered them, or `Dead`.
    #[inline(always)]
    pub fn send<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        handle: Handle,
        fragments: &[Fragment],
    ) -> Result<u32, Error> {
        if let [piece] = *fragments
            && self.queue_alone(handle, piece)
        {
            return Ok(piece.len);
        }
        cold_path();
        self.send_unusual(handle, fragments)
    }

    /// `send` in the common case: one piece, and nothing before it. Otherwise returns `false`, and nothing
    /// has changed.
    #[inline(always)]
    fn queue_alone(&mut self, handle: Handle, piece: Fragment) -> bool {
        let Some((index, connection)) = self.connections.slot_mut(handle) else {
            cold_path();
            return false;
        };
        if connection.state != State::Established
            || connection.snd_end != connection.snd_una
            || piece.len == 0
            || piece.len > self.local.send_limit
            || !self.send_records.has_room()
        {
            return false;
        }
        self.send_records.promise();
        connection.queue_single(piece);
        // Mostly what it answers has listed it already.
        if !connection.flags.contains(Flags::DIRTY) && connection.wants_output() {
            self.dirty.push(index);
        }
        true
    }

    /// `send` in any state, of any number of pieces, behind whatever is queued.
    #[inline(never)]
    fn send_unusual(&mut self, handle: Handle, fragments: &[Fragment]) -> Result<u32, Error> {
        let index = self.find(handle)?;
        let connection = &mut self.connections[index];
        if !connection.may_send() {
            return Err(Error::BadState);
        }
        connection.file_single(&mut self.send_records);
        let accepted = self.queue_pieces(index, fragments);
        if self.connections[index].state > State::SynReceived {
            self.mark_dirty(index);
        }
        Ok(accepted)
    }

    /// Queues any number of pieces as far as the send limit and the pool of records allow; returns
    /// how many bytes that was.
    #[inline(never)]
    fn queue_pieces(&mut self, index: u32, fragments: &[Fragment]) -> u32 {
        let queued = self.connections[index].queued();
        let mut room = self.local.send_limit.saturating_sub(queued);
        let mut accepted = 0;
        for fragment in fragments {
            let len = fragment.len.min(room);
            if len == 0 {
                continue;
            }
            if !self.queue_piece(index, fragment.bus, len) {
                self.lacks_record(index);
                break;
            }
            accepted += len;
            room -= len;
        }
        accepted
    }

    /// Appends a piece to the queue: to the last record if that is unsent and ends where the piece
    /// begins, else as a record of its own.
    #[inline]
    fn queue_piece(&mut self, index: u32, bus: u64, len: u32) -> bool {
        let connection = &mut self.connections[index];
        let tail = connection.send_tail;
        if connection.send_cursor != NONE {
            let last = self.send_records.get_mut(tail);
            if last.bus + u64::from(last.len) == bus {
                last.len += len;
                connection.snd_end += len;
                return true;
            }
        }
        let Some(record) = self.send_records.queue(bus, len, connection.snd_end) else {
            return false;
        };
        connection.append(&mut self.send_records, record, len);
        true
    }

    /// Gives received bytes back, oldest first; opens the receive window.
    #[inline]
    pub fn recv_done<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        handle: Handle,
        bytes: u64,
    ) -> Result<(), Error> {
        if let Some((index, connection)) = self.connections.slot_mut(handle)
            && let Some(record) = self.rx.try_get_mut(connection.rx_head)
            && connection.state > State::Dead
            && connection.rx_consumed == 0
            && bytes == u64::from(record.len)
        {
            // The common case: all of the first one. (That an echo is sent from returns when the
            // next request has acknowledged it, so that there are two.)
            let head = core::mem::replace(&mut connection.rx_head, record.next);
            connection.rx_owed -= bytes as u32;
            connection.rx_held -= 1;
            self.rx.held -= 1;
            cx.pool.give(MbufId(head));
            if connection.window_gain(&self.local, self.local.window_update) {
                self.window_opens(index);
            }
            return Ok(());
        }
        self.recv_done_unusual(cx.pool, handle, bytes)
    }

    /// `recv_done` of any number of bytes, also of a connection that is over.
    #[inline(never)]
    fn recv_done_unusual(
        &mut self,
        pool: &mut MbufPool,
        handle: Handle,
        bytes: u64,
    ) -> Result<(), Error> {
        let index = self.find(handle)?;
        let connection = &mut self.connections[index];
        if bytes > u64::from(connection.rx_owed) {
            return Err(Error::Invalid);
        }
        connection.rx_owed -= bytes as u32;
        connection.give_back(&mut self.rx, pool, bytes as u32);
        if connection.window_gain(&self.local, self.local.window_update) {
            self.window_opens(index);
        }
        Ok(())
    }

    /// The receive window can be opened by so much that the peer is to be told.
    #[cold]
    fn window_opens(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.may_receive() {
            connection.flags.insert(Flags::ACK_NOW);
            self.counters.tcp_window_updates += 1;
            self.mark_dirty(index);
        }
    }

    /// Sends FIN after what is queued; receiving goes on. Pushes no event.
    pub fn shutdown<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        handle: Handle,
    ) -> Result<(), Error> {
        let index = self.find(handle)?;
        if !self.connections[index].may_send() {
            return Err(Error::BadState);
        }
        self.queue_fin(index);
        Ok(())
    }

    /// Queues FIN, if that was not done yet, and moves to the state that this means.
    fn queue_fin(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.flags.contains(Flags::FIN_QUEUED) {
            return;
        }
        connection.end_sending();
        // During the handshake output would repeat the SYN.
        if connection.state > State::SynReceived {
            self.mark_dirty(index);
        }
    }

    /// Refuses a knock, or closes in both directions, or releases a dead handle. Pushes at most 1
    /// event.
    #[inline]
    pub fn close<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        handle: Handle,
    ) -> Result<(), Error> {
        let ended = Flags::RELEASED | Flags::FIN_QUEUED;
        if let Some((index, connection)) = self.connections.slot_mut(handle)
            && matches!(connection.state, State::Established | State::CloseWait)
            && !connection.flags.intersects(ended)
            && !connection.slow.contains(Slow::OUT_OF_ORDER)
        {
            // The common case: there is nothing to let go of.
            connection.flags.insert(Flags::RELEASED);
            connection.slow.insert(Slow::CLOSED);
            connection.end_sending();
            if connection.wants_output() {
                self.dirty.push(index);
            }
            return Ok(());
        }
        self.close_unusual(cx, handle)
    }

    /// `close` in any state.
    #[inline(never)]
    fn close_unusual<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        handle: Handle,
    ) -> Result<(), Error> {
        let index = self.find(handle)?;
        let connection = &mut self.connections[index];
        if connection.flags.contains(Flags::RELEASED) {
            return Err(Error::BadState);
        }
        connection.flags.insert(Flags::RELEASED);
        match connection.state {
            State::Dead => self.release(cx, index),
            State::Knocking => self.refuse(cx, index),
            State::SynSent => self.finish(cx, index, DeadReason::Aborted),
            state => {
                connection.slow.insert(Slow::CLOSED);
                self.drop_out_of_order(cx, index);
                self.queue_fin(index);
                if state == State::FinWait2 {
                    self.bound_fin_wait(cx.now, index);
                }
            }
        }
        Ok(())
    }

    /// Sends RST now and releases the handle. Pushes at most 1 event.
    pub fn abort<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        handle: Handle,
    ) -> Result<(), Error> {
        let index = self.find(handle)?;
        let connection = &mut self.connections[index];
        connection.flags.insert(Flags::RELEASED);
        match connection.state {
            State::Dead => self.release(cx, index),
            State::Knocking => self.refuse(cx, index),
            _ => {
                self.counters.tcp_aborts_by_call += 1;
                self.reset_and_finish(cx, index, DeadReason::Aborted);
            }
        }
        Ok(())
    }

    /// Answers a knock with RST; the handle is gone, and there is no `Dead`.
    fn refuse<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.counters.tcp_knocks_refused += 1;
        self.connections[index].flags.insert(Flags::REPORTED);
        self.reset_and_finish(cx, index, DeadReason::Refused);
    }

    #[inline]
    fn find(&self, handle: Handle) -> Result<u32, Error> {
        self.connections.find(handle).ok_or(Error::BadHandle)
    }
}

impl Connection {
    /// FIN follows what is queued: moves to the state that this means.
    #[inline(always)]
    fn end_sending(&mut self) {
        self.flags.insert(Flags::FIN_QUEUED);
        self.enter(match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            // The handshake comes first; `established` looks at the flag.
            state => state,
        });
    }

    /// Appends a record of `len` bytes to the send queue.
    #[inline(always)]
    fn append(&mut self, records: &mut SendRecords, record: u32, len: u32) {
        self.snd_end += len;
        if self.send_tail == NONE {
            self.send_head = record;
            self.send_cursor = record;
        } else {
            records.get_mut(self.send_tail).next = record;
            if self.send_cursor == NONE {
                self.send_cursor = record;
            }
        }
        self.send_tail = record;
    }

    /// Returns the mbufs that are covered by `bytes` more given back.
    #[inline(never)]
    fn give_back(&mut self, rx: &mut RxRecords, pool: &mut MbufPool, bytes: u32) {
        let mut left = bytes + u32::from(self.rx_consumed);
        while self.rx_head != NONE {
            let head = self.rx_head;
            let record = rx.get(head);
            let len = u32::from(record.len);
            if left < len {
                break;
            }
            left -= len;
            self.rx_head = record.next;
            self.rx_held -= 1;
            rx.held -= 1;
            pool.give(MbufId(head));
        }
        self.rx_consumed = left as u16;
    }
}
