//! ARP, routing and ICMP echo, frame by frame.

use core::net::Ipv4Addr;
use ix_abi::{DeadReason, Error};
use ix_hal::Instant;
use ix_net::testing::{Host, checked_frame};
use ix_net::{Config, Endpoint, Event, FlowGroups, Mailbox, Names, Neighborhood, Sharing};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr,
};

const START: Instant = Instant(1 << 40);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const LOCAL_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);

fn config() -> Config {
    Config {
        mac: LOCAL_MAC.0,
        ipv4: LOCAL,
        connections: 16,
        time_wait: 16,
        mbufs: 64,
        ..Config::default()
    }
}

fn host(config: Config) -> Host {
    Host::new(config, START, 4096)
}

fn ethernet(destination: EthernetAddress, ethertype: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let repr = EthernetRepr {
        src_addr: PEER_MAC,
        dst_addr: destination,
        ethertype,
    };
    let mut bytes = vec![0; 14 + payload.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    repr.emit(&mut frame);
    frame.payload_mut().copy_from_slice(payload);
    bytes
}

fn arp(
    operation: ArpOperation,
    mac: EthernetAddress,
    source: Ipv4Addr,
    target: Ipv4Addr,
) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: mac,
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes));
    ethernet(EthernetAddress::BROADCAST, EthernetProtocol::Arp, &bytes)
}

/// The ARP packet that the host sent last, and to whom.
fn sent_arp(host: &mut Host) -> Option<(EthernetAddress, ArpOperation, EthernetAddress, Ipv4Addr)> {
    let bytes = host.wire.sent.pop_front()?;
    let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
    assert_eq!(frame.ethertype(), EthernetProtocol::Arp);
    let ArpRepr::EthernetIpv4 {
        operation,
        source_protocol_addr,
        target_hardware_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).unwrap()).unwrap()
    else {
        panic!("not ARP for IPv4");
    };
    assert_eq!(source_protocol_addr, LOCAL);
    Some((
        frame.dst_addr(),
        operation,
        target_hardware_addr,
        target_protocol_addr,
    ))
}

fn connect(host: &mut Host, address: Ipv4Addr) -> Result<(), Error> {
    let remote = Endpoint {
        address: address.into(),
        port: 80,
    };
    let handle = host.with(|engine, cx| engine.connect(cx, 7, remote));
    host.turn();
    handle.map(|_| ())
}

/// Where the SYN that was sent goes.
fn sent_syn(host: &mut Host) -> EthernetAddress {
    let bytes = host.wire.sent.pop_front().expect("a frame");
    assert!(checked_frame(&bytes));
    let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
    assert_eq!(frame.ethertype(), EthernetProtocol::Ipv4);
    frame.dst_addr()
}

fn wait(host: &mut Host, millis: u64) {
    host.now = Instant(host.now.0 + millis * 1_000_000);
    host.turn();
}

fn count(host: &Host, name: &str) -> u64 {
    let mut counters = host.engine.counters().iter();
    counters
        .find(|(found, _)| *found == name)
        .expect("a counter of that name")
        .1
}

#[test]
fn request_for_us_is_answered_and_its_sender_remembered() {
    let mut host = host(config());
    host.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL));
    assert_eq!(
        sent_arp(&mut host),
        Some((PEER_MAC, ArpOperation::Reply, PEER_MAC, PEER))
    );
    connect(&mut host, PEER).unwrap();
    assert_eq!(sent_syn(&mut host), PEER_MAC);
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn probe_without_an_address_is_answered_and_not_remembered() {
    let mut host = host(config());
    host.receive(&arp(
        ArpOperation::Request,
        PEER_MAC,
        Ipv4Addr::UNSPECIFIED,
        LOCAL,
    ));
    let (to, operation, ..) = sent_arp(&mut host).expect("a reply");
    assert_eq!((to, operation), (PEER_MAC, ArpOperation::Reply));
}

#[test]
fn requests_that_are_not_for_us_or_not_believable_are_ignored() {
    let mut host = host(config());
    let other = Ipv4Addr::new(10, 0, 0, 77);
    let group = EthernetAddress([1, 0, 0, 0, 0, 9]);
    host.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, other));
    host.receive(&arp(ArpOperation::Request, group, PEER, LOCAL));
    host.receive(&arp(ArpOperation::Request, PEER_MAC, LOCAL, LOCAL));
    host.receive(&arp(
        ArpOperation::Request,
        PEER_MAC,
        Ipv4Addr::BROADCAST,
        LOCAL,
    ));
    let mut truncated = arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL);
    truncated.truncate(30);
    host.receive(&truncated);
    host.turn();
    assert_eq!(sent_arp(&mut host), None);
    assert_eq!(count(&host, "IxArpIgnored"), 5);
    assert_eq!(host.mbufs_out(), 0);
}

/// Whether the host announced its address to all.
fn announced(host: &mut Host) -> bool {
    let all = EthernetAddress::BROADCAST;
    let nobody = EthernetAddress([0; 6]);
    let wanted = (all, ArpOperation::Request, nobody, LOCAL);
    sent_arp(host).is_some_and(|sent| {
        assert_eq!(sent, wanted);
        true
    })
}

#[test]
fn the_address_is_announced_as_often_as_told_two_seconds_apart() {
    let mut host = host(Config {
        ipv4_announcements: 2,
        ..config()
    });
    host.turn();
    assert!(announced(&mut host));
    wait(&mut host, 1_990);
    assert!(!announced(&mut host));
    wait(&mut host, 10);
    assert!(announced(&mut host));
    for _ in 0..3 {
        wait(&mut host, 2_000);
        assert!(!announced(&mut host));
    }
    assert_eq!(count(&host, "IxArpOutAnnouncements"), 2);
    assert_eq!(count(&host, "IxArpOutRequests"), 0);
}

#[test]
fn nothing_is_announced_unless_told() {
    let mut host = host(config());
    for _ in 0..3 {
        wait(&mut host, 2_000);
        assert!(!announced(&mut host));
    }
}

#[test]
fn connection_waits_for_its_neighbor() {
    let mut host = host(config());
    connect(&mut host, PEER).unwrap();
    let request = (
        EthernetAddress::BROADCAST,
        ArpOperation::Request,
        EthernetAddress([0; 6]),
        PEER,
    );
    assert_eq!(sent_arp(&mut host), Some(request));
    wait(&mut host, 1001);
    assert_eq!(sent_arp(&mut host), Some(request));
    host.receive(&arp(ArpOperation::Reply, PEER_MAC, PEER, LOCAL));
    host.turn();
    assert_eq!(sent_syn(&mut host), PEER_MAC);
}

#[test]
fn silent_neighbor_makes_the_connection_fail() {
    let mut host = host(config());
    connect(&mut host, PEER).unwrap();
    for _ in 0..4 {
        wait(&mut host, 1001);
    }
    host.turn();
    assert_eq!(host.wire.sent.len(), 3);
    let events: Vec<Event> = host.queue.events.drain(..).collect();
    assert!(
        matches!(
            events[..],
            [
                Event::Connected {
                    cookie: 7,
                    outcome: Err(Error::Unreachable),
                    ..
                },
                Event::Dead {
                    cookie: 7,
                    reason: DeadReason::TimedOut,
                    ..
                },
            ]
        ),
        "{events:?}"
    );
    assert_eq!(count(&host, "IxArpFailures"), 1);
}

#[test]
fn destination_off_link_goes_through_the_gateway() {
    let gateway = Ipv4Addr::new(10, 0, 0, 254);
    let far = Ipv4Addr::new(192, 168, 1, 1);
    let mut host = host(Config {
        gateway: Some(gateway),
        ..config()
    });
    connect(&mut host, far).unwrap();
    assert_eq!(sent_arp(&mut host).expect("a request").3, gateway);
    host.receive(&arp(ArpOperation::Reply, PEER_MAC, gateway, LOCAL));
    host.turn();
    assert_eq!(sent_syn(&mut host), PEER_MAC);
}

#[test]
fn destinations_without_a_route_are_refused() {
    let mut host = host(config());
    let far = Ipv4Addr::new(192, 168, 1, 1);
    assert_eq!(connect(&mut host, far), Err(Error::Unreachable));
    assert_eq!(connect(&mut host, LOCAL), Err(Error::Unreachable));
    for nobody in [
        Ipv4Addr::new(10, 0, 0, 255),
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
    ] {
        assert_eq!(connect(&mut host, nobody), Err(Error::Invalid), "{nobody}");
    }
    assert_eq!(host.engine.connections(), 0);
}

#[test]
fn known_neighbor_is_probed_and_its_move_is_followed() {
    let mut host = host(config());
    host.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL));
    host.wire.sent.clear();
    wait(&mut host, 60_001);
    let (to, operation, _, target) = sent_arp(&mut host).expect("a probe");
    assert_eq!(
        (to, operation, target),
        (PEER_MAC, ArpOperation::Request, PEER)
    );
    // A gratuitous announcement from another station with the same address.
    let moved = EthernetAddress([2, 0, 0, 0, 0, 10]);
    host.receive(&arp(ArpOperation::Request, moved, PEER, PEER));
    connect(&mut host, PEER).unwrap();
    assert_eq!(sent_syn(&mut host), moved);
}

#[test]
fn announcement_by_a_stranger_is_not_believed() {
    let mut host = host(config());
    host.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, PEER));
    connect(&mut host, PEER).unwrap();
    host.turn();
    assert_eq!(
        sent_arp(&mut host).expect("a request").0,
        EthernetAddress::BROADCAST
    );
}

fn echo(data: &[u8]) -> Vec<u8> {
    let icmp = Icmpv4Repr::EchoRequest {
        ident: 3,
        seq_no: 4,
        data,
    };
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: LOCAL,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20 + icmp.buffer_len()];
    let checksums = ChecksumCapabilities::default();
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    ip.emit(&mut packet, &checksums);
    icmp.emit(
        &mut Icmpv4Packet::new_unchecked(packet.payload_mut()),
        &checksums,
    );
    ethernet(LOCAL_MAC, EthernetProtocol::Ipv4, &bytes)
}

#[test]
fn echo_request_is_answered_with_its_own_bytes() {
    for len in [0, 1, 56, 1472] {
        let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
        let mut host = host(config());
        host.receive(&echo(&data));
        let bytes = host.wire.sent.pop_front().expect("a reply");
        assert!(checked_frame(&bytes));
        let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
        assert_eq!(frame.dst_addr(), PEER_MAC);
        let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
        assert_eq!((packet.src_addr(), packet.dst_addr()), (LOCAL, PEER));
        let icmp = Icmpv4Packet::new_checked(packet.payload()).unwrap();
        let reply = Icmpv4Repr::parse(&icmp, &ChecksumCapabilities::default()).unwrap();
        let expected = Icmpv4Repr::EchoReply {
            ident: 3,
            seq_no: 4,
            data: &data,
        };
        assert_eq!(reply, expected);
        assert_eq!(
            host.mbufs_out(),
            0,
            "the mbuf goes back once the reply is sent"
        );
    }
}

#[test]
fn echo_request_that_is_damaged_or_not_for_us_is_dropped() {
    let mut host = host(config());
    let good = echo(b"hello");
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    host.receive(&damaged);
    let mut elsewhere = good.clone();
    elsewhere[..6].copy_from_slice(&[2, 0, 0, 0, 0, 77]);
    host.receive(&elsewhere);
    let mut broadcast = good.clone();
    broadcast[..6].copy_from_slice(&[0xff; 6]);
    host.receive(&broadcast);
    let mut fragment = good.clone();
    let mut packet = Ipv4Packet::new_unchecked(&mut fragment[14..]);
    packet.set_more_frags(true);
    packet.fill_checksum();
    host.receive(&fragment);
    for len in 0..good.len() {
        host.receive(&good[..len]);
    }
    host.turn();
    assert!(host.wire.sent.is_empty());
    assert_eq!(count(&host, "IcmpInErrors"), 1);
    assert_eq!(count(&host, "IpReasmFails"), 1);
    assert_eq!(count(&host, "IpInAddrErrors"), 1);
    assert_eq!(count(&host, "IxEthOtherHost"), 1);
    assert_eq!(host.mbufs_out(), 0);
}

#[test]
fn full_tx_ring_drops_replies_and_keeps_what_a_connection_has_to_send() {
    let mut host = host(config());
    host.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL));
    host.wire.sent.clear();
    host.wire.capacity = 0;
    host.receive(&echo(b"hello"));
    assert_eq!(count(&host, "IxTxFullDrops"), 1);
    connect(&mut host, PEER).unwrap();
    assert!(host.engine.has_pending_output());
    host.wire.capacity = 10;
    host.turn();
    assert_eq!(sent_syn(&mut host), PEER_MAC);
    assert!(!host.engine.has_pending_output());
    assert_eq!(host.mbufs_out(), 0);
}

/// Two engines of one address: the first hears all ARP, the second none.
fn speaker_and_listener() -> (Host, Host) {
    let mailboxes = Vec::leak(vec![Mailbox::default()]);
    let speaker = host(Config {
        neighborhood: Neighborhood::Speaker(mailboxes),
        ..config()
    });
    let listener = host(Config {
        neighborhood: Neighborhood::Listener(&mailboxes[0]),
        ..config()
    });
    (speaker, listener)
}

#[test]
fn answer_that_another_engine_hears_reaches_the_one_that_asked() {
    let (mut speaker, mut listener) = speaker_and_listener();
    connect(&mut listener, PEER).unwrap();
    let (_, operation, _, target) = sent_arp(&mut listener).expect("a request");
    assert_eq!((operation, target), (ArpOperation::Request, PEER));
    speaker.receive(&arp(ArpOperation::Reply, PEER_MAC, PEER, LOCAL));
    wait(&mut listener, 1);
    assert_eq!(sent_syn(&mut listener), PEER_MAC);
}

#[test]
fn peer_that_asked_another_engine_is_not_asked() {
    let (mut speaker, mut listener) = speaker_and_listener();
    speaker.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL));
    connect(&mut listener, PEER).unwrap();
    listener.turn();
    assert_eq!(sent_syn(&mut listener), PEER_MAC);
    assert!(listener.wire.sent.is_empty());
}

#[test]
fn move_that_another_engine_hears_of_is_followed() {
    const MOVED: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 8]);
    let (mut speaker, mut listener) = speaker_and_listener();
    speaker.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL));
    wait(&mut listener, 101);
    speaker.receive(&arp(ArpOperation::Request, MOVED, PEER, PEER));
    wait(&mut listener, 101);
    connect(&mut listener, PEER).unwrap();
    assert_eq!(sent_syn(&mut listener), MOVED);
}

#[test]
fn ports_that_lead_elsewhere_are_not_chosen_and_run_out() {
    let mut host = host(Config {
        ephemeral_first: 40_000,
        ephemeral_last: 40_015,
        sharing: Some(Sharing {
            thread: 5,
            groups: FlowGroups(&|remote, own, port| {
                let is_known = remote.address == PEER.into() && own == LOCAL.into();
                match is_known && remote.port == 80 {
                    true => (port % 8) as u8,
                    false => 127,
                }
            }),
            owned: 1 << 3,
            loans: 0,
            luggage: 0,
            names: Box::leak(Box::new(Names::new(6, config().connections))),
        }),
        ..config()
    });
    host.receive(&arp(ArpOperation::Request, PEER_MAC, PEER, LOCAL));
    assert_eq!(connect(&mut host, PEER), Ok(()));
    assert_eq!(connect(&mut host, PEER), Ok(()));
    assert_eq!(connect(&mut host, PEER), Err(Error::NoPort));
    assert_eq!(count(&host, "IxTcpPortsExhausted"), 1);
}
