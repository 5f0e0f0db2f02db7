//! Segments that the fast path did not predict: RFC 9293 3.10.7 in its order.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow, State};
use crate::tcp::options::Options;
use crate::tcp::time_wait::TIME_WAIT;
use crate::wire::{Segment, control};
use ix_abi::{DeadReason, Error};
use ix_hal::{MbufId, Transmit};

/// After this long a timestamp is too old to compare with (RFC 7323 5.5): 24 days.
const PAWS_EXPIRY: u64 = 24 * 86_400 * 1_000_000_000;

/// Whether a segment's processing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Continue,
    Drop,
}

impl Engine {
    /// Takes in a segment by the book; `found` is what the flow table knows of its flow.
    #[inline(always)]
    pub(crate) fn unpredicted_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        found: Option<u32>,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) {
        let is_kept = match found {
            None => {
                self.known_stranger_arrives(cx, segment, None);
                false
            }
            Some(index) if index & TIME_WAIT != 0 => {
                self.time_wait_segment(cx, index, segment);
                false
            }
            Some(index) => match self.connections[index].state {
                State::Knocking => {
                    self.knocking_segment(cx, index, segment);
                    false
                }
                State::SynSent => {
                    self.syn_sent_segment(cx, index, segment);
                    false
                }
                _ => self.synchronized_segment(cx, index, mbuf, segment),
            },
        };
        if !is_kept {
            cx.pool.give(mbuf);
        }
    }

    /// `stranger_arrives` for the rarer ways there, which share one copy of the code.
    #[inline(never)]
    pub(crate) fn known_stranger_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
        iss_after: Option<Seq>,
    ) {
        self.stranger_arrives(cx, segment, iss_after);
    }

    /// A segment without a connection: LISTEN and CLOSED (RFC 9293 3.10.7.1, 3.10.7.2).
    /// `iss_after` is the last sequence number of a connection of the same flow in TIME-WAIT.
    #[inline(always)]
    pub(crate) fn stranger_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
        iss_after: Option<Seq>,
    ) {
        if segment.has(control::RST) {
            return;
        }
        if !self.is_listening(segment.key.local_port()) {
            self.reset_stranger(cx, segment);
        } else if segment.has(control::ACK) {
            if segment.has(control::SYN) || !self.cookie_returns(cx, segment) {
                self.reset_stranger(cx, segment);
            }
        } else if segment.has(control::SYN) && !segment.has(control::FIN) {
            self.syn_arrives(cx, segment, iss_after);
        } else {
            self.counters.tcp_no_ack += 1;
        }
    }

    /// A segment while the application has not answered the knock. Nothing was sent yet, so the
    /// peer can only repeat its SYN or give up; but if it has proven a cookie it takes the connection
    /// for open, and what it sends has to wait.
    fn knocking_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) {
        let connection = &self.connections[index];
        let is_proven = connection.flags.contains(Flags::PROVEN);
        if segment.has(control::RST) {
            let is_expected = is_proven || !segment.has(control::ACK);
            if !is_expected || segment.seq != connection.rcv_nxt {
                return;
            }
            self.fail_handshake(cx, index, Error::Reset, DeadReason::Reset);
        } else if segment.has(control::ACK) && !is_proven {
            self.reset_stranger(cx, segment);
        }
    }

    /// A segment in SYN-RECEIVED or any later state. Returns whether the mbuf was kept.
    #[inline(never)]
    fn synchronized_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) -> bool {
        self.connections[index].file_single(&mut self.send_records);
        let mut segment = *segment;
        // Nothing but the peer's SYN is in before it has answered ours.
        if self.connections[index].state == State::SynReceived
            && segment.has(control::SYN)
            && segment.seq + 1 == self.connections[index].rcv_nxt
        {
            if !segment.has(control::ACK) {
                // The SYN-ACK was lost: repeat it.
                self.mark_dirty(index);
                return false;
            }
            // The other half of a simultaneous open: only its ACK is news.
            segment.control &= !control::SYN;
            segment.seq += 1;
        }
        let options = Options::parse(segment.options);
        let accepted = self.check_timestamp(cx, index, &segment, &options) == Verdict::Continue
            && self.check_sequence(cx, index, &segment) == Verdict::Continue
            && self.check_reset_and_syn(cx, index, &segment) == Verdict::Continue;
        if !accepted {
            return false;
        }
        if !segment.has(control::ACK) {
            self.counters.tcp_no_ack += 1;
            return false;
        }
        let connection = &mut self.connections[index];
        connection.take_timestamp(&segment, &options, cx.now.0);
        connection.heard_at = cx.now.0;
        self.ecn_received(cx, index, &segment);
        if self.check_ack(cx, index, &segment, &options) == Verdict::Drop {
            return false;
        }
        let is_kept = segment.len != 0 && self.payload_arrives(cx, index, mbuf, &segment);
        // The connection may be gone, or reset because nobody wants its data any more.
        if self.connections[index].state > State::SynReceived {
            if segment.has(control::FIN) {
                self.fin_arrives(cx, index, segment.seq + u32::from(segment.len));
            }
            self.waiting_fin_may_be_due(cx, index);
            self.after_segment(cx, index);
        }
        is_kept
    }

    /// PAWS (RFC 7323 5.3).
    fn check_timestamp<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
        options: &Options,
    ) -> Verdict {
        let connection = &self.connections[index];
        if !connection.flags.contains(Flags::TIMESTAMPS) || segment.has(control::RST) {
            return Verdict::Continue;
        }
        let Some((value, _)) = options.timestamps else {
            self.counters.tcp_timestamp_missing += 1;
            return Verdict::Drop;
        };
        let is_old = (value.wrapping_sub(connection.ts_recent) as i32) < 0
            && cx.now.0.saturating_sub(connection.heard_at) < PAWS_EXPIRY;
        if is_old {
            self.counters.tcp_paws_rejected += 1;
            self.ack_now(cx, index);
            return Verdict::Drop;
        }
        Verdict::Continue
    }

    /// Whether any of the segment is in the receive window (RFC 9293 3.10.7.4, first).
    fn check_sequence<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) -> Verdict {
        let connection = &self.connections[index];
        let (start, edge) = (connection.rcv_nxt, connection.rcv_edge());
        let end = segment.seq + segment.sequence_len();
        let is_acceptable = if segment.sequence_len() == 0 {
            // One at the edge follows a full window of data that may have been lost, or refused since the
            // window has shut where the peer knows of a few bytes more: its ACK counts.
            start.le(segment.seq) && segment.seq.le(connection.rounded_edge())
        } else if start == edge {
            // Into a zero window only ACK and RST get through.
            segment.seq == edge
        } else {
            segment.seq.lt(edge) && start.lt(end)
        };
        if is_acceptable {
            return Verdict::Continue;
        }
        if end.le(start) {
            self.counters.tcp_duplicates += 1;
            let payload_end = segment.seq + u32::from(segment.len);
            self.connections[index].report_duplicate(segment.seq, payload_end);
        } else {
            self.counters.tcp_out_of_window += 1;
        }
        if !segment.has(control::RST) {
            self.ack_now(cx, index);
        }
        Verdict::Drop
    }

    /// RST and SYN inside the window (RFC 9293 3.10.7.4, second and fourth; RFC 5961 3 and 4).
    fn check_reset_and_syn<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) -> Verdict {
        if segment.has(control::RST) {
            if segment.seq == self.connections[index].rcv_nxt {
                self.reset_by_peer(cx, index);
            } else {
                self.challenge(cx, index);
            }
            return Verdict::Drop;
        }
        if segment.has(control::SYN) {
            self.counters.tcp_syn_challenges += 1;
            self.challenge(cx, index);
            return Verdict::Drop;
        }
        Verdict::Continue
    }

    /// A challenge acknowledgement (RFC 5961), within the rate limit.
    fn challenge<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        if self.challenge_limit.allows(cx.now) {
            self.counters.tcp_challenge_acks += 1;
            self.ack_now(cx, index);
        } else {
            self.counters.tcp_challenge_limited += 1;
        }
    }

    /// The ACK field (RFC 9293 3.10.7.4, fifth).
    fn check_ack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
        options: &Options,
    ) -> Verdict {
        let connection = &mut self.connections[index];
        let (una, nxt) = (connection.snd_una, connection.snd_nxt);
        if connection.state == State::SynReceived {
            if !(una.lt(segment.ack) && segment.ack.le(nxt)) {
                self.reset_stranger(cx, segment);
                return Verdict::Drop;
            }
            connection.take_window(segment.window);
            connection.snd_wl1 = segment.seq;
            connection.snd_wl2 = segment.ack;
            self.established(cx, index, segment.ack);
            return Verdict::Continue;
        }
        if segment.ack.gt(nxt) {
            self.counters.tcp_ack_unsent += 1;
            self.ack_now(cx, index);
            return Verdict::Drop;
        }
        if segment.ack.lt(una) {
            if segment.ack.lt(una - connection.max_snd_wnd) {
                self.counters.tcp_ack_too_old += 1;
                self.challenge(cx, index);
                return Verdict::Drop;
            }
            return Verdict::Continue;
        }
        let is_window_update = self.update_window(index, segment);
        let is_duplicate =
            segment.ack == una && segment.sequence_len() == 0 && !is_window_update && nxt != una;
        let acked = segment.ack - una;
        if segment.has(control::ECE) {
            self.connections[index].count_marked(segment.ack, acked);
        }
        self.process_ack(cx, index, segment.ack, is_duplicate, options);
        if segment.has(control::ECE) {
            self.ecn_echoed(index, segment.ack, acked);
        }
        Verdict::Continue
    }

    /// Takes over the segment's window unless the segment is older than the last that did; returns
    /// whether the window changed. The newer acknowledgement wins, unlike in RFC 9293 3.10.7.4: a
    /// retransmission that fills a hole acknowledges more, and the window it brings counts from there.
    fn update_window(&mut self, index: u32, segment: &Segment<'_>) -> bool {
        let connection = &mut self.connections[index];
        let (wl1, wl2) = (connection.snd_wl1, connection.snd_wl2);
        let is_newer = wl2.lt(segment.ack) || (wl2 == segment.ack && wl1.le(segment.seq));
        if !is_newer {
            return false;
        }
        let before = connection.snd_wnd;
        connection.take_window(segment.window);
        connection.snd_wl1 = segment.seq;
        connection.snd_wl2 = segment.ack;
        let changed = connection.snd_wnd != before;
        if connection.slow.contains(Slow::PERSIST) && connection.snd_wnd != 0 {
            self.end_persist(index);
        }
        if changed {
            self.mark_dirty(index);
        }
        changed
    }

    /// What a segment leaves to do: something may have become sendable, or be owed.
    fn after_segment<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.check_closed(cx, index);
        let connection = &mut self.connections[index];
        if connection.state > State::SynReceived {
            let is_recovering = connection.recovery != Recovery::Open
                || connection.sacked_bytes != 0
                || connection.flags.contains(Flags::PROBED);
            connection.slow.set(Slow::RECOVERY, is_recovering);
            self.mark_dirty(index);
        }
    }
}

impl Connection {
    /// Takes over the segment's timestamp if the segment is the next expected or older (RFC 7323
    /// 4.3), and the timestamp no older than the last one, unless that is too old to compare with.
    fn take_timestamp(&mut self, segment: &Segment<'_>, options: &Options, now: u64) {
        if let Some((value, _)) = options.timestamps
            && self.flags.contains(Flags::TIMESTAMPS)
            && segment.seq.le(self.rcv_acked)
            && (value.wrapping_sub(self.ts_recent) as i32 >= 0
                || now.saturating_sub(self.heard_at) >= PAWS_EXPIRY)
        {
            self.ts_recent = value;
        }
    }
}
