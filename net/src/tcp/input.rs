//! A segment's way in: finding its connection, and the two steps that the fast path and the full
//! processing share, letting go of acknowledged data and taking in payload.

use crate::context::{Context, Event, Events};
use crate::counters::Counters;
use crate::engine::{Engine, Local};
use crate::flow::FlowKey;
use crate::records::{NONE, RxRecord, RxRecords, SendFlags, SendRecords};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow};
use crate::tcp::time_wait::TIME_WAIT;
use crate::wheel::NEVER;
use crate::wire::Segment;
use ix_hal::{Instant, MbufId, Transmit};

/// The engine's unit of measured time: 2^10 ns, so that no division is needed.
#[inline]
pub(crate) fn micros(now: Instant) -> u32 {
    (now.0 >> 10) as u32
}

impl Engine {
    /// Takes in a TCP segment that is addressed to us and has good checksums.
    #[inline(always)]
    pub(crate) fn segment_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) {
        self.counters.tcp_in_segments += 1;
        let found = self.lookup(&segment.key);
        self.unpredicted_segment(cx, found, mbuf, segment);
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

    /// Whether a connection may keep one more received mbuf.
    pub(crate) fn may_hold_one_more(&self, connection: &Connection) -> bool {
        self.rx.held < self.local.mbufs_held && connection.rx_held < self.local.rx_mbufs
    }

    /// Takes note that everything before `ack` arrived, and tells the application.
    pub(crate) fn new_data_acknowledged<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        ack: Seq,
    ) {
        let connection = &mut self.connections[index];
        let queued = connection.queued();
        let records = &mut self.send_records;
        connection.acknowledge(records, &mut self.counters, &self.local, ack, cx.now);
        let left = connection.queued();
        connection
            .slow
            .set(Slow::TIMER_MOVES, connection.srtt8 == 0);
        // Backoff is over, or the estimate has shrunk: the deadline may have come nearer.
        self.rearm_timer(cx.now, index);
        let connection = &self.connections[index];
        if left != queued {
            cx.events.push(Event::Sent {
                cookie: connection.cookie,
                bytes: queued - left,
                window: self.local.send_limit.saturating_sub(left),
            });
        }
    }

    /// Hands in-order payload to the application and keeps its mbuf until it is given back.
    pub(crate) fn deliver<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        mbuf: MbufId,
        offset: u16,
        len: u16,
    ) {
        let connection = &mut self.connections[index];
        *self.rx.get_mut(mbuf.0) = connection.rx_record(offset, len);
        connection.take_payload(&mut self.rx, mbuf, len);
        // Payload may reach as far as rounding made an offer.
        connection.rcv_adv = connection.rcv_adv.max(connection.rcv_nxt);
        cx.events.push(Event::Recv {
            cookie: connection.cookie,
            mbuf,
            offset,
            len,
        });
    }

    /// Sees to it that the next output looks at a connection.
    #[inline(always)]
    pub(crate) fn mark_dirty(&mut self, index: u32) {
        if self.connections[index].wants_output() {
            self.dirty.push(index);
        }
    }
}

impl Connection {
    /// Takes over the window of a segment that is known not to be older than the last one.
    #[inline]
    pub(crate) fn take_window(&mut self, window: u16) {
        self.snd_wnd_word = u32::from(u16::from_le_bytes(window.to_be_bytes()));
        self.snd_wnd = u32::from(window) << self.snd_scale;
        self.max_snd_wnd = self.max_snd_wnd.max(self.snd_wnd);
    }

    /// Takes note that there may be something to send; returns whether the connection has to be put
    /// into the output queue for it.
    #[inline(always)]
    pub(crate) fn wants_output(&mut self) -> bool {
        let was_listed = self.flags.contains(Flags::LISTED);
        self.flags.insert(Flags::DIRTY | Flags::LISTED);
        !was_listed
    }

    /// Everything before `ack` arrived, which is news: lets go of it, takes a measurement, moves
    /// the retransmission timer and lets the congestion window grow.
    #[inline(never)]
    pub(crate) fn acknowledge(
        &mut self,
        records: &mut SendRecords,
        counters: &mut Counters,
        local: &Local,
        ack: Seq,
        now: Instant,
    ) {
        let flight = self.in_flight();
        let acked = ack - self.snd_una;
        if let Some(sample) = self.release_acknowledged(records, counters, ack, micros(now)) {
            self.take_rtt(sample, local.rto_min);
            counters.tcp_rtt_samples += 1;
        }
        self.snd_una = ack;
        self.duplicate_acks = 0;
        if self.backoff != 0 {
            self.backoff = 0;
            self.silence_since = NEVER;
        }
        self.rto_deadline = match ack == self.snd_nxt {
            true => NEVER,
            false => now.0 + self.rto,
        };
        if self.recovery != Recovery::Fast {
            self.grow_window(acked, flight, now);
        }
    }

    /// Releases the records that `ack` covers. Returns the age of the oldest one, if it was sent
    /// only once (Karn's rule, RFC 6298 3).
    #[inline(always)]
    fn release_acknowledged(
        &mut self,
        records: &mut SendRecords,
        counters: &mut Counters,
        ack: Seq,
        now: u32,
    ) -> Option<u32> {
        let head = self.send_head;
        if head == NONE {
            return None;
        }
        let first = records.get(head);
        if !first.flags.is_empty() || first.len != ack - self.snd_una {
            return self.release_several(records, counters, ack, now);
        }
        let sample = now.wrapping_sub(first.sent_at);
        self.send_head = records.release(head);
        if self.send_head == NONE {
            self.send_tail = NONE;
            self.send_cursor = NONE;
        }
        Some(sample)
    }

    /// The same for any number of records, marked or only partly covered. Cold, so that nothing is
    /// kept in memory on the usual path for this call's sake.
    #[cold]
    #[inline(never)]
    fn release_several(
        &mut self,
        records: &mut SendRecords,
        counters: &mut Counters,
        ack: Seq,
        now: u32,
    ) -> Option<u32> {
        let mut at = self.send_head;
        let first = records.get(at);
        let sample = first
            .flags
            .is_empty()
            .then(|| now.wrapping_sub(first.sent_at));
        while at != NONE {
            let record = records.get_mut(at);
            let (flags, end) = (record.flags, record.seq + record.len);
            if end.gt(ack) {
                if record.seq.lt(ack) {
                    let covered = ack - record.seq;
                    record.bus += u64::from(covered);
                    record.len -= covered;
                    record.seq = ack;
                    if flags.contains(SendFlags::LOST) {
                        // What is left of it was not sent again; no measurement is taken of it.
                        record.flags.remove(SendFlags::RETRANSMITTED);
                    }
                    self.forget_marks(flags, covered);
                }
                break;
            }
            self.forget_marks(flags, record.len);
            if flags.contains(SendFlags::SIZE_PROBE) && self.wide_mss != 0 {
                self.forgive_path();
                counters.tcp_size_probes_passed += 1;
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

    /// What the record of an mbuf says whose payload is next in order.
    #[inline(always)]
    pub(crate) fn rx_record(&self, offset: u16, len: u16) -> RxRecord {
        RxRecord {
            next: NONE,
            seq: self.rcv_nxt,
            offset,
            len,
        }
    }

    /// Links in-order payload, of which there is a record, into the list of what the application
    /// holds.
    #[inline(always)]
    pub(crate) fn take_payload(&mut self, rx: &mut RxRecords, mbuf: MbufId, len: u16) {
        match self.rx_head {
            NONE => self.rx_head = mbuf.0,
            _ => rx.get_mut(self.rx_tail).next = mbuf.0,
        }
        rx.held += 1;
        self.rx_tail = mbuf.0;
        self.rx_held += 1;
        self.rx_owed += u32::from(len);
        self.rcv_nxt += u32::from(len);
        if len > self.rcv_mss {
            self.rcv_mss = len;
        }
        self.flags.insert(Flags::ACK_OWED);
    }
}
