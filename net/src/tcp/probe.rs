//! TLP (RFC 8985 7): when nothing is heard for two round trips, a segment is sent that draws an
//! acknowledgement, long before the retransmission timer would start over from one segment.
//!
//! Two things go beyond the standard, since on a network of microseconds every silence that ends by a
//! timer costs a thousand round trips. A probe of new data may be the odd segment that a receiver's
//! delayed acknowledgement waits with, so a second probe repeats the last segment, which is answered
//! at once. And recovery is probed as well, with its first hole: the retransmission may be lost, or
//! what is sacked afterwards may not be reported, since stock receivers put such reports together.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow, State};
use crate::tcp::output::Attempt;
use crate::tcp::undo::News;
use ix_hal::{Instant, Transmit};

/// What a peer may add to the round trip of a single segment by delaying its acknowledgement, in
/// units of 1.024 us (RFC 8985 7.2; stock peers use 40 ms).
const MAX_ACK_DELAY: u32 = 50_000;
/// Least time before a probe, in the same units: two ticks of the wheel.
const MIN_PROBE_TIMEOUT: u32 = 32;

impl Engine {
    /// After something was sent or acknowledged: a probe is due if nothing is heard (RFC 8985 7.2).
    #[inline]
    pub(crate) fn schedule_probe(&mut self, now: Instant, index: u32) {
        if self.connections[index].expect_probe(now) {
            self.rearm_timer(index);
        }
    }

    /// A probe may be due.
    pub(crate) fn probe_timeout<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let connection = &self.connections[index];
        if !connection.may_probe() || connection.in_flight() == 0 {
            return;
        }
        // Every acknowledgement and every segment sent starts the time anew.
        let quiet_since = connection.heard_at.max(connection.sent_at);
        let due = quiet_since + connection.probe_timeout();
        if due > cx.now.0 {
            self.arm_rack(index, due);
        } else if connection.recovery == Recovery::Open {
            self.send_tail_probe(cx, index);
        } else {
            self.probe_recovery(cx.now, index);
        }
    }

    /// Sends new data, or else the last segment again, to draw an acknowledgement (RFC 8985 7.3).
    fn send_tail_probe<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &self.connections[index];
        let unsent = connection.snd_end - connection.snd_nxt;
        let window = connection.snd_wnd.saturating_sub(connection.in_flight());
        let len = unsent.min(u32::from(connection.mss));
        let is_first = !connection.flags.contains(Flags::PROBED);
        let has_new = is_first && connection.send_cursor != NONE && len <= window;
        let is_sent = if has_new {
            self.send_new_data(cx, index, len) == Attempt::Sent
        } else {
            let last = self.last_sent_record(index);
            last != NONE && self.retransmit_probe(cx, index, last)
        };
        if !is_sent {
            return;
        }
        let connection = &mut self.connections[index];
        connection.flags.set(Flags::PROBE_REPEATS, !has_new);
        connection.tlp_end = connection.snd_nxt;
        self.probed(cx.now, index);
    }

    /// Sends the first segment that is not known to have arrived again, whether it counts as lost
    /// already or not.
    fn probe_recovery(&mut self, now: Instant, index: u32) {
        self.mark_first_lost(index);
        let connection = &mut self.connections[index];
        connection
            .flags
            .insert(Flags::RETRANSMIT_NOW | Flags::PROBE_REPEATS);
        // Any progress allows another one.
        connection.tlp_end = connection.snd_una + 1;
        self.probed(now, index);
        self.mark_dirty(index);
    }

    fn probed(&mut self, now: Instant, index: u32) {
        self.counters.tcp_loss_probes += 1;
        let connection = &mut self.connections[index];
        connection.flags.insert(Flags::PROBED);
        // The answer needs a closer look.
        connection.slow.insert(Slow::RECOVERY);
        self.arm_rto(now, index);
        self.schedule_probe(now, index);
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

    /// What an acknowledgement says about a probe (RFC 8985 7.4.2): if it repeated a segment, and the
    /// peer goes on without having reported a duplicate, it has repaired a loss, to which congestion
    /// control must react.
    pub(crate) fn check_probe(&mut self, index: u32, news: &News) {
        let (ack, is_news) = (news.ack, news.acked != 0);
        let has_duplicate = news.duplicate.is_some();
        let connection = &mut self.connections[index];
        if !connection.flags.contains(Flags::PROBED) || ack.lt(connection.tlp_end) {
            return;
        }
        let is_repeat = connection.flags.contains(Flags::PROBE_REPEATS);
        let is_tail = connection.recovery == Recovery::Open;
        if is_repeat && is_tail && ack == connection.tlp_end && is_news && !has_duplicate {
            // Both the segment and its repetition may have arrived.
            return;
        }
        connection
            .flags
            .remove(Flags::PROBED | Flags::PROBE_REPEATS);
        let has_repaired = is_repeat && is_tail && is_news && !has_duplicate;
        if has_repaired {
            // What was under way when it was lost is acknowledged by now.
            connection.reduce_for_loss(connection.cwnd);
            connection.cwnd = connection.cwnd.min(connection.ssthresh);
            self.counters.tcp_loss_probe_recoveries += 1;
        }
    }
}

impl Connection {
    /// Sets when a probe is due, if that is sooner than what its timer stands for; whether it was. The
    /// caller sees to the connection's timer.
    #[inline]
    pub(crate) fn expect_probe(&mut self, now: Instant) -> bool {
        let deadline = now.0 + self.probe_timeout();
        let is_sooner = deadline < self.rack_deadline && self.may_probe();
        if is_sooner {
            self.rack_deadline = deadline;
        }
        is_sooner
    }

    /// Whether a probe makes sense now.
    fn may_probe(&self) -> bool {
        // Without a loss but with something sacked the reordering window ends the silence.
        let is_silent = self.recovery != Recovery::Open || self.sacked_bytes == 0;
        is_silent
            && self.backoff == 0
            && self.srtt8 != 0
            && self.state >= State::Established
            && self.flags & (Flags::SACK | Flags::PROBE_REPEATS) == Flags::SACK
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
