//! The engine of this project, and a server on it as the cycle of the dataplane kernel drives one:
//! frames in, calls, timers, output.

use crate::play::{Sent, Stack};
use crate::record::{ADDRESS, ADDRESS6, MAC, PORT, introductions, introductions6};
use crate::trace::{Kind, Trace};
use ix_abi::Handle;
use ix_hal::{
    Fragment, HEADER_ROOM, Instant, MbufGeometry, MbufPool, RxChecksum, RxFrame, Transmit, TxFrame,
};
use ix_net::{Config, Context, Engine, Event, Events, Ipv6Config};

/// Frames in one step at most, and what each may cause.
const BATCH: usize = 256;
const MBUFS: u32 = 1024;
/// Nanoseconds from one counted segment to the next. With the set-up of 100,000 connections all takes less than
/// the 50 ms after which a response is probed that was not acknowledged.
const INTERVAL: u64 = 1000;
/// The same while connections are set up: few, so that none of them has a timeout in between.
const SETUP_INTERVAL: u64 = 100;
/// Nanoseconds of silence.
const SILENCE: u64 = 40_000_000;

/// A NIC that keeps the last header, and where its payload was.
struct Sink {
    header: [u8; HEADER_ROOM],
    len: u16,
    bus: u64,
    frames: u32,
    payload: u64,
}

impl Transmit for Sink {
    #[inline]
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        Some(&mut self.header)
    }

    #[inline]
    fn send(&mut self, frame: &TxFrame<'_>) {
        self.len = frame.header_len;
        self.frames += 1;
        // Of one piece at most, as is what the server sends.
        if let [fragment] = frame.fragments {
            self.bus = fragment.bus;
            self.payload += u64::from(fragment.len);
        }
    }
}

/// What the server is to do, by the event that says so.
#[derive(Clone, Copy)]
enum Task {
    Accept,
    Answer { len: u16 },
    Close,
}

/// The server's list of tasks. A connection's cookie is its handle.
struct Tasks {
    list: [(u64, Task); BATCH],
    count: usize,
    /// What was said last of a response.
    sent: (u64, u32, u32),
}

impl Events for Tasks {
    #[inline(always)]
    fn push(&mut self, event: Event) {
        let task = match event {
            Event::Knock { handle, .. } => (handle.0, Task::Accept),
            Event::Recv { cookie, len, .. } => (cookie, Task::Answer { len }),
            Event::EndOfStream { cookie } => (cookie, Task::Close),
            Event::Sent {
                cookie,
                bytes,
                window,
            } => {
                self.sent = (cookie, bytes, window);
                return;
            }
            // It was closed, and with that its handle released, when its peer closed.
            Event::Dead { .. } => return,
            Event::Connected { .. } | Event::Datagram { .. } | Event::Migrated { .. } => return,
        };
        self.list[self.count] = task;
        self.count += 1;
    }

    #[inline]
    fn room(&self) -> usize {
        BATCH - self.count
    }
}

/// The engine, and the frames of the next step.
pub struct Player {
    engine: Engine,
    sink: Sink,
    tasks: Tasks,
    pool: MbufPool,
    now: Instant,
    interval: u64,
    frames: Vec<(RxFrame, Vec<u8>)>,
    /// Frames by which the engine learns the peers' MAC addresses.
    introductions: Vec<Vec<u8>>,
    /// Calls that the engine has refused.
    refused: u64,
}

impl Player {
    /// An engine with room for what is in the trace.
    pub fn new(trace: &Trace<'_>) -> Self {
        let connections = trace.open as u32;
        let config = Config {
            mac: MAC,
            ipv4: ADDRESS.into(),
            ipv4_prefix: 8,
            ipv6: trace.is_ipv6().then(|| Ipv6Config {
                address: Some(ADDRESS6.into()),
                duplicate_probes: 0,
                ..Ipv6Config::default()
            }),
            secret: *b"0123456789abcdef",
            connections,
            half_open: connections,
            mbufs: MBUFS,
            // A response of each is not acknowledged until its next request.
            send_fragments: 2 * connections + 1024,
            ..Config::default()
        };
        let now = Instant(1 << 40);
        let mut player = Self {
            engine: Engine::new(config, now).expect("a configuration"),
            sink: Sink {
                header: [0; HEADER_ROOM],
                len: 0,
                bus: 0,
                frames: 0,
                payload: 0,
            },
            tasks: Tasks {
                list: [(0, Task::Close); BATCH],
                count: 0,
                sent: (0, 0, 0),
            },
            pool: MbufPool::new(MbufGeometry {
                count: MBUFS,
                size_shift: 11,
                bus: 0,
                user: 0,
            }),
            now,
            interval: SETUP_INTERVAL,
            frames: Vec::new(),
            introductions: match trace.is_ipv6() {
                false => introductions(trace.connections).collect(),
                true => introductions6(trace.connections).collect(),
            },
            refused: 0,
        };
        player.engine.listen(PORT).expect("a port");
        player.introduce();
        player
    }

    /// Has the peers say where they are. What they are answered is not among what was sent.
    fn introduce(&mut self) {
        let sent = (self.sink.frames, self.sink.len);
        for frame in self.introductions.clone() {
            self.receive(vec![(0, frame)]);
            self.run();
        }
        (self.sink.frames, self.sink.len) = sent;
    }
}

impl Stack for Player {
    fn prepare(&mut self, kind: Kind, _connection: usize) {
        assert_eq!(self.refused, 0, "the engine has refused a call");
        match kind {
            Kind::Setup => self.interval = SETUP_INTERVAL,
            Kind::Counted => self.interval = INTERVAL,
            Kind::Silence => {
                // A trace of silence is longer than a neighbour is believed to be where it was, and a recording
                // cannot answer the engine. Before the silence, so that what is due after it counts.
                self.introduce();
                self.now = Instant(self.now.0 + SILENCE);
            }
        }
    }

    fn receive(&mut self, frames: Vec<(usize, Vec<u8>)>) {
        self.now = Instant(self.now.0 + self.interval * frames.len() as u64);
        let frame = |(_, bytes): (usize, Vec<u8>)| {
            let frame = RxFrame {
                mbuf: self.pool.take().expect("an mbuf"),
                len: bytes.len() as u16,
                checksum: RxChecksum::Good,
                rss_hash: 0,
            };
            (frame, bytes)
        };
        self.frames = frames.into_iter().map(frame).collect();
    }

    #[inline]
    fn run(&mut self) {
        let mut cx = Context {
            now: self.now,
            tx: &mut self.sink,
            events: &mut self.tasks,
            pool: &mut self.pool,
        };
        for (frame, bytes) in &self.frames {
            self.engine.ingress(&mut cx, frame, bytes);
        }
        // A task may be followed by a further event.
        let mut at = 0;
        while at < cx.events.count {
            let (name, task) = cx.events.list[at];
            let handle = Handle(name);
            at += 1;
            let done = match task {
                Task::Accept => self.engine.accept(&mut cx, handle, name),
                Task::Answer { len } => {
                    if self.engine.recv_done(&mut cx, handle, len.into()).is_err() {
                        self.refused += 1;
                    }
                    let response = Fragment {
                        bus: 0x10_0000,
                        len: u32::from(len),
                    };
                    self.engine.send(&mut cx, handle, &[response]).map(drop)
                }
                Task::Close => self.engine.close(&mut cx, handle),
            };
            if done.is_err() {
                self.refused += 1;
            }
        }
        cx.events.count = 0;
        self.engine.timers(&mut cx);
        self.engine.output(&mut cx);
    }

    fn sent(&self) -> Sent<'_> {
        Sent {
            frames: self.sink.frames.into(),
            // All of a kind when it counts.
            bytes: self.sink.payload + u64::from(self.sink.frames) * u64::from(self.sink.len),
            latest: &self.sink.header[..usize::from(self.sink.len)],
        }
    }
}
