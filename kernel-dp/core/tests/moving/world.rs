//! Elastic threads on one machine, their application, and a peer on a link, in virtual time.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use core::net::Ipv4Addr;
use ix_core::Step;
use ix_hal::Instant;
use ix_net::testing::{App, EngineStation, Host, Link, Random, Script, Station};
use ix_net::{Endpoint, IpAddress, Mailbox, Neighborhood};

use crate::machine::{self, Buffers, Fixtures, GROUPS, fixtures};
use crate::member::{APP_BYTES, Member, Place, START, base_config};
use crate::plan::Plan;
use crate::service::Service;
use crate::wire;

/// A frame that the NIC keeps back, and the queue that it has chosen for it.
pub struct Held {
    pub queue: usize,
    pub hash: u32,
    pub frame: Vec<u8>,
}

pub struct World {
    pub random: Random,
    pub fixtures: Rc<Fixtures>,
    pub clock: Rc<Cell<u64>>,
    pub members: Vec<Member>,
    pub service: Service,
    pub peer: EngineStation,
    pub there: Link,
    pub back: Link,
    pub owners: [usize; GROUPS],
    pub steering_ns: u64,
    pub fragments: u32,
    /// Which frame to keep back, once one comes.
    pub hold: Option<fn(&[u8]) -> bool>,
    pub held: Option<Held>,
    /// Whether one was, or the link was down: then somebody has sent again.
    pub has_held: bool,
    /// Whether what is in the transmit rings leaves.
    pub is_link_up: bool,
    pub cycle_ns: u64,
    /// Connections that the peer has opened.
    pub opened: u64,
    pub lag_ns: u64,
    pub gives: u64,
    pub parks: u64,
}

impl World {
    pub fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let fixtures = fixtures();
        let clock = Rc::new(Cell::new(START));
        let buffers = Rc::new(Buffers::new(plan.threads));
        // Some start parked, and the others share the groups.
        let running = match plan.parks {
            true => 1 + random.below(plan.threads as u64) as usize,
            false => plan.threads,
        };
        let owners: [usize; GROUPS] = std::array::from_fn(|group| group % running);
        for (entry, owner) in fixtures.switch.reta.iter().zip(owners) {
            entry.store(owner as u8, Relaxed);
        }
        let [peer_role, own_role] = plan.roles();
        let own = plan.script(own_role);
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
            let place = Place {
                index,
                is_parked: index >= running,
                owned,
                neighborhood,
            };
            Member::new(place, &fixtures, &clock, &buffers)
        });
        let members = members.collect();
        let peer_script = plan.script(peer_role);
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
            hold: None,
            held: None,
            has_held: false,
            is_link_up: true,
            cycle_ns: plan.cycle_ns,
            opened: 0,
            lag_ns: plan.lag_ns,
            gives: 0,
            parks: 0,
        }
    }

    pub fn now(&self) -> u64 {
        self.clock.get()
    }

    /// Lets time pass until all is done.
    pub fn run(&mut self, plan: &Plan) {
        self.begin(plan);
        self.finish(plan);
    }

    /// All threads listen, and open what they are to open.
    pub fn begin(&mut self, plan: &Plan) {
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
    }

    /// Lets time pass until something holds.
    pub fn step_until(&mut self, mut is_so: impl FnMut(&mut Self) -> bool) {
        let end = self.now() + 10_000_000_000;
        while !is_so(self) {
            self.step();
            assert!(self.now() < end, "stuck: {}", self.describe());
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, ns: u64) {
        let end = self.now() + ns;
        self.step_until(|world| world.now() >= end);
    }

    /// The same until all streams of the plan have ended.
    pub fn finish(&mut self, plan: &Plan) {
        let all = plan.connections + u64::from(plan.outbound);
        let end = self.now() + 600_000_000_000;
        while self.service.dead.values().sum::<u64>() < all
            || !self.peer.app.is_idle()
            || self.service.open() != 0
            || self.members.iter().any(|member| member.command.is_some())
        {
            if self.opened < plan.connections && self.random.chance(100) {
                self.open(plan.script(plan.roles()[0]));
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

    pub fn open(&mut self, script: Script) {
        self.opened += 1;
        let remote = Endpoint {
            address: Ipv4Addr::new(10, 0, 0, 2).into(),
            port: 80,
        };
        let EngineStation { host, app } = &mut self.peer;
        app.connect(host, remote, script)
            .expect("the peer connects");
    }

    /// About a microsecond, or until something happens.
    pub fn step(&mut self) {
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
        if wire::is_tcp(&frame) && self.random.chance(self.fragments) {
            let (first, second) = wire::fragments(&frame);
            self.steer(first);
            if let Some(second) = second {
                self.steer(second);
            }
        } else {
            self.steer(frame);
        }
    }

    /// The NIC decides which queue a frame goes to; it is there a little later.
    pub fn steer(&mut self, frame: Vec<u8>) {
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let has_ports = wire::is_tcp(&frame) && frame[20] & 0x3f == 0 && frame[21] == 0;
        let hash = match has_ports {
            true => machine::rss_hash(port(34), port(36)),
            false => 0,
        };
        let queue = match hash {
            0 => 0,
            hash => self.fixtures.switch.reta[hash as usize % GROUPS].load(Relaxed),
        };
        if hash != 0 && self.hold.is_some_and(|is_it| is_it(&frame)) {
            self.hold = None;
            self.has_held = true;
            let queue = queue.into();
            self.held = Some(Held { queue, hash, frame });
            return;
        }
        let visible_at = self.now() + self.random.below(self.steering_ns);
        let queue = &self.members[usize::from(queue)].queue;
        queue.borrow_mut().put(visible_at, hash, frame);
    }

    /// The frame that was kept back arrives where the NIC has decided long ago.
    pub fn release(&mut self) {
        let Held { queue, hash, frame } = self.held.take().expect("a frame is kept back");
        let now = self.now();
        let queue = &self.members[queue].queue;
        queue.borrow_mut().put(now, hash, frame);
    }

    fn is_due(&self, index: usize) -> bool {
        let member = &self.members[index];
        let due = |at: Option<u64>| at.is_some_and(|at| at <= self.now());
        let is_awake = self.fixtures.switch.awake[index].load(Relaxed);
        let has_work = is_awake || due(member.wake) || due(member.queue.borrow().next());
        has_work && member.free_at <= self.now()
    }

    pub fn cycle(&mut self, index: usize) {
        let now = self.now();
        self.fixtures.switch.awake[index].store(false, Relaxed);
        let lag = self.random.below(self.lag_ns + 1);
        let member = &mut self.members[index];
        member.free_at = now + self.cycle_ns;
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

    /// Whether a transmit ring has something in it.
    pub fn waits_to_send(&mut self, index: usize) -> bool {
        !self.members[index].thread.nic().wire.sent.is_empty()
    }

    /// Sends some of what is in a transmit ring.
    fn transmit(&mut self, index: usize) {
        if !self.is_link_up {
            self.has_held = true;
            return;
        }
        let nic = self.members[index].thread.nic();
        while self.random.chance(950)
            && let Some(frame) = nic.wire.sent.pop_front()
        {
            nic.left += 1;
            self.back.send(Instant(self.clock.get()), frame);
        }
    }

    /// Tells a thread that does nothing else to do something.
    fn wait(&mut self) {
        let now = self.now();
        let mut nics = self.members.iter_mut().map(|member| member.thread.nic());
        let is_sending = self.is_link_up && nics.any(|nic| !nic.wire.sent.is_empty());
        let sending = is_sending.then_some(now);
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
}
