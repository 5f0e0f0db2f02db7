//! Neighbour discovery, own addresses and routers of IPv6, frame by frame.

mod support6;

use core::net::Ipv6Addr;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::Instant;
use ix_net::testing::Host;
use ix_net::{Config, Endpoint, Event, Mailbox, Neighborhood};
use smoltcp::wire::{Icmpv6Packet, MldRepr, NdiscNeighborFlags, NdiscRepr, TcpOption, TcpPacket};
use support6::*;

const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
/// What the prefix and the MAC address make.
const MADE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0xff, 0xfe00, 1);

fn connect(host: &mut Host, address: Ipv6Addr) -> Result<Handle, Error> {
    let remote = Endpoint {
        address: address.into(),
        port: 80,
    };
    let opened = host.with(|engine, cx| engine.connect(cx, 7, remote));
    host.turn();
    opened
}

/// Whether it is a solicitation for that address.
fn asks_for(sent: &Sent, wanted: Ipv6Addr) -> bool {
    assert_eq!((sent.next, sent.hops), (ICMPV6, 255));
    let message = Icmpv6Packet::new_checked(&sent.payload[..]).unwrap();
    match NdiscRepr::parse(&message) {
        Ok(NdiscRepr::NeighborSolicit { target_addr, .. }) => target_addr == wanted,
        _ => false,
    }
}

/// The answer to a solicitation: to whom, for which address, and with which flags.
fn answer(host: &mut Host) -> Option<(Ipv6Addr, Ipv6Addr, NdiscNeighborFlags)> {
    let sent = take(host)?;
    let message = Icmpv6Packet::new_checked(&sent.payload[..]).unwrap();
    let Ok(NdiscRepr::NeighborAdvert {
        flags,
        target_addr,
        lladdr,
    }) = NdiscRepr::parse(&message)
    else {
        panic!("{sent:?} is no advertisement");
    };
    assert_eq!(
        lladdr.map(|mac| mac.as_bytes().to_vec()),
        Some(LOCAL_MAC.to_vec())
    );
    assert_eq!((sent.hops, sent.source), (255, target_addr));
    Some((sent.destination, target_addr, flags))
}

fn probing() -> Config {
    let mut config = config();
    ipv6(&mut config).duplicate_probes = 1;
    config
}

#[test]
fn own_addresses_are_asked_for_before_they_are_used() {
    let mut host = host(probing());
    for own in [LOCAL, LINK_LOCAL] {
        let sent = take(&mut host).expect("a probe");
        assert!(asks_for(&sent, own));
        let group = solicited_node(own);
        assert_eq!(
            (sent.source, sent.destination),
            (Ipv6Addr::UNSPECIFIED, group)
        );
        assert_eq!((sent.mac, sent.payload.len()), (group_mac(group), 24));
    }
    let question = solicitation(PEER, LOCAL, LOCAL, Some(PEER_MAC));
    host.receive(&question);
    assert_eq!(answer(&mut host), None);
    assert_eq!(connect(&mut host, PEER), Err(Error::Unreachable));
    advance(&mut host, SECOND);
    host.receive(&question);
    assert!(answer(&mut host).is_some());
    assert!(connect(&mut host, PEER).is_ok());
}

#[test]
fn address_of_another_is_given_up_and_the_others_are_kept() {
    for conflict in [
        solicitation(Ipv6Addr::UNSPECIFIED, solicited_node(LOCAL), LOCAL, None),
        advertisement(ALL_NODES, LOCAL, 0x20, Some(PEER_MAC)),
    ] {
        let mut host = host(probing());
        host.wire.sent.clear();
        host.receive(&conflict);
        advance(&mut host, 2 * SECOND);
        assert_eq!(count(&host, "IxNdpDuplicateAddresses"), 1);
        host.receive(&solicitation(
            PEER,
            solicited_node(LOCAL),
            LOCAL,
            Some(PEER_MAC),
        ));
        assert_eq!(answer(&mut host), None);
        let peer = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
        host.receive(&solicitation(peer, LINK_LOCAL, LINK_LOCAL, Some(PEER_MAC)));
        assert!(answer(&mut host).is_some());
    }
}

#[test]
fn question_of_a_neighbour_is_answered_and_learnt_from() {
    let mut host = host(config());
    let both = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    for destination in [solicited_node(LOCAL), LOCAL] {
        host.receive(&solicitation(PEER, destination, LOCAL, Some(PEER_MAC)));
        assert_eq!(answer(&mut host), Some((PEER, LOCAL, both)));
    }
    connect(&mut host, PEER).unwrap();
    let syn = take(&mut host).expect("a SYN without another question");
    assert_eq!((syn.next, syn.mac), (TCP, PEER_MAC));
    // One who has no address yet is told with all others.
    let anonymous = solicitation(Ipv6Addr::UNSPECIFIED, solicited_node(LOCAL), LOCAL, None);
    host.receive(&anonymous);
    let unsolicited = NdiscNeighborFlags::OVERRIDE;
    assert_eq!(answer(&mut host), Some((ALL_NODES, LOCAL, unsolicited)));
}

#[test]
fn question_that_is_not_valid_or_not_for_us_is_not_answered() {
    let mut host = host(config());
    let good = solicitation(PEER, LOCAL, LOCAL, Some(PEER_MAC));
    let message = &good[54..];
    let mut damaged = good.clone();
    damaged[60] ^= 1;
    let mut without_length = message.to_vec();
    without_length[25] = 0;
    for (bad, counter) in [
        (icmp(PEER, LOCAL, 254, message), "IxNdpIgnored"),
        (icmp(PEER, LOCAL, 255, &without_length), "IxNdpIgnored"),
        (icmp(PEER, LOCAL, 255, &message[..20]), "IxNdpIgnored"),
        (
            solicitation(PEER, LOCAL, PEER, Some(PEER_MAC)),
            "IxNdpIgnored",
        ),
        (damaged, "Icmp6InErrors"),
        (
            solicitation(PEER, solicited_node(PEER), PEER, Some(PEER_MAC)),
            "Ip6InAddrErrors",
        ),
    ] {
        let before = count(&host, counter);
        host.receive(&bad);
        assert_eq!(answer(&mut host), None);
        assert_eq!(count(&host, counter), before + 1, "{counter}");
    }
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn question_from_a_prefix_that_is_not_known_is_answered_and_not_learnt_from() {
    let mut config = config();
    ipv6(&mut config).gateway = Some(ROUTER);
    let mut host = host(config);
    host.receive(&solicitation(FAR, LOCAL, LOCAL, Some(PEER_MAC)));
    let both = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    assert_eq!(answer(&mut host), Some((FAR, LOCAL, both)));
    connect(&mut host, FAR).unwrap();
    assert!(asks_for(&take(&mut host).unwrap(), ROUTER));
}

#[test]
fn neighbour_is_asked_three_times_and_given_up() {
    let mut host = host(config());
    connect(&mut host, PEER).unwrap();
    for _ in 0..3 {
        let sent = take(&mut host).expect("a question");
        assert!(asks_for(&sent, PEER));
        assert_eq!(
            (sent.source, sent.destination),
            (LOCAL, solicited_node(PEER))
        );
        assert_eq!(take(&mut host), None);
        advance(&mut host, SECOND);
    }
    advance(&mut host, SECOND / 1000);
    let failed = Event::Connected {
        cookie: 7,
        handle: Handle(1 << 32),
        outcome: Err(Error::Unreachable),
    };
    assert_eq!(host.queue.events.pop_front(), Some(failed));
    assert_eq!(count(&host, "IxTcpAbortOnNeighbor"), 1);
}

#[test]
fn answer_is_believed_if_it_was_asked_for() {
    let mut host = host(config());
    // Nobody asked: not kept.
    host.receive(&advertisement(LOCAL, PEER, 0x60, Some(PEER_MAC)));
    connect(&mut host, PEER).unwrap();
    assert!(asks_for(&take(&mut host).unwrap(), PEER));
    host.receive(&advertisement(LOCAL, PEER, 0x60, Some(PEER_MAC)));
    host.turn();
    let syn = take(&mut host).expect("a SYN");
    assert_eq!((syn.next, syn.mac, syn.source), (TCP, PEER_MAC, LOCAL));
    // An old neighbour is asked where it was.
    advance(&mut host, 61 * SECOND);
    let probe = core::iter::from_fn(|| take(&mut host)).find(|sent| sent.next == ICMPV6);
    let probe = probe.expect("a probe");
    assert!(asks_for(&probe, PEER));
    assert_eq!((probe.mac, probe.destination), (PEER_MAC, PEER));
}

#[test]
fn flow_leaves_from_the_address_that_fits_its_destination() {
    let mut host = host(config());
    let neighbour = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    host.receive(&solicitation(
        neighbour,
        LINK_LOCAL,
        LINK_LOCAL,
        Some(PEER_MAC),
    ));
    host.receive(&solicitation(PEER, LOCAL, LOCAL, Some(PEER_MAC)));
    host.wire.sent.clear();
    for (remote, own) in [(neighbour, LINK_LOCAL), (PEER, LOCAL)] {
        connect(&mut host, remote).unwrap();
        assert_eq!(take(&mut host).expect("a SYN").source, own);
    }
    for nobody in [LOCAL, LINK_LOCAL, FAR] {
        assert_eq!(connect(&mut host, nobody), Err(Error::Unreachable));
    }
    for no_host in [ALL_NODES, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED] {
        assert_eq!(connect(&mut host, no_host), Err(Error::Invalid));
    }
}

#[test]
fn redirects_are_counted_and_not_followed() {
    let mut host = introduced();
    let mut message = vec![137, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ROUTER.octets());
    message.extend(PEER.octets());
    host.receive(&icmp(ROUTER, LOCAL, 255, &message));
    assert_eq!(count(&host, "Icmp6InRedirects"), 1);
    connect(&mut host, PEER).unwrap();
    assert_eq!(take(&mut host).expect("a SYN").mac, PEER_MAC);
}

/// A host without a configured address that believes routers.
fn guest() -> Host {
    let mut config = config();
    let ipv6 = ipv6(&mut config);
    (ipv6.address, ipv6.router_advertisements) = (None, true);
    host(config)
}

#[test]
fn routers_are_asked_for_until_one_answers() {
    let mut host = guest();
    advance(&mut host, 60 * SECOND);
    for _ in 0..3 {
        let sent = take(&mut host).expect("a question");
        let message = Icmpv6Packet::new_checked(&sent.payload[..]).unwrap();
        let parsed = NdiscRepr::parse(&message);
        assert!(matches!(parsed, Ok(NdiscRepr::RouterSolicit { .. })));
        let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
        assert_eq!((sent.source, sent.destination), (LINK_LOCAL, all_routers));
        assert_eq!((sent.mac, sent.hops), (group_mac(all_routers), 255));
    }
    assert_eq!(take(&mut host), None);
    let mut host = guest();
    host.wire.sent.clear();
    host.receive(&router_advertisement(1800, &[]));
    advance(&mut host, 60 * SECOND);
    let is_asking = core::iter::from_fn(|| take(&mut host)).any(|sent| sent.payload[0] == 133);
    assert!(!is_asking);
}

#[test]
fn advertised_prefix_router_and_mtu_are_used() {
    let mut host = guest();
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0x14];
    let prefix = prefix_option(PREFIX, 3600, 1800);
    host.receive(&router_advertisement(1800, &[&mtu, &prefix]));
    host.wire.sent.clear();
    connect(&mut host, FAR).unwrap();
    let sent = take(&mut host).expect("a SYN through the router");
    assert_eq!(
        (sent.mac, sent.source, sent.destination),
        (ROUTER_MAC, MADE, FAR)
    );
    let tcp = TcpPacket::new_checked(&sent.payload[..]).unwrap();
    let (_, option) = TcpOption::parse(tcp.options()).unwrap();
    assert_eq!(option, TcpOption::MaxSegmentSize(1300 - 60));
    let near = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    connect(&mut host, near).unwrap();
    assert!(asks_for(&take(&mut host).unwrap(), near), "on-link");
}

#[test]
fn advertisement_is_not_believed_unless_that_is_configured_or_if_it_came_from_afar() {
    let prefix = prefix_option(PREFIX, 3600, 1800);
    let good = router_advertisement(1800, &[&prefix]);
    let mut host = support6::host(config());
    host.receive(&good);
    assert_eq!(connect(&mut host, FAR), Err(Error::Unreachable));
    assert_eq!(count(&host, "IxNdpIgnored"), 1);
    let mut host = guest();
    host.receive(&icmp(ROUTER, ALL_NODES, 254, &good[54..]));
    host.receive(&icmp(FAR, ALL_NODES, 255, &good[54..]));
    assert_eq!(connect(&mut host, FAR), Err(Error::Unreachable));
    assert_eq!(count(&host, "IxNdpIgnored"), 2);
}

#[test]
fn connection_ends_when_its_address_does() {
    let mut host = guest();
    let prefix = prefix_option(PREFIX, 100, 50);
    host.receive(&router_advertisement(1800, &[&prefix]));
    host.wire.sent.clear();
    host.engine.listen(80).unwrap();
    host.receive(&frame(FAR, MADE, TCP, 64, &syn(FAR, MADE)));
    let Some(Event::Knock { handle, .. }) = host.queue.events.pop_front() else {
        panic!("a knock");
    };
    host.with(|engine, cx| engine.accept(cx, handle, 5))
        .unwrap();
    host.turn();
    let answer = take(&mut host).expect("a SYN-ACK");
    let answer = TcpPacket::new_checked(&answer.payload[..]).unwrap();
    let mut ack = vec![0; 20];
    let mut packet = TcpPacket::new_unchecked(&mut ack);
    packet.set_src_port(40_000);
    packet.set_dst_port(80);
    packet.set_header_len(20);
    packet.set_ack(true);
    packet.set_seq_number(answer.ack_number());
    packet.set_ack_number(answer.seq_number() + 1);
    packet.set_window_len(1000);
    packet.fill_checksum(&FAR.into(), &MADE.into());
    host.receive(&frame(FAR, MADE, TCP, 64, &ack));
    assert!(matches!(
        host.queue.events.pop_front(),
        Some(Event::Connected { .. })
    ));
    advance(&mut host, 101 * SECOND);
    assert_eq!(host.queue.events.pop_front(), None, "nobody has noticed");
    host.with(|engine, cx| engine.shutdown(cx, handle)).unwrap();
    advance(&mut host, SECOND);
    let dead = Event::Dead {
        cookie: 5,
        reason: DeadReason::TimedOut,
        handle,
    };
    assert_eq!(host.queue.events.pop_front(), Some(dead));
    assert_eq!(count(&host, "IxTcpAbortOnAddress"), 1);
}

#[test]
fn silent_router_gives_way_to_another() {
    let mut config = config();
    let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfd);
    let ipv6 = ipv6(&mut config);
    (ipv6.gateway, ipv6.router_advertisements) = (Some(gateway), true);
    let mut host = host(config);
    host.receive(&router_advertisement(1800, &[]));
    host.wire.sent.clear();
    connect(&mut host, FAR).unwrap();
    advance(&mut host, 2 * SECOND);
    for _ in 0..3 {
        assert!(asks_for(&take(&mut host).expect("a question"), gateway));
    }
    advance(&mut host, 2 * SECOND);
    let syn = take(&mut host).expect("a SYN through the other one");
    assert_eq!((syn.mac, syn.destination), (ROUTER_MAC, FAR));
}

#[test]
fn router_that_is_one_no_longer_is_forgotten() {
    let mut host = guest();
    let prefix = prefix_option(PREFIX, 3600, 1800);
    host.receive(&router_advertisement(1800, &[&prefix]));
    host.receive(&advertisement(LINK_LOCAL, ROUTER, 0xe0, Some(ROUTER_MAC)));
    assert!(connect(&mut host, FAR).is_ok());
    host.receive(&advertisement(LINK_LOCAL, ROUTER, 0x60, Some(ROUTER_MAC)));
    assert_eq!(connect(&mut host, FAR), Err(Error::Unreachable));
}

#[test]
fn engine_that_hears_nothing_is_told_addresses_routers_and_neighbours() {
    let mailboxes: &'static [Mailbox] = vec![Mailbox::default()].leak();
    let mut spoken = config();
    let ipv6 = ipv6(&mut spoken);
    (ipv6.duplicate_probes, ipv6.router_advertisements) = (1, true);
    let listening = Config {
        neighborhood: Neighborhood::Listener(&mailboxes[0]),
        ..spoken.clone()
    };
    spoken.neighborhood = Neighborhood::Speaker(mailboxes);
    let (mut speaker, mut listener) = (host(spoken), host(listening));
    assert_eq!(take(&mut listener), None, "one asks for all");
    assert_eq!(connect(&mut listener, PEER), Err(Error::Unreachable));
    let both = |speaker: &mut Host, listener: &mut Host, span| {
        advance(speaker, span);
        advance(listener, span);
    };
    both(&mut speaker, &mut listener, SECOND + SECOND / 5);
    // The question is the listener's, the answer comes to the speaker.
    connect(&mut listener, PEER).unwrap();
    assert!(asks_for(&take(&mut listener).unwrap(), PEER));
    speaker.receive(&advertisement(LOCAL, PEER, 0x60, Some(PEER_MAC)));
    both(&mut speaker, &mut listener, SECOND / 1000);
    let syn = take(&mut listener).expect("a SYN");
    assert_eq!((syn.mac, syn.source), (PEER_MAC, LOCAL));
    // A router comes and goes.
    assert_eq!(connect(&mut listener, FAR), Err(Error::Unreachable));
    let prefix = prefix_option(PREFIX, 3600, 1800);
    speaker.receive(&router_advertisement(1800, &[&prefix]));
    both(&mut speaker, &mut listener, 2 * SECOND);
    listener.wire.sent.clear();
    connect(&mut listener, FAR).unwrap();
    let syn = take(&mut listener).expect("a SYN through the router");
    assert_eq!((syn.mac, syn.source), (ROUTER_MAC, MADE));
    speaker.receive(&router_advertisement(0, &[]));
    both(&mut speaker, &mut listener, SECOND);
    assert_eq!(connect(&mut listener, FAR), Err(Error::Unreachable));
    assert!(listener.now >= Instant(START.0 + SECOND));
}

/// The multicast address records of a report: type and group.
fn report(sent: &Sent) -> Vec<(u8, Ipv6Addr)> {
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    assert_eq!(
        (sent.destination, sent.mac),
        (all_routers, group_mac(all_routers))
    );
    // Hop-by-hop options with a router alert (RFC 2711).
    assert_eq!((sent.next, sent.hops), (0, 1));
    let (options, message) = sent.payload.split_at(8);
    assert_eq!(options, [58, 0, 5, 2, 0, 0, 1, 0]);
    let packet = Icmpv6Packet::new_checked(message).unwrap();
    assert!(packet.verify_checksum(&sent.source, &sent.destination));
    let Ok(MldRepr::Report {
        nr_mcast_addr_rcrds,
        data,
    }) = MldRepr::parse(&packet)
    else {
        panic!("{sent:?} is no report");
    };
    let records = data.chunks(20).map(|record| {
        assert_eq!(record[1..4], [0, 0, 0]);
        let group: [u8; 16] = record[4..].try_into().unwrap();
        (record[0], group.into())
    });
    let records: Vec<_> = records.collect();
    assert_eq!(records.len(), usize::from(nr_mcast_addr_rcrds));
    records
}

#[test]
fn groups_of_own_addresses_are_reported_when_they_are_joined_and_when_asked() {
    // Its last bits are not those of the MAC address, which would make one group of both.
    let own = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x51);
    let mut config = probing();
    ipv6(&mut config).address = Some(own);
    let mut host = host(config);
    let groups = |record| [own, LINK_LOCAL].map(|own| (record, solicited_node(own)));
    let first = take_any(&mut host).expect("a report before the first probe");
    assert_eq!(first.source, Ipv6Addr::UNSPECIFIED);
    assert_eq!(report(&first), groups(4));
    advance(&mut host, 2 * SECOND);
    let sent: Vec<_> = core::iter::from_fn(|| take_any(&mut host)).collect();
    let mut reports = sent.iter().filter(|sent| sent.next == 0);
    let again = reports.next().expect("it again");
    assert_eq!(
        (again.source, report(again)),
        (LINK_LOCAL, groups(4).to_vec())
    );
    assert_eq!(reports.next(), None);
    // A querier: for all groups, for one of ours, for another; and one from afar.
    let query = |source, hops, group: Ipv6Addr| {
        let mut message = vec![130, 0, 0, 0, 0, 100, 0, 0];
        message.extend(group.octets());
        message.extend([2, 125, 0, 0]);
        icmp(source, ALL_NODES, hops, &message)
    };
    for (query, is_answered) in [
        (query(ROUTER, 1, Ipv6Addr::UNSPECIFIED), true),
        (query(ROUTER, 1, solicited_node(own)), true),
        (query(ROUTER, 1, solicited_node(PEER)), false),
        (query(ROUTER, 64, Ipv6Addr::UNSPECIFIED), false),
        (query(PEER, 1, Ipv6Addr::UNSPECIFIED), false),
    ] {
        host.receive(&query);
        advance(&mut host, SECOND / 10);
        let answer = take_any(&mut host).map(|sent| report(&sent));
        assert_eq!(answer, is_answered.then(|| groups(2).to_vec()));
    }
    assert_eq!(count(&host, "Icmp6InGroupMembQueries"), 2);
    assert_eq!(count(&host, "Icmp6OutMLDv2Reports"), 4);
}
