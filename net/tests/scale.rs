//! Many connections in one engine, and a flood of SYNs beside a few.

use core::net::Ipv6Addr;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError};

use ix_abi::Handle;
use ix_hal::{
    Fragment, HEADER_ROOM, Instant, MbufGeometry, MbufPool, RxChecksum, RxFrame, Transmit, TxFrame,
};
use ix_net::{Config, Context, ControlBlocks, Engine, Event, Events, Ipv6Config};
use smoltcp::wire::Icmpv6Packet;

const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;
const PORTS: u32 = 50_000;
const MBUFS: u32 = 1024;
/// Tables that do not grow with the connections: send records, mbufs, ports.
const FIXED_BYTES: u64 = 6 << 20;

/// Tests take turns, since one of them measures the memory of the process.
static TURN: Mutex<()> = Mutex::new(());

/// Keeps the headers of the last batch of frames.
#[derive(Default)]
struct Sent {
    room: Option<Box<[u8; HEADER_ROOM]>>,
    frames: Vec<[u8; HEADER_ROOM]>,
}

impl Transmit for Sent {
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        Some(self.room.get_or_insert_with(|| Box::new([0; HEADER_ROOM])))
    }

    fn send(&mut self, _: &TxFrame<'_>) {
        self.frames.extend(self.room.as_deref());
    }
}

#[derive(Default)]
struct Queue(VecDeque<Event>);

impl Events for Queue {
    fn push(&mut self, event: Event) {
        self.0.push_back(event);
    }

    fn room(&self) -> usize {
        64
    }
}

/// The engine's addresses.
const OWN: [u8; 4] = [10, 0, 0, 2];
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// The first address of peers that speak IPv6: the number stands for the end of fd00::.
const FIRST_IPV6: u32 = 0xfd01_0000;

fn is_ipv6(address: u32) -> bool {
    address >= FIRST_IPV6
}

fn ipv6(address: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(address))
}

/// Where the IP header ends in a frame of a peer.
fn headers(address: u32) -> usize {
    if is_ipv6(address) { 54 } else { 34 }
}

/// The peer's side of a connection.
#[derive(Clone, Copy)]
struct Peer {
    address: u32,
    port: u16,
    seq: u32,
    ack: u32,
    handle: Handle,
}

struct World {
    engine: Engine,
    pool: MbufPool,
    sent: Sent,
    queue: Queue,
    now: Instant,
}

impl World {
    fn new(config: Config) -> Self {
        let geometry = MbufGeometry {
            count: MBUFS,
            size_shift: 11,
            bus: 0,
            user: 0,
        };
        let now = Instant(1 << 40);
        let mut engine = Engine::new(config, now).expect("a configuration");
        engine.listen(80).expect("listen");
        Self {
            engine,
            pool: MbufPool::new(geometry),
            sent: Sent::default(),
            queue: Queue::default(),
            now,
        }
    }

    fn with<R>(&mut self, call: impl FnOnce(&mut Engine, &mut Context<'_, Sent, Queue>) -> R) -> R {
        let mut cx = Context {
            now: self.now,
            tx: &mut self.sent,
            events: &mut self.queue,
            pool: &mut self.pool,
        };
        call(&mut self.engine, &mut cx)
    }

    /// A frame in, knocks accepted, frames out.
    fn put(&mut self, bytes: &[u8]) {
        self.sent.frames.clear();
        let mbuf = self.pool.take().expect("a free mbuf");
        let frame = RxFrame {
            mbuf,
            len: bytes.len() as u16,
            checksum: RxChecksum::Good,
            rss_hash: 0,
        };
        self.with(|engine, cx| engine.ingress(cx, &frame, bytes));
        self.work();
    }

    fn work(&mut self) {
        let knocks: Vec<_> = self.queue.0.iter().filter_map(knock).collect();
        for handle in knocks {
            self.with(|engine, cx| engine.accept(cx, handle, handle.0))
                .expect("accept");
        }
        self.with(|engine, cx| {
            engine.timers(cx);
            engine.output(cx);
        });
    }

    /// The peers' MAC addresses, as the engine would learn them from their requests.
    fn introduce(&mut self, address: u32) {
        if is_ipv6(address) {
            self.put(&solicitation(address));
            return;
        }
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        bytes.extend([2, 0, 0, 0, 0, 9]);
        bytes.extend(address.to_be_bytes());
        bytes.extend([0; 6]);
        bytes.extend(OWN);
        self.put(&bytes);
    }

    fn open(&mut self, address: u32, port: u16) -> Peer {
        self.put(&segment(address, port, (999, 0), SYN, 0));
        let syn_ack = self.sent.frames.last().expect("a SYN-ACK");
        let tcp = &syn_ack[headers(address)..];
        assert_eq!(tcp[13], SYN | ACK);
        let ack = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let mut peer = Peer {
            address,
            port,
            seq: 1000,
            ack: ack.wrapping_add(1),
            handle: Handle(0),
        };
        self.queue.0.clear();
        self.put(&segment(address, port, (peer.seq, peer.ack), ACK, 0));
        peer.handle = match self.queue.0.pop_front() {
            Some(Event::Connected {
                handle,
                outcome: Ok(()),
                ..
            }) => handle,
            other => panic!("no connection, but {other:?}"),
        };
        peer
    }

    /// A request of 64 bytes, and its response.
    fn ask(&mut self, peer: &mut Peer, turn: u64) {
        self.queue.0.clear();
        let place = (peer.seq, peer.ack);
        self.put(&segment(peer.address, peer.port, place, ACK | PSH, 64));
        let is_request = |event: &Event| matches!(event, Event::Recv { cookie, len: 64, .. } if *cookie == peer.handle.0);
        assert!(self.queue.0.iter().any(is_request), "{:?}", self.queue.0);
        self.sent.frames.clear();
        let piece = Fragment {
            bus: turn * 64,
            len: 64,
        };
        let handle = peer.handle;
        let accepted = self.with(|engine, cx| {
            engine.recv_done(cx, handle, 64).expect("give back");
            engine.send(cx, handle, &[piece])
        });
        assert_eq!(accepted, Ok(64));
        self.work();
        let to_peer = |frame: &&[u8; HEADER_ROOM]| {
            let tcp = headers(peer.address);
            // An address ends where the TCP header starts, in either family.
            frame[tcp - 4..tcp] == peer.address.to_be_bytes()
                && frame[tcp + 2..tcp + 4] == peer.port.to_be_bytes()
        };
        assert_eq!(self.sent.frames.iter().filter(to_peer).count(), 1);
        peer.seq = peer.seq.wrapping_add(64);
        peer.ack = peer.ack.wrapping_add(64);
        let place = (peer.seq, peer.ack);
        self.put(&segment(peer.address, peer.port, place, ACK, 0));
    }
}

fn knock(event: &Event) -> Option<Handle> {
    match event {
        Event::Knock { handle, .. } => Some(*handle),
        _ => None,
    }
}

fn segment(address: u32, port: u16, place: (u32, u32), control: u8, payload: usize) -> Vec<u8> {
    let options: &[u8] = if control & SYN != 0 {
        &[2, 4, 5, 0xb4]
    } else {
        &[]
    };
    let len = 20 + options.len() + payload;
    let mut bytes = match is_ipv6(address) {
        false => ipv4_headers(address, len),
        true => ipv6_headers(address, len, [6, 64]),
    };
    bytes.extend(port.to_be_bytes());
    bytes.extend(80u16.to_be_bytes());
    bytes.extend(place.0.to_be_bytes());
    bytes.extend(place.1.to_be_bytes());
    bytes.extend([
        (5 + options.len() as u8 / 4) << 4,
        control,
        0xff,
        0xff,
        0,
        0,
        0,
        0,
    ]);
    bytes.extend(options);
    bytes.resize(headers(address) + len, 0x55);
    bytes
}

fn ipv4_headers(address: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0];
    bytes.extend((20 + len as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(address.to_be_bytes());
    bytes.extend(OWN);
    bytes
}

/// With what follows the header, and the hop limit.
fn ipv6_headers(address: u32, len: usize, next_and_hops: [u8; 2]) -> Vec<u8> {
    let mut bytes = vec![
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x60, 0, 0, 0,
    ];
    bytes.extend((len as u16).to_be_bytes());
    bytes.extend(next_and_hops);
    bytes.extend(ipv6(address).octets());
    bytes.extend(OWN6.octets());
    bytes
}

/// A peer asks for the engine's MAC address.
fn solicitation(address: u32) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(OWN6.octets());
    message.extend([1, 1, 2, 0, 0, 0, 0, 9]);
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&ipv6(address), &OWN6);
    let mut bytes = ipv6_headers(address, message.len(), [58, 255]);
    bytes.extend(message);
    bytes
}

fn config(connections: u32) -> Config {
    Config {
        ipv4_prefix: 8,
        ipv6: Some(Ipv6Config {
            address: Some(OWN6),
            duplicate_probes: 0,
            ..Ipv6Config::default()
        }),
        secret: *b"0123456789abcdef",
        connections,
        half_open: 1024,
        time_wait: 1024,
        mbufs: MBUFS,
        mbufs_held: MBUFS / 2,
        ..Config::default()
    }
}

/// Bytes of memory that this process uses, as the kernel counts them.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    words
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}

/// As long as a control block, and aligned as it is.
#[repr(align(64))]
struct Block(#[expect(dead_code, reason = "it takes up room")] [u8; 448]);

/// What the allocator of this process takes for so many control blocks beside what they are long. The
/// kernel's puts one behind the other.
fn allocator_bytes(count: u32) -> u64 {
    let each = (size_of::<Block>() + size_of::<Box<Block>>()) as u64;
    assert_eq!(ControlBlocks::bytes(&config(1)) as u64, each);
    let before = resident_bytes();
    let blocks: Vec<_> = (0..count).map(|_| Box::new(Block([1; _]))).collect();
    let used = resident_bytes() - before;
    drop(black_box(blocks));
    used.saturating_sub(each * u64::from(count))
}

/// Two fifths of them over IPv6.
/// A quarter of a million, or what `IX_CONNECTIONS` says (`cargo xtask test host --full`: a million).
fn connections() -> u32 {
    match std::env::var("IX_CONNECTIONS") {
        Ok(text) => text.parse().expect("IX_CONNECTIONS is a number"),
        Err(_) => 250_000,
    }
}

#[test]
fn hundreds_of_thousands_of_connections_all_answer() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let connections = connections();
    // What does not depend on their number is no share of theirs.
    drop(World::new(config(1)));
    let before = resident_bytes();
    let mut world = World::new(config(connections));
    let mut peers = Vec::with_capacity(connections as usize);
    for index in 0..connections {
        let address = match index / PORTS {
            block @ (1 | 3) => FIRST_IPV6 + block,
            block => 0x0a01_0000 + block,
        };
        if index % PORTS == 0 {
            world.introduce(address);
        }
        peers.push(world.open(address, 1024 + (index % PORTS) as u16));
    }
    assert_eq!(world.engine.connections(), connections as usize);
    for round in 0..2 {
        // Far apart, so that neighbours in the tables are not neighbours in time.
        for turn in 0..u64::from(connections) {
            let at = (turn * 7919) % u64::from(connections);
            world.now.0 += 1000;
            world.ask(&mut peers[at as usize], turn + round);
        }
    }
    assert_eq!(world.engine.connections(), connections as usize);
    assert_eq!(world.engine.counters().tcp_retransmits, 0);
    let used = resident_bytes() - before - (peers.len() * size_of::<Peer>()) as u64;
    let each = (used - allocator_bytes(connections)) / u64::from(connections);
    println!("{connections} connections, {each} bytes of each, tables included");
    assert!(each <= 512 + FIXED_BYTES / u64::from(connections));
    let one_more = segment(0x0a01_0009, 9, (1, 0), SYN, 0);
    world.introduce(0x0a01_0009);
    world.queue.0.clear();
    world.put(&one_more);
    assert!(world.queue.0.is_empty(), "a connection beyond the table");
}

#[test]
fn a_flood_of_syns_costs_no_connection() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    const PEERS: u16 = 100;
    const SECONDS: u64 = 10;
    const SYNS_PER_SECOND: u64 = 100_000;
    // Everybody is behind the gateway, as on the Internet.
    let mut world = World::new(Config {
        ipv4_prefix: 24,
        gateway: Some([10, 0, 0, 1].into()),
        ..config(4096)
    });
    world.introduce(0x0a00_0001);
    let address = 0x0a01_0000;
    let mut peers: Vec<_> = (0..PEERS)
        .map(|port| world.open(address, 1024 + port))
        .collect();
    let mut spoofed = 0x9e37_79b9_u32;
    let mut answers = 0;
    for turn in 0..SECONDS * SYNS_PER_SECOND {
        world.now.0 += 1_000_000_000 / SYNS_PER_SECOND;
        spoofed = spoofed
            .wrapping_mul(747_796_405)
            .wrapping_add(2_891_336_453);
        // Somewhere in 10.128.0.0/9.
        let source = 0x0a80_0000 | spoofed >> 9;
        world.put(&segment(source, spoofed as u16 | 1, (spoofed, 0), SYN, 0));
        world.queue.0.clear();
        if turn % 1000 == 0 {
            let peer = (turn / 1000) % u64::from(PEERS);
            world.ask(&mut peers[peer as usize], turn);
            answers += 1;
        }
    }
    assert_eq!(answers, SECONDS * SYNS_PER_SECOND / 1000);
    for peer in &mut peers {
        world.ask(peer, 1);
    }
    let counters = world.engine.counters().iter();
    let counters: Vec<_> = counters.filter(|(_, value)| *value != 0).collect();
    println!("{counters:?}");
    assert!(world.engine.connections() <= 4096);
}
