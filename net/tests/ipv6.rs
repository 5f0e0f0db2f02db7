//! IPv6 above its neighbours: echo, UDP, extension headers, fragments, and errors both ways.

mod support6;

use core::net::Ipv6Addr;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Fragment, Instant, RxChecksum};
use ix_net::testing::{APP_BUS, Host};
use ix_net::{Endpoint, Event};
use smoltcp::wire::{Icmpv6Message, Icmpv6Packet, TcpPacket, UdpPacket};
use support6::*;

const PORT: u16 = 53;

fn bound() -> Host {
    let mut host = introduced();
    host.engine.udp_bind(PORT).expect("a free port");
    host
}

/// The payload of the next datagram that was delivered.
fn delivered(host: &mut Host) -> Option<Vec<u8>> {
    let Event::Datagram {
        peer,
        local_port,
        mbuf,
        offset,
        len,
    } = host.queue.events.pop_front()?
    else {
        panic!("a datagram");
    };
    assert_eq!(
        (peer.address, peer.port, local_port),
        (PEER.into(), 5000, PORT)
    );
    let data = host.mbuf_bytes(mbuf, offset, len).to_vec();
    host.with(|engine, cx| engine.udp_recv_done(cx, mbuf))
        .unwrap();
    Some(data)
}

/// The next message that was sent: type, code, what follows, and what it quotes.
fn error(host: &mut Host) -> Option<(u8, u8, u32, Vec<u8>)> {
    let sent = take(host)?;
    assert_eq!(
        (sent.next, sent.mac, sent.destination),
        (ICMPV6, PEER_MAC, PEER)
    );
    let word = sent.payload[4..8].try_into().unwrap();
    let word = u32::from_be_bytes(word);
    Some((
        sent.payload[0],
        sent.payload[1],
        word,
        sent.payload[8..].to_vec(),
    ))
}

/// An extension header of one unit.
fn header(next: u8, rest: [u8; 7]) -> [u8; 8] {
    let [a, b, c, d, e, f, g] = rest;
    [next, a, b, c, d, e, f, g]
}

/// Options that ask for nothing.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

#[test]
fn echo_request_is_answered_with_its_own_bytes() {
    for len in [0, 1, 56, 1452] {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut host = introduced();
        let request = [&[128, 0, 0, 0, 1, 2, 3, 4], &data[..]].concat();
        host.receive(&icmp(PEER, LOCAL, 64, &request));
        let sent = take(&mut host).expect("a reply");
        let message = Icmpv6Packet::new_checked(&sent.payload[..]).unwrap();
        assert_eq!(message.msg_type(), Icmpv6Message::EchoReply);
        assert_eq!(
            (message.echo_ident(), message.echo_seq_no()),
            (0x0102, 0x0304)
        );
        assert_eq!(message.payload(), data);
        assert_eq!(
            (sent.source, sent.destination, sent.hops),
            (LOCAL, PEER, 64)
        );
        assert_eq!(host.mbufs_out(), 0);
    }
    let mut host = introduced();
    let request = [128, 0, 0, 0, 1, 2, 3, 4];
    host.receive(&icmp(PEER, ALL_NODES, 64, &request));
    host.receive(&icmp(ALL_NODES, LOCAL, 64, &request));
    host.receive(&icmp(LOCAL, LOCAL, 64, &request));
    host.receive(&frame(PEER, LOCAL, ICMPV6, 64, &request));
    assert_eq!((take(&mut host), host.mbufs_out()), (None, 0));
    assert_eq!(count(&host, "Icmp6InErrors"), 1);
}

#[test]
fn datagrams_go_both_ways() {
    let mut host = bound();
    for verdict in [RxChecksum::Good, RxChecksum::Unchecked] {
        let bytes = frame(
            PEER,
            LOCAL,
            UDP,
            64,
            &datagram(PEER, LOCAL, PORT, b"question"),
        );
        host.receive_as(&bytes, verdict);
        assert_eq!(delivered(&mut host).as_deref(), Some(&b"question"[..]));
    }
    let send = |host: &mut Host, len| {
        let piece = [Fragment { bus: APP_BUS, len }];
        let remote = Endpoint {
            address: PEER.into(),
            port: 5000,
        };
        host.with(|engine, cx| engine.udp_send(cx, PORT, remote, &piece))
    };
    assert_eq!(send(&mut host, 1452), Ok(()));
    let sent = take(&mut host).expect("a datagram");
    assert_eq!(
        (sent.source, sent.destination, sent.mac),
        (LOCAL, PEER, PEER_MAC)
    );
    let packet = UdpPacket::new_checked(&sent.payload[..]).unwrap();
    assert!(packet.verify_checksum(&LOCAL.into(), &PEER.into()));
    assert_eq!((packet.dst_port(), packet.payload().len()), (5000, 1452));
    assert_eq!(send(&mut host, 1453), Err(Error::TooLong));
}

#[test]
fn datagram_without_a_checksum_is_refused_whatever_the_nic_says() {
    let mut host = bound();
    let mut bytes = datagram(PEER, LOCAL, PORT, b"question");
    bytes[6..8].fill(0);
    for verdict in [RxChecksum::Good, RxChecksum::Unchecked] {
        host.receive_as(&frame(PEER, LOCAL, UDP, 64, &bytes), verdict);
    }
    assert_eq!(delivered(&mut host), None);
    assert_eq!(count(&host, "UdpInCsumErrors"), 2);
}

#[test]
fn datagram_to_a_port_that_nobody_bound_is_reported_with_as_much_as_fits() {
    let mut host = introduced();
    for (len, quoted) in [(10, 58), (1400, 1232)] {
        let bytes = frame(
            PEER,
            LOCAL,
            UDP,
            64,
            &datagram(PEER, LOCAL, 99, &vec![7; len]),
        );
        host.receive(&bytes);
        let quote = bytes[14..14 + quoted].to_vec();
        assert_eq!(error(&mut host), Some((1, 4, 0, quote)));
        assert_eq!(host.mbufs_out(), 0);
    }
    host.receive(&frame(
        PEER,
        ALL_NODES,
        UDP,
        64,
        &datagram(PEER, ALL_NODES, 99, b""),
    ));
    assert_eq!(take(&mut host), None);
}

#[test]
fn errors_are_sent_at_a_limited_rate() {
    let mut config = config();
    config.icmp_errors = 2;
    let mut host = host(config);
    for _ in 0..5 {
        host.receive(&frame(
            PEER,
            LOCAL,
            UDP,
            64,
            &datagram(PEER, LOCAL, 99, b""),
        ));
    }
    assert_eq!(count(&host, "Icmp6OutDestUnreachs"), 2);
    assert_eq!(count(&host, "IcmpOutRateLimitGlobal"), 3);
}

#[test]
fn transport_is_found_behind_extension_headers() {
    let mut host = bound();
    let data = datagram(PEER, LOCAL, PORT, b"question");
    let headers = [
        header(60, PADDING),
        header(43, PADDING),
        header(UDP, [0, 0, 0, 0, 0, 0, 0]),
    ];
    let payload = [headers.as_flattened(), &data].concat();
    host.receive(&frame(PEER, LOCAL, 0, 64, &payload));
    assert_eq!(delivered(&mut host).as_deref(), Some(&b"question"[..]));
    host.engine.listen(80).unwrap();
    let payload = [&header(TCP, PADDING)[..], &syn(PEER, LOCAL)].concat();
    host.receive(&frame(PEER, LOCAL, 60, 64, &payload));
    assert!(matches!(
        host.queue.events.pop_front(),
        Some(Event::Knock { .. })
    ));
    let mut damaged = frame(PEER, LOCAL, 60, 64, &payload);
    *damaged.last_mut().unwrap() ^= 1;
    host.receive_as(&damaged, RxChecksum::Unchecked);
    assert_eq!(count(&host, "TcpInCsumErrors"), 1);
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn headers_that_are_not_known_are_reported_where_they_are_named() {
    let mut host = introduced();
    let problem = |host: &mut Host, next, payload: &[u8]| {
        let bytes = frame(PEER, LOCAL, next, 64, payload);
        host.receive(&bytes);
        let (kind, code, pointer, quote) = error(host)?;
        assert_eq!(quote, bytes[14..]);
        Some((kind, code, pointer))
    };
    let data = [0; 8];
    assert_eq!(problem(&mut host, 132, &data), Some((4, 1, 6)));
    let behind = [header(132, PADDING), data];
    assert_eq!(
        problem(&mut host, 60, behind.as_flattened()),
        Some((4, 1, 40))
    );
    let source_route = [header(UDP, [2, 0, 1, 0, 0, 0, 0]), data, data, data];
    assert_eq!(
        problem(&mut host, 43, source_route.as_flattened()),
        Some((4, 0, 42))
    );
    let option = [header(UDP, [0, 0xc1, 4, 0, 0, 0, 0]), data];
    assert_eq!(
        problem(&mut host, 60, option.as_flattened()),
        Some((4, 2, 42))
    );
    let silent = [header(UDP, [0, 0x41, 4, 0, 0, 0, 0]), data];
    assert_eq!(problem(&mut host, 60, silent.as_flattened()), None);
    assert_eq!(problem(&mut host, 59, &data), None);
    assert_eq!(count(&host, "Ip6InUnknownProtos"), 2);
    let error_behind = [header(ICMPV6, [0, 0xc1, 4, 0, 0, 0, 0]), [1; 8]];
    assert_eq!(problem(&mut host, 60, error_behind.as_flattened()), None);
    // To a group, only where the option wants it.
    for (kind, is_told) in [(0xc1, false), (0x81, true)] {
        let option = [header(UDP, [0, kind, 4, 0, 0, 0, 0]), data];
        host.receive(&frame(PEER, ALL_NODES, 60, 64, option.as_flattened()));
        assert_eq!(error(&mut host).is_some(), is_told);
    }
    assert_eq!(host.mbufs_out(), 0);
}

/// A fragment: which bytes of `whole`, behind an identification.
fn fragment(id: u8, whole: &[u8], range: core::ops::Range<usize>, next: u8) -> Vec<u8> {
    let is_last = range.end == whole.len();
    let [high, low] = (range.start as u16 | u16::from(!is_last)).to_be_bytes();
    let payload = [
        &header(next, [0, high, low, 0, 0, 0, id])[..],
        &whole[range],
    ]
    .concat();
    frame(PEER, LOCAL, 44, 64, &payload)
}

#[test]
fn fragments_are_put_together_in_any_order() {
    let mut host = bound();
    let data: Vec<u8> = (0..1800).map(|at| at as u8).collect();
    let whole = datagram(PEER, LOCAL, PORT, &data);
    let parts = [0..800, 800..1600, 1600..whole.len()];
    for (id, order) in [[0, 1, 2], [2, 1, 0], [1, 0, 2]].into_iter().enumerate() {
        for part in order {
            assert_eq!(delivered(&mut host), None);
            host.receive(&fragment(id as u8, &whole, parts[part].clone(), UDP));
        }
        assert_eq!(delivered(&mut host).as_deref(), Some(&data[..]));
    }
    // Options behind the fragment header are part of what is cut; an echo comes in fragments too.
    let whole = [
        &header(UDP, PADDING)[..],
        &datagram(PEER, LOCAL, PORT, b"behind"),
    ]
    .concat();
    host.receive(&fragment(9, &whole, 0..16, 60));
    host.receive(&fragment(9, &whole, 16..whole.len(), 60));
    assert_eq!(delivered(&mut host).as_deref(), Some(&b"behind"[..]));
    let request = icmp(
        PEER,
        LOCAL,
        64,
        &[&[128, 0, 0, 0, 1, 2, 3, 4], &data[..32]].concat(),
    );
    host.receive(&fragment(10, &request[54..], 0..24, ICMPV6));
    host.receive(&fragment(10, &request[54..], 24..40, ICMPV6));
    let reply = take(&mut host).expect("a reply");
    assert_eq!((reply.payload[0], &reply.payload[8..]), (129, &data[..32]));
    assert_eq!(count(&host, "Ip6ReasmOKs"), 5);
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn fragments_that_overlap_are_all_dropped_and_an_atomic_one_is_a_whole() {
    let mut host = bound();
    let whole = datagram(PEER, LOCAL, PORT, &[7; 100]);
    host.receive(&fragment(1, &whole, 0..56, UDP));
    host.receive(&fragment(1, &whole, 48..whole.len(), UDP));
    assert_eq!((delivered(&mut host), host.mbufs_out()), (None, 0));
    assert_eq!(count(&host, "IpReasmOverlaps"), 1);
    // Another one with the same identification waits meanwhile (RFC 6946 4).
    host.receive(&fragment(2, &whole, 0..56, UDP));
    let atomic = datagram(PEER, LOCAL, PORT, b"atomic");
    host.receive(&fragment(2, &atomic, 0..atomic.len(), UDP));
    assert_eq!(delivered(&mut host).as_deref(), Some(&b"atomic"[..]));
    host.receive(&fragment(2, &whole, 56..whole.len(), UDP));
    assert_eq!(delivered(&mut host), Some(vec![7; 100]));
}

#[test]
fn fragments_that_cannot_be_are_reported() {
    let mut host = bound();
    let whole = datagram(PEER, LOCAL, PORT, &[7; 100]);
    let problem = |host: &mut Host, bytes: &[u8]| {
        host.receive(bytes);
        error(host).map(|(kind, code, pointer, _)| (kind, code, pointer))
    };
    // Not a multiple of 8, and not the last; beyond 65,535 bytes; without the whole chain.
    let odd = fragment(1, &whole, 0..52, UDP);
    assert_eq!(problem(&mut host, &odd), Some((4, 0, 4)));
    let mut beyond = fragment(2, &whole, 56..whole.len(), UDP);
    beyond[56..58].copy_from_slice(&[0xff, 0xf8]);
    assert_eq!(problem(&mut host, &beyond), Some((4, 0, 42)));
    let chain = [header(UDP, PADDING), [0; 8]];
    let short = fragment(3, chain.as_flattened(), 0..8, 60);
    assert_eq!(problem(&mut host, &short), Some((4, 3, 0)));
    assert_eq!(host.mbufs_out(), 0);
    assert_eq!(count(&host, "Ip6ReasmFails"), 3);
}

#[test]
fn sender_of_a_first_fragment_is_told_when_the_others_do_not_come() {
    let mut host = bound();
    let whole = datagram(PEER, LOCAL, PORT, &[7; 1400]);
    let first = fragment(1, &whole, 0..1304, UDP);
    host.receive(&first);
    host.receive(&fragment(2, &whole, 1304..whole.len(), UDP));
    advance(&mut host, 31 * SECOND);
    assert_eq!(
        error(&mut host),
        Some((3, 1, 0, first[14..14 + 1232].to_vec()))
    );
    assert_eq!(take(&mut host), None, "nothing about a later fragment");
    assert_eq!((count(&host, "Ip6ReasmTimeout"), host.mbufs_out()), (2, 0));
    assert_eq!(count(&host, "Icmp6OutTimeExcds"), 1);
}

/// A host with a connection that it opens, and the segment under way.
fn opening() -> (Host, Handle, Vec<u8>) {
    let mut host = introduced();
    let remote = Endpoint {
        address: PEER.into(),
        port: 80,
    };
    let handle = host
        .with(|engine, cx| engine.connect(cx, 7, remote))
        .unwrap();
    host.turn();
    let packet = host.wire.sent.pop_front().expect("a SYN")[14..].to_vec();
    (host, handle, packet)
}

/// The same, open, with a full segment under way.
fn open() -> (Host, Handle, Vec<u8>) {
    let (mut host, handle, packet) = opening();
    let sent = TcpPacket::new_checked(&packet[40..]).unwrap();
    let mut answer = vec![0; 24];
    answer[20..].copy_from_slice(&[2, 4, 0x05, 0xa0]);
    let mut packet = TcpPacket::new_unchecked(&mut answer);
    packet.set_src_port(80);
    packet.set_dst_port(sent.src_port());
    packet.set_header_len(24);
    packet.set_syn(true);
    packet.set_ack(true);
    packet.set_ack_number(sent.seq_number() + 1);
    packet.set_window_len(60_000);
    packet.fill_checksum(&PEER.into(), &LOCAL.into());
    host.receive(&frame(PEER, LOCAL, TCP, 64, &answer));
    host.queue.events.clear();
    let data = [Fragment {
        bus: APP_BUS,
        len: 5000,
    }];
    host.wire.segmentation = 0;
    host.with(|engine, cx| engine.send(cx, handle, &data))
        .unwrap();
    host.turn();
    let is_data = |frame: &Vec<u8>| frame.len() > 1400;
    let packet = host.wire.sent.iter().find(|frame| is_data(frame));
    let packet = packet.expect("a full segment")[14..].to_vec();
    host.wire.sent.clear();
    (host, handle, packet)
}

fn too_big(mtu: u32, packet: &[u8]) -> Vec<u8> {
    let message = [
        &[2, 0, 0, 0],
        &mtu.to_be_bytes()[..],
        &packet[..packet.len().min(1232)],
    ];
    icmp(ROUTER, LOCAL, 64, &message.concat())
}

#[test]
fn packet_too_big_shortens_the_segments_of_its_connection() {
    let (mut host, _, packet) = open();
    assert_eq!(packet.len(), 1500);
    // Not narrower, narrower than any link may be, and not under way: no news.
    let mut forged = packet.clone();
    forged[44..48].copy_from_slice(&[0, 0, 0, 1]);
    for no_news in [
        too_big(1500, &packet),
        too_big(1279, &packet),
        too_big(1300, &forged),
    ] {
        host.receive(&no_news);
    }
    assert_eq!(count(&host, "IxTcpPathMtuLowered"), 0);
    assert_eq!(count(&host, "TcpExtOutOfWindowIcmps"), 1);
    host.receive(&too_big(1300, &packet));
    assert_eq!(count(&host, "IxTcpPathMtuLowered"), 1);
    advance(&mut host, SECOND / 1000);
    let again = take(&mut host).expect("a shorter segment");
    assert_eq!(again.payload.len() + 40, 1300);
    assert_eq!(count(&host, "Icmp6InPktTooBigs"), 4);
}

#[test]
fn unreachable_port_ends_a_connection_that_is_not_open_and_no_other() {
    let unreachable = |packet: &[u8]| {
        let message = [&[1, 4, 0, 0, 0, 0, 0, 0], packet].concat();
        icmp(PEER, LOCAL, 64, &message)
    };
    let (mut host, handle, packet) = opening();
    host.receive(&unreachable(&packet));
    let outcome = Err(Error::Refused);
    let refused = Event::Connected {
        cookie: 7,
        handle,
        outcome,
    };
    assert_eq!(host.queue.events.pop_front(), Some(refused));
    let reason = DeadReason::Refused;
    let dead = Event::Dead {
        cookie: 7,
        reason,
        handle,
    };
    assert_eq!(host.queue.events.pop_front(), Some(dead));
    let (mut host, _, packet) = open();
    host.receive(&unreachable(&packet[..1232]));
    assert_eq!(host.queue.events.pop_front(), None);
    assert_eq!(count(&host, "Icmp6InDestUnreachs"), 1);
}

#[test]
fn segment_to_a_closed_port_is_reset_from_the_address_that_it_was_for() {
    let mut host = introduced();
    for own in [LOCAL, LINK_LOCAL] {
        let peer = Ipv6Addr::new(own.segments()[0], 0, 0, 0, 0, 0, 0, 9);
        host.receive(&frame(peer, own, TCP, 64, &syn(peer, own)));
        let sent = take(&mut host).expect("a RST");
        assert_eq!(
            (sent.source, sent.destination, sent.mac),
            (own, peer, PEER_MAC)
        );
        let tcp = TcpPacket::new_checked(&sent.payload[..]).unwrap();
        assert!(tcp.rst() && tcp.verify_checksum(&own.into(), &peer.into()));
    }
    host.receive(&frame(ALL_NODES, LOCAL, TCP, 64, &syn(ALL_NODES, LOCAL)));
    host.receive(&frame(PEER, ALL_NODES, TCP, 64, &syn(PEER, ALL_NODES)));
    assert_eq!(take(&mut host), None);
}

#[test]
fn nothing_is_heard_while_ipv6_is_off() {
    let mut config = config();
    config.ipv6 = None;
    let mut host = host(config);
    host.engine.listen(80).unwrap();
    host.receive(&solicitation(PEER, LOCAL, LOCAL, Some(PEER_MAC)));
    host.receive(&frame(PEER, LOCAL, TCP, 64, &syn(PEER, LOCAL)));
    host.now = Instant(host.now.0 + 100 * SECOND);
    host.turn();
    assert_eq!(
        (take(&mut host), host.queue.events.pop_front()),
        (None, None)
    );
    assert_eq!(count(&host, "IxEthUnknown"), 2);
}
