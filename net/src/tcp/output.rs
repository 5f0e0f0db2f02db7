//! Making segments: what a connection may send now, cut from its queue of records, behind a copy
//! of its header template.

use crate::context::{Context, Events};
use crate::engine::{Engine, Local};
use crate::neighbor::Lookup;
use crate::records::NONE;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Slow, State, TEMPLATE_BYTES};
use crate::tcp::input::micros;
use crate::wheel::NEVER;
use crate::wire::{TCP_HEADERS, TIMESTAMPS_PADDED, TcpHeader, control, put16, put32};
use ix_hal::{Fragment, HEADER_ROOM, Instant, MAX_FRAGMENTS, Transmit, TxChecksum, TxFrame};

/// Pieces of payload for one segment.
struct Pieces {
    fragments: [Fragment; MAX_FRAGMENTS],
    count: usize,
    bytes: u32,
    /// The record behind the last piece.
    next: u32,
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
        let connection = &mut self.connections[index];
        let is_wanted = connection.flags.contains(Flags::DIRTY)
            && !connection.flags.contains(Flags::AWAITING_NEIGHBOR);
        connection.flags.remove(Flags::DIRTY | Flags::LISTED);
        if !is_wanted || connection.state <= State::Knocking {
            return true;
        }
        if connection.neighbor_epoch != self.neighbors.epoch && !self.resolve(cx.now, index) {
            return true;
        }
        match self.connections[index].state {
            State::SynSent | State::SynReceived => self.send_syn(cx, index),
            _ => self.send_everything(cx, index),
        }
    }

    /// Looks the MAC address of the next hop up; without one the connection waits for it.
    #[cold]
    fn resolve(&mut self, now: Instant, index: u32) -> bool {
        let remote = self.connections[index].key.remote;
        let lookup = match self.next_hop(remote) {
            Some(next_hop) => self.neighbors.lookup(now, next_hop),
            None => Lookup::Full,
        };
        self.counters.arp_evictions = self.neighbors.evictions;
        let connection = &mut self.connections[index];
        match lookup {
            Lookup::Known(mac) => {
                connection.template[..6].copy_from_slice(&mac);
                connection.neighbor_epoch = self.neighbors.epoch;
                return true;
            }
            Lookup::Asked(neighbor) => {
                connection.awaited_neighbor = neighbor;
                connection.flags.insert(Flags::AWAITING_NEIGHBOR);
                self.neighbors
                    .waiting(neighbor)
                    .push_back(&mut self.connections, index);
            }
            Lookup::Full => {
                // Its own timer tries again.
                self.arm_rto(now, index);
            }
        }
        false
    }

    /// Retransmissions, then new data, then FIN, then a bare acknowledgement if one is still owed.
    #[inline]
    fn send_everything<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        if self.connections[index].slow.contains(Slow::RECOVERY) && !self.retransmit_lost(cx, index)
        {
            return false;
        }
        while let Some(len) = self.next_segment_len(cx.now, index) {
            if !self.send_new_data(cx, index, len) {
                return false;
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

    /// How much payload the next segment of new data may carry; `None` if none may be sent now.
    #[inline]
    fn next_segment_len(&mut self, now: Instant, index: u32) -> Option<u32> {
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
        let len = unsent.min(mss).min(window).min(congestion);
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

    /// Sends one segment of new data; `false` if the TX ring or the pool of records is empty.
    #[inline]
    pub(crate) fn send_new_data<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        len: u32,
    ) -> bool {
        let connection = &self.connections[index];
        let first = connection.send_cursor;
        let seq = connection.snd_nxt;
        let pieces = self.gather(index, first, len);
        if pieces.count == 0 {
            return false;
        }
        let control = self.data_control(index, pieces.next);
        let fragments = &pieces.fragments[..pieces.count];
        if !self.send_segment(cx, index, seq, control, fragments) {
            return false;
        }
        let mut at = first;
        while at != pieces.next {
            let record = self.send_records.get_mut(at);
            record.sent_at = micros(cx.now);
            at = record.next;
        }
        self.sent(cx.now, index, control, pieces.bytes, pieces.next);
        true
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

    /// Takes whole records, cutting the last one, until `len` bytes are together or one frame's
    /// fragments are used up.
    fn gather(&mut self, index: u32, first: u32, len: u32) -> Pieces {
        let mut pieces = Pieces {
            fragments: [Fragment::default(); MAX_FRAGMENTS],
            count: 0,
            bytes: 0,
            next: first,
        };
        while pieces.next != NONE && pieces.count < MAX_FRAGMENTS && pieces.bytes < len {
            let left = len - pieces.bytes;
            if self.send_records.get(pieces.next).len > left
                && !self.cut_record(index, pieces.next, left)
            {
                break;
            }
            let record = self.send_records.get(pieces.next);
            pieces.fragments[pieces.count] = Fragment {
                bus: record.bus,
                len: record.len,
            };
            pieces.count += 1;
            pieces.bytes += record.len;
            pieces.next = record.next;
        }
        pieces
    }

    /// Cuts one of a connection's records after `len` bytes; `false` if there is no record left.
    pub(crate) fn cut_record(&mut self, index: u32, record: u32, len: u32) -> bool {
        let is_cut = self.send_records.cut(record, len);
        let connection = &mut self.connections[index];
        if is_cut && connection.send_tail == record {
            connection.send_tail = self.send_records.get(record).next;
        }
        is_cut
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
            self.arm_rto(now, index);
        }
        self.schedule_probe(now, index);
    }

    /// Starts the retransmission timer.
    #[inline]
    pub(crate) fn arm_rto(&mut self, now: Instant, index: u32) {
        let connection = &mut self.connections[index];
        let deadline = now.0 + connection.backed_off_rto(self.local.rto_max);
        connection.rto_deadline = deadline;
        if deadline < connection.timer_at {
            self.arm_timer(index, deadline);
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
                self.arm_timer(index, deadline);
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
        let mut header_len = connection.fill_header(room, cx.now, seq, control, payload);
        if connection.ofo_count != 0 || connection.slow.contains(Slow::REPORT) {
            let grown = self.add_sack_blocks(room, index, header_len.into(), payload as usize);
            header_len = grown as u16;
        }
        cx.tx.send(&TxFrame {
            header_len,
            fragments: pieces,
            checksum: TxChecksum::Ipv4Tcp,
            release: None,
        });
        self.counters.tcp_out_segments += 1;
        self.connections[index].acknowledged(Flags::empty());
        true
    }
}

impl Connection {
    /// Writes the parts of the header template that stay the same.
    pub(crate) fn build_template(&mut self, mac: [u8; 6], address: u32) {
        let remote = self.key.remote.ipv4().unwrap_or(0);
        let header = TcpHeader {
            source_mac: mac,
            destination_mac: [0; 6],
            source: address,
            destination: remote,
            source_port: self.key.local_port(),
            destination_port: self.key.remote_port(),
            seq: Seq(0),
            ack: Seq(0),
            control: control::ACK,
            window: 0,
        };
        let options_len = match self.flags.contains(Flags::TIMESTAMPS) {
            true => 12,
            false => 0,
        };
        header.emit(&mut self.template, options_len, 0);
        put32(&mut self.template, TCP_HEADERS, TIMESTAMPS_PADDED);
        self.template_len = (TCP_HEADERS + options_len) as u8;
        self.pseudo_sum = crate::wire::pseudo_sum(address, remote);
        self.neighbor_epoch = 0;
    }

    /// Copies the template and fills in what changes; returns the header's length.
    #[inline(always)]
    pub(crate) fn fill_header(
        &self,
        room: &mut [u8; HEADER_ROOM],
        now: Instant,
        seq: Seq,
        control: u8,
        payload: u32,
    ) -> u16 {
        room[..TEMPLATE_BYTES].copy_from_slice(&self.template);
        let header_len = u32::from(self.template_len);
        // The IP packet is the frame without its 14 bytes, the segment without 20 more.
        let ip_len = header_len + payload - 14;
        put16(room, 16, ip_len as u16);
        put32(room, 38, seq.0);
        put32(room, 42, self.rcv_nxt.0);
        room[47] = control;
        put16(room, 48, self.window_field());
        put16(room, 50, fold_once(self.pseudo_sum + ip_len - 20));
        if self.flags.contains(Flags::TIMESTAMPS) {
            put32(room, TCP_HEADERS + 4, self.timestamp(now));
            put32(room, TCP_HEADERS + 8, self.ts_recent);
        }
        header_len as u16
    }

    /// A segment went out, and with it all acknowledgement that was owed; removes `also` too.
    #[inline]
    pub(crate) fn acknowledged(&mut self, also: Flags) {
        self.flags.remove(Flags::ACK_OWED | Flags::ACK_NOW | also);
        self.rcv_acked = self.rcv_nxt;
        self.ack_deadline = NEVER;
    }

    /// Our timestamp: milliseconds, nearly, with an offset that outsiders do not know.
    #[inline]
    pub(crate) fn timestamp(&self, now: Instant) -> u32 {
        ((now.0 >> 20) as u32).wrapping_add(self.ts_offset)
    }

    /// The window field for the window that is open.
    #[inline]
    fn window_field(&self) -> u16 {
        let open = self.rcv_adv - self.rcv_nxt;
        // Rounded up, so that scaling never takes back what was offered.
        let field = (open + (1 << self.rcv_scale) - 1) >> self.rcv_scale;
        field.min(0xffff) as u16
    }

    /// Opens the receive window by what the application gave back, if that is worth it (RFC 9293
    /// 3.8.6.2.2).
    #[inline(always)]
    pub(crate) fn open_window(&mut self, local: &Local) {
        if self.window_gain(local, local.window_step) {
            self.rcv_adv = self.rcv_nxt + self.receive_room(local.rx_window, local.rx_mbufs);
        }
    }

    /// Whether the right edge of the window could move by at least `worth`.
    #[inline]
    pub(crate) fn window_gain(&self, local: &Local, worth: u32) -> bool {
        let open = self.rcv_adv - self.rcv_nxt;
        // Mostly it is as open as it can be.
        open + worth <= local.rx_window
            && open + worth <= self.receive_room(local.rx_window, local.rx_mbufs)
    }

    /// Bytes that may still come, by what is held.
    #[inline]
    pub(crate) fn receive_room(&self, rx_window: u32, rx_mbufs: u16) -> u32 {
        let by_bytes = rx_window.saturating_sub(self.rx_owed);
        let by_count = u32::from(rx_mbufs.saturating_sub(self.rx_held)) * u32::from(self.rcv_mss);
        let largest = 0xffff << self.rcv_scale;
        by_bytes.min(by_count).min(largest)
    }

    /// After a long silence the network is no longer known: start over (RFC 5681 4.1).
    #[inline]
    fn restart_if_idle(&mut self, now: Instant, initial_window: u16) {
        let initial = u32::from(self.mss) * u32::from(initial_window);
        if self.cwnd > initial && now.0.saturating_sub(self.sent_at) > self.rto {
            self.cwnd = initial;
        }
    }
}

/// Folds the sum of two 16-bit numbers.
#[inline]
fn fold_once(sum: u32) -> u16 {
    ((sum >> 16) + (sum & 0xffff)) as u16
}
