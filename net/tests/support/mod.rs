//! What the simulations share.

#![allow(dead_code, reason = "each test file uses its part")]

use core::net::{Ipv4Addr, Ipv6Addr};
use ix_hal::Instant;
use ix_net::testing::{App, EngineStation, Faults, Host, Random, Script};
use ix_net::{Config, Ipv6Config};

/// When simulations start: not at zero.
pub const START: Instant = Instant(1 << 40);
/// Send records of each engine.
pub const RECORDS: u32 = 2048;

/// The IPv6 address of a host.
pub fn ipv6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())
}

/// The configuration of host 10.0.0.`last` and fd00::`last`: small tables, so that they fill.
pub fn config(last: u8) -> Config {
    Config {
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Ipv4Addr::new(10, 0, 0, last),
        ipv6: Some(Ipv6Config {
            address: Some(ipv6(last)),
            // Nobody waits.
            duplicate_probes: 0,
            ..Ipv6Config::default()
        }),
        secret: [last; 16],
        connections: 64,
        half_open: 32,
        time_wait: 64,
        neighbors: 8,
        send_fragments: RECORDS,
        mbufs: 1024,
        mbufs_held: 900,
        out_of_order: 512,
        rx_window: 64 << 10,
        send_limit: 64 << 10,
        ..Config::default()
    }
}

/// An engine whose accepted connections follow `script`.
pub fn station(config: Config, script: Script, seed: u64) -> EngineStation {
    let mut host = Host::new(config, START, 1 << 18);
    let app = App::new(&mut host, script, seed);
    EngineStation { host, app }
}

/// Faults of every kind, at random.
pub fn some_faults(random: &mut Random) -> Faults {
    Faults {
        loss: random.below(100) as u32,
        duplication: random.below(50) as u32,
        marking: random.below(50) as u32,
        corruption: random.below(30) as u32,
        reordering: random.below(100) as u32,
        delay: random.below(5_000_000),
        jitter: random.below(1_000_000),
        reorder_delay: random.below(10_000_000),
        ..Faults::default()
    }
}

/// How many seeds to run: `default`, or what `IX_SIM_SEEDS` says.
pub fn seeds(default: u64) -> u64 {
    match std::env::var("IX_SIM_SEEDS") {
        Ok(text) => text.parse().expect("IX_SIM_SEEDS is a number of seeds"),
        Err(_) => default,
    }
}

/// Nothing may be left behind once every connection has ended.
pub fn check_that_all_came_back(host: &Host) {
    assert_eq!(host.mbufs_out(), 0, "mbufs not returned");
    assert_eq!(host.engine.connections(), 0, "connections not released");
    assert_eq!(
        host.engine.free_send_records(),
        RECORDS,
        "records not released"
    );
}
