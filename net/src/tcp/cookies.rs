//! SYN cookies (RFC 4987 3.6): answering SYNs without memory while the half-open table is full.
//!
//! The SYN-ACK's sequence number is a keyed hash of the flow and the peer's sequence number, with
//! the minute in its top byte and the segment size, as an index, in the rest. What else was agreed
//! on is in the low bits of our timestamp, which the peer echoes; without timestamps only the
//! segment size survives. The ACK that proves the cookie makes the knock: the handshake is complete
//! then, and `accept` is followed by `Connected` at once. What the peer sends before `accept` is
//! left for retransmission.

use crate::address::Endpoint;
use crate::config::{CongestionControl, Ecn};
use crate::context::{Context, Event, Events};
use crate::engine::Engine;
use crate::flow::FlowKey;
use crate::secret::Secret;
use crate::seq::Seq;
use crate::tcp::connection::{Flags, State};
use crate::tcp::handshake::DEFAULT_MSS6;
use crate::tcp::options::{Options, SynOptions};
use crate::tcp::reply::Answer;
use crate::wire::{Segment, control};
use ix_hal::{Instant, Transmit};

/// The segment sizes that a cookie can hold. The largest that is not above the peer's is used.
const SEGMENT_SIZES: [u16; 8] = [88, 536, 1200, 1300, 1400, 1440, 1460, 8960];
/// Where the index is in the low 24 bits: at their top, so that neighbouring numbers are no cookies.
const INDEX_SHIFT: u32 = 21;
const MINUTE: u64 = 60_000_000_000;
/// A cookie is good in the minute of its making and in the next.
const LIFETIME: u64 = 2;
/// Bits of the timestamp that carry options.
const TIMESTAMP_BITS: u32 = 6;
const TIMESTAMP_MASK: u32 = (1 << TIMESTAMP_BITS) - 1;
/// In place of a window scale: none.
const NO_SCALE: u32 = 15;
const SACK_BIT: u32 = 0x10;
const ECN_BIT: u32 = 0x20;

impl Engine {
    /// Answers a SYN with a cookie.
    pub(crate) fn send_cookie<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
    ) {
        let options = Options::parse(segment.options);
        let unsaid = match segment.key.remote.ipv4() {
            Some(_) => 0,
            None => DEFAULT_MSS6,
        };
        let cookie = make(
            &self.secret,
            &segment.key,
            segment.seq,
            cx.now,
            options.mss.unwrap_or(unsaid),
        );
        let may_use_ecn =
            self.config.ecn != Ecn::Off || self.config.congestion == CongestionControl::Dctcp;
        let agreed = Agreed {
            ecn: may_use_ecn && segment.has(control::ECE | control::CWR),
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
        };
        let timestamps = options.timestamps.map(|(value, _)| {
            let clock = self.secret.initial_sequence(&segment.key, cx.now).1;
            let clock = clock.wrapping_add((cx.now.0 >> 20) as u32);
            (agreed.hide_in(clock), value)
        });
        let is_stamped = timestamps.is_some();
        let answer_options = SynOptions {
            mss: self.own_mss(segment.key.remote),
            window_scale: (is_stamped && agreed.window_scale.is_some())
                .then_some(self.local.window_scale),
            sack_permitted: is_stamped && agreed.sack_permitted,
            timestamps,
        };
        let mut room = [0; 40];
        let len = answer_options.emit(&mut room);
        let answer = Answer {
            seq: cookie,
            ack: segment.seq + 1,
            control: match is_stamped && agreed.ecn {
                true => control::SYN | control::ACK | control::ECE,
                false => control::SYN | control::ACK,
            },
            window: self.local.rx_window.min(0xffff) as u16,
        };
        if self.answer(cx, segment, answer, &room[..len]) {
            self.counters.tcp_cookies_sent += 1;
            self.cookies_until = cx.now.0 + LIFETIME * MINUTE;
        }
    }

    /// An ACK to a port that is listened on, without a connection: if it proves a cookie it becomes
    /// a knock. Returns whether it did prove one.
    pub(crate) fn cookie_returns<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
    ) -> bool {
        // Nobody can hold a good one: an ordinary stray segment.
        if cx.now.0 >= self.cookies_until {
            return false;
        }
        let (cookie, irs) = (segment.ack - 1, segment.seq - 1);
        let mut options = Options::parse(segment.options);
        let agreed = Agreed::of_echo(options.timestamps.map_or(NO_SCALE, |(_, echo)| echo));
        let mss = check(&self.secret, &segment.key, irs, cx.now, cookie);
        let Some(mss) = mss else {
            self.counters.tcp_cookies_failed += 1;
            return false;
        };
        self.counters.tcp_cookies_received += 1;
        options.mss = Some(mss);
        options.window_scale = agreed.window_scale;
        options.sack_permitted = agreed.sack_permitted;
        let Some(index) = self.open(cx.now, segment.key, State::Knocking) else {
            // Silence: the peer sends its data again, and proves the cookie once more.
            self.counters.tcp_listen_overflows += 1;
            self.counters.tcp_listen_drops += 1;
            return true;
        };
        let syn = Segment {
            seq: irs,
            control: match agreed.ecn {
                true => control::SYN | control::ECE | control::CWR,
                false => control::SYN,
            },
            ..*segment
        };
        let window = self.local.rx_window.min(0xffff);
        let connection = &mut self.connections[index];
        connection.set_iss(cookie);
        connection.snd_una = segment.ack;
        connection.snd_nxt = segment.ack;
        connection.take_syn(&syn, &options);
        connection.rcv_adv = connection.rcv_nxt + window;
        connection.take_window(segment.window);
        connection.flags.insert(Flags::PROVEN);
        connection.settle_syn(&self.config, &mut self.counters);
        self.knock(cx, index, segment);
        true
    }

    /// Tells the application of a knock, which it must answer in time.
    #[inline(always)]
    pub(crate) fn knock<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) {
        let handle = self.connections.handle(index);
        let connection = &mut self.connections[index];
        if let Some(addresses) = segment.frame.first_chunk::<12>() {
            // A refusal goes back to where the segment came from, without a neighbour lookup.
            connection.template[..6].copy_from_slice(&addresses[6..]);
        }
        let deadline = (cx.now + self.config.handshake_timeout).0;
        connection.state_deadline = deadline;
        // Early enough for whatever is sent within so short a time, SYN-ACK, data or FIN, so that the
        // timer of a short connection is armed once.
        let deadline = deadline.min(cx.now.0 + self.local.rto_min);
        self.arm_timer(cx.now, index, deadline);
        cx.events.push(Event::Knock {
            handle,
            peer: Endpoint {
                address: segment.key.remote,
                port: segment.key.remote_port(),
            },
            local_port: segment.key.local_port(),
        });
    }
}

/// What a SYN and a cookie's SYN-ACK agreed on, beside the segment size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    window_scale: Option<u8>,
    sack_permitted: bool,
    ecn: bool,
}

impl Agreed {
    /// What an echoed timestamp says.
    fn of_echo(echo: u32) -> Self {
        let scale = echo & NO_SCALE;
        Self {
            window_scale: (scale != NO_SCALE).then_some(scale as u8),
            sack_permitted: echo & SACK_BIT != 0,
            ecn: echo & ECN_BIT != 0,
        }
    }

    /// The latest timestamp not after `clock` that says this.
    fn hide_in(self, clock: u32) -> u32 {
        let bits = self.window_scale.map_or(NO_SCALE, u32::from)
            | if self.sack_permitted { SACK_BIT } else { 0 }
            | if self.ecn { ECN_BIT } else { 0 };
        let stamp = clock & !TIMESTAMP_MASK | bits;
        match bits > clock & TIMESTAMP_MASK {
            true => stamp.wrapping_sub(1 << TIMESTAMP_BITS),
            false => stamp,
        }
    }
}

/// The cookie for a SYN with sequence number `irs`.
fn make(secret: &Secret, key: &FlowKey, irs: Seq, now: Instant, mss: u16) -> Seq {
    let minute = now.0 / MINUTE;
    let fits = SEGMENT_SIZES.iter().rposition(|size| *size <= mss);
    // RFC 9293 3.7.1: 536 where the peer does not say; the first one where it says too little.
    let index = match mss {
        0 => 1,
        _ => fits.unwrap_or(0),
    };
    let index = (index as u32) << INDEX_SHIFT;
    let hidden = secret.cookie(key, minute + 1).wrapping_add(index) & 0xff_ffff;
    let stamped = (minute as u32) << 24 | hidden;
    irs + secret.cookie(key, 0).wrapping_add(stamped)
}

/// The segment size in a cookie; `None` if we did not make it, or too long ago.
fn check(secret: &Secret, key: &FlowKey, irs: Seq, now: Instant, cookie: Seq) -> Option<u16> {
    let stamped = (cookie - irs).wrapping_sub(secret.cookie(key, 0));
    let minute = now.0 / MINUTE;
    let age = u64::from((minute as u8).wrapping_sub((stamped >> 24) as u8));
    if age >= LIFETIME || age > minute {
        return None;
    }
    let hidden = secret.cookie(key, minute - age + 1);
    let index = stamped.wrapping_sub(hidden) & 0xff_ffff;
    let is_exact = index & ((1 << INDEX_SHIFT) - 1) == 0;
    let size = SEGMENT_SIZES.get((index >> INDEX_SHIFT) as usize);
    size.copied().filter(|_| is_exact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::IpAddress;

    fn key(port: u16) -> FlowKey {
        FlowKey::new(IpAddress::from_ipv4(0x0a00_0009), port, 0, 80)
    }

    #[test]
    fn cookie_gives_back_the_segment_size_below_the_peers() {
        let secret = Secret::new([5; 16]);
        let now = Instant(77 * MINUTE + 1);
        for (mss, kept) in [
            (0, 536),
            (10, 88),
            (1459, 1440),
            (1460, 1460),
            (65_535, 8960),
        ] {
            let cookie = make(&secret, &key(1), Seq(9), now, mss);
            assert_eq!(check(&secret, &key(1), Seq(9), now, cookie), Some(kept));
        }
    }

    #[test]
    fn cookie_of_another_flow_sequence_secret_or_time_is_refused() {
        let secret = Secret::new([5; 16]);
        let now = Instant(300 * MINUTE);
        let cookie = make(&secret, &key(1), Seq(9), now, 1460);
        let later = |minutes| Instant(now.0 + minutes * MINUTE);
        let at = |when| check(&secret, &key(1), Seq(9), when, cookie);
        assert_eq!(at(later(1)), Some(1460));
        assert_eq!(at(later(2)), None);
        assert_eq!(at(later(256)), None);
        assert_eq!(at(Instant(now.0 - MINUTE)), None);
        assert_eq!(check(&secret, &key(2), Seq(9), now, cookie), None);
        assert_eq!(check(&secret, &key(1), Seq(1_000_000), now, cookie), None);
        let other = Secret::new([6; 16]);
        assert_eq!(check(&other, &key(1), Seq(9), now, cookie), None);
    }

    #[test]
    fn options_survive_in_a_timestamp_that_never_runs_ahead() {
        for pick in 0..64u32 {
            let agreed = Agreed {
                window_scale: (pick & 1 != 0).then_some((pick >> 2 & 7) as u8 * 2),
                sack_permitted: pick & 2 != 0,
                ecn: pick & 32 != 0,
            };
            for clock in [0, 1, 63, 64, 1000, u32::MAX] {
                let stamp = agreed.hide_in(clock);
                assert_eq!(Agreed::of_echo(stamp), agreed);
                assert!(clock.wrapping_sub(stamp) < 1 << TIMESTAMP_BITS);
            }
        }
    }
}
