//! What silence means. Each connection has one timer on the wheel; its deadlines are in the
//! connection. The timer is armed for the earliest of them when one is set that is earlier, and
//! otherwise left alone: an acknowledgement that moves a deadline back does not touch the wheel.
//!
//! Most deadlines are far away and moot when they come, since the peer has answered. So a timer for one
//! goes off early, after [`WAIT`] in the wheel's queue, and finds a connection at rest; only of one that
//! is not, it is armed for the deadline itself.

use crate::context::{Context, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow, State};
use crate::wheel::{NEVER, WAIT};
use crate::wire::control;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Instant, Transmit};

impl Engine {
    /// Arms a connection's timer for a deadline, or for earlier.
    #[inline]
    pub(crate) fn arm_timer(&mut self, now: Instant, index: u32, deadline: u64) {
        let waited = now.0 + WAIT;
        if deadline < waited {
            return self.arm_exactly(index, deadline);
        }
        self.connections[index].timer_at = waited;
        self.wheel.wait(index, now);
    }

    /// Arms a connection's timer for a deadline.
    #[inline]
    pub(crate) fn arm_exactly(&mut self, index: u32, deadline: u64) {
        self.connections[index].timer_at = deadline;
        self.wheel.arm(index, deadline);
    }

    /// Runs the timers that have expired, as far as there is room for their events.
    #[inline(never)]
    pub(crate) fn connection_timers<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        while cx.events.room() >= EVENTS_AT_ONCE {
            let connections = &mut self.connections;
            let settle = |index| connections[index].settle();
            let waited = self.wheel.waited(cx.now, settle);
            let Some(index) = waited.or_else(|| self.wheel.expired(cx.now)) else {
                return;
            };
            self.timer_expired(cx, index);
        }
    }

    /// A connection's timer went off: acts on the deadlines that have passed, and arms it for the
    /// next one. Pushes at most 2 events.
    fn timer_expired<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &mut self.connections[index];
        connection.file_single(&mut self.send_records);
        connection.expect_probe_of_tail(self.local.max_ack_delay);
        let handle = connection.handle;
        connection.timer_at = NEVER;
        let now = cx.now.0;
        if self.connections[index]
            .flags
            .contains(Flags::NEIGHBOR_FAILED)
        {
            self.neighbor_failed(cx, index);
        }
        if self.is_same(index, handle) && self.connections[index].ack_deadline <= now {
            self.counters.tcp_delayed_acks += 1;
            let connection = &mut self.connections[index];
            connection.ack_deadline = NEVER;
            connection.flags.insert(Flags::ACK_NOW);
            self.mark_dirty(index);
        }
        if self.is_same(index, handle) && self.connections[index].rack_deadline <= now {
            self.rack_timeout(cx, index);
        }
        if self.is_same(index, handle) && self.connections[index].rto_deadline <= now {
            self.retransmission_timeout(cx, index);
        }
        if self.is_same(index, handle) && self.connections[index].state_deadline <= now {
            self.state_timeout(cx, index);
        }
        if self.is_same(index, handle) {
            let connection = &self.connections[index];
            let deadline = connection.earliest_deadline();
            if deadline < connection.timer_at {
                self.arm_exactly(index, deadline);
            }
        }
    }

    /// Whether the slot still holds the same, living connection.
    fn is_same(&self, index: u32, handle: Handle) -> bool {
        let connection = &self.connections[index];
        connection.handle == handle && connection.state > State::Dead
    }

    /// Arms the timer for the earliest deadline, if that is earlier than what it is armed for.
    pub(crate) fn rearm_timer(&mut self, now: Instant, index: u32) {
        let connection = &self.connections[index];
        let deadline = connection.earliest_deadline();
        if deadline < connection.timer_at {
            self.arm_timer(now, index, deadline);
        }
    }

    /// Nobody answered the question for the next hop's MAC address, or our own address is gone.
    fn neighbor_failed<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let key = self.connections[index].key;
        let is_homeless = self.own_address(&key).is_none();
        let connection = &mut self.connections[index];
        connection.flags.remove(Flags::NEIGHBOR_FAILED);
        if connection.state > State::SynReceived && is_homeless {
            self.counters.tcp_aborts_on_address += 1;
            self.finish(cx, index, DeadReason::TimedOut);
        } else if connection.state <= State::SynReceived {
            self.counters.tcp_aborts_on_neighbor += 1;
            self.fail_handshake(cx, index, Error::Unreachable, DeadReason::TimedOut);
        } else if connection.rto_deadline == NEVER {
            // It may come back; the timer asks again until the user timeout.
            self.arm_rto(cx.now, index);
        }
    }

    /// The retransmission timer went off (RFC 6298 5.4 to 5.7), or the probe timer.
    fn retransmission_timeout<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let user_timeout = self.config.user_timeout.0;
        let connection = &mut self.connections[index];
        connection.rto_deadline = NEVER;
        let is_persist = connection.slow.contains(Slow::PERSIST);
        // A peer that answers probes may keep its window shut for as long as it likes (RFC 9293
        // 3.8.6.1): only a series of unanswered ones counts.
        if is_persist && connection.heard_at >= connection.silence_since {
            connection.silence_since = NEVER;
        }
        if connection.silence_since == NEVER {
            let waited = if is_persist { 0 } else { connection.rto };
            connection.silence_since = cx.now.0.saturating_sub(waited);
        }
        let silence = cx.now.0.saturating_sub(connection.silence_since);
        let is_handshake = connection.state <= State::SynReceived;
        if !is_handshake && silence > user_timeout {
            self.give_up(cx, index);
            return;
        }
        let is_first = connection.backoff == 0;
        connection.backoff = connection.backoff.saturating_add(1);
        if is_handshake {
            connection.snd_nxt = connection.iss;
            self.counters.tcp_retransmits += 1;
        } else if is_persist {
            self.probe_window(cx, index);
            return;
        } else if connection.in_flight() != 0 {
            self.suspect_black_hole(index);
            self.start_timeout_recovery(cx.now, index, is_first);
        }
        self.arm_rto(cx.now, index);
        self.mark_dirty(index);
    }

    /// Everything in flight is taken for lost, and the window starts from one segment (RFC 5681
    /// 3.1).
    fn start_timeout_recovery(&mut self, now: Instant, index: u32, is_first: bool) {
        self.counters.tcp_timeouts += 1;
        let connection = &mut self.connections[index];
        let before = connection.recovery;
        match before {
            Recovery::Open => self.episodes.begin(connection),
            // What was sent again before makes an answer ambiguous.
            _ => self.episodes.end(connection),
        }
        if is_first && matches!(before, Recovery::Open | Recovery::Fast) {
            connection.reduce_for_loss(connection.in_flight());
        }
        connection.cwnd = u32::from(connection.mss);
        connection.cwnd_credit = 0;
        connection.recover = connection.snd_nxt;
        connection.recovery = match before {
            Recovery::Open if connection.flags.contains(Flags::SACK) => Recovery::Doubt,
            _ => Recovery::Timeout,
        };
        connection.duplicate_acks = 0;
        connection.rack_deadline = NEVER;
        connection
            .flags
            .remove(Flags::REORDER_TIMER | Flags::PROBES);
        connection.sent_at = now.0;
        connection.slow.insert(Slow::RECOVERY);
        connection.flags.insert(Flags::RETRANSMIT_NOW);
        self.mark_all_lost(index);
    }

    /// A handshake, FIN-WAIT-2 or an idle time is over.
    fn state_timeout<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &mut self.connections[index];
        connection.state_deadline = NEVER;
        match connection.state {
            State::Knocking | State::SynSent | State::SynReceived => {
                self.counters.tcp_handshake_timeouts += 1;
                if self.connections[index].flags.contains(Flags::PROVEN) {
                    // The peer takes it for open.
                    self.send_reset(cx, index);
                }
                self.fail_handshake(cx, index, Error::TimedOut, DeadReason::TimedOut);
            }
            State::FinWait2 if connection.flags.contains(Flags::RELEASED) => {
                self.give_up(cx, index)
            }
            _ => self.keep_alive(cx, index),
        }
    }

    /// Probes an idle peer, or gives it up (RFC 9293 3.8.4).
    fn keep_alive<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let Some(idle) = self.config.keepalive else {
            return;
        };
        let user_timeout = self.config.user_timeout.0;
        let connection = &mut self.connections[index];
        let silence = cx.now.0.saturating_sub(connection.heard_at);
        if silence < idle.0 || connection.in_flight() != 0 {
            connection.state_deadline = connection.heard_at.max(cx.now.0 - silence) + idle.0;
            if connection.state_deadline <= cx.now.0 {
                connection.state_deadline = cx.now.0 + idle.0;
            }
            return;
        }
        if silence > idle.0.saturating_add(user_timeout) {
            self.give_up(cx, index);
            return;
        }
        connection.state_deadline = cx.now.0 + (user_timeout >> 3).max(1);
        self.counters.tcp_keepalives += 1;
        self.send_probe(cx, index);
    }

    /// The peer stayed silent too long.
    fn give_up<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.counters.tcp_aborts_on_timeout += 1;
        self.reset_and_finish(cx, index, DeadReason::TimedOut);
    }

    /// The send window is shut, or open too little, and nothing is in flight whose
    /// acknowledgement would bring news: the probe timer has to (RFC 9293 3.8.6.1).
    pub(crate) fn start_persist(&mut self, now: Instant, index: u32) {
        let connection = &mut self.connections[index];
        if !connection.slow.contains(Slow::PERSIST) {
            connection.slow.insert(Slow::PERSIST);
            connection.backoff = 0;
            connection.silence_since = NEVER;
            self.arm_rto(now, index);
        }
    }

    /// The window opened: back to normal.
    pub(crate) fn end_persist(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        connection.slow.remove(Slow::PERSIST);
        connection.backoff = 0;
        connection.silence_since = NEVER;
        if connection.in_flight() == 0 {
            connection.rto_deadline = NEVER;
        }
        self.mark_dirty(index);
    }

    /// Asks for the state of the window, or uses the little that is open after all.
    fn probe_window<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.counters.tcp_window_probes += 1;
        let connection = &mut self.connections[index];
        let unsent = connection.snd_end - connection.snd_nxt;
        let len = unsent
            .min(connection.snd_wnd)
            .min(u32::from(connection.mss));
        if len != 0 && connection.send_cursor != NONE {
            connection.slow.remove(Slow::PERSIST);
            connection.slow.insert(Slow::TIMER_MOVES);
            self.send_new_data(cx, index, len);
            self.mark_dirty(index);
        } else {
            self.send_probe(cx, index);
        }
        if self.connections[index].rto_deadline == NEVER {
            self.arm_rto(cx.now, index);
        }
    }

    /// Sends an empty segment just below the window, which the peer has to answer with the
    /// acknowledgement and the window that it stands at.
    fn send_probe<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &self.connections[index];
        let seq = connection.snd_una - 1;
        let is_resolved = connection.neighbor_epoch == self.neighbors.epoch;
        if !is_resolved || !self.send_segment(cx, index, seq, control::ACK, &[]) {
            // The next output asks for the neighbour, or finds room.
            self.connections[index].flags.insert(Flags::ACK_NOW);
            self.mark_dirty(index);
        }
    }
}

impl Connection {
    /// Whether nothing is left of what the timer was armed for, which has gone off early.
    #[inline(always)]
    fn settle(&mut self) -> bool {
        let deadlines =
            self.ack_deadline & self.rack_deadline & self.rto_deadline & self.state_deadline;
        let is_settled = deadlines == NEVER && !self.flags.contains(Flags::NEIGHBOR_FAILED);
        if is_settled {
            self.timer_at = NEVER;
        }
        is_settled
    }
}
