//! RACK (RFC 8985): loss found by time. Only with SACK; `probe` does the rest of that standard.
//!
//! A record is lost when one that was sent later has been delivered, and a reordering window has
//! passed since. Unlike counting duplicates this also finds lost retransmissions and short tails.
//! The send time of every record is in the record; bookkeeping happens only off the fast path,
//! since without SACK blocks there is nothing to compare.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::records::{SendFlags, SendRecord};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery};
use crate::tcp::input::micros;
use crate::wheel::NEVER;
use ix_hal::{Instant, Transmit};

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

    pub(crate) fn arm_rack(&mut self, index: u32, deadline: u64) {
        let connection = &mut self.connections[index];
        connection.rack_deadline = deadline;
        if deadline < connection.timer_at {
            self.arm_exactly(index, deadline);
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
            self.prr_deliver(index, 0, false);
            self.mark_dirty(index);
            return;
        }
        self.probe_timeout(cx, index);
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
        if !is_repeated && self.recovery == Recovery::Doubt && record.seq.lt(self.recover) {
            self.recovery = Recovery::Unfounded;
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
}
