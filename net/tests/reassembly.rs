//! IPv4 fragments: what is put together, and what is dropped.

use core::net::Ipv4Addr;
use ix_hal::Instant;
use ix_net::testing::{Host, Random, checked_frame};
use ix_net::{Config, Event};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, Icmpv4Repr,
    IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr,
};

const START: Instant = Instant(1 << 40);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const LOCAL_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
/// Most payload of an IP packet that fits into a buffer behind the longest header.
const MOST: usize = 2048 - 14 - 60;

fn host() -> Host {
    host_of_mtu(1500)
}

fn host_of_mtu(mtu: u16) -> Host {
    let config = Config {
        mtu,
        mac: LOCAL_MAC.0,
        ipv4: LOCAL,
        connections: 16,
        time_wait: 16,
        mbufs: 64,
        reassemblies: 2,
        ..Config::default()
    };
    let mut host = Host::new(config, START, 4096);
    host.engine.udp_bind(53).unwrap();
    host
}

/// A fragment: these bytes of the payload of datagram `id`.
fn fragment(id: u16, payload: &[u8], range: core::ops::Range<usize>) -> Vec<u8> {
    let is_last = range.end == payload.len();
    piece(id, IpProtocol::Udp, range.start, is_last, &payload[range])
}

fn piece(id: u16, protocol: IpProtocol, at: usize, is_last: bool, bytes: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: LOCAL,
        next_header: protocol,
        payload_len: bytes.len(),
        hop_limit: 64,
    };
    let ethernet = EthernetRepr {
        src_addr: PEER_MAC,
        dst_addr: LOCAL_MAC,
        ethertype: EthernetProtocol::Ipv4,
    };
    let mut frame_bytes = vec![0; 34 + bytes.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut frame_bytes);
    ethernet.emit(&mut frame);
    let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    packet.set_dont_frag(false);
    packet.set_ident(id);
    packet.set_frag_offset(at as u16);
    packet.set_more_frags(!is_last);
    packet.fill_checksum();
    packet.payload_mut().copy_from_slice(bytes);
    frame_bytes
}

/// A UDP datagram with `len` bytes in it, without IP header.
fn datagram(len: usize) -> Vec<u8> {
    let udp = UdpRepr {
        src_port: 4000,
        dst_port: 53,
    };
    let mut bytes = vec![0; 8 + len];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes),
        &PEER.into(),
        &LOCAL.into(),
        len,
        |room| {
            for (at, byte) in room.iter_mut().enumerate() {
                *byte = (at * 7 + at / 256) as u8;
            }
        },
        &ChecksumCapabilities::default(),
    );
    bytes
}

fn count(host: &Host, name: &str) -> u64 {
    let mut counters = host.engine.counters().iter();
    let found = counters.find(|(found, _)| *found == name);
    found.expect("a counter of that name").1
}

/// Takes the datagram that was delivered and gives its buffer back.
fn delivered(host: &mut Host) -> Option<Vec<u8>> {
    let Event::Datagram {
        mbuf, offset, len, ..
    } = host.queue.events.pop_front()?
    else {
        panic!("not a datagram");
    };
    let bytes = host.mbuf_bytes(mbuf, offset, len).to_vec();
    host.with(|engine, cx| engine.udp_recv_done(cx, mbuf))
        .expect("a buffer that is held");
    Some(bytes)
}

fn wait(host: &mut Host, seconds: u64) {
    host.now = Instant(host.now.0 + seconds * 1_000_000_000);
    host.turn();
}

#[test]
fn fragments_are_put_together_in_any_order() {
    let whole = datagram(1400);
    let ranges = [0..512, 512..1000, 1000..1008, 1008..1408];
    let mut random = Random::new(7);
    for id in 0..100 {
        let mut host = host();
        let mut frames: Vec<_> = ranges
            .iter()
            .map(|range| fragment(id, &whole, range.clone()))
            .collect();
        for at in (1..frames.len()).rev() {
            frames.swap(at, random.below(at as u64 + 1) as usize);
        }
        for frame in &frames {
            assert!(host.queue.events.is_empty());
            host.receive(frame);
        }
        assert_eq!(delivered(&mut host).as_deref(), Some(&whole[8..]));
        assert_eq!(host.mbufs_out(), 0);
        assert_eq!(count(&host, "IpReasmOKs"), 1);
    }
}

#[test]
fn a_datagram_as_long_as_a_buffer_is_delivered_and_a_longer_one_is_not() {
    for (len, is_delivered) in [(MOST - 8, true), (MOST - 7, false)] {
        let mut host = host();
        let whole = datagram(len);
        host.receive(&fragment(1, &whole, 0..1480));
        host.receive(&fragment(1, &whole, 1480..whole.len()));
        assert_eq!(delivered(&mut host).is_some(), is_delivered);
        wait(&mut host, 31);
        assert_eq!(host.mbufs_out(), 0);
    }
}

/// A jumbo datagram over a path of 1500 bytes, and over the narrowest one.
#[test]
fn jumbo_datagrams_are_put_together_from_many_fragments() {
    // In a buffer of 16 KiB.
    for (len, step) in [(8972, 1480), (16_000, 1480), (16_000, 552), (16_000, 8976)] {
        let mut host = host_of_mtu(9000);
        let whole = datagram(len);
        let starts: Vec<usize> = (0..whole.len()).step_by(step).collect();
        for &start in starts.iter().rev() {
            assert!(host.queue.events.is_empty());
            let end = whole.len().min(start + step);
            host.receive(&fragment(3, &whole, start..end));
        }
        assert_eq!(delivered(&mut host).as_deref(), Some(&whole[8..]));
        assert_eq!(host.mbufs_out(), 0);
    }
}

#[test]
fn datagrams_of_different_names_do_not_mix() {
    let mut host = host();
    let (one, other) = (datagram(1000), datagram(900));
    host.receive(&fragment(1, &one, 0..512));
    host.receive(&fragment(2, &other, 512..908));
    host.receive(&fragment(2, &other, 0..512));
    host.receive(&fragment(1, &one, 512..1008));
    assert_eq!(delivered(&mut host).as_deref(), Some(&other[8..]));
    assert_eq!(delivered(&mut host).as_deref(), Some(&one[8..]));
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn a_repeated_fragment_does_no_harm_and_an_overlap_ends_the_datagram() {
    let mut host = host();
    let whole = datagram(1000);
    host.receive(&fragment(1, &whole, 0..512));
    host.receive(&fragment(1, &whole, 0..512));
    assert_eq!(host.mbufs_out(), 1);
    host.receive(&fragment(1, &whole, 512..1008));
    assert!(delivered(&mut host).is_some());

    for overlapping in [0..520, 0..8, 504..1000, 8..16, 496..1008] {
        host.receive(&fragment(2, &whole, 0..512));
        let before = count(&host, "IpReasmOverlaps");
        host.receive(&fragment(2, &whole, overlapping));
        assert_eq!(count(&host, "IpReasmOverlaps"), before + 1);
        assert_eq!(host.mbufs_out(), 0);
    }
}

#[test]
fn contradicting_ends_and_malformed_fragments_are_dropped() {
    let mut host = host();
    let bytes = [0; 64];
    let udp = IpProtocol::Udp;
    // Two ends.
    host.receive(&piece(1, udp, 64, true, &bytes));
    host.receive(&piece(1, udp, 128, true, &bytes));
    assert_eq!(host.mbufs_out(), 0);
    // Something behind the end, in either order.
    for [first, second] in [[(64, true), (128, false)], [(128, false), (64, true)]] {
        host.receive(&piece(2, udp, first.0, first.1, &bytes));
        host.receive(&piece(2, udp, second.0, second.1, &bytes));
        assert_eq!(host.mbufs_out(), 0);
    }
    assert_eq!(count(&host, "IpReasmOverlaps"), 3);
    // Nothing in it, no multiple of eight, beyond any buffer.
    host.receive(&piece(3, udp, 64, false, &[]));
    host.receive(&piece(3, udp, 64, false, &bytes[..63]));
    host.receive(&piece(3, udp, 65_528, true, &bytes));
    assert_eq!(host.mbufs_out(), 0);
    assert_eq!(count(&host, "IpReasmReqds"), 6 + 3);
}

#[test]
fn what_stays_incomplete_is_bounded_in_memory_and_time() {
    let mut host = host();
    let whole = datagram(1000);
    for id in 0..50 {
        host.receive(&fragment(id, &whole, 0..512));
    }
    assert_eq!(
        (host.mbufs_out(), count(&host, "IxIpReasmEvictions")),
        (2, 48)
    );
    // Crumbs: more of them than a datagram may have.
    for at in 0..33 {
        host.receive(&fragment(99, &whole, at * 8..at * 8 + 8));
    }
    assert_eq!(host.mbufs_out(), 1);
    let deadline = host.engine.next_deadline().expect("a timer");
    assert!(deadline.0 <= host.now.0 + 30_000_000_000);
    wait(&mut host, 31);
    assert_eq!((host.mbufs_out(), count(&host, "IpReasmTimeout")), (0, 1));
    assert_eq!(host.engine.next_deadline(), None);
}

#[test]
fn the_sender_of_a_first_fragment_is_told_that_the_others_did_not_come() {
    let mut host = host();
    let whole = datagram(100);
    let first = fragment(1, &whole, 0..64);
    host.receive(&first);
    host.receive(&fragment(2, &whole, 64..whole.len()));
    wait(&mut host, 31);
    let bytes = host.wire.sent.pop_front().expect("a message");
    assert!(checked_frame(&bytes));
    let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
    assert_eq!(frame.dst_addr(), PEER_MAC);
    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
    assert_eq!((packet.src_addr(), packet.dst_addr()), (LOCAL, PEER));
    let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
    assert!(icmp.verify_checksum());
    // Time exceeded in reassembly, with the header and eight bytes (RFC 792).
    assert_eq!((icmp.msg_type().into(), icmp.msg_code()), (11, 1));
    assert_eq!(packet.payload()[8..], first[14..14 + 28]);
    assert_eq!(
        host.wire.sent.pop_front(),
        None,
        "nothing about a later one"
    );
    assert_eq!(count(&host, "IcmpOutTimeExcds"), 1);
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn an_echo_request_in_fragments_is_answered_if_the_reply_fits() {
    for (len, is_answered) in [(1000, true), (1472, true), (1473, false)] {
        let mut host = host();
        let data = vec![0x5a; len];
        let echo = Icmpv4Repr::EchoRequest {
            ident: 1,
            seq_no: 2,
            data: &data,
        };
        let mut bytes = vec![0; echo.buffer_len()];
        let checksums = ChecksumCapabilities::default();
        echo.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes), &checksums);
        host.receive(&piece(1, IpProtocol::Icmp, 0, false, &bytes[..512]));
        host.receive(&piece(1, IpProtocol::Icmp, 512, true, &bytes[512..]));
        let reply = host.wire.sent.pop_front();
        assert_eq!(reply.is_some(), is_answered, "{len} bytes");
        assert!(reply.is_none_or(|reply| checked_frame(&reply) && reply[42..] == data));
        assert_eq!(host.mbufs_out(), 0);
    }
}

#[test]
fn a_wrong_checksum_across_fragments_is_found() {
    let mut host = host();
    let mut whole = datagram(1000);
    whole[800] ^= 1;
    host.receive(&fragment(1, &whole, 0..512));
    host.receive(&fragment(1, &whole, 512..1008));
    assert_eq!(count(&host, "UdpInCsumErrors"), 1);
    assert_eq!((host.mbufs_out(), delivered(&mut host)), (0, None));
}
