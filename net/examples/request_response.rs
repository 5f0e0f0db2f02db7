//! Runs request-response exchanges through an engine, for counting instructions:
//!
//! ```text
//! cargo build -p ix-net --profile bare --example request_response
//! valgrind --tool=callgrind --toggle-collect='*::one_cycle*' \
//!     target/bare/examples/request_response CONNECTIONS CYCLES BATCH [plain]
//! ```
//!
//! One cycle is BATCH exchanges on as many connections, in the order in which a dataplane works:
//! the 64-byte requests come in with the events `Sent` and `Recv`; each gets `recv_done` and a
//! 64-byte `send`; then timers, then output. `plain` does without timestamps. Divide the count by
//! CYCLES times BATCH.

use ix_hal::{
    Fragment, HEADER_ROOM, Instant, MbufGeometry, MbufId, MbufPool, RxChecksum, RxFrame, Transmit,
    TxFrame,
};
use ix_net::{Config, Context, Engine, Event, Events};
use std::hint::black_box;

const REQUEST: usize = 64;
const SYN: u8 = 2;
const ACK: u8 = 16;
const PSH: u8 = 8;

/// A NIC that keeps the last header.
struct Sink {
    header: [u8; HEADER_ROOM],
    frames: u64,
}

impl Transmit for Sink {
    #[inline]
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        Some(&mut self.header)
    }

    #[inline]
    fn send(&mut self, frame: &TxFrame<'_>) {
        black_box(frame.fragments);
        self.frames += 1;
    }
}

/// The last few events.
struct Latest {
    events: [Option<Event>; 4],
    count: usize,
}

impl Events for Latest {
    #[inline(always)]
    fn push(&mut self, event: Event) {
        self.events[self.count] = Some(event);
        self.count += 1;
    }

    #[inline]
    fn room(&self) -> usize {
        4
    }
}

/// The peer's side of one connection.
#[derive(Clone, Copy)]
struct Peer {
    address: u32,
    port: u16,
    seq: u32,
    ack: u32,
    timestamp_echo: u32,
}

struct Bench {
    engine: Engine,
    sink: Sink,
    events: Latest,
    pool: MbufPool,
    now: Instant,
    has_timestamps: bool,
}

/// What one exchange needs; made outside of the counted part.
struct Prepared {
    mbuf: MbufId,
    bytes: Vec<u8>,
    handle: ix_abi::Handle,
    response: Fragment,
}

/// The counted part.
#[inline(never)]
fn one_cycle(bench: &mut Bench, batch: &[Prepared]) {
    let mut cx = Context {
        now: bench.now,
        tx: &mut bench.sink,
        events: &mut bench.events,
        pool: &mut bench.pool,
    };
    let engine = &mut bench.engine;
    for prepared in batch {
        let frame = RxFrame {
            mbuf: prepared.mbuf,
            len: prepared.bytes.len() as u16,
            checksum: RxChecksum::Good,
            rss_hash: 0,
        };
        engine.ingress(&mut cx, frame, &prepared.bytes);
        cx.events.count = 0;
    }
    for prepared in batch {
        let done = engine.recv_done(&mut cx, prepared.handle, REQUEST as u64);
        let sent = engine.send(&mut cx, prepared.handle, &[prepared.response]);
        black_box((done.is_ok(), sent.is_ok()));
    }
    engine.timers(&mut cx);
    engine.output(&mut cx);
}

impl Bench {
    fn frame(&self, peer: &Peer, control: u8, options: &[u8], payload: usize) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        let tcp_len = 20 + options.len() + payload;
        bytes.extend_from_slice(&[0x45, 0]);
        bytes.extend_from_slice(&(20 + tcp_len as u16).to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
        bytes.extend_from_slice(&peer.address.to_be_bytes());
        bytes.extend_from_slice(&[10, 0, 0, 2]);
        bytes.extend_from_slice(&peer.port.to_be_bytes());
        bytes.extend_from_slice(&80u16.to_be_bytes());
        bytes.extend_from_slice(&peer.seq.to_be_bytes());
        bytes.extend_from_slice(&peer.ack.to_be_bytes());
        bytes.extend_from_slice(&[(5 + options.len() as u8 / 4) << 4, control, 0xff, 0xff]);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(options);
        bytes.resize(bytes.len() + payload, 0x55);
        bytes
    }

    fn timestamps(&self, echo: u32) -> Vec<u8> {
        let mut option = vec![1, 1, 8, 10];
        option.extend_from_slice(&((self.now.0 >> 20) as u32).to_be_bytes());
        option.extend_from_slice(&echo.to_be_bytes());
        option
    }

    fn put(&mut self, bytes: &[u8]) {
        let mbuf = self.pool.take().expect("a free mbuf");
        self.events.count = 0;
        let mut cx = Context {
            now: self.now,
            tx: &mut self.sink,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        let frame = RxFrame {
            mbuf,
            len: bytes.len() as u16,
            checksum: RxChecksum::Good,
            rss_hash: 0,
        };
        self.engine.ingress(&mut cx, frame, bytes);
        let knock = match cx.events.events[0] {
            Some(Event::Knock { handle, .. }) if cx.events.count != 0 => Some(handle),
            _ => None,
        };
        if let Some(handle) = knock {
            self.engine
                .accept(&mut cx, handle, handle.0)
                .expect("accept");
        }
        self.engine.output(&mut cx);
    }

    /// Introduces the peer's MAC address.
    fn introduce(&mut self, address: u32) {
        let mut bytes = vec![
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1,
        ];
        bytes.extend_from_slice(&[2, 0, 0, 0, 0, 2]);
        bytes.extend_from_slice(&address.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        self.put(&bytes);
    }

    /// The next request on a connection.
    fn prepare(&mut self, (peer, handle): &mut (Peer, ix_abi::Handle)) -> Prepared {
        let options = match self.has_timestamps {
            true => self.timestamps(peer.timestamp_echo),
            false => Vec::new(),
        };
        let bytes = self.frame(peer, ACK | PSH, &options, REQUEST);
        peer.seq = peer.seq.wrapping_add(REQUEST as u32);
        peer.ack = peer.ack.wrapping_add(REQUEST as u32);
        Prepared {
            mbuf: self.pool.take().expect("a free mbuf"),
            bytes,
            handle: *handle,
            response: Fragment {
                bus: 0x1000 + (u64::from(peer.seq) << 7),
                len: REQUEST as u32,
            },
        }
    }

    fn open(&mut self, address: u32, port: u16) -> Peer {
        let mut peer = Peer {
            address,
            port,
            seq: 1000,
            ack: 0,
            timestamp_echo: 0,
        };
        let mut options = vec![2, 4, 5, 0xb4, 1, 3, 3, 7];
        if self.has_timestamps {
            options.extend_from_slice(&self.timestamps(0));
        }
        let syn = self.frame(&peer, SYN, &options, 0);
        self.put(&syn);
        peer.seq += 1;
        let word = |at: usize| {
            u32::from_be_bytes(self.sink.header[at..at + 4].try_into().expect("four bytes"))
        };
        peer.ack = word(38).wrapping_add(1);
        peer.timestamp_echo = word(62);
        let options = match self.has_timestamps {
            true => self.timestamps(peer.timestamp_echo),
            false => Vec::new(),
        };
        let ack = self.frame(&peer, ACK, &options, 0);
        self.put(&ack);
        peer
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize, default| {
        arguments
            .get(at)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (connections, cycles, batch) = (number(1, 1), number(2, 10_000), number(3, 1));
    assert!(
        batch <= connections,
        "a batch has at most one request of each connection"
    );
    let config = Config {
        ipv4_prefix: 8,
        secret: *b"0123456789abcdef",
        connections,
        half_open: connections,
        mbufs: 1024,
        ..Config::default()
    };
    let geometry = MbufGeometry {
        count: 1024,
        size_shift: 11,
        bus: 0,
        user: 0,
    };
    let mut bench = Bench {
        engine: Engine::new(config, Instant(1 << 40)),
        sink: Sink {
            header: [0; HEADER_ROOM],
            frames: 0,
        },
        events: Latest {
            events: [None; 4],
            count: 0,
        },
        pool: MbufPool::new(geometry),
        now: Instant(1 << 40),
        has_timestamps: arguments.get(4).is_none_or(|word| word != "plain"),
    };
    bench.engine.listen(80).expect("listen");
    let mut peers = Vec::new();
    for index in 0..connections {
        let address = 0x0a01_0000 + index / 50_000;
        if index % 50_000 == 0 {
            bench.introduce(address);
        }
        let peer = bench.open(address, 1024 + (index % 50_000) as u16);
        let handle = match bench.events.events[0] {
            Some(Event::Connected { handle, .. }) => handle,
            other => panic!("no connection, but {other:?}"),
        };
        peers.push((peer, handle));
    }
    let frames = bench.sink.frames;
    let mut turn = 0;
    for _ in 0..cycles {
        bench.now = Instant(bench.now.0 + 3000 * u64::from(batch));
        let mut prepared = Vec::new();
        for _ in 0..batch {
            // Far apart, so that at many connections nothing is in the cache.
            turn = (turn + 7919) % peers.len();
            prepared.push(bench.prepare(&mut peers[turn]));
        }
        one_cycle(&mut bench, &prepared);
    }
    let exchanges = u64::from(cycles) * u64::from(batch);
    println!(
        "{connections} connections, {exchanges} exchanges: {} frames out, {} predicted",
        bench.sink.frames - frames,
        bench.engine.counters().tcp_header_prediction,
    );
    assert_eq!(bench.sink.frames - frames, exchanges, "one response each");
}
