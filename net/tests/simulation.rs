//! Two engines over a wire with seeded faults: every byte arrives in order and exactly once, every
//! connection ends in order, and all memory comes back.

mod support;

use core::net::Ipv4Addr;
use ix_net::Endpoint;
use ix_net::testing::{EngineStation, Faults, Network, Random, Role, Script};
use support::{RECORDS, START, check_that_all_came_back, config, some_faults, station};

const CONNECTIONS: u64 = 4;

const ROLES: [[Role; 2]; 4] = [
    [Role::Closes, Role::Follows],
    [Role::Follows, Role::Closes],
    [Role::ShutsDown, Role::ShutsDown],
    [Role::ShutsDown, Role::Follows],
];

/// What two engines exchange.
struct Exchange {
    seed: u64,
    faults: Faults,
    there: u64,
    back: u64,
    roles: [Role; 2],
    lazy: u32,
}

impl Exchange {
    fn run(&self) {
        let mut random = Random::new(self.seed);
        let mut script = |send, expect, role| Script {
            send,
            expect,
            write: 1 + random.below(10_000) as u32,
            lazy: self.lazy,
            role,
        };
        let client = script(self.there, self.back, self.roles[0]);
        let server = script(self.back, self.there, self.roles[1]);
        let first = station(config(1), client.clone(), self.seed ^ 1);
        let second = station(config(2), server, self.seed ^ 2);
        let mut network = Network::new(first, second, &self.faults, self.seed, START);
        network.second.host.engine.listen(80).unwrap();
        for _ in 0..CONNECTIONS {
            let EngineStation { host, app } = &mut network.first;
            app.connect(host, server_endpoint(), client.clone())
                .unwrap();
        }
        if let Err(description) = network.run(3_600_000_000_000) {
            panic!("seed {}: stuck {description}", self.seed);
        }
        for (station, verified) in [(&network.first, self.back), (&network.second, self.there)] {
            let app = &station.app;
            assert_eq!(
                (app.connected, app.failed),
                (CONNECTIONS, 0),
                "{}",
                network.describe()
            );
            assert_eq!(app.verified, CONNECTIONS * verified);
            check_that_all_came_back(&station.host);
        }
    }
}

fn server_endpoint() -> Endpoint {
    Endpoint {
        address: Ipv4Addr::new(10, 0, 0, 2).into(),
        port: 80,
    }
}

#[test]
fn perfect_wire_carries_everything() {
    for (seed, roles) in ROLES.into_iter().enumerate() {
        for (there, back, lazy) in [(300_000, 200_000, 0), (0, 100, 0), (64, 64, 500)] {
            Exchange {
                seed: seed as u64,
                faults: Faults {
                    delay: 50_000,
                    ..Faults::default()
                },
                there,
                back,
                roles,
                lazy,
            }
            .run();
        }
    }
}

#[test]
fn perfect_wire_needs_no_retransmission() {
    let script = |send, expect, role| Script {
        send,
        expect,
        write: 20_000,
        lazy: 0,
        role,
    };
    let client = script(1_000_000, 0, Role::Closes);
    let first = station(config(1), client.clone(), 1);
    let second = station(config(2), script(0, 1_000_000, Role::Follows), 2);
    let faults = Faults {
        delay: 100_000,
        ..Faults::default()
    };
    let mut network = Network::new(first, second, &faults, 5, START);
    network.second.host.engine.listen(80).unwrap();
    let EngineStation { host, app } = &mut network.first;
    app.connect(host, server_endpoint(), client).unwrap();
    network.run(10_000_000_000).unwrap();
    let counters = network.first.host.engine.counters();
    assert_eq!(counters.tcp_retransmits, 0, "{}", network.describe());
    assert_eq!(counters.tcp_duplicate_acks, 0);
    let span = network.now.0 - START.0;
    assert!(span < 6_000_000, "1 MB took {} us", span / 1000);
}

#[test]
fn faulty_wire_carries_everything() {
    for seed in 0..support::seeds(200) {
        let mut random = Random::new(seed);
        Exchange {
            seed,
            faults: some_faults(&mut random),
            there: random.below(100_000),
            back: random.below(100_000),
            roles: ROLES[seed as usize % 4],
            lazy: random.below(900) as u32,
        }
        .run();
    }
}

/// A connection that sends `bytes` over a link, and the engine that does.
fn sender(bytes: u64, faults: &Faults) -> Network<EngineStation, EngineStation> {
    let script = |send, expect, role| Script {
        send,
        expect,
        write: 20_000,
        lazy: 0,
        role,
    };
    let client = script(bytes, 0, Role::Closes);
    let first = station(config(1), client.clone(), 1);
    let second = station(config(2), script(0, bytes, Role::Follows), 2);
    let mut network = Network::new(first, second, faults, 5, START);
    network.second.host.engine.listen(80).unwrap();
    let EngineStation { host, app } = &mut network.first;
    app.connect(host, server_endpoint(), client).unwrap();
    network
}

#[test]
fn link_that_eats_long_frames_is_found_out() {
    for (longest, steps) in [(1450, 1), (1300, 2), (1100, 3), (600, 4)] {
        let faults = Faults {
            longest,
            delay: 100_000,
            ..Faults::default()
        };
        let mut network = sender(2_000_000, &faults);
        network.run(60_000_000_000).unwrap();
        let counters = network.first.host.engine.counters();
        assert_eq!(counters.tcp_black_holes_suspected, 1, "{longest}");
        assert_eq!(counters.tcp_size_probes_failed, 1, "{longest}");
        // A timeout before the suspicion, and one for each step; none for the probe.
        assert_eq!(counters.tcp_timeouts, 1 + steps, "{longest}");
        // What was learnt serves the next connection to the same peer.
        let EngineStation { host, app } = &mut network.first;
        let again = Script {
            send: 2_000_000,
            expect: 0,
            write: 20_000,
            lazy: 0,
            role: Role::Closes,
        };
        app.connect(host, server_endpoint(), again).unwrap();
        network.run_for(5_000_000_000);
        let counters = network.first.host.engine.counters();
        assert_eq!(counters.tcp_timeouts, 1 + steps, "{longest}");
    }
}

#[test]
fn outage_does_not_leave_short_segments_behind() {
    let faults = Faults {
        delay: 100_000,
        ..Faults::default()
    };
    let mut network = sender(4_000_000, &faults);
    network.run_for(2_000_000);
    let silence = Faults {
        loss: 1000,
        ..Faults::default()
    };
    let links = [7, 8].map(|seed| ix_net::testing::Link::new(silence.clone(), seed));
    [network.there, network.back] = links;
    network.run_for(900_000_000);
    let links = [9, 10].map(|seed| ix_net::testing::Link::new(faults.clone(), seed));
    [network.there, network.back] = links;
    network.run(60_000_000_000).unwrap();
    let counters = network.first.host.engine.counters();
    assert_eq!(counters.tcp_black_holes_suspected, 1);
    assert_eq!(counters.tcp_size_probes_passed, 1);
    assert_eq!(counters.tcp_size_probes_failed, 0);
}

#[test]
fn vanished_peer_is_given_up_and_its_memory_comes_back() {
    let script = Script {
        send: 100_000,
        expect: 100_000,
        write: 5000,
        lazy: 100,
        role: Role::Closes,
    };
    for seed in 0..20 {
        let first = station(config(1), script.clone(), seed);
        let second = station(config(2), script.clone(), seed);
        let faults = Faults {
            delay: 1_000_000,
            ..Faults::default()
        };
        let mut network = Network::new(first, second, &faults, seed, START);
        network.second.host.engine.listen(80).unwrap();
        for _ in 0..CONNECTIONS {
            let EngineStation { host, app } = &mut network.first;
            app.connect(host, server_endpoint(), script.clone())
                .unwrap();
        }
        network.run_for(1_000_000 * (1 + seed));
        let silence = Faults {
            loss: 1000,
            ..Faults::default()
        };
        network.there = ix_net::testing::Link::new(silence.clone(), seed);
        network.back = ix_net::testing::Link::new(silence, seed);
        // Sixty times the longest timeout of all.
        let outcome = network.run(7_200_000_000_000);
        assert!(outcome.is_ok(), "seed {seed}: {}", network.describe());
        for station in [&network.first, &network.second] {
            check_that_all_came_back(&station.host);
            assert_eq!(station.host.engine.free_send_records(), RECORDS);
        }
    }
}
