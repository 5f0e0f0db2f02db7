//! One grant between two elastic threads in one process, for callgrind to count: `cargo xtask bench
//! migrate`. Each function whose name begins with `phase_` is a cycle of one of the threads, or a command
//! to it, and nothing happens outside of them that belongs to a move. Where there are more connections than
//! go at a time, some phases come again and again.
//!
//! `moves GROUPS CONNECTIONS`: so many flow groups, and so many connections in them, go from thread 0 to
//! thread 1. Before that, they go there and back, so that every table is warm.

#[path = "../tests/moving/machine.rs"]
#[expect(dead_code, reason = "the simulation needs more of it")]
mod machine;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

use core::net::Ipv4Addr;
use ix_abi::{CallNumber, EventKind, area, call, event};
use ix_core::{Command, Crew, ElasticThread, ThreadConfig, ThreadParts, UserRange};
use ix_hal::{Instant, MbufPool};
use ix_net::testing::{Host, Wire};
use ix_net::{Config, Endpoint, FlowGroups, IpAddress, Movable, Sharing};

use machine::{Buffers, Fixtures, GROUPS, MBUFS, Memory, Queue, QueuePair, fixtures, geometry};

type Thread = ElasticThread<QueuePair, Memory>;

const PORT: u16 = 80;
/// Connections that there may be.
const CONNECTIONS: u32 = 16_384;
/// Connections that go at a time, as in the kernel.
const LUGGAGE: u32 = 1024;
/// Connections that are opened at a time: their frames have buffers.
const AT_ONCE: usize = 64;
/// Cycles that a move may take at most.
const CYCLES_MOST: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let &[groups @ 1..GROUPS, connections] = &arguments[..] else {
        eprintln!(
            "moves GROUPS CONNECTIONS: needs up to 127 flow groups, and how many connections"
        );
        return ExitCode::FAILURE;
    };
    USED_GROUPS.store(groups as u16, Relaxed);
    let groups = (1 << groups) - 1;
    let mut bench = Bench::new();
    bench.open(connections);
    bench.give(groups, [0, 1]);
    bench.give(groups, [1, 0]);
    bench.give_in_phases(groups);
    let moved = bench.threads[1].engine().connections();
    assert_eq!(moved, connections, "connections moved");
    println!("{moved} connections moved");
    ExitCode::SUCCESS
}

fn config(last: u8) -> Config {
    Config {
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Ipv4Addr::new(10, 0, 0, last),
        connections: CONNECTIONS,
        half_open: CONNECTIONS,
        ..Config::default()
    }
}

/// Flow groups that connections are in.
static USED_GROUPS: AtomicU16 = AtomicU16::new(1);

fn group_of(peer: Endpoint, _: IpAddress, _: u16) -> u8 {
    (peer.port % USED_GROUPS.load(Relaxed)) as u8
}

/// What the NIC makes of the ports of a frame.
fn hash(frame: &[u8]) -> u32 {
    let has_ports = frame[12..14] == [8, 0] && frame[23] == 6;
    match has_ports {
        true => {
            let port = u16::from_be_bytes([frame[34], frame[35]]);
            1 << 31 | u32::from(port % USED_GROUPS.load(Relaxed))
        }
        false => 0,
    }
}

struct Bench {
    clock: Rc<Cell<u64>>,
    fixtures: Rc<Fixtures>,
    threads: [Thread; 2],
    queues: [Rc<RefCell<Queue>>; 2],
    peer: Host,
}

impl Bench {
    fn new() -> Self {
        let clock = Rc::new(Cell::new(1 << 40));
        let fixtures = fixtures();
        let buffers = Rc::new(Buffers::new(2));
        let queues = [(); 2].map(|()| Rc::new(RefCell::new(Queue::default())));
        let threads = [0, 1].map(|index| {
            let nic = QueuePair {
                thread: index,
                queue: Rc::clone(&queues[index]),
                buffers: Rc::clone(&buffers),
                wire: Wire::new(Vec::new(), Vec::new()),
                clock: Rc::clone(&clock),
                left: 0,
            };
            thread(index, nic, &fixtures, &buffers, Instant(clock.get()))
        });
        Self {
            peer: Host::new(config(1), Instant(clock.get()), 1 << 16),
            clock,
            fixtures,
            threads,
            queues,
        }
    }

    /// Opens connections.
    fn open(&mut self, connections: usize) {
        write_calls(
            self.fixtures.areas[0],
            &[[CallNumber::Listen as u64 | u64::from(PORT) << 32, 0, 0, 0]],
        );
        self.cycle(0);
        let remote = Endpoint {
            address: Ipv4Addr::new(10, 0, 0, 2).into(),
            port: PORT,
        };
        let mut open = 0;
        while open < connections {
            for _ in 0..AT_ONCE.min(connections - open) {
                self.peer
                    .with(|engine, cx| engine.connect(cx, 1, remote))
                    .expect("the peer connects");
            }
            self.exchange();
            open = self.threads[0].engine().connections();
        }
    }

    /// Lets frames go back and forth until none is left.
    fn exchange(&mut self) {
        let mut silent = 0;
        while silent < 4 {
            self.peer.now = Instant(self.clock.get());
            self.peer.turn();
            silent += 1;
            while let Some(frame) = self.peer.wire.sent.pop_front() {
                silent = 0;
                self.queues[0].borrow_mut().put(0, hash(&frame), frame);
            }
            self.cycle(0);
            let nic = self.threads[0].nic();
            while let Some(frame) = nic.wire.sent.pop_front() {
                silent = 0;
                nic.left += 1;
                self.peer.receive(&frame);
            }
        }
        self.peer.queue.events.clear();
    }

    fn pass(&mut self) -> Instant {
        self.clock.set(self.clock.get() + 3_000);
        Instant(self.clock.get())
    }

    /// A cycle of a thread, and its application's round.
    fn cycle(&mut self, index: usize) {
        let now = self.pass();
        self.threads[index].cycle(now);
        self.round(index);
    }

    /// The application accepts every connection, and does nothing else.
    fn round(&mut self, index: usize) {
        let words = self.fixtures.areas[index];
        let count = words[area::EVENT_COUNT].load(Relaxed) as usize;
        let mut calls = Vec::new();
        for at in (0..count).map(|index| area::EVENTS + index * event::WORDS) {
            if words[at].load(Relaxed) as u16 == EventKind::Knock as u16 {
                let handle = words[at + 1].load(Relaxed);
                calls.push([CallNumber::Accept as u64, handle, 1, 0]);
            }
        }
        write_calls(words, &calls);
    }

    /// Has flow groups move, whatever that takes.
    fn give(&mut self, groups: u128, [from, to]: [usize; 2]) {
        let command = Command::Give {
            groups,
            to: to as u32,
        };
        self.threads[from].command(command);
        for _ in 0..CYCLES_MOST {
            self.cycle(from);
            self.cycle(to);
            if let Some(outcome) = self.threads[from].take_outcome() {
                outcome.expect("the groups move");
                return;
            }
        }
        panic!("the move does not end");
    }

    /// The same from thread 0 to thread 1, each cycle of which is a phase.
    fn give_in_phases(&mut self, groups: u128) {
        let [giver, taker] = [0, 1];
        let now = self.pass();
        phase_1_ask(&mut self.threads[giver], groups, now);
        self.round(giver);
        self.phase(taker, phase_2_promise);
        let mut redirected = 0;
        while redirected != groups {
            self.phase(giver, phase_3_redirect);
            redirected = groups & !self.threads[giver].engine().flow_groups();
            let mut left = 1;
            while left != 0 {
                self.phase(giver, phase_4_pack);
                self.phase(giver, phase_5_hand_over);
                self.phase(taker, phase_6_unpack);
                left = self.threads[giver].engine().needs(redirected).connections;
            }
        }
        self.phase(giver, phase_7_end);
        let outcome = self.threads[giver].take_outcome();
        assert_eq!(outcome, Some(Ok(())), "the phases are others");
    }

    fn phase(&mut self, index: usize, phase: fn(&mut Thread, Instant)) {
        let now = self.pass();
        phase(&mut self.threads[index], now);
        self.round(index);
    }
}

/// Writes the calls of a round.
fn write_calls(words: &[AtomicU64], calls: &[[u64; 4]]) {
    for (index, one) in calls.iter().enumerate() {
        for (word, value) in one.iter().enumerate() {
            words[area::CALLS + index * call::WORDS + word].store(*value, Relaxed);
        }
    }
    words[area::CALL_COUNT].store(calls.len() as u64, Relaxed);
}

fn thread(
    index: usize,
    nic: QueuePair,
    fixtures: &Fixtures,
    buffers: &Rc<Buffers>,
    now: Instant,
) -> Thread {
    let net = Config {
        mbufs: MBUFS,
        sharing: Some(Sharing {
            thread: index as u32,
            groups: FlowGroups(&group_of),
            owned: if index == 0 { u128::MAX } else { 0 },
            loans: MBUFS,
            luggage: LUGGAGE,
            names: fixtures.names,
        }),
        ..config(2)
    };
    let parts = ThreadParts {
        nic,
        memory: Memory {
            thread: index,
            buffers: Rc::clone(buffers),
        },
        pool: MbufPool::with_loans(geometry(index), index as u32, MBUFS),
        area: fixtures.areas[index],
        sendable: [UserRange::default(); 3],
        crew: Some(Crew {
            thread: index as u32,
            inboxes: fixtures.inboxes,
            steer: fixtures.switch,
            is_parked: false,
        }),
        movable: Movable::new(&net),
    };
    let config = ThreadConfig {
        net,
        batch_bound: 64,
    };
    Thread::new(config, parts, now).expect("a configuration")
}

macro_rules! phases {
    ($($(#[$doc:meta])* $name:ident),*) => {
        $($(#[$doc])*
        #[inline(never)]
        fn $name(thread: &mut Thread, now: Instant) {
            thread.cycle(now);
            // Functions that do the same might be made one.
            std::hint::black_box(stringify!($name));
        })*
    };
}

/// The giver asks.
#[inline(never)]
fn phase_1_ask(thread: &mut Thread, groups: u128, now: Instant) {
    thread.command(Command::Give { groups, to: 1 });
    thread.cycle(now);
}

phases!(
    /// The taker promises room.
    phase_2_promise,
    /// The giver redirects as many groups as go together, and takes in what had come.
    phase_3_redirect,
    /// The giver packs as many connections as go together.
    phase_4_pack,
    /// The giver hands over.
    phase_5_hand_over,
    /// The taker unpacks, and serves.
    phase_6_unpack,
    /// The giver hears that it is done.
    phase_7_end
);
