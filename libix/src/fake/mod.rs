//! A kernel in the same process, for the tests of libix and of applications: it executes batched
//! calls and makes events as `ix_abi` says, and the test plays the peers.
//!
//! It is stricter than a real one, so that a broken promise shows: frame buffers are overwritten
//! as soon as they are given back ([`POISON`]), memory being sent is compared with what it was
//! when it was handed over, and every refused call is kept ([`FakeKernel::refused_calls`]).
//! Background threads are threads of the process, and run by its clock; the time of the events goes on
//! by [`FakeKernel::round_ns`] a round.
//!
//! ```
//! use libix::fake::FakeKernel;
//! use libix::{Connection, Context, Knock, Received, Runtime, Service};
//!
//! struct Greet;
//! impl Service for Greet {
//!     type State = ();
//!     fn on_start(&mut self, cx: &mut Context<()>) { cx.listen(7) }
//!     fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> { Some(()) }
//!     fn on_connected(&mut self, connection: &mut Connection<'_, ()>) {
//!         connection.send("hello").unwrap();
//!     }
//!     fn on_data(&mut self, _: &mut Connection<'_, ()>, _: Received) {}
//! }
//!
//! let mut runtime = Runtime::new(Greet, FakeKernel::new());
//! runtime.round();
//! let peer = runtime.kernel().knock(7);
//! runtime.settle();
//! assert_eq!(runtime.kernel().peer(peer).received(), b"hello");
//! ```

mod calls;
mod connection;
mod datagrams;
mod events;
mod moving;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU64;
use std::vec::Vec;

use ix_abi::area::{BOOT, EVENT_COUNT, NOW_NS, WAKE_NS};
use ix_abi::{CallNumber, Error, EventKind, address_to_words, boot, event};

use crate::area::{Area, Kernel};
use crate::host::{HAS_PROCESSOR, NOTIFICATIONS};
use crate::ledger::Crew;
use crate::runtime::Runtime;
use crate::service::Service;
use connection::FakeConnection;
use datagrams::FakeUdp;
pub use datagrams::SentDatagram;
use moving::FakeMoving;

/// What a frame buffer is filled with when it was given back.
pub const POISON: u8 = 0xdd;

/// See the module.
pub struct FakeKernel {
    area: Area,
    connections: Vec<FakeConnection>,
    listening: BTreeSet<u16>,
    udp: FakeUdp,
    moving: FakeMoving,
    events: VecDeque<[u64; event::WORDS]>,
    calls: Vec<CallNumber>,
    refused: Vec<(CallNumber, Error)>,
    /// Address of the peers that knock and send datagrams from now on.
    pub peer_address: IpAddr,
    /// Most payload in one `recv` event.
    pub segment_bytes: usize,
    /// Most bytes of a connection that the application holds before its peer has to wait.
    pub receive_window: usize,
    /// Most unacknowledged bytes of a connection.
    pub send_window: usize,
    /// Answer to every `sendv` in place of the right one, as if the kernel's tables were full.
    pub sendv_result: Option<Result<i64, Error>>,
    /// Answer to every `accept` in place of the right one.
    pub accept_error: Option<Error>,
    /// Answer to every `udp_send` in place of the right one.
    pub udp_send_error: Option<Error>,
    /// Most events in one round.
    pub event_batch: usize,
    /// Rounds between `accept` or `connect` and `connected`.
    pub handshake_rounds: usize,
    /// Answer to `connect`: the outcome of the handshake.
    pub connect_outcome: Result<(), Error>,
    /// What every open connection's peer sends in each round, beside what the test sends.
    pub requests_per_round: Option<Vec<u8>>,
    /// Whether connections that are to go do so before the calls of the round are executed, which
    /// then come too late.
    pub moves_first: bool,
    /// Whether there is no room for connections that come.
    pub refuses_moves: bool,
    /// How far time goes on in each round.
    pub round_ns: u64,
}

/// A peer that the test plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerId(usize);

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeKernel {
    /// A kernel without connections, with an area of its own.
    pub fn new() -> Self {
        use ix_abi::area::{MAGIC, MAGIC_WORD, VERSION_WORD, WORDS};
        let words: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        words[MAGIC_WORD].store(MAGIC, std::sync::atomic::Ordering::Relaxed);
        words[VERSION_WORD].store(
            u64::from(ix_abi::VERSION),
            std::sync::atomic::Ordering::Relaxed,
        );
        // Where the heap is, a process does not ask; it is as large as anything that a test wants.
        words[BOOT + boot::HEAP_BYTES].store(1 << 40, std::sync::atomic::Ordering::Relaxed);
        Self {
            area: Area::new(words.leak()).expect("it was just made"),
            connections: Vec::new(),
            listening: BTreeSet::new(),
            udp: FakeUdp::default(),
            moving: FakeMoving::alone(),
            events: VecDeque::new(),
            calls: Vec::new(),
            refused: Vec::new(),
            peer_address: Ipv4Addr::new(10, 9, 0, 1).into(),
            segment_bytes: 1460,
            receive_window: 64 << 10,
            send_window: 64 << 10,
            sendv_result: None,
            accept_error: None,
            udp_send_error: None,
            event_batch: 256,
            handshake_rounds: 0,
            connect_outcome: Ok(()),
            requests_per_round: None,
            moves_first: false,
            refuses_moves: false,
            round_ns: 10_000,
        }
    }

    /// A peer asks for a connection on that port.
    pub fn knock(&mut self, local_port: u16) -> PeerId {
        let id = PeerId(self.connections.len());
        let mut connection = FakeConnection::new(self.moving.thread, id.0);
        if self.listening.contains(&local_port) {
            let port = u64::from(40_000 + id.0 as u16) << 16;
            let (high, low) = address_to_words(self.peer_address);
            let first = EventKind::Knock as u64 | port | u64::from(local_port) << 32;
            connection.knock([first, connection.handle, high, low]);
            self.events.extend(connection.knock_again());
        } else {
            connection.refuse();
        }
        self.connections.push(connection);
        id
    }

    /// The peer takes its knock back, or the application was too slow.
    pub fn withdraw(&mut self, id: PeerId) {
        let event = self.connections[id.0].withdraw();
        self.events.push_back(event);
    }

    /// The other end of a connection.
    pub fn peer(&mut self, id: PeerId) -> &mut FakeConnection {
        &mut self.connections[id.0]
    }

    /// The peer that the application connected to last.
    pub fn last_peer(&self) -> PeerId {
        PeerId(self.connections.len() - 1)
    }

    /// The calls of the last round that made any.
    pub fn last_calls(&self) -> &[CallNumber] {
        &self.calls
    }

    /// All calls that were answered with an error.
    pub fn refused_calls(&self) -> &[(CallNumber, Error)] {
        &self.refused
    }

    /// Bytes that all peers together have received and acknowledged.
    pub fn bytes_acknowledged(&self) -> usize {
        let received = |connection: &FakeConnection| connection.received().len();
        self.connections.iter().map(received).sum()
    }

    /// Connections whose handle is not released.
    pub fn open_handles(&self) -> usize {
        let is_held = |connection: &&FakeConnection| !connection.is_released();
        self.connections.iter().filter(is_held).count()
    }

    /// Whether the last round did nothing, and nothing is under way.
    fn is_quiet(&self) -> bool {
        let is_opening = self.connections.iter().any(FakeConnection::is_opening);
        let is_called_back = self.area.load(WAKE_NS) == 1;
        let is_silent = self.area.load(EVENT_COUNT) == 0 && self.calls.is_empty();
        is_silent && !is_called_back && !is_opening && self.moving.is_quiet()
    }
}

/// Does `test` as on a machine without a processor for background threads.
pub fn without_background_processor<R>(test: impl FnOnce() -> R) -> R {
    HAS_PROCESSOR.set(false);
    let result = test();
    HAS_PROCESSOR.set(true);
    result
}

/// How often this thread of the test has had elastic threads run a round.
pub fn notifications() -> u64 {
    NOTIFICATIONS.get()
}

// SAFETY: events come from `FakeConnection`, which keeps the frame buffers of its segments alive
// for good and unchanged until they are given back or the handle is released, and reads memory
// passed to `sendv` only until it has said `sent` or `dead`. The same holds for the buffers of
// `FakeUdp`, and for memory passed to `udp_send` until it counts the datagram as sent.
unsafe impl Kernel for FakeKernel {
    fn area(&self) -> Area {
        self.area
    }

    fn crew(&self) -> &'static Crew {
        self.moving.crew
    }

    #[inline(never)]
    fn run_io(&mut self) {
        let now_ns = self.area.load(NOW_NS) + self.round_ns;
        self.area.store(NOW_NS, now_ns);
        self.send_datagrams();
        self.hand_over();
        if self.moves_first {
            self.pack();
        }
        self.execute_calls();
        self.pack();
        self.unpack();
        for connection in &mut self.connections {
            if let Some(request) = &self.requests_per_round {
                connection.send_bytes(request);
            }
            connection.exchange(
                self.segment_bytes,
                self.receive_window,
                self.send_window,
                &mut self.events,
            );
        }
        let count = self.events.len().min(self.event_batch);
        events::publish(self.area, self.events.drain(..count));
    }
}

impl<S: Service> Runtime<S, FakeKernel> {
    /// Rounds until nothing moves any more.
    ///
    /// # Panics
    /// If that never comes.
    pub fn settle(&mut self) {
        let mut quiet_rounds = 0;
        for _ in 0..MOST_ROUNDS {
            self.round();
            quiet_rounds = match self.kernel().is_quiet() {
                true => quiet_rounds + 1,
                false => 0,
            };
            // The first may have left calls for the second.
            if quiet_rounds == 2 {
                return;
            }
        }
        panic!("still moving after {MOST_ROUNDS} rounds");
    }
}

/// More rounds than any test needs.
const MOST_ROUNDS: usize = 1_000_000;
