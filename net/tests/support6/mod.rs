//! A host with IPv6 and hand-made frames around it. Checksums and the reading of what is sent are
//! `smoltcp::wire`'s.

#![allow(dead_code, reason = "each test file uses its part")]

use core::net::Ipv6Addr;
use ix_hal::Instant;
use ix_net::testing::{Host, checked_frame};
use ix_net::{Config, Ipv6Config};
use smoltcp::wire::{EthernetFrame, Icmpv6Packet, IpProtocol, Ipv6Packet, TcpPacket, UdpPacket};

pub const START: Instant = Instant(1 << 40);
pub const SECOND: u64 = 1_000_000_000;
pub const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
/// What the MAC address makes.
pub const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
pub const LOCAL: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub const PEER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe);
pub const FAR: Ipv6Addr = Ipv6Addr::new(0x2400, 0, 0, 0, 0, 0, 0, 9);
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// fd00::1, in use at once.
pub fn config() -> Config {
    Config {
        mac: LOCAL_MAC,
        ipv4: [10, 0, 0, 1].into(),
        ipv6: Some(Ipv6Config {
            address: Some(LOCAL),
            duplicate_probes: 0,
            ..Ipv6Config::default()
        }),
        connections: 16,
        time_wait: 16,
        mbufs: 64,
        ..Config::default()
    }
}

pub fn ipv6(config: &mut Config) -> &mut Ipv6Config {
    config.ipv6.as_mut().expect("IPv6 is on")
}

pub fn host(config: Config) -> Host {
    let mut host = Host::new(config, START, 1 << 16);
    host.turn();
    host
}

/// The host of [`config`], which knows where the peer is.
pub fn introduced() -> Host {
    let mut host = host(config());
    host.receive(&solicitation(PEER, LOCAL, LOCAL, Some(PEER_MAC)));
    host.turn();
    host.wire.sent.clear();
    host
}

pub fn count(host: &Host, name: &str) -> u64 {
    let mut counters = host.engine.counters().iter();
    let found = counters.find(|(found, _)| *found == name);
    found.expect("a counter of that name").1
}

/// Lets time pass, timer by timer.
pub fn advance(host: &mut Host, span: u64) {
    let end = Instant(host.now.0 + span);
    loop {
        host.turn();
        match host.engine.next_deadline() {
            Some(deadline) if deadline <= end => host.now = Instant(deadline.0.max(host.now.0 + 1)),
            _ => break,
        }
    }
    host.now = end;
    host.turn();
}

/// The MAC address of a solicited-node or other group.
pub fn group_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}

/// A frame from the peer's station, to the right one or to a group.
pub fn frame(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next: u8,
    hops: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mac = match destination.is_multicast() {
        true => group_mac(destination),
        false => LOCAL_MAC,
    };
    let mut frame = [mac, PEER_MAC].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, hops]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(payload);
    frame
}

/// A frame with an ICMPv6 message whose checksum is right.
pub fn icmp(source: Ipv6Addr, destination: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&source, &destination);
    frame(source, destination, ICMPV6, hops, &message)
}

fn with_mac(mut message: Vec<u8>, option: u8, mac: Option<[u8; 6]>) -> Vec<u8> {
    if let Some(mac) = mac {
        message.extend([option, 1]);
        message.extend(mac);
    }
    message
}

/// Somebody asks for `target`.
pub fn solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    mac: Option<[u8; 6]>,
) -> Vec<u8> {
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..]].concat();
    icmp(source, destination, 255, &with_mac(message, 1, mac))
}

/// Somebody says that it has `target`; flags as in the message.
pub fn advertisement(
    destination: Ipv6Addr,
    target: Ipv6Addr,
    flags: u8,
    mac: Option<[u8; 6]>,
) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, flags, 0, 0, 0], &target.octets()[..]].concat();
    icmp(target, destination, 255, &with_mac(message, 2, mac))
}

/// The router is there for some seconds, with these options.
pub fn router_advertisement(lifetime: u16, options: &[&[u8]]) -> Vec<u8> {
    let [a, b] = lifetime.to_be_bytes();
    let mut message = vec![134, 0, 0, 0, 64, 0, a, b, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend(options.concat());
    let message = with_mac(message, 1, Some(ROUTER_MAC));
    icmp(ROUTER, ALL_NODES, 255, &message)
}

/// The option for a prefix of 64 bits that addresses are made of.
pub fn prefix_option(prefix: Ipv6Addr, valid: u32, preferred: u32) -> Vec<u8> {
    let mut option = vec![3, 4, 64, 0xc0];
    option.extend(valid.to_be_bytes());
    option.extend(preferred.to_be_bytes());
    option.extend([0; 4]);
    option.extend(prefix.octets());
    option
}

/// A datagram from the peer's port 5000 to a port; the checksum is right.
pub fn datagram(source: Ipv6Addr, destination: Ipv6Addr, port: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0x13, 0x88, 0, 0, 0, 0, 0, 0], data].concat();
    let len = bytes.len() as u16;
    let mut packet = UdpPacket::new_unchecked(&mut bytes);
    packet.set_dst_port(port);
    packet.set_len(len);
    packet.fill_checksum(&source.into(), &destination.into());
    bytes
}

/// A SYN from the peer's port 40000 to port 80.
pub fn syn(source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    let mut packet = TcpPacket::new_unchecked(&mut bytes);
    packet.set_src_port(40_000);
    packet.set_dst_port(80);
    packet.set_header_len(20);
    packet.set_syn(true);
    packet.set_window_len(1000);
    packet.fill_checksum(&source.into(), &destination.into());
    bytes
}

/// A frame that was sent, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub mac: [u8; 6],
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub hops: u8,
    pub next: u8,
    pub payload: Vec<u8>,
}

/// The next frame sent that is no report about multicast groups.
pub fn take(host: &mut Host) -> Option<Sent> {
    core::iter::from_fn(|| take_any(host)).find(|sent| sent.next != 0)
}

/// The next frame sent; its checksums are right.
pub fn take_any(host: &mut Host) -> Option<Sent> {
    let bytes = host.wire.sent.pop_front()?;
    assert!(checked_frame(&bytes));
    let frame = EthernetFrame::new_checked(&bytes[..]).expect("an Ethernet frame");
    assert_eq!(frame.src_addr().0, LOCAL_MAC);
    let packet = Ipv6Packet::new_checked(frame.payload()).expect("an IPv6 packet");
    assert_eq!(packet.version(), 6);
    assert_eq!(packet.total_len(), frame.payload().len());
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    if packet.next_header() == IpProtocol::Icmpv6 {
        let icmp = Icmpv6Packet::new_checked(packet.payload()).expect("an ICMPv6 message");
        assert!(icmp.verify_checksum(&source, &destination));
    }
    Some(Sent {
        mac: frame.dst_addr().0,
        source,
        destination,
        hops: packet.hop_limit(),
        next: packet.next_header().into(),
        payload: packet.payload().to_vec(),
    })
}
