//! Several elastic threads, each on a thread of this process with a queue pair of its own. They run a
//! round each at the same time; then the test lets time pass, the NIC move frames and the peer act, while
//! all of them wait. So they meet in what they share, and time does not run away from a slow one.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::thread;

use ix_abi::control::{GROUPS_MAX, ThreadState};
use ix_abi::{Error, area, boot};
use ix_core::{Command, ElasticThread, Inbox, Step, ThreadConfig, ThreadParts, UserRange};
use ix_hal::{Instant, MbufGeometry, MbufPool, Steer};
use ix_net::{Endpoint, FlowGroups, IpAddress, Mailbox, Movable, Names, Neighborhood, Sharing};
use ix_nic::Redirect;
use ix82599::wire::{Cable, Impaired, Impairment};
use ixgbe::{Card, Config, Ixgbe, QueueConfig, QueuePair, Rss, Steering};
use libix::{Runtime, Service};

use super::parts::{self, Buffers, Registers};

/// Buffers of each thread.
const MBUFS: u32 = 2048;
/// What a round takes.
const STEP_NS: u64 = 20_000;

type Thread = ElasticThread<QueuePair<Registers>, Buffers>;

/// A machine with several elastic threads.
pub struct CrewWorld {
    registers: Registers,
    seats: Vec<Seat>,
    controls: Controls,
    now_ns: Arc<AtomicU64>,
}

/// What the test has to command the threads.
pub struct Controls {
    slots: Arc<[Mutex<Slot>]>,
    crossbar: &'static Crossbar,
}

/// A command, and how it ended.
#[derive(Default)]
struct Slot {
    command: Option<Command>,
    outcome: Option<Result<(), Error>>,
    state: Option<ThreadState>,
}

/// What a thread has come to at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Connections that are left.
    pub connections: usize,
    /// Buffers that are neither free nor in the RX ring.
    pub mbufs_held: i64,
    /// Connections that came from other threads.
    pub moved_in: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Resets that were sent.
    pub resets: u64,
}

impl CrewWorld {
    /// A machine whose NIC is plugged into `cable`, with so many threads, all of which run.
    pub fn new(cable: Cable, threads: usize, net: &ix_net::Config) -> Self {
        let wire = Impaired::new(cable, Impairment::default());
        let (registers, mut memory) = parts::plugged_into(wire);
        let now_ns = Arc::new(AtomicU64::new(0));
        let mut delay = {
            let (registers, now_ns) = (registers.clone(), Arc::clone(&now_ns));
            move |us: u32| {
                let now_ns = now_ns.fetch_add(u64::from(us) * 1_000, Relaxed);
                registers.model().advance(now_ns + u64::from(us) * 1_000);
            }
        };
        let mut config = Config::new(threads as u32);
        config.rss = Rss::even(threads as u32);
        let device = Ixgbe::new(Card::I82599Sfp, registers.clone(), config, &mut delay);
        let mut device = device.expect("the NIC comes up");
        let pools: Arc<[MbufGeometry]> = memory.mbufs(threads, MBUFS).into();
        let pairs: Vec<_> = (0..threads)
            .map(|index| {
                let queue = QueueConfig {
                    vector: index as u8,
                    interrupt_interval_us: 0,
                    pool: pools[index],
                };
                let pair = device.open(index as u32, queue, memory.queue(), &mut delay);
                pair.expect("the queue pair opens")
            })
            .collect();
        device.start(&mut delay).expect("the receive path starts");

        let shared = Shared::new(threads, pools, Crossbar::new(device));
        let controls = Controls {
            slots: (0..threads).map(|_| Mutex::default()).collect(),
            crossbar: shared.crossbar,
        };
        let seats = pairs.into_iter().enumerate().map(|(index, nic)| Seat {
            index,
            nic,
            net: net.clone(),
            shared: shared.clone(),
            slots: Arc::clone(&controls.slots),
            now_ns: Arc::clone(&now_ns),
        });
        Self {
            registers,
            seats: seats.collect(),
            controls,
            now_ns,
        }
    }

    /// Runs a service on each thread. Between two rounds `between` is called, with the time; it says
    /// when it is enough.
    pub fn run<S: Service>(
        self,
        service: impl Fn(usize) -> S + Sync,
        mut between: impl FnMut(&Controls, u64) -> bool,
    ) -> Vec<Seen> {
        let Self {
            registers,
            seats,
            controls,
            now_ns,
        } = self;
        let pace = Pace {
            barrier: Barrier::new(seats.len() + 1),
            is_over: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            let (pace, service) = (&pace, &service);
            let threads = seats
                .into_iter()
                .map(|seat| scope.spawn(move || seat.run(service, pace)));
            let threads: Vec<_> = threads.collect();
            pace.lead(|| {
                let now_ns = now_ns.fetch_add(STEP_NS, Relaxed) + STEP_NS;
                let mut model = registers.model();
                model.advance(now_ns);
                model.poll();
                drop(model);
                between(&controls, now_ns)
            });
            let seen = threads.into_iter().map(|thread| match thread.join() {
                Ok(seen) => seen,
                Err(failure) => resume_unwind(failure),
            });
            seen.collect()
        })
    }
}

impl Controls {
    /// Has a thread execute a command, unless one is under way there.
    pub fn command(&self, thread: usize, command: Command) {
        lock(&self.slots[thread]).command.get_or_insert(command);
    }

    /// How the last command of a thread ended, once.
    pub fn take_outcome(&self, thread: usize) -> Option<(Command, Result<(), Error>)> {
        let mut slot = lock(&self.slots[thread]);
        let outcome = slot.outcome.take()?;
        Some((slot.command.take()?, outcome))
    }

    /// Whether a command of a thread is under way.
    pub fn is_busy(&self, thread: usize) -> bool {
        lock(&self.slots[thread]).command.is_some()
    }

    /// What a thread does.
    pub fn state(&self, thread: usize) -> ThreadState {
        let state = lock(&self.slots[thread]).state;
        state.unwrap_or(ThreadState::Running)
    }

    /// The flow groups that a thread gets frames of, a bit each.
    pub fn groups(&self, thread: usize) -> u128 {
        (0..GROUPS_MAX)
            .filter(|group| self.crossbar.owner(*group as u8) == thread as u32)
            .fold(0, |mask, group| mask | 1 << group)
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds in step. Who fails goes on keeping step, lest the others wait for ever.
struct Pace {
    barrier: Barrier,
    is_over: AtomicBool,
}

impl Pace {
    /// Calls `between` before each round of the others, until it says that it is enough.
    fn lead(&self, mut between: impl FnMut() -> bool) {
        let failure = loop {
            let result = catch_unwind(AssertUnwindSafe(&mut between));
            let is_enough = !matches!(result, Ok(false));
            self.is_over.fetch_or(is_enough, Relaxed);
            self.barrier.wait();
            if self.is_over.load(Relaxed) {
                break result.err();
            }
            self.barrier.wait();
        };
        if let Some(failure) = failure {
            resume_unwind(failure);
        }
    }

    /// Calls `round` in each round.
    fn follow(&self, mut round: impl FnMut()) {
        let mut failure = None;
        loop {
            self.barrier.wait();
            if self.is_over.load(Relaxed) {
                break;
            }
            if failure.is_none() {
                failure = catch_unwind(AssertUnwindSafe(&mut round)).err();
            }
            self.barrier.wait();
            // All look at it behind the next barrier only, so that all see the same.
            self.is_over.fetch_or(failure.is_some(), Relaxed);
        }
        if let Some(failure) = failure {
            resume_unwind(failure);
        }
    }
}

/// Connections that leave a thread at a time.
const LUGGAGE: u32 = 256;
/// Most control blocks of a thread.
const BLOCKS: u32 = 8192;

/// What all threads have.
#[derive(Clone)]
struct Shared {
    pools: Arc<[MbufGeometry]>,
    crossbar: &'static Crossbar,
    inboxes: &'static [Inbox],
    mailboxes: &'static [Mailbox],
    names: &'static Names,
    crew: &'static libix::Crew,
}

impl Shared {
    fn new(threads: usize, pools: Arc<[MbufGeometry]>, crossbar: Crossbar) -> Self {
        Self {
            pools,
            crossbar: Box::leak(Box::new(crossbar)),
            inboxes: Vec::leak((0..threads).map(|_| Inbox::new()).collect()),
            mailboxes: Vec::leak((1..threads).map(|_| Mailbox::default()).collect()),
            names: Box::leak(Box::new(Names::new(threads as u32, BLOCKS))),
            crew: Box::leak(Box::new(libix::Crew::new())),
        }
    }

    fn neighborhood(&self, index: usize) -> Neighborhood {
        match index.checked_sub(1) {
            Some(listener) => Neighborhood::Listener(&self.mailboxes[listener]),
            None if self.mailboxes.is_empty() => Neighborhood::Alone,
            None => Neighborhood::Speaker(self.mailboxes),
        }
    }

    /// From the first buffer of all to the last.
    fn sendable(&self) -> UserRange {
        let bytes = self.pools.iter().map(MbufGeometry::bytes).sum();
        UserRange {
            user: self.pools[0].user,
            bus: self.pools[0].bus,
            bytes,
        }
    }
}

/// The NIC's redirection table, as the booted kernel has it.
struct Crossbar {
    nic: Mutex<Ixgbe<Registers>>,
    owners: [AtomicU8; GROUPS_MAX],
}

impl Crossbar {
    fn new(nic: Ixgbe<Registers>) -> Self {
        Self {
            owners: nic.rss().reta.map(AtomicU8::new),
            nic: Mutex::new(nic),
        }
    }
}

impl Steer for Crossbar {
    fn assign(&self, groups: u128, thread: u32) {
        let mut nic = self.nic.lock().expect("no thread fails with the lock held");
        nic.redirect(groups, thread).expect("there is such a queue");
        for (group, owner) in self.owners.iter().enumerate() {
            if groups >> group & 1 != 0 {
                owner.store(thread as u8, Relaxed);
            }
        }
    }

    fn owner(&self, group: u8) -> u32 {
        u32::from(self.owners[usize::from(group)].load(Relaxed))
    }

    fn wake(&self, _: u32) {
        // Nobody halts here.
    }
}

/// What a thread begins with.
struct Seat {
    index: usize,
    nic: QueuePair<Registers>,
    net: ix_net::Config,
    shared: Shared,
    slots: Arc<[Mutex<Slot>]>,
    now_ns: Arc<AtomicU64>,
}

impl Seat {
    fn run<S: Service>(self, service: &(impl Fn(usize) -> S + Sync), pace: &Pace) -> Seen {
        let index = self.index;
        let mut runtime = Runtime::new(service(index), self.boot());
        pace.follow(|| runtime.round());
        // What is still to be said before the thread ends, such as that buffers are free.
        runtime.kernel().seen()
    }

    fn boot(self) -> SeatKernel {
        let words = area::WORDS;
        let area: &'static [AtomicU64] = Vec::leak((0..words).map(|_| AtomicU64::new(0)).collect());
        let Self { index, shared, .. } = self;
        let net = ix_net::Config {
            mbufs: MBUFS,
            mbufs_held: MBUFS / 4 * 3,
            sharing: Some(sharing(index, shared.pools.len(), shared.names)),
            neighborhood: shared.neighborhood(index),
            ..self.net
        };
        let geometry = shared.pools[index];
        let parts = ThreadParts {
            nic: self.nic,
            memory: Buffers::new(index, Arc::clone(&shared.pools)),
            pool: MbufPool::with_loans(geometry, index as u32, MBUFS),
            area,
            sendable: [
                shared.sendable(),
                UserRange::default(),
                UserRange::default(),
            ],
            crew: Some(ix_core::Crew {
                thread: index as u32,
                inboxes: shared.inboxes,
                steer: shared.crossbar,
                is_parked: false,
            }),
            movable: Movable::new(&net),
        };
        let config = ThreadConfig {
            net,
            batch_bound: 64,
        };
        let now = Instant(self.now_ns.load(Relaxed));
        let thread = ElasticThread::new(config, parts, now).expect("a configuration");
        area[area::BOOT + boot::THREAD].store(index as u64, Relaxed);
        area[area::BOOT + boot::THREADS].store(shared.pools.len() as u64, Relaxed);
        SeatKernel {
            thread,
            area,
            index,
            crew: shared.crew,
            slots: self.slots,
            now_ns: self.now_ns,
            is_under_way: false,
        }
    }
}

/// The flow groups of a thread at first, and how to tell them.
fn sharing(index: usize, threads: usize, names: &'static Names) -> Sharing {
    let rss = Rss::even(threads as u32);
    let owners = rss.reta.iter().enumerate();
    let owned = owners.filter(|(_, queue)| usize::from(**queue) == index);
    let owned = owned.fold(0, |mask, (group, _)| mask | 1 << group);
    let steering = Steering::new(&Rss {
        key: rss.key,
        reta: std::array::from_fn(|group| group as u8),
    });
    let group_of =
        move |remote: Endpoint, own: IpAddress, port| match (remote.address.into(), own.into()) {
            (std::net::IpAddr::V4(source), std::net::IpAddr::V4(own)) => {
                steering.queue_of_tcp((source.to_bits(), remote.port), (own.to_bits(), port))
            }
            families => panic!("only IPv4 is spoken here: {families:?}"),
        };
    Sharing {
        thread: index as u32,
        groups: FlowGroups(Box::leak(Box::new(group_of))),
        owned,
        loans: MBUFS,
        luggage: LUGGAGE,
        names,
    }
}

/// The kernel below a [`Runtime`] on one of the threads. A round without anything to do returns without
/// events.
pub struct SeatKernel {
    thread: Thread,
    area: &'static [AtomicU64],
    index: usize,
    crew: &'static libix::Crew,
    slots: Arc<[Mutex<Slot>]>,
    now_ns: Arc<AtomicU64>,
    /// Whether a command has begun.
    is_under_way: bool,
}

// SAFETY: `ElasticThread` keeps the ABI's contract, which is what these tests are about: buffers of
// recv events stay as they are until recv_done, since the drivers own no buffer that a connection
// holds; memory passed to sendv is read by the model only, while an engine has a record of it. All
// addresses given out are real ones of this process, in memory that is never freed.
unsafe impl libix::Kernel for SeatKernel {
    fn area(&self) -> libix::Area {
        libix::Area::new(self.area).expect("a good thread area")
    }

    fn crew(&self) -> &'static libix::Crew {
        self.crew
    }

    fn run_io(&mut self) {
        self.obey();
        let step = self.thread.cycle(Instant(self.now_ns.load(Relaxed)));
        if step != Step::User {
            self.area[area::EVENT_COUNT].store(0, Relaxed);
        }
        if let Some(outcome) = self.thread.take_outcome() {
            self.is_under_way = false;
            let mut slot = lock(&self.slots[self.index]);
            slot.outcome = Some(outcome);
            slot.state = Some(self.thread.state());
        }
    }
}

impl SeatKernel {
    /// Begins a command.
    fn obey(&mut self) {
        let slot = lock(&self.slots[self.index]);
        if let Some(command) = slot.command
            && slot.outcome.is_none()
            && !self.is_under_way
        {
            drop(slot);
            self.is_under_way = true;
            self.thread.command(command);
        }
    }

    fn seen(&mut self) -> Seen {
        let statistics = self.thread.statistics();
        let in_ring = i64::from(self.thread.nic().rx_buffers());
        let counters = self.thread.engine().counters();
        Seen {
            connections: statistics.connections,
            mbufs_held: i64::from(MBUFS) - statistics.mbufs_free as i64 - in_ring,
            moved_in: counters.tcp_moved_in,
            retransmits: counters.tcp_retransmits,
            resets: counters.tcp_out_resets,
        }
    }
}
