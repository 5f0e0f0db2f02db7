//! ICMP errors about what we sent. One is believed only if it quotes a segment that is under way:
//! our address, a connection's ports, and a sequence number between what is acknowledged and what
//! was sent (RFC 5927 4.1). Whoever does not see our segments has to guess all of that.
//!
//! A packet that was too long makes the connection's segments shorter (RFC 1191). An error that
//! says that there is nobody ends a connection that is not open yet; one that is open, no error can
//! end (RFC 5927 6.1). All other errors are about a path that may get better (RFC 1122 4.2.3.9):
//! the retransmission timer deals with them.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::flow::FlowKey;
use crate::path_mtu::narrower;
use crate::seq::Seq;
use crate::tcp::connection::{Flags, State};
use crate::tcp::time_wait::TIME_WAIT;
use crate::wire::{IPV4, PROTOCOL_TCP, TCP, be16, be32};
use ix_abi::{DeadReason, Error};
use ix_hal::{Instant, Transmit};

/// Types of ICMP errors (RFC 792).
const DESTINATION_UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// Codes of destination unreachable.
const PROTOCOL_UNREACHABLE: u8 = 2;
const PORT_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;

/// Bytes of the timestamps option with its padding.
const TIMESTAMPS: u16 = 12;

/// The segment of ours that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    source: u32,
    key: FlowKey,
    seq: Seq,
    total_len: u16,
}

impl Quote {
    /// Reads the packet that an error quotes, if it is the beginning of a TCP segment.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let header_len = usize::from(bytes.first()? & 15) * 4;
        let is_tcp = bytes.len() >= IPV4 && bytes[0] >> 4 == 4 && bytes[9] == PROTOCOL_TCP;
        if !is_tcp || header_len < IPV4 || be16(bytes, 6) & 0x1fff != 0 {
            return None;
        }
        let segment = bytes.get(header_len..)?.first_chunk::<8>()?;
        let remote = IpAddress::from_ipv4(be32(bytes, 16));
        Some(Self {
            source: be32(bytes, 12),
            key: FlowKey::new(remote, be16(segment, 2), be16(segment, 0)),
            seq: Seq(be32(segment, 4)),
            total_len: be16(bytes, 2),
        })
    }
}

impl Engine {
    /// Acts on an ICMP error whose checksum is right; `false` if the message is no error. Pushes at
    /// most 2 events.
    pub(crate) fn icmp_error_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        message: &[u8],
    ) -> bool {
        let (kind, code) = (message[0], message[1]);
        match kind {
            DESTINATION_UNREACHABLE => self.counters.icmp_in_unreachables += 1,
            TIME_EXCEEDED => self.counters.icmp_in_time_exceeded += 1,
            PARAMETER_PROBLEM => self.counters.icmp_in_parameter_problems += 1,
            _ => return false,
        }
        let Some(quote) = Quote::parse(&message[8..]) else {
            self.counters.icmp_ignored += 1;
            return true;
        };
        let Some(index) = self.connection_of(&quote) else {
            self.counters.icmp_out_of_window += 1;
            return true;
        };
        match (kind, code) {
            (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => {
                self.fragmentation_needed(cx.now, index, &quote, be16(message, 6));
            }
            (DESTINATION_UNREACHABLE, PROTOCOL_UNREACHABLE | PORT_UNREACHABLE)
                if self.connections[index].state == State::SynSent =>
            {
                self.fail_handshake(cx, index, Error::Refused, DeadReason::Refused);
            }
            _ => {}
        }
        true
    }

    /// The connection that has the quoted segment under way.
    fn connection_of(&self, quote: &Quote) -> Option<u32> {
        if quote.source != self.local.address {
            return None;
        }
        let hash = self.flows.hash(&quote.key);
        let index = self.flows.find(hash, |value| {
            value & TIME_WAIT == 0 && self.connections[value].key == quote.key
        })?;
        let connection = &self.connections[index];
        let is_under_way = connection.state > State::Knocking
            && quote.seq.ge(connection.snd_una)
            && quote.seq.lt(connection.snd_nxt);
        is_under_way.then_some(index)
    }

    /// The path does not take segments of this length: shortens them, and has the retransmission
    /// timer go off at once, which sends what is lost again and starts slowly, as RFC 1191 6.5 has
    /// it. Only a path narrower than known so far does that, hence not many times.
    fn fragmentation_needed(&mut self, now: Instant, index: u32, quote: &Quote, reported: u16) {
        let Some(mtu) = narrower(quote.total_len, reported) else {
            self.counters.icmp_ignored += 1;
            return;
        };
        let mtu = self.path_mtus.learn(now, quote.key.remote, mtu);
        let connection = &mut self.connections[index];
        let mut mss = mtu - (IPV4 + TCP) as u16;
        if connection.state > State::SynReceived && connection.flags.contains(Flags::TIMESTAMPS) {
            mss -= TIMESTAMPS;
        }
        if mss >= connection.mss {
            return;
        }
        connection.mss = mss;
        self.counters.tcp_path_mtu_lowered += 1;
        if connection.in_flight() != 0 {
            connection.rto_deadline = now.0;
            self.arm_timer(index, now.0);
        }
    }

    /// Most payload of a segment without options that fits the path to a destination.
    pub(crate) fn path_mss(&self, now: Instant, destination: IpAddress) -> u16 {
        match self.path_mtus.get(now, destination) {
            Some(mtu) => self.local.mss.min(mtu - (IPV4 + TCP) as u16),
            None => self.local.mss,
        }
    }
}
