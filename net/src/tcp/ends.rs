//! The segments without payload that begin and end nearly every connection, as they usually come:
//! the acknowledgement of our SYN, the peer's FIN, our own, and its acknowledgement. Exactly what
//! `segment` and `output` would do is done about them, with the checks left out that cannot fail;
//! whatever is unusual goes there instead.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::quick::Quick;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Slow, State};
use crate::tcp::ecn;
use crate::tcp::header::Family;
use crate::wheel::NEVER;
use crate::wire::control;
use ix_abi::DeadReason;
use ix_hal::{MbufId, Transmit, TxFrame};

const FIN_ACK: u8 = control::FIN | control::ACK;

/// What a segment as predicted means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It acknowledges our SYN, and nothing else is to be said.
    Opened,
    /// The peer sends no more, and has acknowledged everything.
    Closing,
    /// It acknowledges our FIN, behind data that was acknowledged before.
    Closed,
}

impl Engine {
    /// Deals with a segment if it is one of those for a connection; `index` is what the flow table has
    /// first for its hash. Otherwise returns `false`, and nothing has changed.
    #[inline(always)]
    pub(crate) fn predicted_end<F: Family, Q: Quick, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        index: u32,
        segment: &Q,
    ) -> bool {
        // None, and an entry of the TIME-WAIT table, are out of range here.
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        let (seq, ack) = (segment.seq(), segment.ack());
        if !connection.is_quiet::<F>()
            || !segment.is_of(&connection.key)
            || seq != connection.rcv_nxt
            || ack != connection.snd_nxt
        {
            return false;
        }
        let headers = connection.template_len;
        let Some(control) = segment.control_alone(&connection.template, headers) else {
            return false;
        };
        let Some(end) = connection.end_by(control, ack) else {
            return false;
        };
        if connection.flags.contains(Flags::TIMESTAMPS) {
            let Some(timestamp) = segment.timestamp() else {
                return false;
            };
            if (timestamp.wrapping_sub(connection.ts_recent) as i32) < 0 {
                return false;
            }
            if seq.le(connection.rcv_acked) {
                connection.ts_recent = timestamp;
            }
        }
        self.counters.tcp_in_segments += 1;
        cx.pool.give(mbuf);
        connection.heard_at = cx.now.0;
        connection.take_window(segment.window());
        connection.snd_wl1 = seq;
        connection.snd_wl2 = ack;
        match end {
            End::Opened => self.established(cx, index, ack),
            End::Closing => {
                connection.take_fin(cx.events);
                if connection.state != State::CloseWait {
                    // It was FIN-WAIT-2: both sides have closed.
                    self.check_closed(cx, index);
                } else if connection.wants_output() {
                    self.dirty.push(index);
                }
            }
            End::Closed => {
                connection.snd_una = ack;
                connection.duplicate_acks = 0;
                connection.rto_deadline = NEVER;
                match connection.state {
                    State::LastAck => self.finish(cx, index, DeadReason::Closed),
                    _ => self.check_closed(cx, index),
                }
            }
        }
        true
    }
}

impl Engine {
    /// Sends the FIN of a connection that was taken from the output queue, if nothing is left to be sent
    /// or acknowledged before it. Otherwise returns `false`, and nothing has changed.
    #[inline(always)]
    pub(crate) fn send_predicted_fin<F: Family, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let connection = &mut self.connections[index];
        let asked = Flags::FIN_QUEUED | Flags::FIN_SENT | Flags::SIZE_PROBE_DUE;
        if !connection.is_quiet::<F>()
            || connection.flags & asked != Flags::FIN_QUEUED
            || !connection.is_queue_empty()
            || connection.backoff != 0
        {
            return false;
        }
        let Some(room) = cx.tx.header() else {
            return false;
        };
        if connection.may_receive() {
            connection.open_window(&self.local);
        }
        let control = control::ACK | control::FIN;
        let header_len = connection.fill_header::<F>(room, cx.now, connection.snd_end, control, 0);
        ecn::unmark(room);
        cx.tx.send(&TxFrame {
            header_len,
            fragments: &[],
            checksum: F::CHECKSUM,
            segment_size: 0,
            release: None,
        });
        self.counters.tcp_out_segments += 1;
        connection.acknowledged(Flags::empty());
        connection.flags.insert(Flags::FIN_SENT);
        connection.snd_nxt += 1;
        connection.sent_at = cx.now.0;
        if connection.rto_deadline == NEVER {
            let deadline = cx.now.0 + connection.rto.min(self.local.rto_max);
            connection.rto_deadline = deadline;
            if deadline < connection.timer_at {
                self.arm_timer(cx.now, index, deadline);
            }
        }
        true
    }
}

impl Connection {
    /// Whether neither loss nor anything else unusual is being dealt with.
    #[inline(always)]
    fn is_quiet<F: Family>(&self) -> bool {
        let usual = Slow::UNESTABLISHED | Slow::CLOSED | Slow::TIMER_MOVES;
        self.slow - usual == F::SLOW && !self.flags.contains(Flags::PROBED)
    }

    /// What a segment with these control bits means that is next in order, without payload, and
    /// acknowledges all that was sent; `None` if there is more to it.
    #[inline(always)]
    fn end_by(&self, control: u8, ack: Seq) -> Option<End> {
        let acked = ack - self.snd_una;
        match (self.state, control) {
            (State::SynReceived, control::ACK) => {
                let is_simple = acked == 1 && !self.flags.contains(Flags::FIN_QUEUED);
                is_simple.then_some(End::Opened)
            }
            (State::Established | State::FinWait2, FIN_ACK) => {
                let is_open = self.rcv_adv != self.rcv_nxt;
                (acked == 0 && is_open).then_some(End::Closing)
            }
            (State::FinWait1 | State::LastAck, control::ACK) => {
                let is_last = acked == 1 && self.flags.contains(Flags::FIN_SENT);
                (is_last && self.is_queue_empty() && self.backoff == 0).then_some(End::Closed)
            }
            _ => None,
        }
    }
}
