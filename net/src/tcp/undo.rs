//! Recoveries that were not called for: what was taken for lost was only late. Four things tell:
//! - an acknowledgement that echoes a timestamp from before anything was sent again (RFC 3522);
//! - reports of duplicates for everything that was sent again (RFC 3708);
//! - after a timeout, the delivery of something that was not sent again (F-RTO, RFC 5682), for which
//!   new data is sent, rather than the rest of what counts as lost, until that is decided.
//!
//! Then the window is what it was before (RFC 4015), and nothing counts as lost any more.

use crate::engine::Engine;
use crate::records::{NONE, SendFlags};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery};
use crate::tcp::options::Options;
use ix_hal::Instant;

/// What an acknowledgement brings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct News {
    /// Acknowledgement number.
    pub ack: Seq,
    /// New data that it acknowledges, in bytes.
    pub acked: u32,
    /// The duplicate that it reports.
    pub duplicate: Option<(Seq, Seq)>,
}

impl Engine {
    /// Ends a recovery that an acknowledgement shows to be unfounded. It may be over already: reports
    /// of duplicates come late.
    pub(crate) fn undo_if_unfounded(
        &mut self,
        now: Instant,
        index: u32,
        news: &News,
        options: &Options,
    ) {
        let connection = &mut self.connections[index];
        let Some(episode) = self.episodes.get_mut(connection) else {
            self.settle_doubt(index, news);
            return;
        };
        if let Some((left, right)) = news.duplicate
            && left.ge(episode.first)
            && right.le(episode.last)
        {
            episode.reported = episode.reported.saturating_add(right - left);
        }
        let is_complete = match connection.recovery {
            Recovery::Open => false,
            Recovery::Fast => news.ack.ge(episode.last),
            // The first one that acknowledges anything.
            _ => news.ack - news.acked == episode.first,
        };
        let is_repeated = episode.retransmitted != 0;
        let is_early = match options.timestamps {
            Some((_, echo)) if connection.flags.contains(Flags::TIMESTAMPS) => {
                (echo.wrapping_sub(episode.stamp) as i32) < 0
            }
            _ => false,
        };
        let is_reported = is_repeated && episode.reported >= episode.retransmitted;
        if connection.recovery == Recovery::Unfounded {
            self.counters.tcp_spurious_timeouts += 1;
        } else if is_repeated && is_complete && is_early && news.acked != 0 {
            if connection.recovery == Recovery::Fast {
                self.counters.tcp_full_undos += 1;
            } else {
                self.counters.tcp_spurious_timeouts += 1;
                connection.take_late_rtt(now, options, self.local.rto_min);
            }
        } else if is_reported {
            self.counters.tcp_dsack_undos += 1;
        } else {
            self.settle_doubt(index, news);
            return;
        }
        self.undo(index);
    }

    /// After a timeout: what to make of an acknowledgement that does not show it to be unfounded (RFC
    /// 5682 2.1). Progress by what was sent again leaves it open as long as there was no new data.
    fn settle_doubt(&mut self, index: u32, news: &News) {
        let connection = &mut self.connections[index];
        let is_answer = news.acked == 0 || connection.snd_nxt.gt(connection.recover);
        let is_doubtful = matches!(connection.recovery, Recovery::Doubt | Recovery::Unfounded);
        if is_doubtful && is_answer {
            connection.recovery = Recovery::Timeout;
        }
    }

    /// Whether what a timeout has marked as lost is to wait for what new data brings to light.
    pub(crate) fn is_withheld(&mut self, index: u32) -> bool {
        let connection = &mut self.connections[index];
        if connection.recovery != Recovery::Doubt
            || connection.flags.contains(Flags::RETRANSMIT_NOW)
        {
            return false;
        }
        let room = connection.snd_wnd.saturating_sub(connection.in_flight());
        let can_send = connection.send_cursor != NONE && room >= u32::from(connection.mss);
        let has_sent = connection.snd_nxt.gt(connection.recover);
        if !can_send && !has_sent {
            connection.recovery = Recovery::Timeout;
        }
        can_send || has_sent
    }

    fn undo(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        let Some(episode) = self.episodes.get_mut(connection).copied() else {
            return;
        };
        self.episodes.end(connection);
        connection.cwnd = connection.cwnd.max(episode.cwnd);
        connection.ssthresh = connection.ssthresh.max(episode.ssthresh);
        connection.restore_w_max(episode.w_max);
        connection.forgive_path();
        // What came late was overtaken: RACK is to wait for that.
        connection.flags.insert(Flags::REORDERING_SEEN);
        connection.flags.remove(Flags::RETRANSMIT_NOW);
        connection.recovery = Recovery::Open;
        connection.duplicate_acks = 0;
        connection.lost_bytes = 0;
        let mut at = connection.send_head;
        while at != connection.send_cursor {
            let record = self.send_records.get_mut(at);
            record.flags.remove(SendFlags::LOST);
            at = record.next;
        }
    }
}

impl Connection {
    /// A timeout was too early: its round trip is a measurement after all (RFC 4015 3.3).
    fn take_late_rtt(&mut self, now: Instant, options: &Options, rto_min: u64) {
        let Some((_, echo)) = options.timestamps else {
            return;
        };
        let sample = self.timestamp(now).wrapping_sub(echo).min(1 << 16) << 10;
        let (srtt8, rttvar4) = (self.srtt8, self.rttvar4);
        self.srtt8 = 0;
        self.take_rtt(sample, 0);
        self.srtt8 = self.srtt8.max(srtt8);
        self.rttvar4 = self.rttvar4.max(rttvar4);
        self.rto = self.timeout().max(rto_min);
    }
}
