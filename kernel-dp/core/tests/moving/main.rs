//! Up to 64 elastic threads in virtual time, whose flow groups move at random, and which park and
//! run, while connections exchange verified streams with a peer. Everything follows from the seed;
//! `IX_SIM_SEEDS` says how many there are.

mod machine;
mod service;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use core::net::Ipv4Addr;
use ix_abi::Error;
use ix_abi::control::ThreadState;
use ix_core::{Command, Crew, ElasticThread, Step, ThreadConfig, ThreadParts, UserRange};
use ix_hal::{Duration, Instant, MbufPool};
use ix_net::testing::{APP_BUS, App, EngineStation, Faults, Host, Link, Random, Role, Script};
use ix_net::testing::{STREAM_PERIOD, Station, Wire, stream_byte};
use ix_net::{Config, Endpoint, FlowGroups, IpAddress, Luggage, Mailbox, Neighborhood, Sharing};

use machine::{Buffers, Fixtures, GROUPS, MBUFS, Memory, Queue, QueuePair, fixtures, geometry};
use service::{HEAP, Service};

const START: u64 = 1 << 40;
const RECORDS: u32 = 2048;
/// Bytes that both sides send from.
const APP_BYTES: usize = 1 << 18;

/// What one seed does.
struct Plan {
    seed: u64,
    threads: usize,
    connections: u64,
    /// Connections that the threads open.
    outbound: u32,
    bytes: u64,
    faults: Faults,
    /// Latest that a frame comes out of the packet buffer once it is steered.
    steering_ns: u64,
    /// Most by which what a thread takes for the time lags behind.
    lag_ns: u64,
    /// Chance in thousandths of a command at each step.
    commands: u32,
    /// Chance in thousandths that a router cuts a frame into fragments, which have no ports and all
    /// come to queue 0.
    fragments: u32,
}

struct Member {
    thread: ElasticThread<QueuePair, Memory>,
    queue: Rc<RefCell<Queue>>,
    /// When it has something to do, if nothing comes.
    wake: Option<u64>,
    /// What it took for the time when it last looked.
    clock: u64,
    command: Option<Command>,
    state: ThreadState,
}

struct World {
    random: Random,
    fixtures: Rc<Fixtures>,
    clock: Rc<Cell<u64>>,
    members: Vec<Member>,
    service: Service,
    peer: EngineStation,
    there: Link,
    back: Link,
    owners: [usize; GROUPS],
    steering_ns: u64,
    fragments: u32,
    lag_ns: u64,
    gives: u64,
    parks: u64,
}

fn base_config(last: u8) -> Config {
    Config {
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Ipv4Addr::new(10, 0, 0, last),
        secret: [last; 16],
        connections: 128,
        half_open: 128,
        time_wait: 128,
        neighbors: 8,
        send_fragments: RECORDS,
        rx_window: 32 << 10,
        send_limit: 32 << 10,
        // Round trips are so short here that a delayed acknowledgement draws a tail probe.
        delayed_ack_us: 0,
        // What is incomplete at the end gives its buffers back.
        reassembly_timeout: Duration::from_millis(5),
        ..Config::default()
    }
}

fn group_of(peer: Endpoint, _own: IpAddress, port: u16) -> u8 {
    (machine::rss_hash(peer.port, port) as usize % GROUPS) as u8
}

fn script(plan: &Plan, role: Role) -> Script {
    Script {
        send: plan.bytes,
        expect: plan.bytes,
        write: 5000,
        lazy: 300,
        role,
    }
}

impl World {
    fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let fixtures = fixtures();
        let clock = Rc::new(Cell::new(START));
        let buffers = Rc::new(Buffers::new(plan.threads));
        // Some start parked, and the others share the groups.
        let running = 1 + random.below(plan.threads as u64) as usize;
        let owners: [usize; GROUPS] = std::array::from_fn(|group| group % running);
        for (entry, owner) in fixtures.switch.reta.iter().zip(owners) {
            entry.store(owner as u8, Relaxed);
        }
        let roles = match plan.seed % 3 {
            0 => [Role::Closes, Role::Follows],
            1 => [Role::Follows, Role::Closes],
            _ => [Role::ShutsDown, Role::ShutsDown],
        };
        let own = script(plan, roles[1]);
        let service = Service::new(
            plan.threads,
            Rc::clone(&buffers),
            own,
            Random::new(plan.seed),
        );
        let mailboxes: Vec<Mailbox> = (1..plan.threads).map(|_| Mailbox::default()).collect();
        let mailboxes: &'static [Mailbox] = Vec::leak(mailboxes);
        let members = (0..plan.threads).map(|index| {
            let neighborhood = match index.checked_sub(1) {
                Some(listener) => Neighborhood::Listener(&mailboxes[listener]),
                None => Neighborhood::Speaker(mailboxes),
            };
            let owned = owners
                .iter()
                .enumerate()
                .filter(|(_, owner)| **owner == index);
            let owned = owned.fold(0, |mask, (group, _)| mask | 1 << group);
            member(
                index,
                index >= running,
                owned,
                neighborhood,
                &fixtures,
                &clock,
                &buffers,
            )
        });
        let members = members.collect();
        let peer_script = script(plan, roles[0]);
        let mut host = Host::new(base_config(1), Instant(START), APP_BYTES);
        host.engine.listen(81).expect("the peer listens");
        let app = App::new(&mut host, peer_script, plan.seed ^ 1);
        Self {
            random,
            fixtures,
            clock,
            members,
            service,
            peer: EngineStation { host, app },
            there: Link::new(plan.faults.clone(), plan.seed ^ 3),
            back: Link::new(plan.faults.clone(), plan.seed ^ 4),
            owners,
            steering_ns: plan.steering_ns,
            fragments: plan.fragments,
            lag_ns: plan.lag_ns,
            gives: 0,
            parks: 0,
        }
    }

    fn now(&self) -> u64 {
        self.clock.get()
    }

    /// Lets time pass until all is done.
    fn run(&mut self, plan: &Plan) {
        let address = Ipv4Addr::from_bits(0x0a00_0001).into();
        let IpAddress { high, low } = address;
        self.service.peer = (high, low, 81);
        for thread in 0..plan.threads {
            self.service.listen(thread, 80);
        }
        for _ in 0..plan.outbound {
            let owner = self.owners[self.random.below(GROUPS as u64) as usize];
            self.service.to_open[owner] += 1;
        }
        let all = plan.connections + u64::from(plan.outbound);
        let end = self.now() + 600_000_000_000;
        let mut unopened = plan.connections;
        while self.service.dead.values().sum::<u64>() < all
            || !self.peer.app.is_idle()
            || self.service.open() != 0
            || self.members.iter().any(|member| member.command.is_some())
        {
            if unopened > 0 && self.random.chance(100) {
                unopened -= 1;
                self.open(script(plan, peer_role(plan)));
            }
            let is_over = self.service.dead.values().sum::<u64>() >= all;
            if !is_over && self.random.chance(plan.commands) {
                self.command_something();
            }
            self.step();
            assert!(self.now() < end, "stuck: {}", self.describe());
        }
        // Buffers go home, and what an old SYN has opened ends.
        for _ in 0..10 {
            (0..20_000).for_each(|_| self.step());
            if self.service.open() == 0 {
                return;
            }
        }
    }

    fn open(&mut self, script: Script) {
        let remote = Endpoint {
            address: Ipv4Addr::new(10, 0, 0, 2).into(),
            port: 80,
        };
        let EngineStation { host, app } = &mut self.peer;
        app.connect(host, remote, script)
            .expect("the peer connects");
    }

    fn describe(&self) -> String {
        let threads = self.members.iter().enumerate().map(|(index, member)| {
            let counters = member.thread.engine().counters().iter();
            let counters: Vec<_> = counters.filter(|(_, value)| *value != 0).collect();
            format!(
                "thread {index} {:?} command {:?} groups {:#x} {:?} {counters:?}\n",
                member.state,
                member.command,
                member.thread.engine().flow_groups(),
                member.thread.counters()
            )
        });
        let threads: String = threads.collect();
        format!(
            "{}{threads}{}",
            self.service.describe(),
            self.peer.describe()
        )
    }

    /// About a microsecond, or until something happens.
    fn step(&mut self) {
        let now = Instant(self.now());
        while let Some(frame) = self.back.receive(now) {
            self.peer.receive(now, &frame);
        }
        self.peer.turn(now);
        while let Some(frame) = self.peer.take_sent() {
            self.there.send(now, frame);
        }
        while let Some(frame) = self.there.receive(now) {
            self.arrive(frame);
        }
        for index in 0..self.members.len() {
            self.transmit(index);
            // Threads are not in step.
            if self.is_due(index) && !self.random.chance(200) {
                self.cycle(index);
            }
        }
        self.wait();
    }

    /// A frame comes to the NIC, whole or in pieces.
    fn arrive(&mut self, frame: Vec<u8>) {
        if is_tcp(&frame) && self.random.chance(self.fragments) {
            let (first, second) = fragments(&frame);
            self.steer(first);
            if let Some(second) = second {
                self.steer(second);
            }
        } else {
            self.steer(frame);
        }
    }

    /// The NIC decides which queue a frame goes to; it is there a little later.
    fn steer(&mut self, frame: Vec<u8>) {
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let has_ports = is_tcp(&frame) && frame[20] & 0x3f == 0 && frame[21] == 0;
        let hash = match has_ports {
            true => machine::rss_hash(port(34), port(36)),
            false => 0,
        };
        let queue = match hash {
            0 => 0,
            hash => self.fixtures.switch.reta[hash as usize % GROUPS].load(Relaxed),
        };
        let visible_at = self.now() + self.random.below(self.steering_ns);
        let queue = &self.members[usize::from(queue)].queue;
        queue.borrow_mut().put(visible_at, hash, frame);
    }

    fn is_due(&self, index: usize) -> bool {
        let member = &self.members[index];
        let due = |at: Option<u64>| at.is_some_and(|at| at <= self.now());
        let is_awake = self.fixtures.switch.awake[index].load(Relaxed);
        is_awake || due(member.wake) || due(member.queue.borrow().next())
    }

    fn cycle(&mut self, index: usize) {
        let now = self.now();
        self.fixtures.switch.awake[index].store(false, Relaxed);
        let lag = self.random.below(self.lag_ns + 1);
        let member = &mut self.members[index];
        member.clock = member.clock.max(now - lag);
        let step = member.thread.cycle(Instant(member.clock));
        member.wake = match step {
            Step::User => {
                self.service.round(index, self.fixtures.areas[index]);
                Some(now + 500)
            }
            Step::Idle { deadline } => deadline.map(|at| at.0.max(now + 500)),
            Step::Parked => None,
        };
        if let Some(outcome) = member.thread.take_outcome() {
            self.command_ended(index, outcome);
        }
    }

    /// Sends some of what is in a transmit ring.
    fn transmit(&mut self, index: usize) {
        let nic = self.members[index].thread.nic();
        while self.random.chance(950)
            && let Some(frame) = nic.wire.sent.pop_front()
        {
            nic.left += 1;
            self.back.send(Instant(self.clock.get()), frame);
        }
    }

    /// Tells a thread that does nothing else to do something.
    fn command_something(&mut self) {
        let count = self.members.len() as u64;
        let index = self.random.below(count) as usize;
        let to = self.random.below(count) as usize;
        if index == to || self.members[index].command.is_some() {
            return;
        }
        let is_target_sure = self.members[to]
            .command
            .is_none_or(|command| matches!(command, Command::Give { .. }))
            && self.members[to].state == ThreadState::Running;
        let owned = self.members[index].thread.engine().flow_groups();
        let command = match self.members[index].state {
            ThreadState::Parked => Command::Run,
            _ if owned == 0 => Command::Park { to: to as u32 },
            _ if is_target_sure => Command::Give {
                groups: self.some_of(owned),
                to: to as u32,
            },
            _ => return,
        };
        let member = &mut self.members[index];
        member.command = Some(command);
        member.thread.command(command);
        // The doorbell.
        self.fixtures.switch.awake[index].store(true, Relaxed);
    }

    fn some_of(&mut self, owned: u128) -> u128 {
        if self.random.chance(300) {
            return owned;
        }
        let random = u128::from(self.random.word()) << 64 | u128::from(self.random.word());
        match owned & random {
            0 => owned,
            some => some,
        }
    }

    fn command_ended(&mut self, index: usize, outcome: Result<(), Error>) {
        let member = &mut self.members[index];
        let command = member.command.take().expect("a command was given");
        match (command, outcome) {
            (Command::Give { groups, to }, Ok(())) => {
                self.gives += 1;
                for (group, owner) in self.owners.iter_mut().enumerate() {
                    if groups >> group & 1 != 0 {
                        assert_eq!(*owner, index);
                        *owner = to as usize;
                    }
                }
            }
            (Command::Park { .. }, Ok(())) => {
                self.parks += 1;
                member.state = ThreadState::Parked;
            }
            (Command::Run, Ok(())) => member.state = ThreadState::Running,
            // The other one parked in the meantime, is full, or there is something left.
            (Command::Give { .. }, Err(Error::BadState | Error::Exhausted))
            | (Command::Park { .. }, Err(Error::TryAgain | Error::BadState | Error::Invalid)) => {}
            (command, Err(error)) => panic!("{command:?} was refused: {error:?}"),
        }
        assert_eq!(
            self.members[index].thread.state(),
            self.members[index].state
        );
    }

    fn wait(&mut self) {
        let now = self.now();
        let mut nics = self.members.iter_mut().map(|member| member.thread.nic());
        let sending = nics.any(|nic| !nic.wire.sent.is_empty()).then_some(now);
        let queues = self.members.iter();
        let queues = queues.filter_map(|member| member.queue.borrow().next());
        let wakes = self.members.iter().filter_map(|member| member.wake);
        let links = [self.there.next_arrival(), self.back.next_arrival()];
        let links = links.into_iter().flatten().map(|at| at.0);
        let peer = self.peer.deadline(Instant(now)).map(|at| at.0);
        let awake = self.fixtures.switch.awake.iter().take(self.members.len());
        let awake = awake.filter(|awake| awake.load(Relaxed)).map(|_| now);
        let next = queues
            .chain(wakes)
            .chain(links)
            .chain(peer)
            .chain(awake)
            .chain(sending)
            .min();
        let next = next.unwrap_or(u64::MAX);
        self.clock.set(next.clamp(now + 300, now + 1_000_000));
    }

    /// What must hold when everything is over.
    fn check(&mut self, plan: &Plan) {
        let description = self.describe();
        let all = plan.connections + u64::from(plan.outbound);
        assert_eq!(self.service.open(), 0, "{description}");
        assert_eq!(self.service.connected, all);
        assert_eq!(self.service.verified, all * plan.bytes, "{description}");
        assert_eq!(self.peer.app.verified, all * plan.bytes, "{description}");
        for (index, member) in self.members.iter_mut().enumerate() {
            let thread = &mut member.thread;
            thread
                .engine()
                .check()
                .unwrap_or_else(|wrong| panic!("thread {index}: {wrong}"));
            assert_eq!(thread.engine().connections(), 0, "{description}");
            let free = thread.statistics().mbufs_free;
            assert_eq!(
                free, MBUFS as usize,
                "thread {index} lacks mbufs: {description}"
            );
            assert_eq!(member.queue.borrow().missed, 0, "{description}");
            assert_eq!(thread.counters().moving_drops, 0, "{description}");
            let owned = self
                .owners
                .iter()
                .enumerate()
                .filter(|(_, owner)| **owner == index);
            let owned: u128 = owned.fold(0, |mask, (group, _)| mask | 1 << group);
            assert_eq!(thread.engine().flow_groups(), owned, "{description}");
            assert_eq!(thread.engine().counters().tcp_moves_refused, 0);
        }
        if plan.faults.is_perfect() {
            let engines = self.members.iter().map(|member| member.thread.engine());
            for engine in engines.chain([&self.peer.host.engine]) {
                // A clock that leaps ahead lets probes be due before there can be an answer, and the
                // duplicate may come when the connection is over.
                if plan.lag_ns == 0 {
                    assert_eq!(engine.counters().tcp_retransmits, 0, "{description}");
                    assert_eq!(engine.counters().tcp_out_resets, 0, "{description}");
                }
                assert_eq!(engine.counters().tcp_timeouts, 0, "{description}");
                assert_eq!(engine.counters().tcp_paws_rejected, 0, "{description}");
            }
        }
    }
}

fn is_tcp(frame: &[u8]) -> bool {
    frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6
}

/// A TCP segment over IPv4 in two fragments, if it is long enough.
fn fragments(frame: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    /// Length of the IP packet, from the start of the frame, that the first one holds.
    const FIRST: usize = 34 + 40;
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    if end <= FIRST {
        return (frame.to_vec(), None);
    }
    let mut first = frame[..FIRST].to_vec();
    let mut second = frame[..34].to_vec();
    second.extend_from_slice(&frame[FIRST..end]);
    // More fragments; and the offset in units of eight bytes.
    let heads = [(&mut first, 0x2000u16), (&mut second, 40 / 8)];
    for (piece, field) in heads {
        let len = piece.len() as u16 - 14;
        piece[16..18].copy_from_slice(&len.to_be_bytes());
        piece[20..22].copy_from_slice(&field.to_be_bytes());
    }
    (first, Some(second))
}

fn peer_role(plan: &Plan) -> Role {
    match plan.seed % 3 {
        0 => Role::Closes,
        1 => Role::Follows,
        _ => Role::ShutsDown,
    }
}

fn member(
    index: usize,
    is_parked: bool,
    owned: u128,
    neighborhood: Neighborhood,
    fixtures: &Fixtures,
    clock: &Rc<Cell<u64>>,
    buffers: &Rc<Buffers>,
) -> Member {
    let sharing = Sharing {
        thread: index as u32,
        groups: FlowGroups(&group_of),
        owned,
        loans: MBUFS,
        luggage: 16,
    };
    let net = Config {
        mbufs: MBUFS,
        mbufs_held: MBUFS / 4 * 3,
        sharing: Some(sharing),
        neighborhood,
        ..base_config(2)
    };
    let queue = Rc::new(RefCell::new(Queue::default()));
    let app = (0..APP_BYTES as u64).map(stream_byte).collect();
    let nic = QueuePair {
        thread: index,
        queue: Rc::clone(&queue),
        buffers: Rc::clone(buffers),
        wire: Wire::new(app, Vec::new()),
        clock: Rc::clone(clock),
        left: 0,
    };
    let parts = ThreadParts {
        nic,
        memory: Memory {
            thread: index,
            buffers: Rc::clone(buffers),
        },
        pool: MbufPool::with_loans(geometry(index), index as u32, MBUFS),
        area: fixtures.areas[index],
        sendable: [
            UserRange {
                user: HEAP,
                bus: APP_BUS,
                bytes: APP_BYTES as u64,
            },
            UserRange::default(),
            UserRange::default(),
        ],
        crew: Some(Crew {
            thread: index as u32,
            inboxes: fixtures.inboxes,
            steer: fixtures.switch,
            is_parked,
        }),
        luggage: Luggage::new(&net),
    };
    let config = ThreadConfig {
        net,
        batch_bound: 32,
    };
    Member {
        thread: ElasticThread::new(config, parts, Instant(START)),
        queue,
        wake: Some(START),
        clock: START,
        command: None,
        state: match is_parked {
            true => ThreadState::Parked,
            false => ThreadState::Running,
        },
    }
}

fn seeds(default: u64) -> u64 {
    match std::env::var("IX_SIM_SEEDS") {
        Ok(text) => text.parse().expect("IX_SIM_SEEDS is a number of seeds"),
        Err(_) => default,
    }
}

fn run(plan: &Plan) -> World {
    assert!(APP_BYTES as u64 >= STREAM_PERIOD * 2);
    let mut world = World::new(plan);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.run(plan);
        world.check(plan);
    }));
    if let Err(panic) = outcome {
        eprintln!("seed {} with {} threads failed", plan.seed, plan.threads);
        std::panic::resume_unwind(panic);
    }
    world
}

/// What many seeds did together, so that a test can tell that it tried what it is for.
#[derive(Debug, Default)]
struct Totals {
    moves: u64,
    gives: u64,
    parks: u64,
    frames_kept: u64,
    frames_forwarded: u64,
    /// Datagrams put together on another thread than that of their connection.
    elsewhere: u64,
}

impl Totals {
    fn add(&mut self, world: &World) {
        self.moves += world.service.moves;
        self.gives += world.gives;
        self.parks += world.parks;
        for member in &world.members {
            self.frames_kept += member.thread.counters().frames_kept;
            self.frames_forwarded += member.thread.counters().frames_forwarded;
            self.elsewhere += member.thread.engine().counters().rx_elsewhere;
        }
    }
}

#[test]
fn groups_move_while_streams_flow() {
    let mut totals = Totals::default();
    let seeds = seeds(300);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x77);
        let plan = Plan {
            seed,
            threads: 2 + random.below(7) as usize,
            connections: 1 + random.below(40),
            outbound: random.below(10) as u32,
            bytes: random.below(60_000),
            faults: Faults {
                delay: random.below(20_000),
                ..Faults::default()
            },
            steering_ns: 1_500,
            lag_ns: 0,
            commands: random.below(200) as u32,
            fragments: 0,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(
        totals.moves > 10 * seeds && totals.parks > seeds,
        "{totals:?}"
    );
    assert!(totals.frames_kept > 10 * seeds, "{totals:?}");
}

/// What a thread takes for the time is when its cycle began, which may be long ago on a processor that
/// did something else meanwhile. Time must not go back for a connection that comes to it.
#[test]
fn groups_move_to_threads_that_are_behind() {
    let mut totals = Totals::default();
    let seeds = seeds(100);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x79);
        let plan = Plan {
            seed,
            threads: 2 + random.below(3) as usize,
            connections: 1 + random.below(10),
            outbound: random.below(4) as u32,
            bytes: 20_000 + random.below(20_000),
            faults: Faults {
                delay: random.below(20_000),
                ..Faults::default()
            },
            steering_ns: 1_500,
            lag_ns: 4_000_000,
            fragments: 0,
            commands: random.below(200) as u32,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(totals.moves > 2 * seeds, "{totals:?}");
}

/// Losses, duplicates and reordering on the wire: retransmission timers, out-of-order segments and
/// recoveries move too.
#[test]
fn groups_move_while_the_wire_loses_frames() {
    let mut totals = Totals::default();
    let seeds = seeds(100);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x78);
        let plan = Plan {
            seed,
            threads: 2 + random.below(3) as usize,
            connections: 1 + random.below(20),
            outbound: random.below(5) as u32,
            bytes: random.below(100_000),
            faults: Faults {
                loss: random.below(50) as u32,
                duplication: random.below(20) as u32,
                reordering: random.below(50) as u32,
                delay: random.below(50_000),
                reorder_delay: 100_000,
                ..Faults::default()
            },
            steering_ns: 10_000,
            lag_ns: 0,
            commands: random.below(200) as u32,
            fragments: random.below(50) as u32,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(
        totals.moves > 10 * seeds && totals.frames_forwarded > seeds,
        "{totals:?}"
    );
    assert!(totals.elsewhere > 2 * seeds, "{totals:?}");
}

#[test]
fn sixty_four_threads_hand_groups_around() {
    let mut totals = Totals::default();
    let seeds = seeds(100) / 10;
    for seed in 0..seeds {
        let plan = Plan {
            seed,
            threads: 64,
            connections: 64,
            outbound: 8,
            bytes: 20_000,
            faults: Faults {
                delay: 5_000,
                ..Faults::default()
            },
            steering_ns: 1_500,
            lag_ns: 0,
            commands: 900,
            fragments: 0,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(totals.moves >= 10 * seeds, "{totals:?}");
}
