//! The body of the fuzz targets (`fuzz/`): bytes are read as a sequence of frames, segments, calls and
//! pauses around one engine. Nothing may panic or overflow, and in the end everything must come back.
//!
//! The host around the engine checks what it is asked to send; see [`Host`].

use super::host::APP_BUS;
use super::{Host, fuzz6};
use crate::packet::Packet;
use crate::wire::{self, Segment, control};
use crate::{Config, Endpoint, Event, Ipv6Config};
use alloc::vec;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
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
/// Ports of the peer from this index on speak IPv6.
const FIRST_IPV6_PEER: usize = 2;
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// Runs `data`.
///
/// # Panics
/// If the engine does what it must not.
pub fn fuzz(mode: FuzzMode, data: &[u8]) {
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
    run.end();
}

/// What a peer port knows of its connection.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// What the engine expects next.
    seq: u32,
    /// What the engine sends next.
    ack: u32,
    timestamp: u32,
}

struct Run<'a> {
    data: &'a [u8],
    host: Host,
    peers: [Peer; PEERS],
    handles: Vec<Handle>,
}

impl<'a> Run<'a> {
    fn new(data: &'a [u8]) -> Self {
        let config = Config {
            ipv4: ENGINE,
            gateway: Some(PEER),
            ipv6: Some(Ipv6Config {
                address: Some(Ipv6Addr::from_bits(fuzz6::ENGINE6.bits())),
                router_advertisements: true,
                duplicate_probes: 0,
                ..Ipv6Config::default()
            }),
            connections: 8,
            half_open: 4,
            time_wait: 4,
            neighbors: 4,
            send_fragments: SEND_RECORDS,
            mbufs: MBUFS,
            mbufs_held: 48,
            out_of_order: 16,
            rx_window: 8 << 10,
            send_limit: 8 << 10,
            keepalive: Some(Duration::from_secs(20)),
            ..Config::default()
        };
        let mut host = Host::new(config, Instant(1 << 40), 1 << 17);
        host.engine.listen(PORT).expect("listen on a fresh engine");
        let bound = host.engine.udp_bind(UDP_PORT);
        bound.expect("bind on a fresh engine");
        let mut run = Self {
            data,
            host,
            peers: [Peer::default(); PEERS],
            handles: Vec::new(),
        };
        run.introduce();
        run
    }

    /// The peer asks for the engine's MAC address, so that the engine knows its.
    fn introduce(&mut self) {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([2, 0, 0, 0, 0, 9]);
        frame.extend(PEER.octets());
        frame.extend([0; 6]);
        frame.extend(ENGINE.octets());
        self.host.receive_as(&frame, RxChecksum::Unchecked);
        let frame = fuzz6::introduction();
        self.host.receive_as(&frame, RxChecksum::Unchecked);
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

    /// A frame to the engine: an Ethernet header that is right, and any bytes. The NIC vouches for the
    /// checksums of every other one, since few have them right by chance. Every third one is IPv6 with
    /// a header that is right too.
    fn frame(&mut self) {
        let choice = self.next();
        if choice % 3 == 2 {
            let kind = self.next();
            let len = usize::from(self.next16() % 1500);
            let frame = fuzz6::packet(kind, self.bytes(len));
            self.host.receive_as(&frame, RxChecksum::Unchecked);
            return;
        }
        let ethertype = [0x0800_u16, 0x0806, 0x86dd, 0x8100][usize::from(choice & 3)];
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        frame.extend(ethertype.to_be_bytes());
        let len = usize::from(self.next16() % 2048);
        frame.extend(self.bytes(len));
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
            0..=127 => value,
            _ => value.wrapping_add(i32::from(offset as i8).wrapping_mul(97) as u32),
        };
        let (seq, ack) = (near(peer.seq, self.next()), near(peer.ack, self.next()));
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
        let port = FIRST_PEER_PORT + index as u16;
        let mut frame = segment_frame(port, (seq, ack), (control, window), &options, payload);
        if index >= FIRST_IPV6_PEER {
            frame = fuzz6::segment(&frame[34..]);
        }
        self.host.receive_as(&frame, RxChecksum::Good);
        if control & control::ACK == 0 && control & control::SYN != 0 {
            self.peers[index].seq = seq.wrapping_add(1);
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
                options.extend([1, 1, 5, 18]);
                for _ in 0..4 {
                    let offset = u32::from(self.next()) * 40;
                    let edge = peer.ack.wrapping_sub(5000).wrapping_add(offset);
                    options.extend(edge.to_be_bytes());
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
        if choice & 7 == 1 {
            return self.connect(number);
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
        let index = usize::from(number) % PEERS;
        let remote = Endpoint {
            address: match index < FIRST_IPV6_PEER {
                true => PEER.into(),
                false => fuzz6::PEER6,
            },
            port: FIRST_PEER_PORT + index as u16,
        };
        let opened = self.host.with(|engine, cx| engine.connect(cx, 2, remote));
        self.handles.extend(opened.ok());
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
        if let [1, 1, 8, 10, a, b, c, d, ..] = *segment.options {
            peer.timestamp = u32::from_be_bytes([a, b, c, d]);
        }
    }

    /// Gives everything up; then everything has to be back.
    fn end(&mut self) {
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
    }
}

fn check_owned(mbuf: MbufId, len: u16) {
    assert!(len != 0, "an empty recv event");
    assert!(mbuf.0 < MBUFS, "an mbuf that is not of the pool");
}

/// A TCP segment from the peer to the engine. The NIC vouches for its checksums.
fn segment_frame(
    port: u16,
    (seq, ack): (u32, u32),
    (control, window): (u8, u16),
    options: &[u8],
    payload: usize,
) -> Vec<u8> {
    let options = &options[..options.len().min(40)];
    let tcp_len = 20 + options.len() + payload;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 0];
    frame.extend([0, 0, 0x40, 0, 64, wire::PROTOCOL_TCP, 0, 0]);
    frame.extend(PEER.octets());
    frame.extend(ENGINE.octets());
    frame.extend(port.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([(5 + options.len() as u8 / 4) << 4, control]);
    frame.extend(window.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(options);
    frame.resize(14 + 20 + tcp_len, 0x5a);
    wire::put16(&mut frame, 16, 20 + tcp_len as u16);
    frame
}
