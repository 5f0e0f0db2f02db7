//! ICMP errors about what we sent. One is believed only if it quotes a segment that is under way:
//! our address, a connection's ports, and a sequence number between what is acknowledged and what
//! was sent (RFC 5927 4.1). Whoever does not see our segments has to guess all of that.
//!
//! A packet that was too long makes the connection's segments shorter (RFC 1191, RFC 8201). An error that
//! says that there is nobody ends a connection that is not open yet; one that is open, no error can
//! end (RFC 5927 6.1). All other errors are about a path that may get better (RFC 1122 4.2.3.9):
//! the retransmission timer deals with them.

use crate::address::{Endpoint, IpAddress};
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::flow::{FlowKey, OWN_IPV4};
use crate::ipv6::header::IPV6;
use crate::packet::Packet;
use crate::path_mtu::{narrower, narrower6};
use crate::seq::Seq;
use crate::tcp::connection::{Flags, State};
use crate::tcp::time_wait::TIME_WAIT;
use crate::wire::{IPV4, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, TCP};
use crate::wire::{be16, be32, be64};
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

/// Types of ICMPv6 errors (RFC 4443).
const DESTINATION_UNREACHABLE6: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED6: u8 = 3;
const PARAMETER_PROBLEM6: u8 = 4;
/// Code of destination unreachable, and of parameter problem, that mean that there is nobody.
const PORT_UNREACHABLE6: u8 = 4;
const UNKNOWN_NEXT_HEADER: u8 = 1;

/// Bytes of the timestamps option with its padding.
pub(crate) const TIMESTAMPS: u16 = 12;

/// The segment of ours that an error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    source: IpAddress,
    remote: IpAddress,
    /// Our port and the peer's.
    ports: [u16; 2],
    seq: Seq,
    /// Length of the IP packet.
    total_len: u32,
}

impl Quote {
    /// Reads the packet that an error quotes, if it is the beginning of one of that protocol, TCP or UDP,
    /// whose ports are in the same place.
    fn parse(bytes: &[u8], protocol: u8) -> Option<Self> {
        let header_len = usize::from(bytes.first()? & 15) * 4;
        let is_right = bytes.len() >= IPV4 && bytes[0] >> 4 == 4 && bytes[9] == protocol;
        if !is_right || header_len < IPV4 || be16(bytes, 6) & 0x1fff != 0 {
            return None;
        }
        let source = IpAddress::from_ipv4(be32(bytes, 12));
        let remote = IpAddress::from_ipv4(be32(bytes, 16));
        let total_len = u32::from(be16(bytes, 2));
        Self::of_segment(source, remote, total_len, bytes.get(header_len..)?)
    }

    /// The same over IPv6, where we send no extension headers.
    fn parse6(bytes: &[u8], protocol: u8) -> Option<Self> {
        let header = bytes.first_chunk::<IPV6>()?;
        if header[0] >> 4 != 6 || header[6] != protocol {
            return None;
        }
        let source = IpAddress::from_words(be64(header, 8), be64(header, 16));
        let remote = IpAddress::from_words(be64(header, 24), be64(header, 32));
        let total_len = u32::from(be16(header, 4)) + IPV6 as u32;
        Self::of_segment(source, remote, total_len, &bytes[IPV6..])
    }

    fn of_segment(
        source: IpAddress,
        remote: IpAddress,
        total_len: u32,
        segment: &[u8],
    ) -> Option<Self> {
        let segment = segment.first_chunk::<8>()?;
        Some(Self {
            source,
            remote,
            ports: [be16(segment, 0), be16(segment, 2)],
            seq: Seq(be32(segment, 4)),
            total_len,
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
        let Some((quote, index)) = self.quoted_connection(&message[8..], Quote::parse) else {
            return true;
        };
        match (kind, code) {
            (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED) => {
                let len = quote.total_len.min(u32::from(u16::MAX)) as u16;
                let mtu = narrower(len, be16(message, 6));
                self.fragmentation_needed(cx.now, index, mtu);
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

    /// The same over IPv6.
    pub(crate) fn icmp6_error_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        message: &[u8],
    ) -> bool {
        let (kind, code) = (message[0], message[1]);
        match kind {
            DESTINATION_UNREACHABLE6 => self.counters.icmp6_in_unreachables += 1,
            PACKET_TOO_BIG => self.counters.icmp6_in_too_bigs += 1,
            TIME_EXCEEDED6 => self.counters.icmp6_in_time_exceeded += 1,
            PARAMETER_PROBLEM6 => self.counters.icmp6_in_parameter_problems += 1,
            _ => return false,
        }
        let Some((quote, index)) = self.quoted_connection(&message[8..], Quote::parse6) else {
            return true;
        };
        match (kind, code) {
            (PACKET_TOO_BIG, _) => {
                let mtu = narrower6(quote.total_len, be32(message, 4));
                self.fragmentation_needed(cx.now, index, mtu);
            }
            (DESTINATION_UNREACHABLE6, PORT_UNREACHABLE6)
            | (PARAMETER_PROBLEM6, UNKNOWN_NEXT_HEADER)
                if self.connections[index].state == State::SynSent =>
            {
                self.fail_handshake(cx, index, Error::Refused, DeadReason::Refused);
            }
            _ => {}
        }
        true
    }

    /// What an error quotes and the connection that has it under way; without one the error is counted.
    fn quoted_connection(
        &mut self,
        quoted: &[u8],
        parse: fn(&[u8], u8) -> Option<Quote>,
    ) -> Option<(Quote, u32)> {
        let Some(quote) = parse(quoted, PROTOCOL_TCP) else {
            self.count_datagram_error(parse(quoted, PROTOCOL_UDP));
            return None;
        };
        let index = self.connection_of(&quote);
        if index.is_none() {
            self.counters.icmp_out_of_window += 1;
        }
        index.map(|index| (quote, index))
    }

    /// An error that is about no segment, perhaps about a datagram. Whoever bound the port is not told:
    /// nothing in a datagram proves that the error is not forged (RFC 8085 5.2 asks for what only the
    /// application can check), and there is no connection to remember it for.
    fn count_datagram_error(&mut self, quote: Option<Quote>) {
        match quote {
            Some(quote) if self.udp.is_bound(quote.ports[0]) => {
                self.counters.udp_icmp_errors += 1;
            }
            _ => self.counters.icmp_ignored += 1,
        }
    }

    /// The number of an address of ours.
    pub(crate) fn own_number(&self, address: IpAddress) -> Option<u32> {
        match address.ipv4() {
            Some(address) => (address == self.local.address).then_some(OWN_IPV4),
            None => self.ipv6.own.number(address),
        }
    }

    /// The connection that has the quoted segment under way.
    fn connection_of(&self, quote: &Quote) -> Option<u32> {
        let own = self.own_number(quote.source)?;
        let [local_port, remote_port] = quote.ports;
        let key = FlowKey::new(quote.remote, remote_port, own, local_port);
        let index = self.flows.find(self.flows.hash(&key), |value| {
            value & TIME_WAIT == 0 && self.connections[value].key == key
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
    fn fragmentation_needed(&mut self, now: Instant, index: u32, mtu: Option<u16>) {
        let Some(mtu) = mtu else {
            self.counters.icmp_ignored += 1;
            return;
        };
        let remote = self.connections[index].key.remote;
        let mtu = self.path_mtus.learn(now, remote, mtu);
        let connection = &mut self.connections[index];
        let mut mss = mtu - headers(remote);
        if connection.state > State::SynReceived && connection.flags.contains(Flags::TIMESTAMPS) {
            mss -= TIMESTAMPS;
        }
        if mss >= connection.mss {
            return;
        }
        connection.mss = mss;
        // The router's word takes the place of a suspicion.
        connection.wide_mss = 0;
        self.counters.tcp_path_mtu_lowered += 1;
        if connection.in_flight() != 0 {
            connection.rto_deadline = now.0;
            self.arm_timer(now, index, now.0);
        }
    }

    /// Most payload of a segment without options that fits the path to a destination.
    #[inline(always)]
    pub(crate) fn path_mss(&self, now: Instant, destination: IpAddress) -> u16 {
        let own = self.own_mss(destination);
        match self.path_mtus.get(now, destination) {
            Some(mtu) => own.min(mtu - headers(destination)),
            None => own,
        }
    }

    /// Most payload of a segment without options that fits our own link, by the peer's family.
    #[inline(always)]
    pub(crate) fn own_mss(&self, peer: IpAddress) -> u16 {
        match peer.ipv4() {
            Some(_) => self.local.mss,
            None => self.ipv6.mss(),
        }
    }
}

/// The connection whose segment an ICMP error quotes: its peer, our address and our port.
pub(crate) fn quoted_flow(packet: &Packet, message: &[u8]) -> Option<(Endpoint, IpAddress, u16)> {
    let (kind, quoted) = (*message.first()?, message.get(8..)?);
    let quote = match (packet.protocol, kind) {
        (PROTOCOL_ICMP, DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM) => {
            Quote::parse(quoted, PROTOCOL_TCP)
        }
        (PROTOCOL_ICMPV6, DESTINATION_UNREACHABLE6..=PARAMETER_PROBLEM6) => {
            Quote::parse6(quoted, PROTOCOL_TCP)
        }
        _ => None,
    }?;
    let [port, remote_port] = quote.ports;
    let peer = Endpoint {
        address: quote.remote,
        port: remote_port,
    };
    Some((peer, quote.source, port))
}

/// Bytes of IP and TCP header of a segment without options to a peer.
pub(crate) fn headers(peer: IpAddress) -> u16 {
    match peer.ipv4() {
        Some(_) => (IPV4 + TCP) as u16,
        None => (IPV6 + TCP) as u16,
    }
}
