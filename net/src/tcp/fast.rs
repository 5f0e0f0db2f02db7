//! The fast path: header prediction for what an established connection mostly sees, in-order
//! payload and acknowledgements of new data; and the answer of one small segment. Both do exactly
//! what `segment` and `output` would do, with the checks that cannot fail left out; whatever is
//! unusual goes there instead.

use core::hint::cold_path;

use crate::context::{Context, Event, Events};
use crate::engine::{Engine, Local};
use crate::ipv6::quick::QuickSegment6;
use crate::quick::{Quick, QuickSegment};
use crate::records::{NONE, SendRecord, SendRecords};
use crate::tcp::connection::{Connection, Flags};
use crate::tcp::header::{Family, Ipv4, Ipv6};
use crate::tcp::input::micros;
use crate::wheel::{NEVER, WAIT, Wheel};
use crate::wire::control;
use ix_hal::{Fragment, Instant, MbufId, RxChecksum, RxFrame, Transmit, TxFrame};

impl Engine {
    /// Deals with a frame that holds a TCP segment to us over IPv4 and is of the usual shape. It is
    /// predicted to be in order, in the window, free of surprises, and for a connection that has
    /// nothing special going on. Of any other frame returns `false`, and nothing has changed.
    #[inline]
    pub(crate) fn quick_frame<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: &RxFrame,
        bytes: &[u8],
    ) -> bool {
        if frame.checksum != RxChecksum::Good {
            cold_path();
            return false;
        }
        let Some(segment) =
            QuickSegment::parse(bytes, self.local.mac_word, self.local.address_word)
        else {
            cold_path();
            return false;
        };
        let index = self.flows.first(segment.hash(&self.flows));
        if !self.predicted_segment::<Ipv4, _, _, _>(cx, frame, index, &segment) {
            cold_path();
            self.quick_segment_arrives(cx, *frame, index, segment);
        }
        true
    }

    /// Deals with a segment over IPv6 as predicted. Otherwise returns `false`, and nothing has changed.
    #[inline]
    pub(crate) fn predicted_frame6<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: &RxFrame,
        bytes: &[u8],
    ) -> bool {
        if frame.checksum != RxChecksum::Good {
            return false;
        }
        let Some(segment) = QuickSegment6::parse(bytes, self.local.mac_word, &self.ipv6.own) else {
            return false;
        };
        let index = self.flows.first(segment.hash(&self.flows));
        self.predicted_segment::<Ipv6, _, _, _>(cx, frame, index, &segment)
            || self.predicted_end::<Ipv6, _, _, _>(cx, frame.mbuf, index, &segment)
    }

    /// Deals with a segment as predicted; `index` is what the flow table has first for its hash.
    #[inline(always)]
    fn predicted_segment<F: Family, Q: Quick, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: &RxFrame,
        index: u32,
        segment: &Q,
    ) -> bool {
        // None, and an entry of the TIME-WAIT table, are out of range here.
        let Some(connection) = self.connections.get_mut(index) else {
            cold_path();
            return false;
        };
        if connection.slow != F::SLOW || !segment.is_of(&connection.key) {
            cold_path();
            return false;
        }
        let Some(len) = connection.expected_payload(segment) else {
            cold_path();
            return false;
        };
        // A request that acknowledges a response, or payload while nothing is in flight; or a response is
        // acknowledged on its own.
        let acked = connection.single_sent;
        if len == 0 {
            if acked == 0 || !connection.is_all_acknowledged(segment, acked) {
                cold_path();
                return self.predicted_rest(cx, frame.mbuf, index, *segment, len);
            }
            if !connection.take_newer_timestamp(segment) {
                cold_path();
                return false;
            }
            self.counters.tcp_in_segments += 1;
            self.counters.tcp_header_prediction += 1;
            self.counters.tcp_pure_acks += 1;
            self.counters.tcp_rtt_samples += 1;
            connection.heard_from(segment, cx.now);
            connection.tell_of_single(cx, &mut self.send_records, &self.local, acked);
            cx.pool.give(frame.mbuf);
            return true;
        }
        if self.rx.held >= self.local.mbufs_held || connection.rx_held >= self.local.rx_mbufs {
            cold_path();
            return false;
        }
        if !connection.is_all_acknowledged(segment, acked) {
            cold_path();
            return self.predicted_rest(cx, frame.mbuf, index, *segment, len);
        }
        if !connection.take_newer_timestamp(segment) {
            cold_path();
            return false;
        }
        self.counters.tcp_in_segments += 1;
        self.counters.tcp_header_prediction += 1;
        connection.heard_from(segment, cx.now);
        if acked != 0 {
            self.counters.tcp_rtt_samples += 1;
            connection.tell_of_single(cx, &mut self.send_records, &self.local, acked);
        }
        self.predicted_payload(cx, frame.mbuf, index, len);
        true
    }

    /// What is left to do about a segment with the payload that is expected, where its acknowledgement
    /// may be of anything that is in flight. If that is not as predicted, returns `false`, and nothing
    /// has changed.
    #[inline(never)]
    fn predicted_rest<Q: Quick, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        index: u32,
        segment: Q,
        len: u16,
    ) -> bool {
        let connection = &mut self.connections[index];
        let acked = segment.ack() - connection.snd_una;
        if acked > connection.in_flight()
            || acked | u32::from(len) == 0
            || !connection.take_newer_timestamp(&segment)
        {
            return false;
        }
        self.counters.tcp_in_segments += 1;
        self.counters.tcp_header_prediction += 1;
        connection.heard_from(&segment, cx.now);
        if acked != 0 {
            self.predicted_acknowledgement(cx, index, acked);
        }
        if len != 0 {
            self.predicted_payload(cx, mbuf, index, len);
            return true;
        }
        self.counters.tcp_pure_acks += 1;
        cx.pool.give(mbuf);
        let connection = &mut self.connections[index];
        if connection.send_cursor != NONE && connection.wants_output() {
            self.dirty.push(index);
        }
        true
    }

    /// Hands the payload of a predicted segment to the application. If the buffer is none that there is
    /// a record for, it is lost.
    #[inline(always)]
    fn predicted_payload<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        index: u32,
        len: u16,
    ) {
        let connection = &mut self.connections[index];
        let offset = u16::from(connection.template_len);
        let Some(record) = self.rx.try_get_mut(mbuf.0) else {
            cold_path();
            self.counters.rx_foreign_mbuf += 1;
            cx.pool.give(mbuf);
            return;
        };
        *record = connection.rx_record(offset, len);
        connection.take_payload(&mut self.rx, mbuf, len);
        let is_unlisted = connection.wants_output();
        cx.events.push(Event::Recv {
            cookie: connection.cookie,
            mbuf,
            offset,
            len,
        });
        if is_unlisted {
            self.dirty.push(index);
        }
    }

    /// A predicted segment acknowledges any part of what is in flight.
    #[inline(always)]
    fn predicted_acknowledgement<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        acked: u32,
    ) {
        let connection = &mut self.connections[index];
        let ack = connection.snd_una + acked;
        let (records, counters) = (&mut self.send_records, &mut self.counters);
        connection.file_single(records);
        connection.acknowledge(records, counters, &self.local, ack, cx.now);
        // The estimate may have shrunk, and the deadline come nearer.
        let deadline = connection.rto_deadline;
        let is_nearer = deadline < connection.timer_at;
        let queued = connection.snd_end - ack;
        cx.events.push(Event::Sent {
            cookie: connection.cookie,
            bytes: acked,
            window: self.local.send_limit.saturating_sub(queued),
        });
        if is_nearer {
            self.arm_timer(cx.now, index, deadline);
        }
    }

    /// Sends the single piece of a connection that was taken from the output queue, if it fits one
    /// segment and may go out now. Otherwise returns `false`, and nothing has changed.
    #[inline]
    pub(crate) fn send_single<F: Family, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let connection = &mut self.connections[index];
        let piece = Fragment {
            bus: connection.single_bus,
            len: connection.single_unsent,
        };
        let epoch = self.neighbors.epoch;
        if piece.len == 0 || !connection.send_piece::<F, _, _>(cx, &self.local, epoch, 0, piece) {
            cold_path();
            return false;
        }
        connection.single_was_sent();
        self.counters.tcp_out_segments += 1;
        if !connection.tail_waits(&mut self.wheel, &self.local, cx.now, index) {
            cold_path();
            self.watch_tail(cx.now, index);
        }
        true
    }

    /// The same for the last record of a queue, if it is the only one that was not sent.
    #[inline(always)]
    pub(crate) fn send_last_record<F: Family, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let connection = &mut self.connections[index];
        let (cursor, flight) = (connection.send_cursor, connection.in_flight());
        if cursor == NONE || (flight != 0 && self.local.nagle) {
            return false;
        }
        let record = self.send_records.get_mut(cursor);
        let SendRecord { bus, len, next, .. } = *record;
        let piece = Fragment { bus, len };
        let epoch = self.neighbors.epoch;
        if next != NONE || !connection.send_piece::<F, _, _>(cx, &self.local, epoch, flight, piece)
        {
            return false;
        }
        record.sent_at = micros(cx.now);
        connection.send_cursor = NONE;
        self.counters.tcp_out_segments += 1;
        if !connection.tail_waits(&mut self.wheel, &self.local, cx.now, index) {
            self.watch_tail(cx.now, index);
        }
        true
    }
}

impl Connection {
    /// Sees to the timer of what was just sent, if that can wait: nothing is overdue before.
    #[inline(always)]
    fn tail_waits(&mut self, wheel: &mut Wheel, local: &Local, now: Instant, index: u32) -> bool {
        if self.timer_at <= self.rto_deadline {
            return true;
        }
        let waited = now.0 + WAIT;
        if !local.tails_wait || self.rto_deadline < waited {
            return false;
        }
        self.timer_at = waited;
        wheel.wait(index, now);
        true
    }

    /// Bytes of payload of a segment that is next in order, fits the window, and has the headers that
    /// are usual; `None` if it is none such.
    #[inline(always)]
    fn expected_payload<Q: Quick>(&self, segment: &Q) -> Option<u16> {
        // The peer's headers are as long as ours: timestamps are in both or in none (RFC 7323 3.2).
        let len = segment.payload_behind(&self.template, self.template_len)?;
        let is_expected = segment.seq() == self.rcv_nxt && len <= self.rcv_adv - self.rcv_nxt;
        is_expected.then_some(len as u16)
    }

    /// Whether a segment acknowledges all that is in flight, which is the single piece of `sent` bytes or
    /// nothing, and the congestion window does not grow.
    #[inline(always)]
    fn is_all_acknowledged<Q: Quick>(&self, segment: &Q, sent: u32) -> bool {
        segment.ack() == self.snd_nxt && self.in_flight() == sent && !self.uses_window(sent)
    }

    /// The single piece, of `sent` bytes, is acknowledged.
    #[inline(always)]
    fn tell_of_single<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        records: &mut SendRecords,
        local: &Local,
        sent: u32,
    ) {
        self.acknowledge_single(records, local, cx.now);
        cx.events.push(Event::Sent {
            cookie: self.cookie,
            bytes: sent,
            window: local.send_limit,
        });
    }

    /// Takes over the timestamp of a segment that is next in order (RFC 7323 4.3); `false` if it is
    /// older than the last one, or in no usual place.
    #[inline(always)]
    fn take_newer_timestamp<Q: Quick>(&mut self, segment: &Q) -> bool {
        if !self.flags.contains(Flags::TIMESTAMPS) {
            return true;
        }
        let Some(value) = segment.timestamp() else {
            cold_path();
            return false;
        };
        let is_newer = value.wrapping_sub(self.ts_recent) as i32 >= 0;
        if is_newer && self.rcv_nxt.le(self.rcv_acked) {
            self.ts_recent = value;
        }
        is_newer
    }

    /// Takes note of a segment that is next in order, whatever it acknowledges.
    #[inline(always)]
    fn heard_from<Q: Quick>(&mut self, segment: &Q, now: Instant) {
        self.heard_at = now.0;
        self.duplicate_acks = 0;
        if u32::from(segment.window_word()) != self.snd_wnd_word {
            cold_path();
            self.take_window(segment.window());
        }
    }

    /// Sends all that was not sent yet, a piece of memory, if it fits one segment and may go out now.
    /// `flight` is what is in flight. Otherwise returns `false`, and nothing has changed.
    #[inline(always)]
    fn send_piece<F: Family, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        local: &Local,
        neighbor_epoch: u32,
        flight: u32,
        piece: Fragment,
    ) -> bool {
        let rto = self.rto;
        if self.slow != F::SLOW
            || self.backoff != 0
            || self.neighbor_epoch != neighbor_epoch
            || piece.len > u32::from(self.mss)
            || flight + piece.len > self.cwnd.min(self.snd_wnd)
            || (self.sent_at + rto < cx.now.0
                && self.cwnd > self.initial_cwnd(local.initial_window))
        {
            return false;
        }
        let Some(room) = cx.tx.header() else {
            cold_path();
            return false;
        };
        self.open_window(local);
        let control = control::ACK | control::PSH;
        let header_len = self.fill_header::<F>(room, cx.now, self.snd_nxt, control, piece.len);
        cx.tx.send(&TxFrame {
            header_len,
            fragments: &[piece],
            checksum: F::CHECKSUM,
            segment_size: 0,
            release: None,
        });
        self.acknowledged(Flags::DIRTY | Flags::LISTED);
        self.snd_nxt += piece.len;
        self.sent_at = cx.now.0;
        if flight == 0 || self.rto_deadline == NEVER {
            self.rto_deadline = cx.now.0 + rto.min(local.rto_max);
        }
        true
    }
}
