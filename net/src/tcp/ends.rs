//! The segments without payload that begin and end nearly every connection, as they usually come:
//! the acknowledgement of our SYN, the peer's FIN, our own, and its acknowledgement. Exactly what
//! `segment` and `output` would do is done about them, with the checks left out that cannot fail;
//! whatever is unusual goes there instead.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::tcp::connection::{Connection, Flags, Slow, State};
use crate::tcp::ecn;
use crate::tcp::header::Family;
use crate::wheel::NEVER;
use crate::wire::{Segment, TIMESTAMPS_PADDED, be32, control};
use ix_abi::DeadReason;
use ix_hal::{Transmit, TxFrame};

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
    /// Deals with a segment for a connection if it is one of those. Otherwise returns `false`, and
    /// nothing has changed.
    #[inline(always)]
    pub(crate) fn predicted_end<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) -> bool {
        let connection = &mut self.connections[index];
        if segment.len != 0
            || segment.seq != connection.rcv_nxt
            || segment.ack != connection.snd_nxt
        {
            return false;
        }
        let Some(end) = connection.end_by(segment) else {
            return false;
        };
        let Some(timestamp) = connection.newer_timestamp(segment) else {
            return false;
        };
        if segment.seq.le(connection.rcv_acked) {
            connection.ts_recent = timestamp;
        }
        connection.heard_at = cx.now.0;
        connection.take_window(segment.window);
        connection.snd_wl1 = segment.seq;
        connection.snd_wl2 = segment.ack;
        match end {
            End::Opened => self.established(cx, index, segment.ack),
            End::Closing => {
                self.fin_arrives(cx, index, segment.seq);
                match self.connections[index].state {
                    State::CloseWait => self.mark_dirty(index),
                    // It was FIN-WAIT-2: both sides have closed.
                    _ => self.check_closed(cx, index),
                }
            }
            End::Closed => {
                connection.snd_una = segment.ack;
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
        if !connection.is_quiet()
            || connection.flags & asked != Flags::FIN_QUEUED
            || !connection.is_queue_empty()
            || connection.backoff != 0
        {
            return false;
        }
        let Some(room) = cx.tx.header() else {
            return false;
        };
        connection.open_window(&self.local);
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
                self.arm_timer(index, deadline);
            }
        }
        true
    }
}

impl Connection {
    /// Whether neither loss nor anything else unusual is being dealt with.
    #[inline(always)]
    fn is_quiet(&self) -> bool {
        let usual = Slow::IPV6 | Slow::UNESTABLISHED | Slow::CLOSED | Slow::TIMER_MOVES;
        (self.slow - usual).is_empty() && !self.flags.contains(Flags::PROBED)
    }

    /// What a segment means that is next in order, without payload, and acknowledges all that was
    /// sent; `None` if there is more to it.
    #[inline(always)]
    fn end_by(&self, segment: &Segment<'_>) -> Option<End> {
        if !self.is_quiet() {
            return None;
        }
        let acked = segment.ack - self.snd_una;
        match (self.state, segment.control) {
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

    /// What the peer's latest timestamp is after a segment that has nothing but that option, or
    /// none where timestamps are not in use; `None` if the segment is to be looked at more closely.
    #[inline(always)]
    fn newer_timestamp(&self, segment: &Segment<'_>) -> Option<u32> {
        if !self.flags.contains(Flags::TIMESTAMPS) {
            return segment.options.is_empty().then_some(self.ts_recent);
        }
        let option = segment.options.as_array::<12>()?;
        let value = be32(option, 4);
        let is_newer = value.wrapping_sub(self.ts_recent) as i32 >= 0;
        (be32(option, 0) == TIMESTAMPS_PADDED && is_newer).then_some(value)
    }
}
