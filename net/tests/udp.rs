//! UDP and the ICMP errors that it causes, frame by frame.

use core::net::Ipv4Addr;
use ix_abi::Error;
use ix_hal::{Fragment, Instant, MbufId};
use ix_net::testing::{APP_BUS, Host, checked_frame};
use ix_net::{Config, Endpoint, Event};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4DstUnreachable,
    Icmpv4Message, Icmpv4Packet, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

const START: Instant = Instant(1 << 40);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const LOCAL_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const PEER_PORT: u16 = 4000;

fn host() -> Host {
    let config = Config {
        mac: LOCAL_MAC.0,
        ipv4: LOCAL,
        connections: 16,
        time_wait: 16,
        mbufs: 64,
        udp_ports: 2,
        udp_port_mbufs: 3,
        udp_mbufs: 4,
        icmp_errors: 2,
        ..Config::default()
    };
    Host::new(config, START, 4096)
}

fn packet(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: LOCAL,
        next_header: protocol,
        payload_len: payload.len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: PEER_MAC,
        dst_addr: LOCAL_MAC,
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut bytes = vec![0; 34 + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &checksums);
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr {
        src_port: PEER_PORT,
        dst_port: port,
    };
    let mut bytes = vec![0; 8 + payload.len()];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes),
        &PEER.into(),
        &LOCAL.into(),
        payload.len(),
        |room| room.copy_from_slice(payload),
        &ChecksumCapabilities::default(),
    );
    packet(IpProtocol::Udp, &bytes)
}

fn count(host: &Host, name: &str) -> u64 {
    let mut counters = host.engine.counters().iter();
    let found = counters.find(|(found, _)| *found == name);
    found.expect("a counter of that name").1
}

/// The datagram delivered last: local port, buffer, payload.
fn delivered(host: &mut Host) -> Option<(u16, MbufId, Vec<u8>)> {
    let Event::Datagram {
        peer,
        local_port,
        mbuf,
        offset,
        len,
    } = host.queue.events.pop_front()?
    else {
        panic!("not a datagram");
    };
    assert_eq!((peer.address, peer.port), (PEER.into(), PEER_PORT));
    let payload = host.mbuf_bytes(mbuf, offset, len).to_vec();
    Some((local_port, mbuf, payload))
}

fn give_back(host: &mut Host, mbuf: MbufId) -> Result<(), Error> {
    host.with(|engine, cx| engine.udp_recv_done(cx, mbuf))
}

fn send(host: &mut Host, port: u16, to: Ipv4Addr, lens: &[u32]) -> Result<(), Error> {
    let remote = Endpoint {
        address: to.into(),
        port: PEER_PORT,
    };
    let mut bus = APP_BUS;
    let fragment = |&len: &u32| {
        bus += u64::from(len);
        let bus = bus - u64::from(len);
        Fragment { bus, len }
    };
    let fragments: Vec<_> = lens.iter().map(fragment).collect();
    host.with(|engine, cx| engine.udp_send(cx, port, remote, &fragments))
}

/// The host knows the peer's station.
fn introduce(host: &mut Host) {
    assert_eq!(send(host, 53, PEER, &[]), Err(Error::TryAgain));
    host.turn();
    let request = host.wire.sent.pop_front().expect("an ARP request");
    let mut reply = request.clone();
    reply[..6].copy_from_slice(&LOCAL_MAC.0);
    reply[6..12].copy_from_slice(&PEER_MAC.0);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&PEER_MAC.0);
    reply[28..32].copy_from_slice(&PEER.octets());
    reply[32..38].copy_from_slice(&LOCAL_MAC.0);
    reply[38..42].copy_from_slice(&LOCAL.octets());
    host.receive(&reply);
}

#[test]
fn datagrams_are_delivered_by_port_with_their_own_length() {
    let mut host = host();
    host.engine.udp_bind(53).unwrap();
    host.engine.udp_bind(54).unwrap();
    let mut padded = datagram(53, b"short");
    padded.resize(60, 0xee);
    host.receive(&padded);
    host.receive(&datagram(54, b""));
    let (port, first, payload) = delivered(&mut host).expect("the first");
    assert_eq!((port, &payload[..]), (53, &b"short"[..]));
    let (port, second, payload) = delivered(&mut host).expect("the second");
    assert_eq!((port, &payload[..]), (54, &b""[..]));
    assert_eq!(host.mbufs_out(), 2);
    give_back(&mut host, second).unwrap();
    give_back(&mut host, first).unwrap();
    assert_eq!(host.mbufs_out(), 0);
    assert_eq!(count(&host, "UdpInDatagrams"), 2);
}

#[test]
fn buffers_are_given_back_once_and_only_by_their_holder() {
    let mut host = host();
    host.engine.udp_bind(53).unwrap();
    host.receive(&datagram(53, b"x"));
    let (_, mbuf, _) = delivered(&mut host).unwrap();
    for other in [MbufId(mbuf.0 ^ 1), MbufId(63), MbufId(64), MbufId(u32::MAX)] {
        assert_eq!(give_back(&mut host, other), Err(Error::BadHandle));
    }
    assert_eq!(give_back(&mut host, mbuf), Ok(()));
    assert_eq!(give_back(&mut host, mbuf), Err(Error::BadHandle));
}

#[test]
fn a_port_and_all_ports_hold_so_many_buffers_and_no_more() {
    let mut host = host();
    host.engine.udp_bind(53).unwrap();
    host.engine.udp_bind(54).unwrap();
    for _ in 0..5 {
        host.receive(&datagram(53, b"x"));
    }
    assert_eq!((host.mbufs_out(), count(&host, "UdpRcvbufErrors")), (3, 2));
    for _ in 0..5 {
        host.receive(&datagram(54, b"x"));
    }
    assert_eq!((host.mbufs_out(), count(&host, "UdpRcvbufErrors")), (4, 6));
    let (_, mbuf, _) = delivered(&mut host).unwrap();
    give_back(&mut host, mbuf).unwrap();
    host.receive(&datagram(53, b"y"));
    assert_eq!((host.mbufs_out(), count(&host, "UdpRcvbufErrors")), (4, 6));
}

#[test]
fn ports_are_bound_once_within_the_table_and_free_again_with_their_last_buffer() {
    let mut host = host();
    assert_eq!(host.engine.udp_bind(0), Err(Error::Invalid));
    assert_eq!(host.engine.udp_bind(53), Ok(()));
    assert_eq!(host.engine.udp_bind(53), Err(Error::InUse));
    assert_eq!(host.engine.udp_bind(54), Ok(()));
    assert_eq!(host.engine.udp_bind(55), Err(Error::Exhausted));
    host.receive(&datagram(53, b"x"));
    let (_, mbuf, _) = delivered(&mut host).unwrap();
    assert_eq!(host.engine.udp_unbind(53), Ok(()));
    assert_eq!(host.engine.udp_unbind(53), Err(Error::BadState));
    assert_eq!(host.engine.udp_bind(55), Err(Error::Exhausted));
    give_back(&mut host, mbuf).unwrap();
    assert_eq!(host.engine.udp_bind(55), Ok(()));
}

#[test]
fn wrong_checksums_and_lengths_are_dropped_and_counted() {
    let mut host = host();
    host.engine.udp_bind(53).unwrap();
    let good = datagram(53, b"hello");
    // Each of them sometimes with the NIC's verdict and sometimes without.
    for _ in 0..4 {
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        host.receive(&bad);
    }
    let dropped = count(&host, "UdpInCsumErrors") + count(&host, "IxRxBadChecksum");
    assert_eq!((dropped, count(&host, "UdpInCsumErrors")), (4, 1));
    for len in [0, 7, 14, 0xffff] {
        let mut bad = good.clone();
        bad[38..40].copy_from_slice(&u16::to_be_bytes(len));
        bad[40..42].copy_from_slice(&[0, 0]);
        host.receive(&bad);
    }
    assert_eq!(count(&host, "UdpInErrors"), 1 + 4);
    host.receive(&packet(IpProtocol::Udp, &[0; 7]));
    let dropped = count(&host, "UdpInErrors") + count(&host, "IxRxBadChecksum");
    assert_eq!(dropped, 4 + 5);
    assert_eq!((host.mbufs_out(), host.queue.events.len()), (0, 0));
}

#[test]
fn datagrams_without_a_checksum_are_taken() {
    let mut host = host();
    host.engine.udp_bind(53).unwrap();
    let mut bytes = datagram(53, b"hello");
    bytes[40..42].copy_from_slice(&[0, 0]);
    host.receive(&bytes);
    assert_eq!(delivered(&mut host).unwrap().2, b"hello");
}

#[test]
fn a_port_that_nobody_bound_is_unreachable_within_the_rate_limit() {
    let mut host = host();
    let bytes = datagram(9, b"anybody?");
    for _ in 0..3 {
        host.receive(&bytes);
    }
    assert_eq!(count(&host, "UdpNoPorts"), 3);
    assert_eq!(count(&host, "IcmpOutDestUnreachs"), 2);
    assert_eq!(count(&host, "IcmpOutRateLimitGlobal"), 1);
    let error = host.wire.sent.pop_front().expect("an error");
    assert!(checked_frame(&error));
    let frame = EthernetFrame::new_checked(&error[..]).unwrap();
    assert_eq!(frame.dst_addr(), PEER_MAC);
    let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
    assert_eq!((ip.src_addr(), ip.dst_addr()), (LOCAL, PEER));
    let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
    assert!(icmp.verify_checksum());
    assert_eq!(icmp.msg_type(), Icmpv4Message::DstUnreachable);
    let code = Icmpv4DstUnreachable::from(icmp.msg_code());
    assert_eq!(code, Icmpv4DstUnreachable::PortUnreachable);
    // The header and eight bytes.
    assert_eq!(icmp.data(), &bytes[14..42]);
}

#[test]
fn an_unknown_protocol_is_unreachable() {
    let mut host = host();
    host.receive(&packet(IpProtocol::Unknown(132), &[1, 2, 3]));
    let error = host.wire.sent.pop_front().expect("an error");
    assert_eq!(error[34..36], [3, 2]);
}

#[test]
fn a_datagram_is_sent_from_its_pieces_with_a_checksum() {
    let mut host = host();
    host.wire.app[..6].copy_from_slice(b"foobar");
    host.engine.udp_bind(53).unwrap();
    introduce(&mut host);
    for lens in [&[][..], &[6], &[1, 2, 3], &[1; 6]] {
        send(&mut host, 53, PEER, lens).unwrap();
        let bytes = host.wire.sent.pop_front().expect("a datagram");
        assert!(checked_frame(&bytes));
        let ip = Ipv4Packet::new_checked(&bytes[14..]).unwrap();
        assert_eq!(ip.dst_addr(), PEER);
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&LOCAL.into(), &PEER.into()));
        assert_eq!((udp.src_port(), udp.dst_port()), (53, PEER_PORT));
        let len = lens.iter().sum::<u32>() as usize;
        assert_eq!(udp.payload(), &b"foobar"[..len]);
    }
    assert_eq!(host.wire.user_frames, 4);
    assert_eq!(count(&host, "UdpOutDatagrams"), 4);
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let mut host = host();
    assert_eq!(send(&mut host, 53, PEER, &[1]), Err(Error::BadState));
    host.engine.udp_bind(53).unwrap();
    introduce(&mut host);
    assert_eq!(send(&mut host, 53, PEER, &[1473]), Err(Error::TooLong));
    assert_eq!(
        send(&mut host, 53, PEER, &[u32::MAX; 8]),
        Err(Error::TooLong)
    );
    assert_eq!(send(&mut host, 53, PEER, &[1; 9]), Err(Error::Invalid));
    let away = Ipv4Addr::new(192, 0, 2, 1);
    assert_eq!(send(&mut host, 53, away, &[1]), Err(Error::Unreachable));
    for nobody in [Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED] {
        assert_eq!(send(&mut host, 53, nobody, &[1]), Err(Error::Unreachable));
    }
    host.wire.capacity = 0;
    assert_eq!(send(&mut host, 53, PEER, &[1]), Err(Error::TryAgain));
    assert_eq!(count(&host, "UdpSndbufErrors"), 1);
    host.wire.capacity = 1;
    assert_eq!(send(&mut host, 53, PEER, &[1472]), Ok(()));
    assert_eq!(host.wire.user_frames, 1);
}
