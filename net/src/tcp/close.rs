//! Ending: resets in both directions, the states after FIN, TIME-WAIT, and giving back what a
//! connection holds.

use crate::context::{Context, Event, Events};
use crate::engine::Engine;
use crate::records::NONE;
use crate::seq::Seq;
use crate::tcp::connection::{Flags, Slow, State};
use crate::tcp::time_wait::TIME_WAIT;
use crate::wheel::NEVER;
use crate::wire::control;
use ix_abi::{DeadReason, Error};
use ix_hal::{Instant, MbufId, Transmit};

impl Engine {
    /// The peer sent an acceptable RST.
    pub(crate) fn reset_by_peer<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let connection = &self.connections[index];
        match connection.state {
            State::SynReceived => {
                self.fail_handshake(cx, index, Error::Reset, DeadReason::Reset);
            }
            // Both sides have said all they had to say (RFC 9293 3.10.7.4), and the peer has heard it.
            State::Closing | State::LastAck if connection.queued() == 0 => {
                self.finish(cx, index, DeadReason::Closed)
            }
            _ => {
                self.counters.tcp_established_resets += 1;
                self.finish(cx, index, DeadReason::Reset);
            }
        }
    }

    /// Sends RST and ends the connection.
    pub(crate) fn reset_and_finish<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        reason: DeadReason,
    ) {
        self.send_reset(cx, index);
        self.finish(cx, index, reason);
    }

    /// Sends RST for a connection that the peer may know of.
    pub(crate) fn send_reset<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let connection = &self.connections[index];
        let is_addressed = connection.template[..6] != [0; 6];
        let seq = match connection.state {
            State::Knocking if !connection.flags.contains(Flags::PROVEN) => Seq(0),
            _ => connection.snd_nxt,
        };
        if !is_addressed || connection.state == State::SynSent {
            return;
        }
        if self.send_segment(cx, index, seq, control::RST | control::ACK, &[]) {
            self.counters.tcp_out_resets += 1;
        } else {
            self.counters.tx_full_drops += 1;
        }
    }

    /// Moves on if our FIN, or both, are through.
    pub(crate) fn check_closed<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let connection = &mut self.connections[index];
        if connection.state < State::FinWait1 || !connection.fin_acked() {
            return;
        }
        match connection.state {
            State::LastAck => self.finish(cx, index, DeadReason::Closed),
            _ if connection.flags.contains(Flags::FIN_RECEIVED) => self.enter_time_wait(cx, index),
            State::FinWait1 => {
                connection.enter(State::FinWait2);
                if connection.flags.contains(Flags::RELEASED) {
                    self.bound_fin_wait(cx.now, index);
                }
            }
            _ => {}
        }
    }

    /// Nobody waits for the peer's FIN: keep the connection only so long.
    pub(crate) fn bound_fin_wait(&mut self, now: Instant, index: u32) {
        let deadline = now.0.saturating_add(self.config.fin_timeout.0);
        let connection = &mut self.connections[index];
        connection.state_deadline = deadline;
        if deadline < connection.timer_at {
            self.arm_timer(now, index, deadline);
        }
    }

    /// Sends the last acknowledgement and leaves an entry in the TIME-WAIT table in place of the
    /// connection.
    fn enter_time_wait<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.counters.tcp_time_waits += 1;
        // If the TX ring is full the peer repeats its FIN, and TIME-WAIT answers.
        self.send_ack(cx, index);
        if self.time_waits.is_full() {
            self.counters.tcp_time_wait_overflows += 1;
            self.drop_oldest_time_wait();
        }
        let connection = &self.connections[index];
        let hash = connection.flow_hash;
        let expires = cx.now.0 + self.config.time_wait_length.0;
        self.flows.remove(hash, index);
        let group = self.groups.of(index);
        if let Some(entry) = self.time_waits.add(connection, group, expires) {
            self.flows.insert(hash, entry | TIME_WAIT);
        }
        self.connections[index].flags.insert(Flags::UNLISTED);
        self.finish(cx, index, DeadReason::Closed);
    }

    /// Ends a connection: gives back everything but the received mbufs that the application still
    /// holds, and tells it. The slot is free if the application has closed already.
    #[inline]
    pub(crate) fn finish<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        reason: DeadReason,
    ) {
        self.detach(cx, index);
        let handle = self.connections.handle(index);
        let connection = &mut self.connections[index];
        if !connection.flags.contains(Flags::REPORTED) {
            connection.flags.insert(Flags::REPORTED);
            cx.events.push(Event::Dead {
                cookie: connection.cookie,
                reason,
                handle,
            });
        }
        let is_unanswered = connection.state == State::Knocking;
        connection.enter(State::Dead);
        if is_unanswered || connection.flags.contains(Flags::RELEASED) {
            self.release(cx, index);
        }
    }

    /// Frees the slot of a dead connection and the mbufs that it still holds.
    #[inline(always)]
    pub(crate) fn release<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let mut at = self.connections[index].rx_head;
        while at != NONE {
            cx.pool.give(MbufId(at));
            self.rx.held -= 1;
            at = self.rx.get(at).next;
        }
        self.connections.release(index);
    }

    /// Takes a connection out of every table and list, and lets go of what it has queued.
    #[inline(always)]
    fn detach<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &self.connections[index];
        let listed = Flags::HALF_OPEN | Flags::STARVED | Flags::AWAITING_NEIGHBOR;
        if connection.flags.intersects(listed)
            || connection.slow.contains(Slow::OUT_OF_ORDER)
            || !connection.is_queue_empty()
        {
            self.let_go(cx, index);
        }
        self.groups.leave(index);
        self.wheel.disarm(index);
        let connection = &mut self.connections[index];
        connection.timer_at = NEVER;
        if !connection.flags.contains(Flags::UNLISTED) {
            self.flows.remove(connection.flow_hash, index);
        }
        connection.flags.remove(Flags::DIRTY);
    }

    /// Lets go of what a connection has queued, and takes it out of the lists that few are in.
    #[inline(never)]
    fn let_go<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.leave_half_open(index);
        self.leave_starved(index);
        self.drop_out_of_order(cx, index);
        let connection = &mut self.connections[index];
        connection.file_single(&mut self.send_records);
        let mut at = connection.send_head;
        while at != NONE {
            at = self.send_records.release(at);
        }
        connection.send_head = NONE;
        connection.send_tail = NONE;
        connection.send_cursor = NONE;
        if connection.flags.contains(Flags::AWAITING_NEIGHBOR) {
            connection.flags.remove(Flags::AWAITING_NEIGHBOR);
            self.neighbors
                .waiting(connection.awaited_neighbor)
                .remove(&mut self.connections, index);
        }
    }
}
