//! The engine against Linux's TCP over IPv6.

use std::time::Duration;

use ix_linux_peer::stream::Ends;
use ix_linux_peer::transfer::{Opens, bulk_bytes, close_in_each_order, exchange, goodput, script};
use ix_linux_peer::{Path, Station};
use ix_net::testing::Role;

const MIB: u64 = 1 << 20;

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn the_options_are_negotiated_over_ipv6_whoever_opens() {
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::over_ipv6(Path::default());
        let script = script(100_000, 100_000, Role::Follows);
        exchange(&mut station, opens, &script, Ends::First);
        for tally in [&station.from_linux, &station.from_engine] {
            let syn = tally.syn.expect("a SYN was seen");
            assert_eq!(syn.mss, Some(1440), "{opens:?}");
            assert!(syn.sack_permitted && syn.timestamps, "{opens:?}: {syn:?}");
            assert!(syn.window_scale.is_some(), "{opens:?}: {syn:?}");
            assert_eq!(tally.with_timestamps, tally.segments, "{opens:?}");
            assert_eq!((tally.resets, tally.fins), (0, 1), "{opens:?}");
            assert_eq!(tally.longest, 1500, "{opens:?}");
        }
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn connections_over_ipv6_close_in_each_order() {
    close_in_each_order(&mut Station::over_ipv6(Path::default()));
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn bulk_data_over_ipv6_arrives_intact_both_ways_at_once() {
    let bytes = bulk_bytes();
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::over_ipv6(Path::default());
        let script = script(bytes, bytes, Role::ShutsDown);
        let time = exchange(&mut station, opens, &script, Ends::First);
        println!(
            "{opens:?} opens over IPv6, {} MiB each way: {:.0} MiB/s each way",
            bytes / MIB,
            goodput(bytes, time)
        );
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn loss_over_ipv6_is_repaired_both_ways() {
    for (opens, seed) in [(Opens::Linux, 11), (Opens::Engine, 12)] {
        let mut path = Path::lossy(0.01, seed);
        path.delay = Duration::from_millis(1);
        let mut station = Station::over_ipv6(path);
        let script = script(4 * MIB, 4 * MIB, Role::ShutsDown);
        exchange(&mut station, opens, &script, Ends::First);
        let counters = station.host.engine.counters();
        assert!(counters.tcp_retransmits > 0, "{opens:?}");
        assert!(station.from_linux.with_sack > 0, "{opens:?}");
        assert!(station.from_engine.with_sack > 0, "{opens:?}");
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn a_narrow_link_is_heard_of_by_both_ends() {
    let path = Path {
        longest: 1400,
        says_too_big: true,
        ..Path::default()
    };
    for opens in [Opens::Linux, Opens::Engine] {
        let mut station = Station::over_ipv6(path);
        let script = script(2 * MIB, 2 * MIB, Role::ShutsDown);
        exchange(&mut station, opens, &script, Ends::First);
        // No more than what was under way when the first answer came: two initial windows, and what
        // an acknowledgement or two let out.
        let eaten = station.wire.tap.eaten;
        assert!((2..100).contains(&eaten), "{opens:?}: {eaten} too long");
    }
}
