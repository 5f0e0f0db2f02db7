//! The body of the fuzz targets (`fuzz/`): bytes are read as a configuration, and as a sequence of
//! frames, segments, calls and pauses around one engine. Nothing may panic or overflow, after every step
//! the engine's inside must be in order ([`crate::Engine::check`]), and in the end everything must come
//! back.
//!
//! The host around the engine checks what it is asked to send; see [`Host`].

mod frames;
mod ipv6;

use super::Host;
use super::host::APP_BUS;
use crate::packet::Packet;
use crate::wire::{Segment, control};
use crate::{Config, CongestionControl, Counters, Ecn, Endpoint, Event, Ipv6Config};
use alloc::vec::Vec;
use core::net::Ipv6Addr;
use frames::{ENGINE, PEER, PeerSegment};
use ipv6::{ENGINE6, PEER6};
use ix_abi::Handle;
use ix_hal::{Duration, Fragment, Instant, MbufId, RxChecksum};

/// Which of the actions a run may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FuzzMode {
    /// Frames of any bytes.
    Frames,
    /// Frames of any bytes, and any calls.
    Calls,
    /// Segments that are nearly right for live connections, and calls.
    Segments,
}

const PORT: u16 = 80;
const UDP_PORT: u16 = 53;
const MBUFS: u32 = 64;
const SEND_RECORDS: u32 = 64;
const PEERS: usize = 4;
const FIRST_PEER_PORT: u16 = 40_000;

/// Runs `data`; returns what the engine has counted.
///
/// # Panics
/// If the engine does what it must not.
pub fn fuzz(mode: FuzzMode, data: &[u8]) -> Counters {
    let mut run = Run::new(data);
    while let Some(action) = run.byte() {
        match (mode, action % 8) {
            (FuzzMode::Frames | FuzzMode::Calls, 0..=3) => run.frame(),
            (FuzzMode::Segments, 0..=3) => run.segment(),
            (FuzzMode::Frames, _) | (_, 4) => run.pause(),
            (FuzzMode::Calls | FuzzMode::Segments, _) => run.call(),
        }
        run.settle();
    }
    run.end()
}

/// A small engine, so that everything runs out; the rest as `choices` say.
fn config(choices: &[u8]) -> Config {
    let choice = |at: usize| choices.get(at).copied().unwrap_or(0);
    let either = |at: usize, bit: u8| choice(at) & 1 << bit != 0;
    let mtu = [1500, 576, 1280, 9000][usize::from(choice(0) >> 4 & 3)];
    let has_ipv6 = !either(0, 0) && mtu >= 1280;
    Config {
        ipv4: ENGINE,
        gateway: Some(PEER),
        ipv6: has_ipv6.then(|| Ipv6Config {
            address: Some(Ipv6Addr::from_bits(ENGINE6.bits())),
            gateway: either(0, 1).then(|| Ipv6Addr::from_bits(PEER6.bits())),
            router_advertisements: either(0, 2),
            duplicate_probes: choice(0) >> 3 & 1,
            ..Ipv6Config::default()
        }),
        mtu,
        nagle: either(0, 6),
        syn_cookies: !either(0, 7),
        congestion: match choice(1) & 3 {
            0 | 1 => CongestionControl::NewReno,
            2 => CongestionControl::Cubic,
            _ => CongestionControl::Dctcp,
        },
        ecn: match choice(1) >> 2 & 3 {
            0 | 1 => Ecn::Accept,
            2 => Ecn::Request,
            _ => Ecn::Off,
        },
        rto_min_us: [100_000, 16][usize::from(either(1, 4))],
        half_open: [4, 0][usize::from(either(1, 5))],
        keepalive: either(1, 6).then(|| Duration::from_secs(20)),
        rx_window: [8 << 10, 100, 1000, 128 << 10][usize::from(choice(2) & 3)],
        initial_window: [10, 1][usize::from(either(2, 2))],
        connections: 8,
        time_wait: [4, 0][usize::from(either(2, 3))],
        neighbors: 4,
        send_fragments: SEND_RECORDS,
        mbufs: MBUFS,
        mbufs_held: [48, 4][usize::from(either(2, 4))],
        out_of_order: 16,
        send_limit: 32 << 10,
        reassemblies: 4,
        ..Config::default()
    }
}

/// What a peer port knows of its connection.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// What the engine expects next.
    seq: u32,
    /// What the engine sends next.
    ack: u32,
    /// What the peer has acknowledged.
    acked: u32,
    timestamp: u32,
    /// The engine's port of its connection.
    engine_port: u16,
    is_ipv6: bool,
}

struct Run<'a> {
    data: &'a [u8],
    host: Host,
    peers: [Peer; PEERS],
    handles: Vec<Handle>,
}

impl<'a> Run<'a> {
    fn new(data: &'a [u8]) -> Self {
        let (choices, data) = data.split_at(data.len().min(4));
        let mut host = Host::new(config(choices), Instant(1 << 40), 1 << 17);
        host.wire.segmentation = match choices.get(3) {
            Some(choice) if choice & 1 != 0 => 65_408,
            _ => 0,
        };
        host.engine.listen(PORT).expect("listen on a fresh engine");
        let bound = host.engine.udp_bind(UDP_PORT);
        bound.expect("bind on a fresh engine");
        let mut run = Self {
            data,
            host,
            peers: [Peer {
                engine_port: PORT,
                ..Peer::default()
            }; PEERS],
            handles: Vec::new(),
        };
        run.introduce();
        run
    }

    /// The peer asks for the engine's MAC address, so that the engine knows its.
    fn introduce(&mut self) {
        for frame in [frames::arp_introduction(), ipv6::introduction()] {
            self.host.receive_as(&frame, RxChecksum::Unchecked);
        }
        self.settle();
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.data.split_first()?;
        self.data = rest;
        Some(*first)
    }

    /// The next byte, 0 at the end.
    fn next(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn next16(&mut self) -> u16 {
        u16::from_be_bytes([self.next(), self.next()])
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.data.split_at(len.min(self.data.len()));
        self.data = rest;
        taken
    }

    /// A frame to the engine: an Ethernet header that is right, and any bytes, or any but for what leads
    /// to the engine; half of them over IPv6 behind a header that is right. The NIC vouches for the checksums of some, since few have them right by chance.
    fn frame(&mut self) {
        let choice = self.next();
        if choice & 0x80 != 0 {
            let kind = self.next();
            let len = usize::from(self.next16() % 1500);
            let frame = ipv6::packet(kind, self.bytes(len));
            self.host.receive_as(&frame, RxChecksum::Unchecked);
            return;
        }
        let ethertype = [0x0800_u16, 0x0806, 0x86dd, 0x8100][usize::from(choice & 3)];
        let mut frame = frames::ethernet(ethertype);
        let len = usize::from(self.next16() % 2048);
        frame.extend(self.bytes(len));
        if choice & 8 != 0 {
            frames::address(&mut frame, choice >> 5 & 3);
        }
        if choice & 16 != 0 {
            frames::insert_checksum(&mut frame);
        }
        let checksum = match choice & 4 {
            0 => RxChecksum::Good,
            _ => RxChecksum::Unchecked,
        };
        self.host.receive_as(&frame, checksum);
    }

    /// A segment near the place where the connection of one of the peer's ports stands.
    fn segment(&mut self) {
        let choice = self.next();
        let index = usize::from(choice) % PEERS;
        let peer = self.peers[index];
        let near = |value: u32, offset: u8| match offset {
            0..=63 => value,
            64..=127 => value.wrapping_add(u32::from(offset & 63) * 97),
            _ => value.wrapping_add(i32::from(offset as i8).wrapping_mul(97) as u32),
        };
        let seq = near(peer.seq, self.next());
        let ack = match self.next() {
            // Once more, or a few segments of what is under way.
            offset @ 64..=127 => peer.acked.wrapping_add(u32::from(offset & 7) * 536),
            offset => near(peer.ack, offset),
        };
        let control = match choice >> 4 {
            0 => control::SYN,
            1 => control::SYN | control::ACK,
            2 => control::FIN | control::ACK,
            3 => control::RST,
            4 => self.next(),
            _ => control::ACK,
        };
        let window = self.next16();
        let options = self.options(choice & 12, peer);
        let payload = usize::from(self.next16() % 1500);
        let is_opening = control & control::ACK == 0 && control & control::SYN != 0;
        if is_opening {
            let peer = &mut self.peers[index];
            peer.seq = seq.wrapping_add(1);
            peer.is_ipv6 = window & 1 != 0;
        }
        let segment = PeerSegment {
            is_ipv6: self.peers[index].is_ipv6,
            ports: (FIRST_PEER_PORT + index as u16, peer.engine_port),
            seq,
            ack,
            control,
            codepoint: (window >> 1 & 3) as u8,
            window,
            options: &options,
            payload,
        };
        self.host.receive_as(&segment.frame(), RxChecksum::Good);
        if control & control::ACK != 0 && (peer.ack.wrapping_sub(ack) as i32) >= 0 {
            self.peers[index].acked = ack;
        }
    }

    /// None, usual ones, SACK blocks near the window, or any bytes.
    fn options(&mut self, choice: u8, peer: Peer) -> Vec<u8> {
        let mut options = Vec::new();
        match choice {
            0 => {}
            4 => {
                options.extend([2, 4, 5, 0xb4, 4, 2, 3, 3, 2, 1]);
                options.extend([8, 10]);
                options.extend(u32::from(self.next()).to_be_bytes());
                options.extend(peer.timestamp.to_be_bytes());
            }
            8 => {
                if peer.timestamp != 0 {
                    // They were agreed on, and what lacks them is dropped.
                    options.extend([1, 1, 8, 10, 0, 0, 1, self.next()]);
                    options.extend(peer.timestamp.to_be_bytes());
                }
                options.extend([1, 1, 5, 18]);
                for _ in 0..2 {
                    // Of what is under way, or a duplicate.
                    let offset = self.next() as i8;
                    let left = peer
                        .acked
                        .wrapping_add(i32::from(offset).wrapping_mul(134) as u32);
                    let right = left.wrapping_add(u32::from(self.next()) * 134);
                    options.extend(left.to_be_bytes());
                    options.extend(right.to_be_bytes());
                }
            }
            _ => {
                let len = usize::from(self.next() % 41);
                options.extend(self.bytes(len));
            }
        }
        options.resize(options.len().next_multiple_of(4), 0);
        options
    }

    /// From a microsecond to some minutes.
    fn pause(&mut self) {
        let shift = u32::from(self.next() % 38);
        self.host.now.0 += (1 << shift) + u64::from(self.next());
    }

    fn call(&mut self) {
        let choice = self.next();
        let handle = match self.handles.len() {
            _ if choice & 0x80 != 0 => Handle(u64::from(self.next16())),
            0 => Handle(u64::from(choice)),
            count => self.handles[usize::from(choice >> 3) % count],
        };
        let number = self.next16();
        match (choice & 7, choice >> 3 & 3) {
            (1, 0) => return self.datagram(number),
            (1, 1) => return self.turn_port(number),
            (1, _) => return self.connect(number),
            _ => {}
        }
        let piece = |at: u16| Fragment {
            bus: APP_BUS + u64::from(at),
            len: u32::from(number >> (at & 7)),
        };
        let pieces = [piece(1), piece(2), piece(3)];
        // A call may be refused; that is its answer.
        let _ = self.host.with(|engine, cx| match choice & 7 {
            0 => engine.accept(cx, handle, 1),
            2 | 3 => engine.send(cx, handle, &pieces).map(drop),
            4 => engine.recv_done(cx, handle, u64::from(number)),
            5 => engine.shutdown(cx, handle),
            6 => engine.close(cx, handle),
            _ => engine.abort(cx, handle),
        });
    }

    fn connect(&mut self, number: u16) {
        let remote = Endpoint {
            address: frames::peer(number & 0x8000 != 0),
            port: FIRST_PEER_PORT + number % PEERS as u16,
        };
        let opened = self.host.with(|engine, cx| engine.connect(cx, 2, remote));
        self.handles.extend(opened.ok());
    }

    fn datagram(&mut self, number: u16) {
        let remote = Endpoint {
            address: frames::peer(number & 0x8000 != 0),
            port: number,
        };
        let piece = Fragment {
            bus: APP_BUS,
            len: u32::from(number & 0x7ff),
        };
        // Refused if nobody has bound the port, or it is too long.
        let _ = self
            .host
            .with(|engine, cx| engine.udp_send(cx, UDP_PORT, remote, &[piece]));
    }

    /// Listens and binds, or no longer; refused if that is so already.
    fn turn_port(&mut self, number: u16) {
        let engine = &mut self.host.engine;
        let _ = match number & 3 {
            0 => engine.listen(PORT),
            1 => engine.unlisten(PORT),
            2 => engine.udp_bind(UDP_PORT),
            _ => engine.udp_unbind(UDP_PORT),
        };
    }

    /// Timers and output; then the peers learn from what was sent, and events are taken.
    fn settle(&mut self) {
        self.host.turn();
        while let Some(frame) = self.host.wire.sent.pop_front() {
            self.learn(&frame);
        }
        while let Some(event) = self.host.queue.events.pop_front() {
            match event {
                Event::Knock { handle, .. } => self.handles.push(handle),
                Event::Dead { handle, .. } => {
                    // Refused if it was closed before.
                    let _ = self.host.with(|engine, cx| engine.close(cx, handle));
                }
                Event::Recv { mbuf, len, .. } => check_owned(mbuf, len),
                Event::Datagram { mbuf, .. } => {
                    let given = self.host.with(|engine, cx| engine.udp_recv_done(cx, mbuf));
                    given.expect("give back a datagram");
                }
                _ => {}
            }
        }
        if let Err(wrong) = self.host.engine.check() {
            panic!("at {} ns: {wrong}", self.host.now.0);
        }
    }

    fn learn(&mut self, frame: &[u8]) {
        let Some(packet) = Packet::in_frame(frame) else {
            return;
        };
        let Some(segment) = Segment::parse(frame, &packet) else {
            return;
        };
        let index = usize::from(segment.key.local_port().wrapping_sub(FIRST_PEER_PORT));
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let room = u32::from(segment.has(control::SYN)) + u32::from(segment.has(control::FIN));
        peer.ack = (segment.seq + (u32::from(segment.len) + room)).0;
        if segment.has(control::ACK) {
            peer.seq = segment.ack.0;
        }
        peer.engine_port = segment.key.remote_port();
        peer.is_ipv6 = packet.is_ipv6();
        if let [1, 1, 8, 10, a, b, c, d, ..] = *segment.options {
            peer.timestamp = u32::from_be_bytes([a, b, c, d]);
        }
    }

    /// Gives everything up; then everything has to be back.
    fn end(mut self) -> Counters {
        for handle in core::mem::take(&mut self.handles) {
            let _ = self.host.with(|engine, cx| engine.abort(cx, handle));
            let _ = self.host.with(|engine, cx| engine.close(cx, handle));
            self.settle();
        }
        for _ in 0..100 {
            self.host.now.0 += 10_000_000_000;
            self.settle();
        }
        assert_eq!(self.host.engine.connections(), 0, "connections are left");
        assert_eq!(self.host.mbufs_out(), 0, "mbufs are left");
        let records = self.host.engine.free_send_records();
        assert_eq!(records, SEND_RECORDS, "send records are left");
        self.host.engine.counters().clone()
    }
}

fn check_owned(mbuf: MbufId, len: u16) {
    assert!(len != 0, "an empty recv event");
    assert!(mbuf.0 < MBUFS, "an mbuf that is not of the pool");
}
