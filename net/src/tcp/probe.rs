//! TLP (RFC 8985 7): when nothing is heard for two round trips, a segment is sent that draws an
//! acknowledgement, long before the retransmission timer would start over from one segment.
//!
//! A tail that has arrived is not repeated because its receiver takes its time. Not only a single
//! segment waits for more to acknowledge: while its application has not read what would widen the
//! window, a stock receiver holds back the answer to any number of them, up to the delay of its timer.
//! So the probe that repeats a segment leaves time for that; one of new data, which is no repetition
//! whatever has become of the tail, does not, nor one in recovery: who has a hole answers at once.
//!
//! Three things go beyond the standard, since on a network of microseconds every silence that ends by a
//! timer costs a thousand round trips. A probe of new data may be the odd segment that a receiver's
//! delayed acknowledgement waits with, so another one follows, as with limited transmit (RFC 3042),
//! and then a repetition of the last segment, which is answered at once. And recovery is probed as well,
//! with its first hole: the retransmission may be lost, or what is sacked afterwards may not be
//! reported, since stock receivers put such reports together.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow, State};
use crate::tcp::output::Attempt;
use crate::tcp::undo::News;
use crate::wheel::NEVER;
use ix_hal::{Instant, Transmit};

/// Most that a peer may add to a round trip by delaying its acknowledgement, in nanoseconds
/// (TLP.max_ack_delay of RFC 8985 7.2; stock peers use 40 ms).
const MAX_ACK_DELAY: u64 = 50_000_000;
/// Least time before a probe, in units of 1.024 us: two ticks of the wheel.
const MIN_PROBE_TIMEOUT: u32 = 32;

/// What peers are expected to add to a round trip by delaying their acknowledgements, in nanoseconds,
/// where the retransmission timeout is at least `rto_min`: who configures a shorter one says that they
/// delay less.
pub(crate) fn max_ack_delay(rto_min: u64) -> u64 {
    MAX_ACK_DELAY.min(rto_min / 2)
}

impl Engine {
    /// After something was sent or acknowledged: a probe is due if nothing is heard (RFC 8985 7.2).
    #[inline]
    pub(crate) fn schedule_probe(&mut self, now: Instant, index: u32) {
        if self.connections[index].expect_probe(now, self.local.max_ack_delay) {
            self.rearm_timer(now, index);
        }
    }

    /// The same for a connection that the fast path sent on, that has no timer running, and whose peer
    /// may have to answer sooner than timers wait in the wheel's queue ([`crate::wheel::WAIT`]). What is sent
    /// there while one is running gets its probe when that goes off, which is as soon: the deadline of a
    /// probe then starts from the last sign of life.
    #[inline(never)]
    pub(crate) fn watch_tail(&mut self, now: Instant, index: u32) {
        self.connections[index].expect_probe_of_tail(self.local.max_ack_delay);
        self.rearm_timer(now, index);
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
        let due = connection.probe_is_due(self.local.max_ack_delay);
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
        let new_data = self.connections[index].new_data_to_probe_with();
        let is_sent = match new_data {
            Some(len) => self.send_new_data(cx, index, len) == Attempt::Sent,
            None => {
                let last = self.last_sent_record(index);
                last != NONE && self.retransmit_probe(cx, index, last)
            }
        };
        if !is_sent {
            return;
        }
        let connection = &mut self.connections[index];
        let is_second = connection.flags.contains(Flags::PROBED);
        let is_repetition = new_data.is_none();
        connection.flags.set(Flags::PROBED_TWICE, is_second);
        connection.flags.set(Flags::PROBE_REPEATS, is_repetition);
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
        connection.flags.remove(Flags::PROBES);
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
    pub(crate) fn expect_probe(&mut self, now: Instant, max_ack_delay: u64) -> bool {
        let deadline = now.0 + self.probe_timeout(max_ack_delay);
        let is_sooner = deadline < self.rack_deadline && self.may_probe();
        if is_sooner {
            self.rack_deadline = deadline;
        }
        is_sooner
    }

    /// Sets when a probe of what the fast path has sent is due, unless one is expected already.
    pub(crate) fn expect_probe_of_tail(&mut self, max_ack_delay: u64) {
        let has_tail = self.in_flight() != 0 && !self.is_queue_empty();
        if self.rack_deadline == NEVER && has_tail && self.may_probe() {
            self.rack_deadline = self.probe_is_due(max_ack_delay);
        }
    }

    /// When to probe if nothing is heard: every acknowledgement and every segment sent starts the time
    /// anew.
    fn probe_is_due(&self, max_ack_delay: u64) -> u64 {
        self.heard_at.max(self.sent_at) + self.probe_timeout(max_ack_delay)
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
    fn probe_timeout(&self, max_ack_delay: u64) -> u64 {
        let mut timeout = u64::from((self.srtt8 >> 2).max(MIN_PROBE_TIMEOUT)) << 10;
        let is_repetition =
            self.recovery == Recovery::Open && self.new_data_to_probe_with().is_none();
        if is_repetition || self.in_flight() <= u32::from(self.mss) {
            timeout += max_ack_delay;
        }
        timeout.min(self.rto)
    }

    /// Bytes of new data that a probe of a tail may carry, if there are any: at most two probes do.
    fn new_data_to_probe_with(&self) -> Option<u32> {
        if self.send_cursor == NONE || self.flags.contains(Flags::PROBED_TWICE) {
            return None;
        }
        let len = (self.snd_end - self.snd_nxt).min(u32::from(self.mss));
        let window = self.snd_wnd.saturating_sub(self.in_flight());
        (len <= window).then_some(len)
    }
}
