//! Two engines over a wire with seeded faults: every byte arrives in order and exactly once, every
//! connection ends in order, and all memory comes back.

use core::net::Ipv4Addr;
use ix_hal::Instant;
use ix_net::testing::{App, Faults, Host, Link, Random, Role, Script};
use ix_net::{Config, Endpoint};

const APP_BYTES: usize = 1 << 18;

fn config(last: u8) -> Config {
    Config {
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Ipv4Addr::new(10, 0, 0, last),
        secret: [last; 16],
        connections: 64,
        half_open: 32,
        time_wait: 64,
        neighbors: 8,
        send_fragments: 2048,
        mbufs: 1024,
        mbufs_held: 900,
        out_of_order: 512,
        rx_window: 64 << 10,
        send_limit: 64 << 10,
        ..Config::default()
    }
}

struct Network {
    hosts: [Host; 2],
    apps: [App; 2],
    links: [Link; 2],
    now: Instant,
}

impl Network {
    fn new(configs: [Config; 2], faults: &Faults, scripts: [Script; 2], seed: u64) -> Self {
        let start = Instant(1 << 40);
        let mut hosts = configs.map(|config| Host::new(config, start, APP_BYTES));
        let [first, second] = scripts;
        let apps = [
            App::new(&mut hosts[0], first, seed ^ 1),
            App::new(&mut hosts[1], second, seed ^ 2),
        ];
        let links = [
            Link::new(faults.clone(), seed ^ 3),
            Link::new(faults.clone(), seed ^ 4),
        ];
        Self {
            hosts,
            apps,
            links,
            now: start,
        }
    }

    /// Runs until nothing is left to happen, or panics after `limit` of virtual time.
    fn run(&mut self, limit: u64) {
        let end = self.now.0 + limit;
        loop {
            for side in 0..2 {
                self.hosts[side].now = self.now;
                while let Some(frame) = self.links[1 - side].receive(self.now) {
                    self.hosts[side].receive(&frame);
                }
                self.apps[side].turn(&mut self.hosts[side]);
                self.hosts[side].turn();
                while let Some(frame) = self.hosts[side].wire.sent.pop_front() {
                    self.links[side].send(self.now, frame);
                }
            }
            if self.apps.iter().all(App::is_idle) {
                return;
            }
            self.now = self.next_moment();
            assert!(self.now.0 < end, "stuck:\n{}", self.describe());
        }
    }

    fn next_moment(&self) -> Instant {
        let busy = self
            .hosts
            .iter()
            .any(|host| host.engine.has_pending_output() || !host.queue.events.is_empty());
        if busy {
            return Instant(self.now.0 + 1000);
        }
        let timers = self
            .hosts
            .iter()
            .filter_map(|host| host.engine.next_deadline());
        let arrivals = self.links.iter().filter_map(Link::next_arrival);
        let next = timers.chain(arrivals).min().unwrap_or(Instant(u64::MAX));
        Instant(next.0.clamp(self.now.0 + 1000, self.now.0 + 1_000_000))
    }

    fn describe(&self) -> String {
        format!(
            "{}--\n{}counters: {:?}\n{:?}",
            self.apps[0].describe(),
            self.apps[1].describe(),
            busy_counters(&self.hosts[0]),
            busy_counters(&self.hosts[1])
        )
    }

    fn check_that_all_came_back(&self) {
        for host in &self.hosts {
            assert_eq!(host.mbufs_out(), 0, "mbufs not returned");
            assert_eq!(host.engine.connections(), 0, "connections not released");
            assert_eq!(
                host.engine.free_send_records(),
                2048,
                "send records not released"
            );
        }
    }
}

fn busy_counters(host: &Host) -> Vec<(&'static str, u64)> {
    host.engine
        .counters()
        .iter()
        .filter(|(_, value)| *value != 0)
        .collect()
}

fn script(send: u64, expect: u64, role: Role) -> Script {
    Script {
        send,
        expect,
        write: 8000,
        lazy: 0,
        role,
    }
}

fn exchange(faults: &Faults, seed: u64, there: u64, back: u64, roles: [Role; 2], lazy: u32) {
    let mut client = script(there, back, roles[0]);
    let mut server = script(back, there, roles[1]);
    client.lazy = lazy;
    server.lazy = lazy;
    let mut random = Random::new(seed);
    client.write = 1 + random.below(10_000) as u32;
    server.write = 1 + random.below(10_000) as u32;
    let mut network = Network::new(
        [config(1), config(2)],
        faults,
        [client.clone(), server],
        seed,
    );
    network.hosts[1].engine.listen(80).unwrap();
    let remote = Endpoint {
        address: Ipv4Addr::new(10, 0, 0, 2).into(),
        port: 80,
    };
    for _ in 0..4 {
        let [host, _] = &mut network.hosts;
        network.apps[0]
            .connect(host, remote, client.clone())
            .unwrap();
    }
    network.run(600_000_000_000);
    for app in &network.apps {
        assert_eq!(
            (app.connected, app.failed),
            (4, 0),
            "{}",
            network.describe()
        );
    }
    assert_eq!(network.apps[1].verified, 4 * there);
    assert_eq!(network.apps[0].verified, 4 * back);
    network.check_that_all_came_back();
}

const ROLES: [[Role; 2]; 4] = [
    [Role::Closes, Role::Follows],
    [Role::Follows, Role::Closes],
    [Role::ShutsDown, Role::ShutsDown],
    [Role::ShutsDown, Role::Follows],
];

#[test]
fn perfect_wire_carries_everything() {
    let faults = Faults {
        delay: 50_000,
        ..Faults::default()
    };
    for (seed, roles) in ROLES.into_iter().enumerate() {
        exchange(&faults, seed as u64, 300_000, 200_000, roles, 0);
        exchange(&faults, seed as u64, 0, 100, roles, 0);
        exchange(&faults, seed as u64, 64, 64, roles, 500);
    }
}

#[test]
fn faulty_wire_carries_everything() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let faults = Faults {
            loss: random.below(100) as u32,
            duplication: random.below(50) as u32,
            corruption: random.below(30) as u32,
            reordering: random.below(100) as u32,
            delay: random.below(5_000_000),
            jitter: random.below(1_000_000),
            reorder_delay: random.below(10_000_000),
        };
        let roles = ROLES[seed as usize % 4];
        let lazy = random.below(900) as u32;
        exchange(
            &faults,
            seed,
            random.below(100_000),
            random.below(100_000),
            roles,
            lazy,
        );
    }
}
