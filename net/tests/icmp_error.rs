//! ICMP errors about segments that were sent: which are believed, and what they do.

use core::net::Ipv4Addr;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Fragment, Instant};
use ix_net::testing::{APP_BUS, Host, checked_frame};
use ix_net::{Config, Endpoint, Event, FlowGroups, Names, Sharing};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv4Packet, IpProtocol,
    Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

const START: Instant = Instant(1 << 40);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const LOCAL_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 9]);
const UNREACHABLE: u8 = 3;
const PORT: u8 = 3;
const TOO_LONG: u8 = 4;

/// A host with a connection that it opens.
struct Lab {
    host: Host,
    handle: Handle,
    /// The first segment sent and not answered, without its Ethernet header.
    sent: Vec<u8>,
}

impl Lab {
    /// A SYN is under way.
    fn opening() -> Self {
        Self::opening_with(config())
    }

    fn opening_with(config: Config) -> Self {
        let mut host = Host::new(config, START, 1 << 16);
        let handle = connect(&mut host);
        host.turn();
        answer_arp(&mut host);
        let sent = take(&mut host);
        Self { host, handle, sent }
    }

    /// The connection is open and has sent a full segment.
    fn open() -> Self {
        Self::open_with(config())
    }

    fn open_with(config: Config) -> Self {
        let mut lab = Self::opening_with(config);
        let syn = Ipv4Packet::new_checked(&lab.sent[..]).unwrap();
        let syn = TcpPacket::new_checked(syn.payload()).unwrap();
        let reply = TcpRepr {
            src_port: 80,
            dst_port: syn.src_port(),
            control: TcpControl::Syn,
            seq_number: TcpSeqNumber(1000),
            ack_number: Some(syn.seq_number() + 1),
            window_len: 60_000,
            window_scale: None,
            max_seg_size: Some(1460),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let mut bytes = vec![0; reply.buffer_len()];
        let mut packet = TcpPacket::new_unchecked(&mut bytes);
        let checksums = ChecksumCapabilities::default();
        reply.emit(&mut packet, &PEER.into(), &LOCAL.into(), &checksums);
        lab.host.receive(&frame(PEER, IpProtocol::Tcp, &bytes));
        lab.host.turn();
        lab.host.wire.sent.clear();
        let opened = lab.host.queue.events.pop_front();
        assert!(matches!(
            opened,
            Some(Event::Connected {
                outcome: Ok(()),
                ..
            })
        ));
        let data = [Fragment {
            bus: APP_BUS,
            len: 5000,
        }];
        let handle = lab.handle;
        lab.host
            .with(|engine, cx| engine.send(cx, handle, &data))
            .expect("room");
        lab.host.turn();
        lab.sent = take(&mut lab.host);
        lab.host.wire.sent.clear();
        lab
    }

    /// An ICMP error of that type and code arrives that quotes `packet`.
    fn error(&mut self, kind: [u8; 2], mtu: u16, packet: &[u8]) {
        self.host.receive(&error(kind, mtu, packet));
        assert_eq!(self.host.mbufs_out(), 0);
    }

    fn count(&self, name: &str) -> u64 {
        let mut counters = self.host.engine.counters().iter();
        let found = counters.find(|(found, _)| *found == name);
        found.expect("a counter of that name").1
    }

    /// Length of the IP packet that is sent when timers run.
    fn next_len(&mut self) -> Option<usize> {
        self.host.now = Instant(self.host.now.0 + 100_000);
        self.host.turn();
        let frame = self.host.wire.sent.pop_front()?;
        assert!(checked_frame(&frame));
        Some(frame.len() - 14)
    }
}

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

/// One of two threads, which serves these flow groups; all flows belong to group 5.
fn thread(number: u32, owned: u128) -> Config {
    let sharing = Sharing {
        thread: number,
        groups: FlowGroups(&|_, _, _| 5),
        owned,
        loans: 16,
        luggage: 4,
        names: Box::leak(Box::new(Names::new(2, 20))),
    };
    Config {
        sharing: Some(sharing),
        ..config()
    }
}

fn error([kind, code]: [u8; 2], mtu: u16, packet: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message[6..8].copy_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&packet[..28.min(packet.len())]);
    Icmpv4Packet::new_unchecked(&mut message).fill_checksum();
    frame(ROUTER, IpProtocol::Icmp, &message)
}

fn connect(host: &mut Host) -> Handle {
    let remote = Endpoint {
        address: PEER.into(),
        port: 80,
    };
    host.with(|engine, cx| engine.connect(cx, 7, remote))
        .expect("a free port")
}

fn frame(source: Ipv4Addr, protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: source,
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
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    packet.payload_mut().copy_from_slice(payload);
    bytes
}

/// Answers the ARP request that the host has sent.
fn answer_arp(host: &mut Host) {
    let mut reply = host.wire.sent.pop_front().expect("an ARP request");
    reply[..6].copy_from_slice(&LOCAL_MAC.0);
    reply[6..12].copy_from_slice(&PEER_MAC.0);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&PEER_MAC.0);
    reply[28..32].copy_from_slice(&PEER.octets());
    reply[32..38].copy_from_slice(&LOCAL_MAC.0);
    reply[38..42].copy_from_slice(&LOCAL.octets());
    host.receive(&reply);
    host.turn();
}

/// The packet that was sent first.
fn take(host: &mut Host) -> Vec<u8> {
    host.wire.sent.pop_front().expect("a segment")[14..].to_vec()
}

#[test]
fn nobody_on_the_port_ends_a_connection_that_opens() {
    let mut lab = Lab::opening();
    let syn = lab.sent.clone();
    lab.error([UNREACHABLE, PORT], 0, &syn);
    let events: Vec<_> = lab.host.queue.events.drain(..).collect();
    assert!(matches!(
        events[..],
        [
            Event::Connected {
                outcome: Err(Error::Refused),
                ..
            },
            Event::Dead {
                reason: DeadReason::Refused,
                ..
            }
        ]
    ));
}

#[test]
fn soft_errors_and_forged_ones_end_nothing() {
    let mut lab = Lab::opening();
    let syn = lab.sent.clone();
    for soft in [[UNREACHABLE, 0], [UNREACHABLE, 1], [11, 0], [12, 0]] {
        lab.error(soft, 0, &syn);
    }
    assert_eq!(lab.count("TcpExtOutOfWindowIcmps"), 0);
    // Version, fragment offset, protocol, addresses, ports, sequence number: one bit each.
    for at in [0, 7, 9, 12, 16, 20, 22, 24, 27] {
        let mut forged = syn.clone();
        forged[at] ^= 0x10;
        lab.error([UNREACHABLE, PORT], 0, &forged);
    }
    for len in [0, 1, 19, 20, 27] {
        lab.error([UNREACHABLE, PORT], 0, &syn[..len]);
    }
    assert!(lab.host.queue.events.is_empty());
    assert_eq!(lab.host.engine.connections(), 1);
    assert_eq!(lab.count("IcmpInDestUnreachs"), 2 + 9 + 5);
    assert_eq!(lab.count("IcmpInTimeExcds"), 1);
}

#[test]
fn no_error_ends_an_open_connection() {
    let mut lab = Lab::open();
    let segment = lab.sent.clone();
    for code in 0..16 {
        lab.error([UNREACHABLE, code], 0, &segment);
    }
    assert!(lab.host.queue.events.is_empty());
    assert_eq!(lab.host.engine.connections(), 1);
}

#[test]
fn a_narrow_path_shortens_segments_and_datagrams() {
    let mut lab = Lab::open();
    let segment = lab.sent.clone();
    assert_eq!(segment.len(), 1500);
    lab.error([UNREACHABLE, TOO_LONG], 1000, &segment);
    assert_eq!(lab.next_len(), Some(1000));
    assert_eq!(lab.count("IxTcpPathMtuLowered"), 1);
    // The same again says nothing new.
    lab.error([UNREACHABLE, TOO_LONG], 1000, &segment);
    assert_eq!(lab.count("IxTcpPathMtuLowered"), 1);

    lab.host.wire.sent.clear();
    let remote = Endpoint {
        address: PEER.into(),
        port: 53,
    };
    lab.host.engine.udp_bind(53).unwrap();
    for (len, expected) in [(973, Err(Error::TooLong)), (972, Ok(()))] {
        let data = [Fragment { bus: APP_BUS, len }];
        let sent = lab
            .host
            .with(|engine, cx| engine.udp_send(cx, 53, remote, &data));
        assert_eq!(sent, expected);
    }
}

#[test]
fn routers_that_do_not_say_how_narrow_are_guessed_at() {
    let mut lab = Lab::open();
    let segment = lab.sent.clone();
    lab.error([UNREACHABLE, TOO_LONG], 0, &segment);
    assert_eq!(lab.next_len(), Some(1492));
}

#[test]
fn crumbs_and_wide_paths_are_not_believed_in() {
    let mut lab = Lab::open();
    let segment = lab.sent.clone();
    lab.error([UNREACHABLE, TOO_LONG], 1500, &segment);
    lab.error([UNREACHABLE, TOO_LONG], 9000, &segment);
    assert_eq!(lab.count("IxTcpPathMtuLowered"), 0);
    // The slowest links there are, as they say.
    lab.error([UNREACHABLE, TOO_LONG], 400, &segment);
    assert_eq!(lab.next_len(), Some(400));
    lab.error([UNREACHABLE, TOO_LONG], 68, &segment);
    assert_eq!(lab.next_len(), Some(296));
}

#[test]
fn an_error_about_a_datagram_is_counted_and_no_more() {
    let mut lab = Lab::open();
    lab.host.engine.udp_bind(53).unwrap();
    let mut datagram = lab.sent.clone();
    datagram[9] = 17;
    for (port, count) in [(53u16, 1), (54, 1), (53, 2)] {
        datagram[20..22].copy_from_slice(&port.to_be_bytes());
        lab.error([UNREACHABLE, PORT], 0, &datagram);
        assert_eq!(lab.count("IxUdpIcmpErrors"), count);
    }
    assert_eq!(lab.count("IxIcmpIgnored"), 1);
    assert!(lab.host.queue.events.is_empty());
}

#[test]
fn an_error_about_what_is_not_under_way_is_not_believed() {
    let mut lab = Lab::open();
    let segment = lab.sent.clone();
    for offset in [-1i32, 5000, i32::MIN] {
        let mut forged = segment.clone();
        let seq = u32::from_be_bytes(forged[24..28].try_into().unwrap());
        forged[24..28].copy_from_slice(&seq.wrapping_add_signed(offset).to_be_bytes());
        lab.error([UNREACHABLE, TOO_LONG], 1000, &forged);
    }
    assert_eq!(lab.count("TcpExtOutOfWindowIcmps"), 3);
    assert_eq!(lab.count("IxTcpPathMtuLowered"), 0);
}

#[test]
fn an_error_that_comes_to_another_thread_is_believed_where_the_connection_is() {
    let mut lab = Lab::open_with(thread(1, 1 << 5));
    let mut other = Host::new(thread(0, !(1 << 5)), START, 1 << 16);
    let bytes = error([UNREACHABLE, TOO_LONG], 1000, &lab.sent);

    other.receive(&bytes);
    assert!(other.engine.has_leftovers());
    let aside = other.engine.take_elsewhere().expect("a packet set aside");
    assert_eq!(aside.group, 5);
    assert!(!other.engine.has_leftovers());
    assert_eq!(other.engine.counters().rx_elsewhere, 1);
    assert_eq!(other.engine.counters().icmp_in_messages, 0);

    lab.host.with(|engine, cx| {
        let mbuf = cx.pool.take().expect("a buffer");
        engine.arrived_elsewhere(cx, &aside.copied_to(mbuf), &bytes);
    });
    assert_eq!(lab.host.mbufs_out(), 0);
    assert_eq!(lab.next_len(), Some(1000));

    // Where the group is not served any more, it goes on.
    other.with(|engine, cx| {
        let mbuf = cx.pool.take().expect("a buffer");
        engine.arrived_elsewhere(cx, &aside.copied_to(mbuf), &bytes);
        assert!(engine.take_elsewhere().is_some());
    });
}

#[test]
fn of_too_many_errors_for_other_threads_some_are_dropped() {
    let sent = Lab::open().sent;
    let config = Config {
        mbufs: 128,
        ..thread(0, !(1 << 5))
    };
    let mut other = Host::new(config, START, 1 << 16);
    for _ in 0..70 {
        other.receive(&error([UNREACHABLE, TOO_LONG], 1000, &sent));
    }
    let counters = other.engine.counters();
    assert_eq!(
        (counters.rx_elsewhere, counters.rx_elsewhere_drops),
        (64, 6)
    );
    assert_eq!(other.mbufs_out(), 64);
}
