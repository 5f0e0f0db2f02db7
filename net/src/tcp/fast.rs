//! The fast path: header prediction for what an established connection mostly sees, in-order
//! payload and acknowledgements of new data; and the answer of one small segment. Both do exactly
//! what `segment` and `output` would do, with the checks that cannot fail left out; whatever is
//! unusual goes there instead.

use crate::context::{Context, Event, Events};
use crate::engine::Engine;
use crate::quick::{Quick, QuickSegment};
use crate::quick6::QuickSegment6;
use crate::records::NONE;
use crate::tcp::connection::Flags;
use crate::tcp::header::{Family, Ipv4, Ipv6};
use crate::tcp::input::micros;
use crate::wheel::NEVER;
use crate::wire::control;
use ix_hal::{Fragment, RxChecksum, RxFrame, Transmit, TxFrame};

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
            return false;
        }
        let Some(segment) =
            QuickSegment::parse(bytes, self.local.mac_word, self.local.address_word)
        else {
            return false;
        };
        if self.rx.held >= self.local.mbufs_held
            || !self.predicted_segment::<Ipv4, _, _, _>(cx, frame, &segment)
        {
            self.quick_segment_arrives(cx, *frame, segment);
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
        if frame.checksum != RxChecksum::Good || self.rx.held >= self.local.mbufs_held {
            return false;
        }
        let Some(segment) = QuickSegment6::parse(bytes, self.local.mac_word, &self.ipv6.own) else {
            return false;
        };
        self.predicted_segment::<Ipv6, _, _, _>(cx, frame, &segment)
    }

    #[inline(always)]
    fn predicted_segment<F: Family, Q: Quick, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: &RxFrame,
        segment: &Q,
    ) -> bool {
        let index = self.flows.first(segment.hash(&self.flows));
        // None, and an entry of the TIME-WAIT table, are out of range here.
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        if connection.slow != F::SLOW || !segment.is_of(&connection.key) {
            return false;
        }
        // The peer's headers are as long as ours: timestamps are in both or in none (RFC 7323 3.2).
        let offset = connection.template_len;
        let Some(len) = segment.payload_behind(&connection.template, offset) else {
            return false;
        };
        let offset = u16::from(offset);
        let (seq, ack) = (segment.seq(), segment.ack());
        let acked = ack - connection.snd_una;
        if seq != connection.rcv_nxt
            || acked > connection.in_flight()
            || acked | len == 0
            || len > connection.rcv_adv - seq
            || connection.rx_held >= self.local.rx_mbufs
        {
            return false;
        }
        let Some(record) = self.rx.try_get_mut(frame.mbuf.0) else {
            return false;
        };
        if connection.flags.contains(Flags::TIMESTAMPS) {
            let Some(value) = segment.timestamp() else {
                return false;
            };
            if (value.wrapping_sub(connection.ts_recent) as i32) < 0 {
                return false;
            }
            if seq.le(connection.rcv_acked) {
                connection.ts_recent = value;
            }
        }
        self.counters.tcp_in_segments += 1;
        self.counters.tcp_header_prediction += 1;
        connection.heard_at = cx.now.0;
        // Being in order it is newer than any before: SND.WL1 and SND.WL2 need not say so.
        connection.take_window(segment.window());
        if len != 0 {
            *record = connection.rx_record(offset, len as u16);
        }
        if acked != 0 {
            let (records, local) = (&mut self.send_records, &self.local);
            if connection.acknowledge_single(records, local, acked, cx.now) {
                self.counters.tcp_rtt_samples += 1;
            } else {
                connection.acknowledge(records, &mut self.counters, local, ack, cx.now);
                // The estimate may have shrunk, and the deadline come nearer.
                let deadline = connection.rto_deadline;
                if deadline < connection.timer_at {
                    connection.timer_at = deadline;
                    self.wheel.arm(index, deadline);
                }
            }
            cx.events.push(Event::Sent {
                cookie: connection.cookie,
                bytes: acked,
                window: self
                    .local
                    .send_limit
                    .saturating_sub(connection.snd_end - ack),
            });
        } else {
            connection.duplicate_acks = 0;
        }
        if len == 0 {
            self.counters.tcp_pure_acks += 1;
            cx.pool.give(frame.mbuf);
            if connection.send_cursor != NONE && connection.wants_output() {
                self.dirty.push(index);
            }
            return true;
        }
        connection.take_payload(&mut self.rx, frame.mbuf, len as u16);
        if connection.wants_output() {
            self.dirty.push(index);
        }
        cx.events.push(Event::Recv {
            cookie: connection.cookie,
            mbuf: frame.mbuf,
            offset,
            len: len as u16,
        });
        true
    }

    /// Sends what a connection that was taken from the output queue has to send, if it is one record
    /// that fits one segment and may go out now. Otherwise returns `false`, and nothing has changed.
    #[inline]
    pub(crate) fn send_single<F: Family, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let connection = &mut self.connections[index];
        if connection.slow != F::SLOW
            || connection.send_cursor == NONE
            || connection.backoff != 0
            || connection.neighbor_epoch != self.neighbors.epoch
        {
            return false;
        }
        let record = self.send_records.get_mut(connection.send_cursor);
        let (bus, len) = (record.bus, record.len);
        let flight = connection.in_flight();
        if record.next != NONE
            || len > u32::from(connection.mss)
            || flight + len > connection.cwnd.min(connection.snd_wnd)
            || (flight != 0 && self.local.nagle)
            || connection.sent_at + connection.rto < cx.now.0
        {
            return false;
        }
        let Some(room) = cx.tx.header() else {
            return false;
        };
        record.sent_at = micros(cx.now);
        connection.open_window(&self.local);
        let control = control::ACK | control::PSH;
        let header_len =
            connection.fill_header::<F>(room, cx.now, connection.snd_nxt, control, len);
        cx.tx.send(&TxFrame {
            header_len,
            fragments: &[Fragment { bus, len }],
            checksum: F::CHECKSUM,
            segment_size: 0,
            release: None,
        });
        self.counters.tcp_out_segments += 1;
        connection.acknowledged(Flags::DIRTY | Flags::LISTED);
        connection.send_cursor = NONE;
        connection.snd_nxt += len;
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
