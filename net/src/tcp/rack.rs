//! RACK-TLP (RFC 8985): loss found by time, and a probe for a lost tail. Only with SACK.
//!
//! A record is lost when one that was sent later has been delivered, and a reordering window has
//! passed since. Unlike counting duplicates this also finds lost retransmissions and short tails.
//! The send time of every record is in the record; bookkeeping happens only off the fast path,
//! since without SACK blocks there is nothing to compare.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::records::{NONE, SendFlags, SendRecord};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow, State};
use crate::tcp::input::micros;
use crate::wheel::NEVER;
use ix_hal::{Instant, Transmit};

/// What a peer may add to the round trip of a single segment by delaying its acknowledgement, in
/// units of 1.024 us (RFC 8985 7.2; stock peers use 40 ms).
const MAX_ACK_DELAY: u32 = 50_000;
/// Least time before a probe, in the same units: two ticks of the wheel.
const MIN_PROBE_TIMEOUT: u32 = 32;
/// Segments sacked that end the patience with reordering (RFC 8985 6.2.1).
const DUP_THRESH: u32 = 3;
/// Recoveries without a duplicate report after which the window shrinks back (RFC 8985 6.2.1).
const REO_WND_PERSIST: u8 = 16;
/// Most quarters of a round trip that the reordering window takes.
const REO_WND_MULT_MAX: u8 = 20;

impl Engine {
    /// Takes note of what `ack` newly covers, before it is released.
    pub(crate) fn rack_acknowledged(&mut self, index: u32, ack: Seq, now: u32) {
        let connection = &mut self.connections[index];
        let mut at = connection.send_head;
        while at != connection.send_cursor {
            let mut record = *self.send_records.get(at);
            if record.seq.ge(ack) {
                break;
            }
            // Of a record of several segments the first ones may be all.
            record.len = record.len.min(ack - record.seq);
            if !record.flags.contains(SendFlags::SACKED) {
                connection.rack_delivered(&record, now);
            }
            at = record.next;
        }
    }

    /// Marks what RACK takes for lost, and arms the timer for what may become so (RFC 8985 6.2
    /// step 5).
    pub(crate) fn rack_detect_loss(&mut self, now: Instant, index: u32) {
        let connection = &mut self.connections[index];
        if connection.sacked_bytes == 0 && connection.recovery == Recovery::Open {
            return;
        }
        let patience = connection.rack_rtt + connection.reordering_window();
        let mut longest = 0;
        let mut at = connection.send_head;
        while at != connection.send_cursor {
            let record = self.send_records.get_mut(at);
            at = record.next;
            if record.flags.intersects(SendFlags::SACKED | SendFlags::LOST)
                || !connection.rack_sent_before(record)
            {
                continue;
            }
            let age = micros(now).wrapping_sub(record.sent_at);
            if age >= patience {
                record.flags.insert(SendFlags::LOST);
                connection.lost_bytes += record.len;
            } else {
                longest = longest.max(patience - age);
            }
        }
        if longest != 0 {
            connection.flags.insert(Flags::REORDER_TIMER);
            self.arm_rack(index, now.0 + (u64::from(longest) << 10));
        } else if connection.flags.contains(Flags::REORDER_TIMER) {
            connection.flags.remove(Flags::REORDER_TIMER);
            connection.rack_deadline = NEVER;
        }
    }

    /// After new data was sent: a probe is due if nothing is heard (RFC 8985 7.2).
    #[inline]
    pub(crate) fn schedule_probe(&mut self, now: Instant, index: u32) {
        let connection = &self.connections[index];
        let deadline = now.0 + connection.probe_timeout();
        if deadline < connection.rack_deadline && connection.may_probe() {
            self.arm_rack(index, deadline);
        }
    }

    fn arm_rack(&mut self, index: u32, deadline: u64) {
        let connection = &mut self.connections[index];
        connection.rack_deadline = deadline;
        if deadline < connection.timer_at {
            self.arm_timer(index, deadline);
        }
    }

    /// The reordering window is over, or a probe is due.
    pub(crate) fn rack_timeout<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let connection = &mut self.connections[index];
        connection.rack_deadline = NEVER;
        if connection.flags.contains(Flags::REORDER_TIMER) {
            connection.flags.remove(Flags::REORDER_TIMER);
            self.rack_detect_loss(cx.now, index);
            self.recover_if_lost(index);
            self.mark_dirty(index);
            return;
        }
        if !connection.may_probe() || connection.in_flight() == 0 {
            return;
        }
        // Every acknowledgement and every segment sent starts the time anew.
        let quiet_since = connection.heard_at.max(connection.sent_at);
        let due = quiet_since + connection.probe_timeout();
        if due > cx.now.0 {
            self.arm_rack(index, due);
            return;
        }
        self.send_tail_probe(cx, index);
    }

    /// Sends new data, or else the last segment again, to draw an acknowledgement (RFC 8985 7.3).
    fn send_tail_probe<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &self.connections[index];
        let unsent = connection.snd_end - connection.snd_nxt;
        let window = connection.snd_wnd.saturating_sub(connection.in_flight());
        let len = unsent.min(u32::from(connection.mss));
        let has_new = connection.send_cursor != NONE && len <= window;
        let is_sent = if has_new {
            self.send_new_data(cx, index, len)
        } else {
            let last = self.last_sent_record(index);
            last != NONE && self.retransmit_probe(cx, index, last)
        };
        if !is_sent {
            return;
        }
        self.counters.tcp_loss_probes += 1;
        let connection = &mut self.connections[index];
        connection.flags.insert(Flags::PROBED);
        // The answer needs a closer look.
        connection.slow.insert(Slow::RECOVERY);
        connection.flags.set(Flags::PROBE_REPEATS, !has_new);
        connection.tlp_end = connection.snd_nxt;
        self.arm_rto(cx.now, index);
    }

    /// The sent record with the highest sequence number.
    fn last_sent_record(&self, index: u32) -> u32 {
        let connection = &self.connections[index];
        let mut last = NONE;
        let mut at = connection.send_head;
        while at != connection.send_cursor {
            last = at;
            at = self.send_records.get(at).next;
        }
        last
    }

    /// What an acknowledgement says about a probe: if it repeated a segment and no duplicate is
    /// reported, the probe has repaired a loss, to which congestion control must react (RFC 8985
    /// 7.4).
    pub(crate) fn rack_check_probe(&mut self, index: u32, ack: Seq, has_duplicate: bool) {
        let connection = &mut self.connections[index];
        if !connection.flags.contains(Flags::PROBED) || ack.lt(connection.tlp_end) {
            return;
        }
        let repaired = connection.flags.contains(Flags::PROBE_REPEATS) && !has_duplicate;
        connection
            .flags
            .remove(Flags::PROBED | Flags::PROBE_REPEATS);
        if repaired && connection.recovery == Recovery::Open {
            connection.reduce_for_loss();
            connection.cwnd = connection.cwnd.min(connection.ssthresh);
            self.counters.tcp_loss_probe_recoveries += 1;
        }
    }
}

impl Connection {
    /// A record was delivered: keeps the latest send time of all delivered ones (RFC 8985 6.2
    /// steps 1 to 3).
    pub(crate) fn rack_delivered(&mut self, record: &SendRecord, now: u32) {
        let end = record.seq + record.len;
        let rtt = now.wrapping_sub(record.sent_at);
        let is_repeated = record.flags.contains(SendFlags::RETRANSMITTED);
        // Sooner than a round trip: this acknowledges the first sending, not the second.
        if is_repeated && rtt < self.srtt8 >> 4 {
            return;
        }
        if end.gt(self.rack_fack) {
            self.rack_fack = end;
        } else if !is_repeated {
            self.flags.insert(Flags::REORDERING_SEEN);
        }
        let is_later = (record.sent_at.wrapping_sub(self.rack_sent_at) as i32) > 0
            || (record.sent_at == self.rack_sent_at && end.gt(self.rack_end));
        if is_later || self.rack_rtt == 0 {
            self.rack_sent_at = record.sent_at;
            self.rack_end = end;
            self.rack_rtt = rtt.max(1);
        }
    }

    /// Whether a record was sent before the latest one that is known to be delivered.
    fn rack_sent_before(&self, record: &SendRecord) -> bool {
        let age = record.sent_at.wrapping_sub(self.rack_sent_at) as i32;
        age < 0 || (age == 0 && (record.seq + record.len).lt(self.rack_end))
    }

    /// How long to wait for a reordered segment (RFC 8985 6.2 step 4).
    fn reordering_window(&self) -> u32 {
        let is_certain = self.recovery != Recovery::Open
            || self.sacked_bytes >= DUP_THRESH * u32::from(self.mss);
        if !self.flags.contains(Flags::REORDERING_SEEN) && is_certain {
            return 0;
        }
        let srtt = self.srtt8 >> 3;
        let quarters = u32::from(self.reo_wnd_mult.max(1));
        (quarters * (srtt >> 2)).min(srtt)
    }

    /// The peer reported a duplicate: what was taken for lost was only late. Widens the window,
    /// once per round trip.
    pub(crate) fn rack_duplicate_reported(&mut self, ack: Seq) {
        if ack.ge(self.dsack_round) {
            self.dsack_round = self.snd_nxt;
            self.reo_wnd_mult = (self.reo_wnd_mult.max(1) + 1).min(REO_WND_MULT_MAX);
            self.reo_wnd_persist = REO_WND_PERSIST;
        }
    }

    /// A recovery is over: without further reports the window shrinks back in the end.
    pub(crate) fn rack_recovered(&mut self) {
        self.reo_wnd_persist = self.reo_wnd_persist.saturating_sub(1);
        if self.reo_wnd_persist == 0 {
            self.reo_wnd_mult = 1;
        }
    }

    /// Whether a tail probe makes sense now.
    fn may_probe(&self) -> bool {
        self.recovery == Recovery::Open
            && self.sacked_bytes == 0
            && self.srtt8 != 0
            && self.state >= State::Established
            && self.flags & (Flags::SACK | Flags::PROBED) == Flags::SACK
            && !self.slow.contains(Slow::PERSIST)
    }

    /// Time after which to probe, in nanoseconds (RFC 8985 7.2).
    fn probe_timeout(&self) -> u64 {
        let mut timeout = (self.srtt8 >> 2).max(MIN_PROBE_TIMEOUT);
        if self.in_flight() <= u32::from(self.mss) {
            timeout += MAX_ACK_DELAY;
        }
        (u64::from(timeout) << 10).min(self.rto)
    }
}
