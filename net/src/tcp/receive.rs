//! Payload and FIN that did not come over the fast path: trimming to the window, keeping what is
//! out of order, delivering what becomes in order (RFC 9293 3.10.7.4, seventh and eighth), and
//! telling the peer which pieces are here (RFC 2018).

use crate::context::{Context, Event, Events};
use crate::engine::Engine;
use crate::records::{NONE, RxRecord};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Slow, State};
use crate::wire::{Segment, TCP, put32};
use ix_abi::DeadReason;
use ix_hal::{MbufId, Transmit};

/// Room for TCP options in a header.
const OPTIONS_MAX: usize = 40;

impl Engine {
    /// Takes in the payload of an acceptable segment. Returns whether the mbuf was kept.
    pub(crate) fn payload_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) -> bool {
        let connection = &mut self.connections[index];
        let end = segment.seq + u32::from(segment.len);
        if !connection.may_receive() || end.le(connection.rcv_nxt) {
            self.counters.tcp_duplicates += 1;
            connection.report_duplicate(segment.seq, end);
            connection.flags.insert(Flags::ACK_NOW);
            return false;
        }
        if connection.slow.contains(Slow::CLOSED) {
            // Nobody will read it: say so (RFC 9293 3.6.1).
            self.counters.tcp_aborts_on_data += 1;
            self.reset_and_finish(cx, index, DeadReason::Aborted);
            return false;
        }
        // Trim to the window on both sides.
        let start = segment.seq.max(connection.rcv_nxt);
        let edge = connection.rcv_edge();
        let stop = if end.gt(edge) { edge } else { end };
        if stop != end {
            self.counters.tcp_trimmed_bytes += u64::from(end - stop);
            connection.flags.insert(Flags::ACK_NOW);
        }
        if stop.le(start) {
            return false;
        }
        let piece = RxRecord {
            next: NONE,
            seq: start,
            offset: segment.payload + (start - segment.seq) as u16,
            len: (stop - start) as u16,
        };
        if start == connection.rcv_nxt && connection.ofo_head != NONE {
            self.make_room_for_next(cx, index);
        }
        let connection = &self.connections[index];
        if !self.may_hold_one_more(connection) {
            self.counters.tcp_rcv_dropped += 1;
            self.connections[index].flags.insert(Flags::ACK_NOW);
            return false;
        }
        if start == connection.rcv_nxt {
            self.deliver(cx, index, mbuf, piece.offset, piece.len);
            self.gap_may_be_filled(index);
            return true;
        }
        let is_kept = self.keep_out_of_order(index, mbuf, piece);
        // At once, each time: the peer counts duplicates (RFC 5681 4.2).
        self.ack_now(cx, index);
        is_kept
    }

    /// If there is no buffer left for what comes next, what is kept behind the gap has to give way (RFC
    /// 2018 8 allows it): otherwise segments that wait for this one could keep it out for ever.
    #[cold]
    fn make_room_for_next<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        if !self.may_hold_one_more(&self.connections[index]) {
            self.counters.tcp_ofo_pruned += u64::from(self.connections[index].ofo_count);
            self.drop_out_of_order(cx, index);
            // The peer believes that it arrived.
            self.connections[index].flags.insert(Flags::ACK_NOW);
        }
    }

    /// After in-order payload: what was kept behind a gap may have become deliverable.
    pub(crate) fn gap_may_be_filled(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.ofo_head == NONE {
            return;
        }
        connection.flags.insert(Flags::ACK_NOW);
        let is_reached = self.rx.get(connection.ofo_head).seq.le(connection.rcv_nxt);
        if is_reached && !connection.flags.contains(Flags::DELIVERING) {
            connection.flags.insert(Flags::DELIVERING);
            self.delivering.push_back(&mut self.connections, index);
        }
    }

    /// Delivers out-of-order segments that have become in-order ones, as far as events fit; then
    /// the FIN that may follow. Each takes one event; up to three may remain owed to the caller.
    pub(crate) fn deliver_queued<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        loop {
            let connection = &self.connections[index];
            let head = connection.ofo_head;
            if head == NONE || self.rx.get(head).seq.gt(connection.rcv_nxt) {
                break;
            }
            if cx.events.room() < 4 {
                return;
            }
            let piece = *self.rx.get(head);
            let covered = connection.rcv_nxt - piece.seq;
            self.unlink_first_out_of_order(index);
            if covered >= u32::from(piece.len) {
                cx.pool.give(MbufId(head));
                continue;
            }
            let covered = covered as u16;
            self.deliver(
                cx,
                index,
                MbufId(head),
                piece.offset + covered,
                piece.len - covered,
            );
        }
        self.leave_delivering(index);
        let connection = &mut self.connections[index];
        connection.flags.insert(Flags::ACK_NOW);
        self.waiting_fin_may_be_due(cx, index);
        self.check_closed(cx, index);
        if self.connections[index].state > State::SynReceived {
            self.connections[index].update_out_of_order();
            self.mark_dirty(index);
        }
    }

    /// If a FIN came before the data in front of it, its time may be now.
    pub(crate) fn waiting_fin_may_be_due<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let connection = &mut self.connections[index];
        if !connection.slow.contains(Slow::OUT_OF_ORDER) {
            return;
        }
        let fin_at = connection.fin_at;
        if connection.flags.contains(Flags::FIN_WAITS) && fin_at == connection.rcv_nxt {
            self.fin_arrives(cx, index, fin_at);
        }
        self.connections[index].update_out_of_order();
    }

    /// Takes a connection off the list of those with deliverable data.
    pub(crate) fn leave_delivering(&mut self, index: u32) {
        if self.connections[index].flags.contains(Flags::DELIVERING) {
            self.connections[index].flags.remove(Flags::DELIVERING);
            self.delivering.remove(&mut self.connections, index);
        }
    }

    /// Links a piece into the list of out-of-order segments, sorted by sequence number. Pieces may
    /// overlap; they are trimmed when delivered. Returns whether the piece was kept.
    fn keep_out_of_order(&mut self, index: u32, mbuf: MbufId, piece: RxRecord) -> bool {
        let connection = &mut self.connections[index];
        connection.ofo_latest = piece.seq;
        let mut before = NONE;
        let mut at = connection.ofo_head;
        // Mostly the new piece goes to the end.
        if connection.ofo_tail != NONE && self.rx.get(connection.ofo_tail).seq.le(piece.seq) {
            before = connection.ofo_tail;
            at = NONE;
        }
        while at != NONE && self.rx.get(at).seq.le(piece.seq) {
            before = at;
            at = self.rx.get(at).next;
        }
        let is_covered = before != NONE && self.rx.get(before).end().ge(piece.end())
            || at != NONE && self.rx.get(at).seq == piece.seq && self.rx.get(at).len >= piece.len;
        if is_covered {
            connection.report_duplicate(piece.seq, piece.end());
            self.counters.tcp_ofo_duplicates += 1;
            return false;
        }
        let is_full = connection.ofo_count >= self.config.rx_out_of_order
            || self.rx.out_of_order >= self.config.out_of_order;
        if is_full {
            self.counters.tcp_ofo_dropped += 1;
            return false;
        }
        *self.rx.get_mut(mbuf.0) = RxRecord { next: at, ..piece };
        match before {
            NONE => connection.ofo_head = mbuf.0,
            before => self.rx.get_mut(before).next = mbuf.0,
        }
        if at == NONE {
            connection.ofo_tail = mbuf.0;
        }
        connection.ofo_count += 1;
        connection.rx_held += 1;
        connection.update_out_of_order();
        self.rx.out_of_order += 1;
        self.rx.held += 1;
        self.counters.tcp_ofo_queued += 1;
        true
    }

    fn unlink_first_out_of_order(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        let head = connection.ofo_head;
        connection.ofo_head = self.rx.get(head).next;
        if connection.ofo_head == NONE {
            connection.ofo_tail = NONE;
        }
        connection.ofo_count -= 1;
        connection.rx_held -= 1;
        self.rx.out_of_order -= 1;
        self.rx.held -= 1;
    }

    /// Gives all out-of-order segments of a connection back to the pool.
    #[inline(always)]
    pub(crate) fn drop_out_of_order<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        if self.connections[index].slow.contains(Slow::OUT_OF_ORDER) {
            self.drop_all_out_of_order(cx, index);
        }
    }

    #[inline(never)]
    fn drop_all_out_of_order<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        self.leave_delivering(index);
        while self.connections[index].ofo_head != NONE {
            cx.pool.give(MbufId(self.connections[index].ofo_head));
            self.unlink_first_out_of_order(index);
        }
        self.connections[index].update_out_of_order();
    }

    /// Takes in a FIN whose sequence number is `at`.
    pub(crate) fn fin_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        at: Seq,
    ) {
        let connection = &mut self.connections[index];
        connection.flags.insert(Flags::ACK_NOW);
        if !connection.may_receive() {
            return;
        }
        if at != connection.rcv_nxt {
            if at.gt(connection.rcv_nxt) && at.le(connection.rcv_edge()) {
                connection.fin_at = at;
                connection.flags.insert(Flags::FIN_WAITS);
                connection.update_out_of_order();
            }
            return;
        }
        connection.take_fin(cx.events);
        // Whatever came behind the FIN is nonsense.
        self.drop_out_of_order(cx, index);
    }

    /// Appends a SACK option: the block that changed last first, then the others in order (RFC
    /// 2018 4). Returns the header's new length.
    #[cold]
    pub(crate) fn add_sack_blocks(
        &mut self,
        room: &mut [u8],
        index: u32,
        header_len: usize,
        payload: usize,
    ) -> usize {
        if !self.connections[index].flags.contains(Flags::SACK) {
            return header_len;
        }
        let duplicate = self.connections[index].take_report();
        let connection = &self.connections[index];
        let used = header_len - connection.tcp_offset() - TCP;
        let most = (OPTIONS_MAX - used - 4) / 8;
        // Payload of a full-sized segment leaves no room in the packet.
        if payload + 4 + 8 > usize::from(connection.mss) {
            return header_len;
        }
        let most = most.min((usize::from(connection.mss) - payload - 4) / 8);
        let at = header_len + 4;
        let mut count = 0;
        if let Some((left, right)) = duplicate {
            put32(room, at, left.0);
            put32(room, at + 4, right.0);
            count = 1;
        }
        if count < most
            && let Some((left, right)) = self.block_around(connection, connection.ofo_latest)
        {
            put32(room, at + count * 8, left.0);
            put32(room, at + count * 8 + 4, right.0);
            count += 1;
        }
        let mut from = connection.ofo_head;
        while from != NONE && count < most {
            let (left, right, next) = self.block_from(from);
            let is_first = left.le(connection.ofo_latest) && connection.ofo_latest.lt(right);
            if !is_first {
                put32(room, at + count * 8, left.0);
                put32(room, at + count * 8 + 4, right.0);
                count += 1;
            }
            from = next;
        }
        if count == 0 {
            return header_len;
        }
        put32(room, header_len, 0x0101_0500 | (2 + 8 * count as u32));
        connection.grow_options(room, 4 + 8 * count as u16);
        header_len + 4 + 8 * count
    }

    /// The contiguous block that holds a sequence number.
    fn block_around(&self, connection: &Connection, seq: Seq) -> Option<(Seq, Seq)> {
        let mut from = connection.ofo_head;
        while from != NONE {
            let (left, right, next) = self.block_from(from);
            if left.le(seq) && seq.lt(right) {
                return Some((left, right));
            }
            from = next;
        }
        None
    }

    /// The contiguous block that begins with an mbuf, and the mbuf behind it.
    fn block_from(&self, mbuf: u32) -> (Seq, Seq, u32) {
        let first = self.rx.get(mbuf);
        let (left, mut right, mut next) = (first.seq, first.end(), first.next);
        while next != NONE && self.rx.get(next).seq.le(right) {
            right = right.max(self.rx.get(next).end());
            next = self.rx.get(next).next;
        }
        (left, right, next)
    }
}

impl Connection {
    /// The peer's FIN is next in order: moves to the state that this means, and tells the application.
    #[inline(always)]
    pub(crate) fn take_fin<E: Events>(&mut self, events: &mut E) {
        self.flags.remove(Flags::FIN_WAITS);
        self.flags.insert(Flags::FIN_RECEIVED | Flags::ACK_NOW);
        self.rcv_nxt += 1;
        self.rcv_adv = self.rcv_adv.max(self.rcv_nxt);
        self.enter(match self.state {
            State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            // Our FIN is acknowledged: `check_closed` sees both and moves to TIME-WAIT.
            state => state,
        });
        if !self.flags.contains(Flags::RELEASED) {
            events.push(Event::EndOfStream {
                cookie: self.cookie,
            });
        }
    }

    /// The next acknowledgement is to say that this came twice (RFC 2883).
    pub(crate) fn report_duplicate(&mut self, left: Seq, right: Seq) {
        if self.flags.contains(Flags::SACK) && left.lt(right) {
            self.dsack = (left, right);
            self.slow.insert(Slow::REPORT);
        }
    }

    fn take_report(&mut self) -> Option<(Seq, Seq)> {
        let is_due = self.slow.contains(Slow::REPORT);
        self.slow.remove(Slow::REPORT);
        is_due.then_some(self.dsack)
    }

    /// The fast path is open only while nothing waits behind a gap.
    pub(crate) fn update_out_of_order(&mut self) {
        let waits = self.ofo_head != NONE || self.flags.contains(Flags::FIN_WAITS);
        self.slow.set(Slow::OUT_OF_ORDER, waits);
    }
}
