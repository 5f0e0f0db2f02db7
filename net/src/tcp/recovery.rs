//! Loss: what acknowledgements say about it, and sending again (RFC 5681, 6582). With SACK, `rack`
//! decides what is lost.
//! What is known of each piece of data is in `scoreboard`.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::records::{NONE, SendFlags, SendRecord};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow};
use crate::tcp::input::micros;
use crate::tcp::options::Options;
use crate::tcp::undo::News;
use crate::wheel::NEVER;
use crate::wire::control;
use ix_hal::{Fragment, Instant, MAX_FRAGMENTS, Transmit};

/// Duplicate acknowledgements that make a loss (RFC 5681 3.2).
const DUP_THRESH: u8 = 3;

impl Engine {
    /// Takes in an acceptable acknowledgement of a connection in a synchronized state.
    pub(crate) fn process_ack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        ack: Seq,
        is_duplicate: bool,
        options: &Options,
    ) {
        let has_sack = self.connections[index].flags.contains(Flags::SACK);
        let sacked_before = self.connections[index].sacked_bytes;
        let acked = ack - self.connections[index].snd_una;
        let mut news = News {
            ack,
            acked,
            duplicate: None,
        };
        let mut newly_sacked = false;
        if has_sack {
            news.duplicate = self.duplicate_reported(index, options.sack(), ack);
            // In the order of the stream: what lies above is no sign of reordering.
            self.rack_acknowledged(index, ack, micros(cx.now));
            newly_sacked = self.mark_sacked(index, options.sack(), micros(cx.now));
        }
        if acked != 0 {
            self.new_data_acknowledged(cx, index, ack);
            self.connections[index].after_progress(acked);
        } else if is_duplicate || newly_sacked {
            self.duplicate_acknowledged(index);
        }
        self.undo_if_unfounded(cx.now, index, &news, options);
        self.leave_recovery_if_over(index, ack);
        if has_sack {
            self.check_probe(index, &news);
            self.look_for_loss_by_time(cx.now, index, acked, sacked_before);
            self.schedule_probe(cx.now, index);
        } else {
            self.look_for_loss(index, ack, acked != 0);
        }
    }

    /// The duplicate that the peer reports, if any.
    fn duplicate_reported(
        &mut self,
        index: u32,
        blocks: &[(Seq, Seq)],
        ack: Seq,
    ) -> Option<(Seq, Seq)> {
        let duplicate = reported_duplicate(blocks, ack)?;
        self.counters.tcp_dsack_received += 1;
        let connection = &mut self.connections[index];
        // That of a probe is no sign of reordering.
        if !connection.flags.contains(Flags::PROBE_REPEATS) {
            connection.rack_duplicate_reported(ack);
        }
        Some(duplicate)
    }

    fn duplicate_acknowledged(&mut self, index: u32) {
        self.counters.tcp_duplicate_acks += 1;
        let connection = &mut self.connections[index];
        connection.duplicate_acks = connection.duplicate_acks.saturating_add(1);
        if !connection.flags.contains(Flags::SACK) {
            let most = connection.in_flight() - connection.lost_bytes;
            let more = connection.sacked_bytes + u32::from(connection.mss);
            connection.sacked_bytes = more.min(most);
        }
    }

    /// With SACK: enters fast recovery if something is lost, and says what it may send for what has
    /// been delivered, `acked` bytes and what is sacked now and was not before.
    fn look_for_loss_by_time(&mut self, now: Instant, index: u32, acked: u32, sacked_before: u32) {
        let lost_before = self.connections[index].lost_bytes;
        self.rack_detect_loss(now, index);
        self.recover_if_lost(index);
        let connection = &self.connections[index];
        let delivered = (acked + connection.sacked_bytes).saturating_sub(sacked_before);
        let is_safe = acked != 0 && connection.lost_bytes <= lost_before;
        self.prr_deliver(index, delivered, is_safe);
    }

    fn leave_recovery_if_over(&mut self, index: u32, ack: Seq) {
        let connection = &self.connections[index];
        if connection.recovery != Recovery::Open && ack.ge(connection.recover) {
            self.leave_recovery(index);
        }
    }

    /// With SACK: enters fast recovery if something is lost.
    pub(crate) fn recover_if_lost(&mut self, index: u32) {
        let connection = &self.connections[index];
        if connection.recovery == Recovery::Open && connection.lost_bytes != 0 {
            self.enter_fast_recovery(index);
        }
    }

    /// Without SACK: enters or continues recovery by counting duplicates.
    fn look_for_loss(&mut self, index: u32, ack: Seq, is_progress: bool) {
        let connection = &self.connections[index];
        if connection.recovery == Recovery::Fast && is_progress {
            // A partial acknowledgement: the next hole (RFC 6582 3.2 step 3).
            self.mark_first_lost(index);
            self.connections[index].flags.insert(Flags::RETRANSMIT_NOW);
        }
        let connection = &self.connections[index];
        // Duplicates of what a timeout already resent must not start another recovery (RFC 6582
        // 4.1).
        if connection.recovery == Recovery::Open
            && connection.duplicate_acks >= DUP_THRESH
            && ack.gt(connection.recover)
            && connection.in_flight() != 0
        {
            self.enter_fast_recovery(index);
        }
    }

    fn enter_fast_recovery(&mut self, index: u32) {
        self.counters.tcp_fast_recoveries += 1;
        let connection = &mut self.connections[index];
        self.episodes.begin(connection);
        // An echoed mark may have made it smaller in this window already (RFC 3168 6.1.2).
        if !connection.is_reduced_for_ecn() {
            connection.reduce_for_loss(connection.in_flight());
        }
        connection.cwnd = connection.ssthresh;
        connection.cwnd_credit = 0;
        connection.recover = connection.snd_nxt;
        connection.recovery = Recovery::Fast;
        connection.slow.insert(Slow::RECOVERY);
        connection.flags.insert(Flags::RETRANSMIT_NOW);
        let has_sack = connection.flags.contains(Flags::SACK);
        if connection.lost_bytes == 0 {
            self.mark_first_lost(index);
        }
        if has_sack {
            self.prr_begin(index);
        }
    }

    fn leave_recovery(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.recovery == Recovery::Fast {
            connection.cwnd = connection.ssthresh;
        }
        connection.rack_recovered();
        connection.recovery = Recovery::Open;
        connection.duplicate_acks = 0;
        connection.flags.remove(Flags::RETRANSMIT_NOW);
        if !connection.flags.contains(Flags::SACK) {
            connection.sacked_bytes = 0;
        }
        self.doubt_black_hole(index);
    }

    /// Sends lost records again, as far as the congestion window allows; `false` if the TX ring
    /// filled up.
    pub(crate) fn retransmit_lost<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        if self.is_withheld(index) {
            return true;
        }
        let mut at = self.connections[index].send_head;
        loop {
            let connection = &self.connections[index];
            if connection.lost_bytes == 0 {
                return true;
            }
            while at != connection.send_cursor
                && !self.send_records.get(at).flags.contains(SendFlags::LOST)
            {
                at = self.send_records.get(at).next;
            }
            if at == connection.send_cursor {
                return true;
            }
            let len = self.send_records.get(at).len.min(u32::from(connection.mss));
            let may_send = connection.pipe() + len <= connection.cwnd
                || connection.flags.contains(Flags::RETRANSMIT_NOW);
            if !may_send {
                return true;
            }
            match self.retransmit_from(cx, index, at) {
                Some(next) => at = next,
                None => return false,
            }
        }
    }

    /// Sends one segment of lost records again, beginning with a given one. Returns the record
    /// behind it, or `None` if the TX ring is full.
    fn retransmit_from<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        first: u32,
    ) -> Option<u32> {
        let connection = &self.connections[index];
        let (cursor, mss) = (connection.send_cursor, u32::from(connection.mss));
        if self
            .send_records
            .get(first)
            .flags
            .contains(SendFlags::SIZE_PROBE)
        {
            self.confirm_black_hole(cx.now, index);
        }
        let seq = self.send_records.get(first).seq;
        let mut fragments = [Fragment::default(); MAX_FRAGMENTS];
        let (mut count, mut bytes, mut at) = (0, 0, first);
        while at != cursor && count < MAX_FRAGMENTS && bytes < mss {
            if !self.send_records.get(at).flags.contains(SendFlags::LOST) {
                break;
            }
            let left = mss - bytes;
            if self.send_records.get(at).len > left
                && (count != 0 || !self.cut_record(index, at, left))
            {
                break;
            }
            let record = self.send_records.get(at);
            fragments[count] = Fragment {
                bus: record.bus,
                len: record.len,
            };
            count += 1;
            bytes += record.len;
            at = record.next;
        }
        if count == 0 {
            return self.retransmit_uncut(cx, index, first);
        }
        let control = control::ACK | control::PSH;
        if !self.send_segment(cx, index, seq, control, &fragments[..count]) {
            return None;
        }
        self.mark_retransmitted(first, at, micros(cx.now));
        self.connections[index].lost_bytes -= bytes;
        self.sent_again(cx.now, index, bytes);
        Some(at)
    }

    /// Takes note that data was sent again.
    fn sent_again(&mut self, now: Instant, index: u32, bytes: u32) {
        self.counters.tcp_retransmits += 1;
        let connection = &mut self.connections[index];
        if connection.recovery == Recovery::Fast {
            self.counters.tcp_fast_retransmits += 1;
        }
        connection.flags.remove(Flags::RETRANSMIT_NOW);
        connection.sent_at = now.0;
        if let Some(episode) = self.episodes.get_mut(connection) {
            if episode.retransmitted == 0 {
                episode.stamp = connection.timestamp(now);
            }
            episode.retransmitted = episode.retransmitted.saturating_add(bytes);
        }
        if connection.rto_deadline == NEVER {
            self.arm_rto(now, index);
        }
        self.schedule_probe(now, index);
    }

    /// Sends the first segment of a lost record again that is longer and for the rest of which there
    /// is no record. It stays marked as lost: what is acknowledged of it makes it shorter.
    #[cold]
    fn retransmit_uncut<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        first: u32,
    ) -> Option<u32> {
        let SendRecord {
            bus, seq, flags, ..
        } = *self.send_records.get(first);
        let connection = &self.connections[index];
        let is_again = flags.contains(SendFlags::RETRANSMITTED);
        if is_again && !connection.flags.contains(Flags::RETRANSMIT_NOW) {
            // Once is enough until it is acknowledged, or the timer has gone off.
            return Some(connection.send_cursor);
        }
        let len = u32::from(connection.mss);
        let control = control::ACK | control::PSH;
        if !self.send_segment(cx, index, seq, control, &[Fragment { bus, len }]) {
            return None;
        }
        self.counters.tcp_uncut_retransmits += 1;
        let record = self.send_records.get_mut(first);
        record.flags.insert(SendFlags::RETRANSMITTED);
        record.sent_at = micros(cx.now);
        let next = record.next;
        self.sent_again(cx.now, index, len);
        Some(next)
    }

    /// Sends the last segment of a record again as a tail probe, although it is not taken for lost.
    pub(crate) fn retransmit_probe<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        record: u32,
    ) -> bool {
        let mss = u32::from(self.connections[index].mss);
        let len = self.send_records.get(record).len;
        let record = match self.cut_segments(index, record, len - 1) {
            true => self.send_records.get(record).next,
            false => record,
        };
        let SendRecord { bus, len, seq, .. } = *self.send_records.get(record);
        let is_one_segment = len <= mss;
        let control = control::ACK | control::PSH;
        if !is_one_segment || !self.send_segment(cx, index, seq, control, &[Fragment { bus, len }])
        {
            return false;
        }
        let next = self.send_records.get(record).next;
        self.mark_retransmitted(record, next, micros(cx.now));
        self.counters.tcp_retransmits += 1;
        true
    }

    fn mark_retransmitted(&mut self, first: u32, behind: u32, now: u32) {
        let mut at = first;
        while at != behind && at != NONE {
            let record = self.send_records.get_mut(at);
            record.flags.remove(SendFlags::LOST | SendFlags::SIZE_PROBE);
            record.flags.insert(SendFlags::RETRANSMITTED);
            record.sent_at = now;
            at = record.next;
        }
    }
}

/// The first SACK block, if it reports a duplicate: it lies below the acknowledgement, or within the
/// second block (RFC 2883 4).
fn reported_duplicate(blocks: &[(Seq, Seq)], ack: Seq) -> Option<(Seq, Seq)> {
    let is_report = match *blocks {
        [(left, right), ..] if right.le(ack) && left.lt(right) => true,
        [(left, right), (outer_left, outer_right), ..] => {
            left.lt(right) && outer_left.le(left) && right.le(outer_right)
        }
        _ => false,
    };
    is_report.then(|| blocks[0])
}

impl Connection {
    /// Some data was acknowledged: without SACK, that uses up segments counted as sacked.
    fn after_progress(&mut self, acked: u32) {
        if self.flags.contains(Flags::SACK) {
            return;
        }
        if self.recovery == Recovery::Open {
            self.sacked_bytes = 0;
            return;
        }
        let eaten = acked.saturating_sub(u32::from(self.mss));
        let most = self.in_flight() - self.lost_bytes;
        self.sacked_bytes = self.sacked_bytes.saturating_sub(eaten).min(most);
    }
}
