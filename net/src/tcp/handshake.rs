//! Opening: a SYN becomes a knock, an accepted knock a SYN-ACK, `connect` a SYN; and what comes
//! back (RFC 9293 3.10.7.2 to 3.10.7.4).

use crate::config::{Config, CongestionControl, Ecn, Refusal};
use crate::context::{Context, Event, Events};
use crate::counters::Counters;
use crate::engine::Engine;
use crate::flow::FlowKey;
use crate::records::NONE;
use crate::seq::Seq;
use crate::tcp::congestion::Control;
use crate::tcp::connection::{Connection, Flags, Slow, State};
use crate::tcp::header::{Family, TIMESTAMPS_LEN};
use crate::tcp::input::micros;
use crate::tcp::options::{Options, SynOptions};
use crate::wheel::NEVER;
use crate::wire::{Segment, TCP, control};
use ix_abi::{DeadReason, Error};
use ix_hal::{Instant, Transmit, TxFrame};

/// Segment sizes to assume if the peer does not say, by family (RFC 9293 3.7.1).
const DEFAULT_MSS: u16 = 536;
pub(crate) const DEFAULT_MSS6: u16 = 1220;
/// Smallest segment size that is believed: less would only serve to make us work.
const MIN_MSS: u16 = 88;

impl Engine {
    /// A SYN for a port that is listened on: makes it a knock, if there is room for one.
    #[inline(always)]
    pub(crate) fn syn_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
        iss_after: Option<Seq>,
    ) {
        let remote = segment.key.remote;
        let is_host = self.is_host(remote);
        if !is_host || segment.key.remote_port() == 0 || self.next_hop(remote).is_none() {
            self.counters.tcp_listen_drops += 1;
            return;
        }
        if self.half_open >= self.config.half_open || self.connections.is_full() {
            self.counters.tcp_listen_overflows += 1;
            if self.config.syn_cookies && !self.connections.is_full() {
                self.send_cookie(cx, segment);
            } else {
                self.counters.tcp_listen_drops += 1;
                if self.config.refusal == Refusal::Reset {
                    self.reset_stranger(cx, segment);
                }
            }
            return;
        }
        let options = Options::parse(segment.options);
        let Some(index) = self.open(cx.now, segment.key, State::Knocking) else {
            return;
        };
        self.half_open += 1;
        let connection = &mut self.connections[index];
        connection.flags.insert(Flags::HALF_OPEN);
        if let Some(after) = iss_after
            && connection.iss.le(after)
        {
            // Beyond everything that the old connection in TIME-WAIT may have sent.
            connection.set_iss(after + 1);
        }
        connection.take_syn(segment, &options);
        connection.settle_syn(&self.config, &mut self.counters);
        self.knock(cx, index, segment);
    }

    /// Takes a slot for a new flow and fills in what does not depend on the peer's options.
    #[inline(always)]
    pub(crate) fn open(&mut self, now: Instant, key: FlowKey, state: State) -> Option<u32> {
        let own = self.own_address(&key)?;
        let index = self.connections.take()?;
        let hash = self.flows.hash(&key);
        self.flows.insert(hash, index);
        if let Some(group) = self.flow_group(&key, own) {
            self.groups.join(index, group);
        }
        let (iss, ts_offset) = self.secret.initial_sequence(&key, now);
        let mss = self.path_mss(now, key.remote);
        let connection = &mut self.connections[index];
        connection.key = key;
        connection.flow_hash = hash;
        connection.enter(state);
        connection.set_iss(Seq(iss));
        connection.ts_offset = ts_offset;
        connection.heard_at = now.0;
        connection.rcv_scale = self.local.window_scale;
        connection.mss = mss;
        connection.control = Control::new(self.config.congestion);
        connection.rto = self.local.rto_initial;
        connection.flags.insert(match state {
            State::SynSent => self.local.active_offer,
            _ => self.local.passive_offer,
        });
        connection.build_template(&self.local.prototype, own);
        Some(index)
    }

    /// Sends SYN or SYN-ACK; `false` if the TX ring is full.
    #[inline(always)]
    pub(crate) fn send_syn<F: Family, T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let mss = self.own_mss(self.connections[index].key.remote);
        let Some(room) = cx.tx.header() else {
            return false;
        };
        let connection = &mut self.connections[index];
        let is_answer = connection.state == State::SynReceived;
        if !is_answer && connection.backoff != 0 {
            // It may be the bits that keep the SYN from arriving (RFC 3168 6.1.1.1).
            connection.flags.remove(Flags::ECN);
        }
        // The window of a SYN is never scaled (RFC 7323 2.2).
        let window = self.local.rx_window.min(0xffff);
        if is_answer {
            connection.rcv_adv = connection.rcv_nxt + window;
        }
        let options = connection.syn_options(mss, cx.now);
        let options_len = options.emit(&mut room[F::TCP + TCP..]);
        let control = connection.syn_control();
        connection.fill_syn_header::<F>(room, control, window as u16, options_len);
        cx.tx.send(&TxFrame {
            header_len: (F::TCP + TCP + options_len) as u16,
            fragments: &[],
            checksum: F::CHECKSUM,
            segment_size: 0,
            release: None,
        });
        self.counters.tcp_out_segments += 1;
        connection.rcv_acked = connection.rcv_nxt;
        connection.flags.remove(Flags::ACK_OWED | Flags::ACK_NOW);
        connection.snd_nxt = connection.iss + 1;
        connection.sent_at = cx.now.0;
        connection.rto_deadline = cx.now.0 + connection.backed_off_rto(self.local.rto_max);
        if connection.rto_deadline < connection.timer_at {
            let deadline = connection.rto_deadline;
            self.arm_timer(cx.now, index, deadline);
        }
        true
    }

    /// A segment for a connection in SYN-SENT (RFC 9293 3.10.7.3).
    pub(crate) fn syn_sent_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) {
        let connection = &self.connections[index];
        let has_ack = segment.has(control::ACK);
        let acks_syn =
            has_ack && segment.ack.gt(connection.iss) && segment.ack.le(connection.snd_nxt);
        if has_ack && !acks_syn {
            if !segment.has(control::RST) {
                self.reset_stranger(cx, segment);
            }
            return;
        }
        if segment.has(control::RST) {
            if acks_syn {
                self.fail_handshake(cx, index, Error::Refused, DeadReason::Refused);
            }
            return;
        }
        if !segment.has(control::SYN) {
            return;
        }
        let options = Options::parse(segment.options);
        let connection = &mut self.connections[index];
        connection.take_syn(segment, &options);
        connection.settle_syn(&self.config, &mut self.counters);
        if acks_syn {
            let window = self.local.rx_window.min(0xffff);
            let connection = &mut self.connections[index];
            connection.rcv_adv = connection.rcv_nxt + window;
            self.established(cx, index, segment.ack);
            let connection = &mut self.connections[index];
            // The window of a SYN-ACK is not scaled either.
            connection.snd_wnd = u32::from(segment.window);
            connection.flags.insert(Flags::ACK_NOW);
        } else {
            // Simultaneous open (RFC 9293 figure 8).
            self.connections[index].enter(State::SynReceived);
            self.connections[index].snd_nxt = self.connections[index].iss;
        }
        self.mark_dirty(index);
    }

    /// The handshake is complete: our SYN was acknowledged.
    #[inline(always)]
    pub(crate) fn established<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        ack: Seq,
    ) {
        let connection = &mut self.connections[index];
        if connection.flags.contains(Flags::HALF_OPEN) {
            connection.flags.remove(Flags::HALF_OPEN);
            self.half_open -= 1;
        }
        connection.snd_una = ack;
        if connection.backoff == 0 {
            let sample = micros(cx.now).wrapping_sub((connection.sent_at >> 10) as u32);
            connection.take_rtt(sample, self.local.rto_min);
            self.counters.tcp_rtt_samples += 1;
        } else {
            // The SYN was lost: begin carefully (RFC 5681 3.1).
            connection.cwnd = u32::from(connection.mss);
        }
        self.enter_established(cx, index);
    }

    /// ESTABLISHED begins, or what `close` before it makes of it.
    #[inline(always)]
    pub(crate) fn enter_established<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) {
        let handle = self.connections.handle(index);
        let connection = &mut self.connections[index];
        connection.enter(match connection.flags.contains(Flags::FIN_QUEUED) {
            true => State::FinWait1,
            false => State::Established,
        });
        connection
            .slow
            .set(Slow::TIMER_MOVES, connection.srtt8 == 0);
        connection.backoff = 0;
        connection.silence_since = NEVER;
        connection.rto_deadline = NEVER;
        connection.state_deadline = match self.config.keepalive {
            Some(idle) => (cx.now + idle).0,
            None => NEVER,
        };
        connection.heard_at = cx.now.0;
        let deadline = connection.state_deadline;
        let is_nearer = deadline < connection.timer_at;
        cx.events.push(Event::Connected {
            cookie: connection.cookie,
            handle,
            outcome: Ok(()),
        });
        if connection.send_cursor != NONE && connection.wants_output() {
            self.dirty.push(index);
        }
        if is_nearer {
            self.arm_timer(cx.now, index, deadline);
        }
    }

    /// The handshake failed; tells the application so if it has accepted or connected.
    pub(crate) fn fail_handshake<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        error: Error,
        reason: DeadReason,
    ) {
        self.counters.tcp_attempt_fails += 1;
        let connection = &self.connections[index];
        if connection.state != State::Knocking && !connection.flags.contains(Flags::RELEASED) {
            cx.events.push(Event::Connected {
                cookie: connection.cookie,
                handle: self.connections.handle(index),
                outcome: Err(error),
            });
        }
        self.finish(cx, index, reason);
    }

    /// No longer counted among the half-open ones.
    pub(crate) fn leave_half_open(&mut self, index: u32) {
        let flags = &mut self.connections[index].flags;
        if flags.contains(Flags::HALF_OPEN) {
            flags.remove(Flags::HALF_OPEN);
            self.half_open -= 1;
        }
    }
}

/// What a connection offers in a SYN, or would agree to. A SYN asks for ECN only if we are to; a SYN-ACK
/// agrees if we may.
pub(crate) fn offer(config: &Config, is_passive: bool) -> Flags {
    let options = Flags::WINDOW_SCALE | Flags::TIMESTAMPS | Flags::SACK;
    let is_wanted = config.ecn == Ecn::Request || config.congestion == CongestionControl::Dctcp;
    let has_ecn = is_wanted || is_passive && config.ecn == Ecn::Accept;
    match has_ecn {
        true => options | Flags::ECN,
        false => options,
    }
}

impl Connection {
    /// Starts the sequence numbers of this side.
    pub(crate) fn set_iss(&mut self, iss: Seq) {
        self.iss = iss;
        self.snd_una = iss;
        self.snd_nxt = iss;
        // The data begins behind the SYN.
        self.snd_end = iss + 1;
        self.recover = iss;
        self.rack_fack = iss;
        self.dsack_round = iss;
    }

    /// Takes over the sequence number, window and options of the peer's SYN.
    #[inline(always)]
    pub(crate) fn take_syn(&mut self, segment: &Segment<'_>, options: &Options) {
        self.agree_on_ecn(segment.control);
        self.rcv_nxt = segment.seq + 1;
        self.rcv_acked = self.rcv_nxt;
        self.rcv_adv = self.rcv_nxt;
        self.snd_wnd = u32::from(segment.window);
        self.max_snd_wnd = self.snd_wnd;
        self.snd_wl1 = segment.seq;
        self.snd_wl2 = segment.ack;
        let default = match self.is_ipv6() {
            false => DEFAULT_MSS,
            true => DEFAULT_MSS6,
        };
        self.mss = self.mss.min(options.mss.unwrap_or(default)).max(MIN_MSS);
        match options.window_scale {
            Some(scale) => self.snd_scale = scale,
            None => {
                self.flags.remove(Flags::WINDOW_SCALE);
                self.rcv_scale = 0;
            }
        }
        match options.timestamps {
            Some((value, _)) => {
                self.ts_recent = value;
            }
            None => self.flags.remove(Flags::TIMESTAMPS),
        }
        self.flags.set(
            Flags::SACK,
            self.flags.contains(Flags::SACK) && options.sack_permitted,
        );
    }

    /// Settles what was negotiated, once the peer's SYN is in.
    #[inline(always)]
    pub(crate) fn settle_syn(&mut self, config: &Config, counters: &mut Counters) {
        if self.flags.contains(Flags::TIMESTAMPS) {
            let mss = self.mss.saturating_sub(TIMESTAMPS_LEN.into());
            self.mss = mss.max(MIN_MSS);
        } else {
            self.settle_options();
        }
        let mss = u32::from(self.mss);
        // RFC 6928 2, with the configured number of segments in place of 10.
        let segments = u32::from(config.initial_window.max(1));
        self.cwnd = (segments * mss).min((segments * 1460).max(2 * mss));
        if self.flags.contains(Flags::ECN) {
            self.mark_template();
            counters.tcp_ecn_connections += 1;
        }
    }

    /// The control bits of our SYN or SYN-ACK, with those of RFC 3168 6.1.1.
    fn syn_control(&self) -> u8 {
        let is_answer = self.state == State::SynReceived;
        match (is_answer, self.flags.contains(Flags::ECN)) {
            (false, false) => control::SYN,
            (false, true) => control::SYN | control::ECE | control::CWR,
            (true, false) => control::SYN | control::ACK,
            (true, true) => control::SYN | control::ACK | control::ECE,
        }
    }

    /// The options of our SYN or SYN-ACK: everything in a SYN, what the peer has too in a SYN-ACK.
    fn syn_options(&self, mss: u16, now: Instant) -> SynOptions {
        let has = |flag| self.flags.contains(flag);
        SynOptions {
            mss,
            window_scale: has(Flags::WINDOW_SCALE).then_some(self.rcv_scale),
            sack_permitted: has(Flags::SACK),
            timestamps: has(Flags::TIMESTAMPS).then(|| (self.timestamp(now), self.ts_recent)),
        }
    }
}
