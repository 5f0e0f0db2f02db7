//! A flood of SYNs from spoofed addresses: every connection of an honest peer opens meanwhile,
//! through cookies, and carries a request and its response.

use core::net::Ipv4Addr;
use ix_abi::Handle;
use ix_hal::{Fragment, Instant};
use ix_net::testing::{APP_BUS, Host, Random};
use ix_net::{Config, Event};
use smoltcp::wire::{Ipv4Packet, TcpOption, TcpPacket};
use std::collections::BTreeMap;

const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HONEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const CONNECTIONS: u16 = 100;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// One honest connection attempt.
#[derive(Default)]
struct Client {
    next_syn: u64,
    is_open: bool,
    answered: bool,
    ack: u32,
    timestamp: u32,
}

struct Segment<'a> {
    source: Ipv4Addr,
    port: u16,
    control: u8,
    seq: u32,
    ack: u32,
    timestamp_echo: u32,
    payload: &'a [u8],
}

fn frame(segment: &Segment<'_>) -> Vec<u8> {
    let mut options = vec![];
    if segment.control & SYN != 0 {
        options.extend_from_slice(&[2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2]);
    }
    options.extend_from_slice(&[1, 1, 8, 10, 0, 0, 0, 9]);
    options.extend_from_slice(&segment.timestamp_echo.to_be_bytes());
    let tcp_len = 20 + options.len() + segment.payload.len();
    let mut bytes = [&LOCAL_MAC[..], &GATEWAY_MAC, &[8, 0, 0x45, 0]].concat();
    bytes.extend_from_slice(&(20 + tcp_len as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend_from_slice(&segment.source.octets());
    bytes.extend_from_slice(&LOCAL.octets());
    bytes.extend_from_slice(&segment.port.to_be_bytes());
    bytes.extend_from_slice(&80u16.to_be_bytes());
    bytes.extend_from_slice(&segment.seq.to_be_bytes());
    bytes.extend_from_slice(&segment.ack.to_be_bytes());
    let offset = (5 + options.len() as u8 / 4) << 4;
    bytes.extend_from_slice(&[offset, segment.control, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend_from_slice(&options);
    bytes.extend_from_slice(segment.payload);
    Ipv4Packet::new_unchecked(&mut bytes[14..34]).fill_checksum();
    TcpPacket::new_unchecked(&mut bytes[34..]).fill_checksum(&segment.source.into(), &LOCAL.into());
    bytes
}

fn host() -> Host {
    host_with(256)
}

/// The server with a cache of so many neighbours; the gateway is one.
fn host_with(neighbors: u16) -> Host {
    let config = Config {
        neighbors,
        mac: LOCAL_MAC,
        ipv4: LOCAL,
        gateway: Some(Ipv4Addr::new(10, 0, 0, 9)),
        secret: [9; 16],
        connections: 512,
        half_open: 64,
        ..Config::default()
    };
    let mut host = Host::new(config, Instant(1 << 40), 1 << 16);
    host.engine.listen(80).unwrap();
    let mut arp = [LOCAL_MAC, GATEWAY_MAC].concat();
    arp.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend_from_slice(&GATEWAY_MAC);
    arp.extend_from_slice(&[10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    host.receive(&arp);
    host
}

/// The server: accepts everybody, answers each request with as many bytes.
fn serve(host: &mut Host, handles: &mut BTreeMap<u64, Handle>) {
    while let Some(event) = host.queue.events.pop_front() {
        match event {
            Event::Knock { handle, .. } => {
                handles.insert(handle.0, handle);
                host.with(|engine, cx| engine.accept(cx, handle, handle.0))
                    .expect("accept a knock");
            }
            Event::Recv { cookie, len, .. } => {
                let response = Fragment {
                    bus: APP_BUS,
                    len: len.into(),
                };
                let handle = handles[&cookie];
                host.with(|engine, cx| {
                    engine.recv_done(cx, handle, len.into()).expect("give back");
                    let sent = engine.send(cx, handle, &[response]).expect("send");
                    assert_eq!(sent, u32::from(len));
                });
            }
            Event::Dead { handle, .. } => {
                host.with(|engine, cx| engine.close(cx, handle))
                    .expect("release");
            }
            _ => {}
        }
    }
}

/// What the honest peer makes of a frame; returns what it answers.
fn answer(clients: &mut [Client], bytes: &[u8]) -> Option<Vec<u8>> {
    let ip = Ipv4Packet::new_checked(&bytes[14..]).expect("an IPv4 packet");
    if ip.dst_addr() != HONEST {
        return None;
    }
    let tcp = TcpPacket::new_checked(ip.payload()).expect("a TCP segment");
    assert!(!tcp.rst(), "an honest peer was reset");
    let client = &mut clients[usize::from(tcp.dst_port() - 1000)];
    if tcp.syn() {
        let mut rest = tcp.options();
        while let Ok((next, option)) = TcpOption::parse(rest) {
            if let TcpOption::TimeStamp { tsval, .. } = option {
                client.timestamp = tsval;
            }
            rest = next;
        }
        client.is_open = true;
        client.ack = (tcp.seq_number().0 as u32).wrapping_add(1);
    }
    client.answered |= tcp.payload().len() == 64;
    // The request is repeated until it is answered.
    (client.is_open && !client.answered).then(|| request(tcp.dst_port(), client))
}

fn request(port: u16, client: &Client) -> Vec<u8> {
    frame(&Segment {
        source: HONEST,
        port,
        control: ACK | PSH,
        seq: 1,
        ack: client.ack,
        timestamp_echo: client.timestamp,
        payload: &[7; 64],
    })
}

fn syn(source: Ipv4Addr, port: u16) -> Vec<u8> {
    frame(&Segment {
        source,
        port,
        control: SYN,
        seq: 0,
        ack: 0,
        timestamp_echo: 0,
        payload: &[],
    })
}

#[test]
fn flood_from_spoofed_addresses_costs_no_honest_connection() {
    let mut host = host();
    let mut random = Random::new(1);
    let mut handles = BTreeMap::new();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::default()).collect();
    // 100,000 SYN/s for half a second, a batch of 50 each half millisecond.
    for round in 0..1000u64 {
        host.now.0 += 500_000;
        for _ in 0..50 {
            let spoofed = Ipv4Addr::from_bits(0xc633_6400 | random.word() as u32 & 0xff);
            host.receive(&syn(spoofed, 1024 + random.below(60_000) as u16));
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let port = 1000 + index as u16;
            // Begun one after the other; an honest peer repeats itself after 100 ms.
            if client.answered || round < 100 + 3 * index as u64 || round < client.next_syn {
                continue;
            }
            client.next_syn = round + 200;
            let bytes = match client.is_open {
                true => request(port, client),
                false => syn(HONEST, port),
            };
            host.receive(&bytes);
        }
        serve(&mut host, &mut handles);
        host.turn();
        while let Some(bytes) = host.wire.sent.pop_front() {
            if bytes[12..14] == [8, 0]
                && let Some(reply) = answer(&mut clients, &bytes)
            {
                host.receive(&reply);
            }
        }
        serve(&mut host, &mut handles);
    }
    let answered = clients.iter().filter(|client| client.answered).count();
    assert_eq!(answered, usize::from(CONNECTIONS));
    let counters = host.engine.counters();
    assert!(counters.tcp_cookies_sent > 49_000, "{counters:?}");
    assert_eq!(counters.tcp_cookies_received, u64::from(CONNECTIONS));
    assert_eq!(counters.tcp_cookies_failed, 0);
}

#[test]
fn flood_from_spoofed_addresses_on_the_link_evicts_no_neighbor_in_use() {
    let mut host = host_with(16);
    let mut random = Random::new(2);
    let mut handles = BTreeMap::new();
    let mut clients = [Client::default()];
    // An honest peer behind the gateway has a connection.
    host.receive(&syn(HONEST, 1000));
    let mut repeats = 0;
    for round in 0..4000u64 {
        host.now.0 += 1_000_000;
        for _ in 0..10 {
            let spoofed = Ipv4Addr::new(10, 0, 0, 20 + random.below(200) as u8);
            host.receive(&syn(spoofed, 1024 + random.below(60_000) as u16));
        }
        if round % 100 == 50 {
            // Each of its requests is answered in the same turn.
            assert!(clients[0].is_open, "round {round}");
            clients[0].answered = false;
            repeats += 1;
            let mut bytes = request(1000, &clients[0]);
            let seq = 1 + 64 * (repeats - 1);
            bytes[38..42].copy_from_slice(&u32::to_be_bytes(seq));
            bytes[42..46].copy_from_slice(&(clients[0].ack + 64 * (repeats - 1)).to_be_bytes());
            TcpPacket::new_unchecked(&mut bytes[34..]).fill_checksum(&HONEST.into(), &LOCAL.into());
            host.receive(&bytes);
        }
        serve(&mut host, &mut handles);
        host.turn();
        while let Some(bytes) = host.wire.sent.pop_front() {
            if bytes[12..14] == [8, 0] {
                let _ = answer(&mut clients, &bytes);
            }
        }
        assert!(clients[0].answered || repeats == 0, "round {round}");
    }
    let counters = host.engine.counters();
    assert_eq!(counters.arp_evictions, 0);
    assert!(counters.neighbor_refusals > 0);
}
