//! The frames that a fuzzed peer sends: headers that lead somewhere around bytes that are any, and
//! segments.

use super::ipv6::{ENGINE6, PEER6};
use super::{PORT, UDP_PORT};
use crate::address::IpAddress;
use crate::packet::{Packet, pseudo_sum};
use crate::wire::{
    self, ETHERNET, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, be16, put16,
};
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// The peer's IPv4 address.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
/// The engine's.
pub const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// An Ethernet header from the peer to the engine.
pub fn ethernet(ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1];
    frame.extend(PEER_MAC);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// Makes what is behind an Ethernet header an IPv4 packet from the peer to the engine, whatever it was:
/// by chance the addresses and lengths of hardly any fit. What it carries is `choice`: anything, ICMP, a
/// segment for the port that is listened on, or a datagram for the one that is bound.
pub fn address(frame: &mut [u8], choice: u8) {
    let len = frame.len() - ETHERNET;
    if be16(frame, 12) != wire::ETHERTYPE_IPV4 || len < wire::IPV4 {
        return;
    }
    frame[14] = 0x45;
    put16(frame, 16, len as u16);
    // Whether it is a fragment is left open, but it may be one.
    frame[20] &= 0x3f;
    let payload = ETHERNET + wire::IPV4;
    let rest = frame.len() - payload;
    match choice & 3 {
        1 => frame[23] = PROTOCOL_ICMP,
        2 if rest >= 4 => {
            frame[23] = PROTOCOL_TCP;
            put16(frame, payload + 2, PORT);
        }
        3 if rest >= 8 => {
            frame[23] = PROTOCOL_UDP;
            put16(frame, payload + 2, UDP_PORT);
            put16(frame, payload + 4, rest as u16);
        }
        _ => {}
    }
    frame[26..30].copy_from_slice(&PEER.octets());
    frame[30..34].copy_from_slice(&ENGINE.octets());
    put16(frame, 24, 0);
    let sum = wire::sum(&frame[ETHERNET..payload]);
    put16(frame, 24, !wire::fold(sum));
}

/// Inserts the checksum of an ICMP message or a datagram, which the engine computes itself.
pub fn insert_checksum(frame: &mut [u8]) {
    let Some(packet) = Packet::in_frame(frame) else {
        return;
    };
    let len = packet.end - packet.payload;
    let (place, has_pseudo) = match packet.protocol {
        PROTOCOL_ICMP => (2, false),
        PROTOCOL_ICMPV6 => (2, true),
        PROTOCOL_UDP => (6, true),
        PROTOCOL_TCP => (16, true),
        _ => return,
    };
    if len < place + 2 {
        return;
    }
    put16(frame, packet.payload + place, 0);
    let mut sum = wire::sum(&frame[packet.payload..packet.end]);
    if has_pseudo {
        let pseudo = pseudo_sum(packet.protocol, packet.source, packet.destination);
        sum += u64::from(pseudo) + len as u64;
    }
    put16(frame, packet.payload + place, !wire::fold(sum));
}

/// An ARP request by which the engine learns the peer's MAC address.
pub fn arp_introduction() -> Vec<u8> {
    let mut frame = ethernet(wire::ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(PEER_MAC);
    frame.extend(PEER.octets());
    frame.extend([0; 6]);
    frame.extend(ENGINE.octets());
    frame
}

/// A segment from the peer.
#[derive(Clone, Copy, Debug)]
pub struct PeerSegment<'a> {
    /// Over which family.
    pub is_ipv6: bool,
    /// Source and destination port.
    pub ports: (u16, u16),
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// Control bits.
    pub control: u8,
    /// The ECN codepoint of the packet.
    pub codepoint: u8,
    /// SEG.WND.
    pub window: u16,
    /// A multiple of 4 bytes, at most 40.
    pub options: &'a [u8],
    /// Bytes of payload.
    pub payload: usize,
}

impl PeerSegment<'_> {
    /// Its frame. The NIC vouches for its checksums.
    pub fn frame(&self) -> Vec<u8> {
        let options = &self.options[..self.options.len().min(40)];
        let tcp_len = wire::TCP + options.len() + self.payload;
        let mut frame = match self.is_ipv6 {
            true => self.ipv6_header(tcp_len),
            false => self.ipv4_header(tcp_len),
        };
        let tcp = frame.len();
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([(5 + options.len() as u8 / 4) << 4, self.control]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(options);
        frame.resize(tcp + tcp_len, 0x5a);
        frame
    }

    fn ipv4_header(&self, tcp_len: usize) -> Vec<u8> {
        let mut frame = ethernet(wire::ETHERTYPE_IPV4);
        frame.extend([0x45, self.codepoint]);
        frame.extend(((wire::IPV4 + tcp_len) as u16).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
        frame.extend(PEER.octets());
        frame.extend(ENGINE.octets());
        frame
    }

    fn ipv6_header(&self, tcp_len: usize) -> Vec<u8> {
        let mut frame = ethernet(wire::ETHERTYPE_IPV6);
        frame.extend([0x60, self.codepoint << 4, 0, 0]);
        frame.extend((tcp_len as u16).to_be_bytes());
        frame.extend([PROTOCOL_TCP, 64]);
        frame.extend(PEER6.bits().to_be_bytes());
        frame.extend(ENGINE6.bits().to_be_bytes());
        frame
    }
}

/// The peer's address of a family.
pub fn peer(is_ipv6: bool) -> IpAddress {
    match is_ipv6 {
        true => PEER6,
        false => PEER.into(),
    }
}
