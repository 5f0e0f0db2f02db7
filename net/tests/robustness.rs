//! Arbitrary frames and arbitrary calls: nothing panics (arithmetic is checked in test builds), no
//! table leaks, and whatever state was reached, everything comes back once all is aborted.

use core::net::Ipv4Addr;
use ix_abi::Handle;
use ix_hal::{Fragment, Instant};
use ix_net::testing::{APP_BUS, Host, Random};
use ix_net::{Config, Endpoint, Event};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket,
    TcpSeqNumber,
};
use std::collections::BTreeMap;

const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const APP_BYTES: u64 = 1 << 16;

/// What the stranger on the wire has seen of a flow.
#[derive(Clone, Copy, Default, PartialEq)]
struct Seen {
    /// What the engine sent and acknowledged last.
    seq: u32,
    ack: u32,
}

struct Chaos {
    host: Host,
    random: Random,
    /// By (peer port, local port).
    flows: BTreeMap<(u16, u16), Seen>,
    handles: Vec<Handle>,
    /// Whether the stranger sends timestamps, and the next one.
    has_timestamps: bool,
    timestamp: u32,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = Config {
            mac: LOCAL_MAC,
            ipv4: LOCAL,
            secret: [3; 16],
            connections: 12,
            half_open: 6,
            time_wait: 4,
            neighbors: 3,
            send_fragments: 64,
            mbufs: 96,
            mbufs_held: 70,
            out_of_order: 24,
            rx_window: 1 << (8 + random.below(12)),
            rx_mbufs: 1 + random.below(40) as u16,
            rx_out_of_order: random.below(20) as u16,
            send_limit: 1 << (6 + random.below(14)),
            nagle: random.chance(500),
            rto_min_us: random.below(100_000) as u32,
            keepalive: random.chance(500).then_some(ix_hal::Duration::from_secs(5)),
            ..Config::default()
        };
        let mut host = Host::new(config, Instant(1 << 40), APP_BYTES as usize);
        host.engine.listen(80).unwrap();
        Self {
            host,
            has_timestamps: random.chance(500),
            timestamp: 1000,
            random,
            flows: BTreeMap::new(),
            handles: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.random.below(16) {
            0 => self.garbage(),
            1 => self.arp(),
            2..=8 => self.segment(),
            9..=12 => self.call(),
            13 => {
                let shift = 12 + self.random.below(20) + self.random.below(6);
                self.host.now.0 += self.random.below(1 << shift);
                self.host.turn();
            }
            14 => self.host.wire.capacity = 3 * self.random.below(30) as usize,
            _ => self.host.turn(),
        }
        self.watch();
    }

    fn garbage(&mut self) {
        let len = self.random.below(200) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| self.random.word() as u8).collect();
        if len > 14 && self.random.chance(800) {
            bytes[..6].copy_from_slice(&LOCAL_MAC);
            bytes[12..14].copy_from_slice(&[8, if self.random.chance(300) { 6 } else { 0 }]);
        }
        self.host.receive(&bytes);
    }

    fn arp(&mut self) {
        let mut frame = [LOCAL_MAC, PEER_MAC].concat();
        frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + self.random.below(3) as u8]);
        let mac = if self.random.chance(800) {
            PEER_MAC
        } else {
            [4, 1, 2, 3, 4, 5]
        };
        frame.extend_from_slice(&mac);
        frame.extend_from_slice(&[10, 0, 0, 5 + self.random.below(6) as u8]);
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&LOCAL.octets());
        self.host.receive(&frame);
    }

    /// A number near another: mostly close to it, sometimes anywhere.
    fn near(&mut self, base: u32) -> u32 {
        let offset = match self.random.below(32) {
            0..=20 => 0,
            21..=26 => self.random.below(3000) as u32,
            27..=30 => (self.random.below(3000) as u32).wrapping_neg(),
            _ => self.random.word() as u32,
        };
        base.wrapping_add(offset)
    }

    /// A well-formed segment of a known or a new flow, with every field near something that
    /// matters.
    fn segment(&mut self) {
        let is_new = self.flows.len() < 2 || self.random.chance(100);
        let known = match is_new {
            true => usize::MAX,
            false => self.random.below(self.flows.len() as u64) as usize,
        };
        let flow = self
            .flows
            .iter()
            .nth(known)
            .map(|(ports, seen)| (*ports, *seen));
        let ((port, local_port), seen) = flow.unwrap_or((
            (
                1000 + self.random.below(20) as u16,
                79 + self.random.below(2) as u16,
            ),
            Seen::default(),
        ));
        let options = self.options(seen);
        let len = match self.random.below(4) {
            0 => self.random.below(1400) as usize,
            1 => self.random.below(3) as usize,
            _ => 0,
        };
        let mut frame = vec![0; 54 + options.len() + len];
        let total = frame.len();
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        ethernet.set_dst_addr(EthernetAddress(LOCAL_MAC));
        ethernet.set_src_addr(EthernetAddress(PEER_MAC));
        ethernet.set_ethertype(EthernetProtocol::Ipv4);
        let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
        ip.set_version(4);
        ip.set_header_len(20);
        ip.set_total_len((total - 14) as u16);
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Tcp);
        ip.set_src_addr(PEER);
        ip.set_dst_addr(LOCAL);
        ip.fill_checksum();
        let control = match self.random.below(64) {
            _ if flow.is_none() => 0x02,
            0 => self.random.word(),
            1 => 0x11,
            2 => 0x04 | (self.random.below(2) << 4),
            3 => 0x12,
            4 => 0x02,
            _ => 0x10,
        };
        let unacked = match self.random.chance(400) {
            true => self.random.below(6000) as u32,
            false => 0,
        };
        let (seq, ack) = (
            self.near(seen.ack),
            self.near(seen.seq.wrapping_sub(unacked)),
        );
        let window = match self.random.below(8) {
            0 => self.random.word() as u16 >> self.random.below(16),
            _ => 50_000,
        };
        frame[54..54 + options.len()].copy_from_slice(&options);
        let mut tcp = TcpPacket::new_unchecked(&mut frame[34..]);
        tcp.set_src_port(port);
        tcp.set_dst_port(local_port);
        tcp.set_seq_number(TcpSeqNumber(seq as i32));
        tcp.set_ack_number(TcpSeqNumber(ack as i32));
        tcp.set_header_len((20 + options.len()) as u8);
        tcp.set_syn(control & 2 != 0);
        tcp.set_fin(control & 1 != 0);
        tcp.set_rst(control & 4 != 0);
        tcp.set_psh(control & 8 != 0);
        tcp.set_ack(control & 16 != 0);
        tcp.set_window_len(window);
        tcp.fill_checksum(&PEER.into(), &LOCAL.into());
        if self.random.chance(20) {
            let bit = self.random.below(total as u64 * 8) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        self.host.receive(&frame);
    }

    fn options(&mut self, seen: Seen) -> Vec<u8> {
        let mut options = Vec::new();
        if self.has_timestamps != self.random.chance(20) {
            self.timestamp += self.random.below(3) as u32;
            options.extend_from_slice(&[1, 1, 8, 10]);
            options.extend_from_slice(&self.near(self.timestamp).to_be_bytes());
            options.extend_from_slice(&[0; 4]);
        }
        if self.random.chance(300) {
            options.extend_from_slice(&[1, 1, 5, 18]);
            for _ in 0..2 {
                let below = self.random.below(3000) as u32 * self.random.below(2) as u32;
                let right = self.near(seen.seq.wrapping_sub(below));
                let left = right.wrapping_sub(self.random.below(3000) as u32);
                options.extend_from_slice(&left.to_be_bytes());
                options.extend_from_slice(&right.to_be_bytes());
            }
        }
        if seen == Seen::default() || self.random.chance(100) {
            let mss = self.random.word() as u16;
            options.extend_from_slice(&[2, 4, (mss >> 8) as u8, mss as u8]);
            options.extend_from_slice(&[1, 3, 3, self.random.below(20) as u8]);
            options.extend_from_slice(&[1, 1, 4, 2]);
        }
        if self.random.chance(100) {
            options.extend((0..8).map(|_| self.random.word() as u8));
        }
        options.truncate(40);
        options
    }

    fn call(&mut self) {
        let known = self.random.below(self.handles.len() as u64 + 1) as usize;
        let handle = match self.handles.get(known) {
            Some(handle) => *handle,
            None => Handle(self.random.word() >> self.random.below(64)),
        };
        let number = self.random.word() >> self.random.below(64);
        let count = self.random.below(12) as usize;
        let pieces: Vec<Fragment> = (0..count)
            .map(|_| Fragment {
                bus: APP_BUS + self.random.below(APP_BYTES / 2),
                len: self.random.below(APP_BYTES / 2) as u32 >> self.random.below(16),
            })
            .collect();
        let remote = Endpoint {
            address: Ipv4Addr::new(10, 0, 0, 5 + (number % 6) as u8).into(),
            port: number as u16,
        };
        let pick = self.random.below(100);
        let opened = self.host.with(|engine, cx| {
            match pick {
                0 => return engine.connect(cx, 1, remote).ok(),
                1 => _ = engine.close(cx, handle),
                2 => _ = engine.abort(cx, handle),
                3 => _ = engine.shutdown(cx, handle),
                4..=28 => _ = engine.accept(cx, handle, 1),
                29..=50 => _ = engine.recv_done(cx, handle, number),
                _ => _ = engine.send(cx, handle, &pieces),
            }
            None
        });
        self.handles.extend(opened);
    }

    /// Looks at what came out.
    fn watch(&mut self) {
        while let Some(frame) = self.host.wire.sent.pop_front() {
            let Ok(ip) = Ipv4Packet::new_checked(&frame[14..]) else {
                continue;
            };
            let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
                continue;
            };
            let end = (tcp.seq_number().0 as u32)
                .wrapping_add(tcp.payload().len() as u32)
                .wrapping_add(u32::from(tcp.syn()) + u32::from(tcp.fin()));
            let seen = Seen {
                seq: end,
                ack: tcp.ack_number().0 as u32,
            };
            let ports = (tcp.dst_port(), tcp.src_port());
            match tcp.rst() {
                true => drop(self.flows.remove(&ports)),
                false => drop(self.flows.insert(ports, seen)),
            }
        }
        while let Some(event) = self.host.queue.events.pop_front() {
            if let Event::Knock { handle, .. } = event {
                self.handles.push(handle);
            }
        }
        if self.flows.len() > 30 {
            self.flows.pop_first();
        }
    }

    fn end(&mut self) {
        let handles = std::mem::take(&mut self.handles);
        self.host.wire.capacity = 1000;
        self.host.with(|engine, cx| {
            for handle in handles {
                let _ = engine.abort(cx, handle);
            }
        });
        self.watch();
        self.host.turn();
        assert_eq!(self.host.engine.connections(), 0);
        assert_eq!(self.host.mbufs_out(), 0);
        assert_eq!(self.host.engine.free_send_records(), 64);
    }
}

#[test]
fn chaos_ends_with_everything_returned() {
    let seeds = std::env::var("IX_CHAOS_SEEDS").map_or(300, |text| text.parse().expect("a number"));
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let mut chaos = Chaos::new(seed);
        for _ in 0..1500 {
            chaos.step();
        }
        chaos.end();
        for (name, value) in chaos.host.engine.counters().iter() {
            *totals.entry(name).or_default() += value;
        }
    }
    // The chaos reaches what it is meant to reach.
    for name in [
        "TcpPassiveOpens",
        "TcpExtTCPHPHits",
        "TcpExtTCPOFOQueue",
        "TcpRetransSegs",
        "TcpExtTCPTimeouts",
        "IxTcpFastRecoveries",
        "TcpExtTCPLossProbes",
        "TcpExtTCPWinProbe",
        "TcpExtTW",
        "TcpExtTCPAbortOnData",
        "TcpExtTCPChallengeACK",
        "TcpExtPAWSEstab",
        "TcpExtListenOverflows",
        "IxTcpSendRecordsExhausted",
        "IxTcpHandshakeTimeouts",
    ] {
        assert!(totals[name] != 0, "{name} never happened: {totals:?}");
    }
}
