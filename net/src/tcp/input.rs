//! A segment's way in: finding its connection, and the fast path for the two things that an
//! established connection mostly sees: in-order payload and acknowledgements of new data.

use crate::context::{Context, Event, Events};
use crate::engine::Engine;
use crate::flow::FlowKey;
use crate::records::{NONE, RxRecord, SendRecords};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery, State};
use crate::tcp::time_wait::TIME_WAIT;
use crate::wheel::NEVER;
use crate::wire::{Segment, control};
use ix_hal::{Instant, MbufId, Transmit};

/// The engine's unit of measured time: 2^10 ns, so that no division is needed.
#[inline]
pub(crate) fn micros(now: Instant) -> u32 {
    (now.0 >> 10) as u32
}

impl Engine {
    /// Takes in a TCP segment that is addressed to us and has good checksums.
    #[inline]
    pub(crate) fn segment_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) {
        self.counters.tcp_in_segments += 1;
        let found = self.lookup(&segment.key);
        if let Some(index) = found
            && index & TIME_WAIT == 0
            && self.is_predicted(segment, index)
        {
            self.predicted_segment(cx, index, mbuf, segment);
        } else {
            self.unpredicted_segment(cx, found, mbuf, segment);
        }
    }

    /// What the flow table knows of a flow: a connection, or an entry of the TIME-WAIT table.
    #[inline]
    pub(crate) fn lookup(&self, key: &FlowKey) -> Option<u32> {
        self.flows.find(self.flows.hash(key), |value| {
            let found = match value & TIME_WAIT {
                0 => &self.connections[value].key,
                _ => self.time_waits.key(value),
            };
            found == key
        })
    }

    /// Header prediction: whether a segment is in order, in the window, free of surprises, and
    /// meets a connection that has nothing special going on.
    #[inline]
    fn is_predicted(&self, segment: &Segment<'_>, index: u32) -> bool {
        let connection = &self.connections[index];
        let acked = segment.ack - connection.snd_una;
        let len = u32::from(segment.len);
        if connection.state != State::Established
            || !connection.slow.is_empty()
            || segment.control & !control::PSH != control::ACK
            || segment.seq != connection.rcv_nxt
            || acked > connection.in_flight()
            || acked | len == 0
            || len > connection.rcv_adv - connection.rcv_nxt
        {
            return false;
        }
        if len != 0 && !self.may_hold_one_more(connection) {
            return false;
        }
        if !connection.flags.contains(Flags::TIMESTAMPS) {
            return segment.options.is_empty();
        }
        segment.options.len() == 12
            && segment
                .timestamps
                .is_some_and(|(value, _)| value.wrapping_sub(connection.ts_recent) as i32 >= 0)
    }

    /// Whether a connection may keep one more received mbuf.
    #[inline]
    pub(crate) fn may_hold_one_more(&self, connection: &Connection) -> bool {
        self.rx.held < self.config.mbufs_held && connection.rx_held < self.config.rx_mbufs
    }

    /// The fast path.
    #[inline]
    fn predicted_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) {
        self.counters.tcp_header_prediction += 1;
        let connection = &mut self.connections[index];
        if let Some((value, _)) = segment.timestamps
            && segment.seq.le(connection.rcv_acked)
        {
            connection.ts_recent = value;
            connection.ts_recent_at = cx.now.0;
        }
        connection.heard_at = cx.now.0;
        connection.take_window(segment);
        let mut wants_output = false;
        if segment.ack != connection.snd_una {
            self.new_data_acknowledged(cx, index, segment.ack);
            let connection = &self.connections[index];
            wants_output = connection.send_cursor != NONE;
        } else {
            // Data, and no news about ours.
            self.connections[index].duplicate_acks = 0;
        }
        if segment.len == 0 {
            self.counters.tcp_pure_acks += 1;
            cx.pool.give(mbuf);
        } else {
            self.deliver(cx, index, mbuf, segment.payload, segment.len);
            wants_output = true;
        }
        if wants_output {
            self.mark_dirty(index);
        }
    }

    /// Takes note that everything before `ack` arrived, on a connection without known loss.
    #[inline]
    pub(crate) fn new_data_acknowledged<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        ack: Seq,
    ) {
        let connection = &mut self.connections[index];
        let flight = connection.in_flight();
        let queued = connection.queued();
        let acked = ack - connection.snd_una;
        let sample = connection.release_acknowledged(&mut self.send_records, ack, micros(cx.now));
        if let Some(sample) = sample {
            connection.take_rtt(sample, self.local.rto_min, self.config.rto_max.0);
            self.counters.tcp_rtt_samples += 1;
        }
        connection.snd_una = ack;
        connection.backoff = 0;
        connection.duplicate_acks = 0;
        connection.silence_since = NEVER;
        connection.rto_deadline = if ack == connection.snd_nxt {
            NEVER
        } else {
            cx.now.0 + connection.rto
        };
        if connection.recovery != Recovery::Fast {
            self.config
                .congestion
                .acknowledged(connection, acked, flight);
        }
        let left = connection.queued();
        if left != queued {
            cx.events.push(Event::Sent {
                cookie: connection.cookie,
                bytes: queued - left,
                window: self.config.send_limit.saturating_sub(left),
            });
        }
    }

    /// Hands in-order payload to the application and keeps its mbuf until it is given back.
    #[inline]
    pub(crate) fn deliver<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        mbuf: MbufId,
        offset: u16,
        len: u16,
    ) {
        let connection = &mut self.connections[index];
        *self.rx.get_mut(mbuf.0) = RxRecord {
            next: NONE,
            seq: connection.rcv_nxt,
            offset,
            len,
        };
        match connection.rx_tail {
            NONE => connection.rx_head = mbuf.0,
            tail => self.rx.get_mut(tail).next = mbuf.0,
        }
        connection.rx_tail = mbuf.0;
        connection.rx_held += 1;
        self.rx.held += 1;
        connection.rx_owed += u32::from(len);
        connection.rcv_nxt += u32::from(len);
        connection.rcv_mss = connection.rcv_mss.max(len);
        connection.flags.insert(Flags::ACK_OWED);
        cx.events.push(Event::Recv {
            cookie: connection.cookie,
            mbuf,
            offset,
            len,
        });
    }

    /// Puts a connection on the list of those with something to send.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, index: u32) {
        let flags = &mut self.connections[index].flags;
        if !flags.intersects(Flags::DIRTY | Flags::AWAITING_NEIGHBOR) {
            flags.insert(Flags::DIRTY);
            self.dirty.push_back(&mut self.connections, index);
        }
    }
}

impl Connection {
    /// Takes over the window of a segment that is known not to be older than the last one.
    #[inline]
    pub(crate) fn take_window(&mut self, segment: &Segment<'_>) {
        self.snd_wnd = u32::from(segment.window) << self.snd_scale;
        self.snd_wl1 = segment.seq;
        self.snd_wl2 = segment.ack;
        self.max_snd_wnd = self.max_snd_wnd.max(self.snd_wnd);
    }

    /// Releases the records that `ack` covers. Returns the age of the oldest one, if it was sent
    /// only once (Karn's rule, RFC 6298 3).
    #[inline]
    pub(crate) fn release_acknowledged(
        &mut self,
        records: &mut SendRecords,
        ack: Seq,
        now: u32,
    ) -> Option<u32> {
        let mut at = self.send_head;
        if at == NONE {
            return None;
        }
        let first = records.get(at);
        let is_sample = first.flags.is_empty() && (first.seq + first.len).le(ack);
        let sample = is_sample.then(|| now.wrapping_sub(first.sent_at));
        while at != NONE {
            let record = records.get_mut(at);
            let end = record.seq + record.len;
            if end.gt(ack) {
                if record.seq.lt(ack) {
                    let covered = ack - record.seq;
                    if !record.flags.is_empty() {
                        self.forget_marks(record.flags, covered);
                    }
                    record.bus += u64::from(covered);
                    record.len -= covered;
                    record.seq = ack;
                }
                break;
            }
            if !record.flags.is_empty() {
                let (flags, len) = (record.flags, record.len);
                self.forget_marks(flags, len);
            }
            at = records.release(at);
        }
        self.send_head = at;
        if at == NONE {
            self.send_tail = NONE;
            self.send_cursor = NONE;
        }
        sample
    }
}
