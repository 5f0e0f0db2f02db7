//! Explicit congestion notification (RFC 3168) between the engine and Linux: negotiated whoever asks, used
//! on a wire that marks, in both directions, and looked at where the wire is.

use ix_linux_peer::stream::Ends;
use ix_linux_peer::transfer::{Opens, exchange, script};
use ix_linux_peer::{Path, Station};
use ix_net::testing::Role;
use ix_net::{Config, Ecn};

const BYTES: u64 = 8 << 20;

/// Marks that many of 1000 packets, and loses none.
fn marking(marks: u32) -> Path {
    Path {
        marks,
        ..Path::lossy(0.0, 3)
    }
}

/// Exchanges streams with a Linux that asks for ECN, or only agrees to it.
fn exchange_with(linux_asks: bool, opens: Opens, ecn: Ecn, path: Path) -> Station {
    let config = Config {
        ecn,
        ..Config::default()
    };
    let mut station = Station::with_config(path, config);
    let policy = if linux_asks { "1" } else { "2" };
    station.wire.linux().set("tcp_ecn", policy);
    let script = script(BYTES, BYTES, Role::ShutsDown);
    exchange(&mut station, opens, &script, Ends::First);
    station
}

/// The bits of the SYN and of the answer.
fn handshake(station: &Station, opens: Opens) -> [(bool, bool); 2] {
    let bits = |syn: &Option<ix_linux_peer::SynOptions>| syn.expect("a SYN was seen").ecn;
    let (linux, engine) = (&station.from_linux.syn, &station.from_engine.syn);
    match opens {
        Opens::Linux => [bits(linux), bits(engine)],
        Opens::Engine => [bits(engine), bits(linux)],
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn ecn_is_negotiated_whoever_asks() {
    for (linux_asks, opens, ecn) in [
        (true, Opens::Linux, Ecn::Accept),
        (false, Opens::Engine, Ecn::Request),
    ] {
        let station = exchange_with(linux_asks, opens, ecn, Path::default());
        // A SYN asks with both bits, its answer agrees with ECE alone.
        assert_eq!(handshake(&station, opens), [(true, true), (true, false)]);
        for tally in [&station.from_linux, &station.from_engine] {
            assert!(tally.ecn_capable > BYTES / 1500, "{opens:?}: {tally:?}");
            assert_eq!(tally.ecn_capable_empty, 0, "{opens:?}: {tally:?}");
            assert_eq!(
                (tally.ecn_echoes, tally.ecn_reductions),
                (0, 0),
                "{opens:?}"
            );
        }
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn without_both_sides_nothing_is_capable() {
    for (linux_asks, opens, ecn) in [
        (true, Opens::Linux, Ecn::Off),
        (false, Opens::Engine, Ecn::Accept),
    ] {
        let station = exchange_with(linux_asks, opens, ecn, marking(500));
        for tally in [&station.from_linux, &station.from_engine] {
            assert_eq!((tally.ecn_capable, tally.ecn_echoes), (0, 0), "{opens:?}");
        }
        assert_eq!(station.wire.tap.marked, 0);
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn marks_are_echoed_and_answered_both_ways() {
    for (linux_asks, opens, ecn) in [
        (true, Opens::Linux, Ecn::Accept),
        (false, Opens::Engine, Ecn::Request),
    ] {
        let station = exchange_with(linux_asks, opens, ecn, marking(10));
        let (linux, engine) = (&station.from_linux, &station.from_engine);
        let counters = station.host.engine.counters();
        let host = station.wire.linux();
        // What Linux sent marked, the engine saw and echoed, and Linux reduced its window for it.
        assert!(linux.ecn_marked > 0, "{opens:?}: {linux:?}");
        assert_eq!(counters.tcp_in_marked, linux.ecn_marked, "{opens:?}");
        assert!(engine.ecn_echoes > 0, "{opens:?}: {engine:?}");
        assert!(linux.ecn_reductions > 0, "{opens:?}: {linux:?}");
        // And the other way round.
        let to_linux = station.wire.tap.marked - linux.ecn_marked;
        assert!(to_linux > 0, "{opens:?}");
        assert_eq!(host.counter("IpExt", "InCEPkts"), to_linux, "{opens:?}");
        assert!(linux.ecn_echoes > 0, "{opens:?}: {linux:?}");
        assert!(counters.tcp_ecn_reductions > 0, "{opens:?}");
        assert!(engine.ecn_reductions > 0, "{opens:?}: {engine:?}");
        // Each reduction is announced once, and at most once per mark.
        assert_eq!(
            engine.ecn_reductions, counters.tcp_ecn_reductions,
            "{opens:?}"
        );
        assert!(counters.tcp_ecn_reductions <= to_linux, "{opens:?}");
        // Marks took the place of losses. (A probe may be sent again where Linux is held up.)
        assert_eq!(counters.tcp_fast_recoveries, 0, "{opens:?}");
        assert_eq!(engine.ecn_capable_empty, 0, "{opens:?}: {engine:?}");
        println!(
            "{opens:?} opens: {to_linux} marks to Linux, {} reductions of the engine; {} marks to the \
             engine, {} of Linux",
            counters.tcp_ecn_reductions, linux.ecn_marked, linux.ecn_reductions
        );
    }
}
