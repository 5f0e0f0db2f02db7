//! ICMP for IPv6 (RFC 4443): echo, and errors to those whose packets cannot be delivered. Errors that
//! come in are in `icmp_error`, neighbour discovery in `ndp`.
//!
//! An error quotes as much of the packet as fits, out of the buffer that it came in: nothing is
//! copied, and the buffer goes back when the error has left.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::ipv6::header::{IPV6, LEAST_MTU, Problem};
use crate::ipv6::mld::QUERY;
use crate::packet::{Packet, pseudo_sum};
use crate::reassembly::{DatagramKey, Quote};
use crate::wire::{
    ETHERNET, PROTOCOL_ICMP, PROTOCOL_ICMPV6, be16, emit_ip, fold, put16, put32, sum,
};
use ix_hal::{Fragment, HEADER_ROOM, MbufId, Release, Transmit, TxChecksum, TxFrame};

/// Bytes of the header of an ICMP message.
const ICMP: usize = 8;
/// Types of messages.
const TIME_EXCEEDED: u8 = 3;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const ROUTER_SOLICITATION: u8 = 133;
const REDIRECT: u8 = 137;
/// Time exceeded over IPv4 (RFC 792).
const TIME_EXCEEDED4: u8 = 11;
/// Code of time exceeded: in reassembly, in both families.
const REASSEMBLY: u8 = 1;

/// What an error tells (RFC 4443 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error6 {
    /// Nobody has bound the port.
    Port,
    /// A header is wrong or unknown, at this place in the packet.
    Parameter(Problem, u32),
}

impl Error6 {
    fn head(self) -> [u8; ICMP] {
        match self {
            Self::Port => [1, 4, 0, 0, 0, 0, 0, 0],
            Self::Parameter(code, pointer) => {
                let [a, b, c, d] = pointer.to_be_bytes();
                [4, code as u8, 0, 0, a, b, c, d]
            }
        }
    }
}

impl Engine {
    /// An ICMPv6 message to us. Returns whether the mbuf was kept.
    pub(crate) fn icmp6_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        self.counters.icmp6_in_messages += 1;
        let message = &bytes[packet.payload..packet.end];
        if message.len() < ICMP || !packet.checksum_is_good(bytes, PROTOCOL_ICMPV6, packet.end) {
            self.counters.icmp6_in_errors += 1;
            return false;
        }
        match message[0] {
            ROUTER_SOLICITATION..=REDIRECT => {
                self.discovery_arrives(cx, bytes, packet);
                false
            }
            QUERY => {
                self.query_arrives(cx.now, bytes, packet);
                false
            }
            ECHO_REQUEST => self.echo_request6_arrives(cx, mbuf, bytes, packet),
            _ => {
                if !self.icmp6_error_arrives(cx, message) {
                    self.counters.icmp_ignored += 1;
                }
                false
            }
        }
    }

    /// Answers an echo request by sending its own bytes back.
    fn echo_request6_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        self.counters.icmp6_in_echos += 1;
        let message = &bytes[packet.payload..packet.end];
        // What came in fragments may not fit into one packet.
        let fits = message.len() + IPV6 <= usize::from(self.ipv6.mtu);
        if !fits || packet.destination.is_multicast() || !self.is_host(packet.source) {
            self.counters.icmp_ignored += 1;
            return false;
        }
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return false;
        };
        let addresses = (packet.destination, packet.source);
        let at = emit_reply(
            room,
            self.local.mac,
            &bytes[6..12],
            addresses,
            message.len(),
        );
        room[at..at + ICMP].copy_from_slice(&message[..ICMP]);
        room[at] = ECHO_REPLY;
        // The type has grown by one; the checksum follows (RFC 1624), and the pseudo-header is the
        // same both ways.
        let checksum = u64::from(!be16(message, 2)) + 0x100;
        put16(room, at + 2, !fold(checksum));
        self.counters.icmp6_echo_replies += 1;
        let start = packet.payload + ICMP;
        send_quoting(
            cx,
            at + ICMP,
            (mbuf, start),
            message.len() - ICMP,
            TxChecksum::None,
        )
    }

    /// Tells the sender of a packet what was wrong with it, within the rate limit (RFC 4443 2.4).
    /// The caller has made sure that it is no error itself, and came to this station alone if it has
    /// to. Returns whether the mbuf was kept.
    pub(crate) fn send_error6<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        error: Error6,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        if !self.is_host(packet.source) {
            return false;
        }
        let own = match packet.destination.is_multicast() {
            false => Some(packet.destination),
            true => self.ipv6.own.select(packet.source).map(|(_, own)| own),
        };
        let Some(own) = own else {
            return false;
        };
        if !self.icmp_limit.allows(cx.now) {
            self.counters.icmp_limited += 1;
            return false;
        }
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return false;
        };
        let most = usize::from(LEAST_MTU) - IPV6 - ICMP;
        let quoted = &bytes[ETHERNET..packet.end.min(ETHERNET + most)];
        let len = ICMP + quoted.len();
        let at = emit_reply(
            room,
            self.local.mac,
            &bytes[6..12],
            (own, packet.source),
            len,
        );
        room[at..at + ICMP].copy_from_slice(&error.head());
        let head = sum(&room[at..at + ICMP]) + sum(quoted);
        let pseudo = pseudo_sum(PROTOCOL_ICMPV6, own, packet.source);
        let checksum = !fold(head + u64::from(pseudo) + len as u64);
        put16(room, at + 2, checksum);
        self.counters.icmp6_out_messages += 1;
        match error {
            Error6::Port => self.counters.icmp6_out_unreachables += 1,
            Error6::Parameter(..) => self.counters.icmp6_out_parameter_problems += 1,
        }
        send_quoting(
            cx,
            at + ICMP,
            (mbuf, ETHERNET),
            quoted.len(),
            TxChecksum::None,
        )
    }

    /// Tells the sender of a first fragment that the others did not come in time, over either family.
    /// Returns whether the mbuf was kept.
    pub(crate) fn send_reassembly_exceeded<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        key: &DatagramKey,
        mbuf: MbufId,
        quote: &Quote,
    ) -> bool {
        if !self.is_host(key.source) {
            return false;
        }
        if !self.icmp_limit.allows(cx.now) {
            self.counters.icmp_limited += 1;
            return false;
        }
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return false;
        };
        let (own, peer) = (quote.destination, key.source);
        let len = ICMP + usize::from(quote.len);
        let at = emit_reply(room, self.local.mac, &quote.station, (own, peer), len);
        let (kind, pseudo, checksum) = match key.is_ipv6() {
            false => (TIME_EXCEEDED4, 0, TxChecksum::Ipv4),
            true => {
                let pseudo = pseudo_sum(PROTOCOL_ICMPV6, own, peer);
                (
                    TIME_EXCEEDED,
                    u64::from(pseudo) + len as u64,
                    TxChecksum::None,
                )
            }
        };
        put32(room, at, u32::from_be_bytes([kind, REASSEMBLY, 0, 0]));
        put32(room, at + 4, 0);
        let total = sum(&room[at..at + ICMP]) + quote.sum + pseudo;
        put16(room, at + 2, !fold(total));
        match key.is_ipv6() {
            false => self.counters.icmp_out_time_exceeded += 1,
            true => {
                self.counters.icmp6_out_messages += 1;
                self.counters.icmp6_out_time_exceeded += 1;
            }
        }
        send_quoting(cx, at + ICMP, (mbuf, ETHERNET), quote.len.into(), checksum)
    }
}

/// Writes Ethernet and IP header of an ICMP message of `len` bytes to a station, from one address to
/// another; returns where the message begins.
fn emit_reply(
    room: &mut [u8; HEADER_ROOM],
    mac: [u8; 6],
    station: &[u8],
    (own, peer): (IpAddress, IpAddress),
    len: usize,
) -> usize {
    room[..6].copy_from_slice(station);
    room[6..12].copy_from_slice(&mac);
    let protocol = match own.ipv4() {
        Some(_) => PROTOCOL_ICMP,
        None => PROTOCOL_ICMPV6,
    };
    emit_ip(room, own, peer, protocol, len as u16)
}

/// Sends the header that was written, and behind it `len` bytes of a received frame from a place on;
/// returns whether its mbuf went with it.
fn send_quoting<T: Transmit, E: Events>(
    cx: &mut Context<'_, T, E>,
    header_len: usize,
    (mbuf, start): (MbufId, usize),
    len: usize,
    checksum: TxChecksum,
) -> bool {
    let quoted = Fragment {
        bus: cx.pool.geometry().bus_of(mbuf) + start as u64,
        len: len as u32,
    };
    let fragments = core::slice::from_ref(&quoted);
    cx.tx.send(&TxFrame {
        header_len: header_len as u16,
        fragments: if len == 0 { &[] } else { fragments },
        checksum,
        segment_size: 0,
        release: (len != 0).then_some(Release::Mbuf(mbuf)),
    });
    len != 0
}
