//! Making segments: what a connection may send now, cut from its queue of records, behind a copy
//! of its header template.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::neighbor::{Asker, Lookup};
use crate::records::NONE;
use crate::seq::Seq;
use crate::tcp::connection::{Flags, Slow, State};
use crate::tcp::ecn;
use crate::tcp::header::{Ipv4, Ipv6};
use crate::tcp::input::micros;
use crate::wheel::NEVER;
use crate::wire::control;
use ix_hal::{Fragment, Instant, Transmit, TxFrame};

/// What became of new data that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It was queued for transmission.
    Sent,
    /// It had to be cut, and there is no record for the rest.
    NoRecord,
    /// The TX ring is full.
    RingFull,
}

impl Engine {
    /// Sends what a connection that was taken from the output queue may send; `false` if the TX
    /// ring filled up before.
    #[inline(never)]
    pub(crate) fn transmit<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let is_sent = match self.connections[index].is_ipv6() {
            false => self.send_last_record::<Ipv4, _, _>(cx, index),
            true => {
                self.send_single::<Ipv6, _, _>(cx, index)
                    || self.send_last_record::<Ipv6, _, _>(cx, index)
            }
        };
        if is_sent {
            return true;
        }
        let connection = &mut self.connections[index];
        connection.file_single(&mut self.send_records);
        let wishes = connection.flags & (Flags::DIRTY | Flags::AWAITING_NEIGHBOR);
        connection.flags.remove(Flags::DIRTY | Flags::LISTED);
        if wishes != Flags::DIRTY || connection.state <= State::Knocking {
            return true;
        }
        if connection.neighbor_epoch != self.neighbors.epoch && !self.resolve(cx.now, index) {
            return true;
        }
        let connection = &self.connections[index];
        match (connection.state, connection.is_ipv6()) {
            (State::SynSent | State::SynReceived, false) => self.send_syn::<Ipv4, _, _>(cx, index),
            (State::SynSent | State::SynReceived, true) => self.send_syn::<Ipv6, _, _>(cx, index),
            (_, false) if self.send_predicted_fin::<Ipv4, _, _>(cx, index) => true,
            (_, true) if self.send_predicted_fin::<Ipv6, _, _>(cx, index) => true,
            _ => self.send_everything(cx, index),
        }
    }

    /// Sends SYN-ACK, unless the connection has to wait for its neighbour; `false` if the TX ring is full.
    #[inline(never)]
    pub(crate) fn answer_knock<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        if self.connections[index].neighbor_epoch != self.neighbors.epoch
            && !self.resolve(cx.now, index)
        {
            return true;
        }
        match self.connections[index].is_ipv6() {
            false => self.send_syn::<Ipv4, _, _>(cx, index),
            true => self.send_syn::<Ipv6, _, _>(cx, index),
        }
    }

    /// Looks the MAC address of the next hop up; without one the connection waits for it.
    #[inline(always)]
    fn resolve(&mut self, now: Instant, index: u32) -> bool {
        let connection = &self.connections[index];
        let (remote, is_homeless) = (
            connection.key.remote,
            self.own_address(&connection.key).is_none(),
        );
        let asker = match connection.state {
            State::SynReceived => Asker::Stranger,
            _ => Asker::Ourselves,
        };
        let lookup = match self.next_hop(remote) {
            Some(next_hop) if !is_homeless => self.neighbors.lookup(now, next_hop, asker),
            _ => Lookup::Full,
        };
        if let Lookup::Known(mac) = lookup {
            let connection = &mut self.connections[index];
            connection.template[..6].copy_from_slice(&mac);
            connection.neighbor_epoch = self.neighbors.epoch;
            return true;
        }
        if is_homeless {
            // Its own address is gone; its timer ends it.
            self.connections[index].flags.insert(Flags::NEIGHBOR_FAILED);
            self.arm_timer(now, index, now.0);
        } else {
            self.await_neighbor(now, index, lookup);
        }
        false
    }

    /// The next hop's MAC address is not known yet.
    #[inline(never)]
    fn await_neighbor(&mut self, now: Instant, index: u32, lookup: Lookup) {
        self.counters.arp_evictions = self.neighbors.evictions;
        self.counters.neighbor_refusals = self.neighbors.refusals;
        if let Lookup::Asked(neighbor) = lookup {
            let connection = &mut self.connections[index];
            connection.awaited_neighbor = neighbor;
            connection.flags.insert(Flags::AWAITING_NEIGHBOR);
            self.neighbors
                .waiting(neighbor)
                .push_back(&mut self.connections, index);
        } else {
            // Its own timer tries again.
            self.arm_rto(now, index);
        }
    }

    /// Retransmissions, then new data, then FIN, then a bare acknowledgement if one is still owed.
    #[inline(never)]
    fn send_everything<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        if self.connections[index].slow.contains(Slow::RECOVERY) && !self.retransmit_lost(cx, index)
        {
            return false;
        }
        let is_probe_due = self.connections[index]
            .flags
            .contains(Flags::SIZE_PROBE_DUE);
        if is_probe_due && !self.probe_path_size(cx, index) {
            return false;
        }
        let most = cx.tx.segmentation();
        while let Some(len) = self.next_frame_len(cx.now, index, most) {
            match self.send_new_data(cx, index, len) {
                Attempt::Sent => {}
                Attempt::NoRecord => break,
                Attempt::RingFull => return false,
            }
        }
        let connection = &self.connections[index];
        if connection
            .flags
            .intersects(Flags::FIN_QUEUED | Flags::FIN_LOST)
            && !self.send_fin(cx, index)
        {
            return false;
        }
        if self.connections[index]
            .flags
            .intersects(Flags::ACK_OWED | Flags::ACK_NOW)
        {
            return self.acknowledge_or_wait(cx, index);
        }
        true
    }

    /// How much payload the next frame of new data may carry, where the device cuts frames of up to
    /// `most` bytes of it into segments; `None` if none may be sent now.
    #[inline]
    fn next_frame_len(&mut self, now: Instant, index: u32, most: u32) -> Option<u32> {
        let connection = &mut self.connections[index];
        if connection.send_cursor == NONE {
            return None;
        }
        let unsent = connection.snd_end - connection.snd_nxt;
        let in_flight = connection.in_flight();
        if in_flight == 0 {
            connection.restart_if_idle(now, self.config.initial_window);
        }
        let congestion = connection.cwnd.saturating_sub(connection.pipe());
        let window = connection.snd_wnd.saturating_sub(in_flight);
        let mss = u32::from(connection.mss);
        let allowed = unsent.min(window).min(congestion);
        if allowed > mss && most > mss {
            return Some(connection.large_frame_len(allowed, most, self.local.nagle));
        }
        let len = allowed.min(mss);
        if len == unsent || len == mss {
            let is_small = len < mss && in_flight != 0;
            if is_small && self.local.nagle && !connection.flags.contains(Flags::FIN_QUEUED) {
                return None;
            }
            return Some(len);
        }
        // Silly window avoidance (RFC 9293 3.8.6.2.1): a cut segment must be worth it.
        if len != 0 && len * 2 >= connection.max_snd_wnd {
            return Some(len);
        }
        if in_flight == 0 && window < mss.min(unsent) {
            self.start_persist(now, index);
        }
        None
    }

    /// Sends one frame of new data.
    #[inline]
    pub(crate) fn send_new_data<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        len: u32,
    ) -> Attempt {
        let connection = &self.connections[index];
        let first = connection.send_cursor;
        let seq = connection.snd_nxt;
        let pieces = self.gather(index, first, len);
        if pieces.bytes == 0 {
            self.cannot_cut(cx.now, index);
            return Attempt::NoRecord;
        }
        let control = self.data_control(index, pieces.next);
        if !self.send_segment(cx, index, seq, control, pieces.fragments()) {
            return Attempt::RingFull;
        }
        let mut at = first;
        while at != pieces.next {
            let record = self.send_records.get_mut(at);
            record.sent_at = micros(cx.now);
            at = record.next;
        }
        self.sent(cx.now, index, control, pieces.bytes, pieces.next);
        Attempt::Sent
    }

    /// The next record is too long for what may be sent, and there is none for its rest. What is in
    /// flight gives records back when it is acknowledged; if that is nothing, time has to tell.
    #[cold]
    fn cannot_cut(&mut self, now: Instant, index: u32) {
        self.counters.tcp_send_records_exhausted += 1;
        if self.connections[index].rto_deadline == NEVER {
            self.arm_rto(now, index);
        }
    }

    /// Control bits of a data segment behind which `next` follows: PSH and FIN on the last.
    #[inline]
    fn data_control(&self, index: u32, next: u32) -> u8 {
        let flags = self.connections[index].flags;
        match next {
            NONE if flags & (Flags::FIN_QUEUED | Flags::FIN_SENT) == Flags::FIN_QUEUED => {
                control::ACK | control::PSH | control::FIN
            }
            NONE => control::ACK | control::PSH,
            _ => control::ACK,
        }
    }

    /// Takes note of new data sent.
    #[inline]
    fn sent(&mut self, now: Instant, index: u32, control: u8, len: u32, next: u32) {
        let connection = &mut self.connections[index];
        connection.send_cursor = next;
        connection.snd_nxt += len;
        connection.sent_at = now.0;
        if control & control::FIN != 0 {
            connection.flags.insert(Flags::FIN_SENT);
            connection.snd_nxt += 1;
        }
        if connection.rto_deadline == NEVER {
            connection.rto_deadline = now.0 + connection.backed_off_rto(self.local.rto_max);
        }
        // Of a FIN alone nothing could be sent again before its time.
        if connection.send_head != NONE {
            connection.expect_probe(now, self.local.max_ack_delay);
        }
        self.rearm_timer(now, index);
    }

    /// Starts the retransmission timer.
    #[inline]
    pub(crate) fn arm_rto(&mut self, now: Instant, index: u32) {
        let connection = &mut self.connections[index];
        let deadline = now.0 + connection.backed_off_rto(self.local.rto_max);
        connection.rto_deadline = deadline;
        if deadline < connection.timer_at {
            self.arm_timer(now, index, deadline);
        }
    }

    /// Sends FIN, for the first time or again, if all data before it was sent.
    #[cold]
    fn send_fin<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) -> bool {
        let connection = &self.connections[index];
        let is_first = !connection.flags.contains(Flags::FIN_SENT);
        let is_again = connection.flags.contains(Flags::FIN_LOST) && connection.lost_bytes == 0;
        if !(is_first || is_again) || connection.send_cursor != NONE {
            return true;
        }
        let seq = connection.snd_end;
        if !self.send_segment(cx, index, seq, control::ACK | control::FIN, &[]) {
            return false;
        }
        if is_first {
            self.sent(cx.now, index, control::FIN, 0, NONE);
        } else {
            self.counters.tcp_retransmits += 1;
            self.connections[index].flags.remove(Flags::FIN_LOST);
        }
        true
    }

    /// Sends an owed acknowledgement if it is time, else sees to it that it will be.
    fn acknowledge_or_wait<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let connection = &mut self.connections[index];
        // Every second full-sized segment is acknowledged (RFC 9293 3.8.6.3).
        let unacked = connection.rcv_nxt - connection.rcv_acked;
        let is_due = connection.flags.contains(Flags::ACK_NOW)
            || unacked >= 2 * u32::from(connection.rcv_mss);
        if is_due {
            return self.send_ack(cx, index);
        }
        if connection.ack_deadline == NEVER {
            let deadline = cx.now.0 + self.local.delayed_ack;
            connection.ack_deadline = deadline;
            if deadline < connection.timer_at {
                self.arm_timer(cx.now, index, deadline);
            }
        }
        true
    }

    /// Sends a bare acknowledgement; `false` if the TX ring is full.
    pub(crate) fn send_ack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let seq = self.connections[index].snd_nxt;
        if !self.send_segment(cx, index, seq, control::ACK, &[]) {
            return false;
        }
        self.counters.tcp_acks_sent += 1;
        true
    }

    /// Sends an acknowledgement at once, or, if that cannot be, with the next output.
    pub(crate) fn ack_now<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let is_resolved = self.connections[index].neighbor_epoch == self.neighbors.epoch;
        if !is_resolved || !self.send_ack(cx, index) {
            self.connections[index].flags.insert(Flags::ACK_NOW);
            self.mark_dirty(index);
        }
    }

    /// Writes the header from the template and queues the frame; `false` if the TX ring is full.
    /// More payload than fits a segment is for the device to cut.
    #[inline]
    pub(crate) fn send_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        seq: Seq,
        control: u8,
        pieces: &[Fragment],
    ) -> bool {
        let Some(room) = cx.tx.header() else {
            return false;
        };
        let connection = &mut self.connections[index];
        connection.open_window(&self.local);
        let payload = pieces.iter().map(|piece| piece.len).sum();
        let is_new_data = payload != 0 && seq == connection.snd_nxt;
        let control = control | connection.ecn_control(is_new_data);
        let mut header_len = connection.fill_any_header(room, cx.now, seq, control, payload);
        if !is_new_data {
            ecn::unmark(room);
        }
        if connection.ofo_count != 0 || connection.slow.contains(Slow::REPORT) {
            let grown = self.add_sack_blocks(room, index, header_len.into(), payload as usize);
            header_len = grown as u16;
        }
        let connection = &mut self.connections[index];
        let mut segment_size = 0;
        if payload > u32::from(connection.mss) {
            connection.leave_length_out(room);
            segment_size = connection.mss;
            self.counters.tcp_large_frames += 1;
            self.counters.tcp_out_segments += u64::from(connection.segments_of(payload)) - 1;
        }
        cx.tx.send(&TxFrame {
            header_len,
            fragments: pieces,
            checksum: connection.checksum(),
            segment_size,
            release: None,
        });
        self.counters.tcp_out_segments += 1;
        self.connections[index].acknowledged(Flags::empty());
        true
    }
}
