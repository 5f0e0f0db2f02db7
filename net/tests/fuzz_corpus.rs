//! Replays the corpus of the fuzz targets (`fuzz/corpus`), and some noise, on the stable toolchain; and
//! checks how far the corpus gets, so that the targets are known to reach what they are for.

use std::collections::BTreeMap;
use std::path::Path;

use ix_net::testing::{FuzzMode, Random, fuzz};

const TARGETS: [(&str, FuzzMode); 3] = [
    ("frames", FuzzMode::Frames),
    ("calls", FuzzMode::Calls),
    ("segments", FuzzMode::Segments),
];

/// Counters that every corpus moves.
const REACHED: [&str; 8] = [
    "IxArpInRequests",
    "IpInReceives",
    "IcmpInMsgs",
    "Ip6InReceives",
    "Icmp6InMsgs",
    "Icmp6InNeighborSolicits",
    "UdpInDatagrams",
    "TcpInSegs",
];
/// Counters that those with calls move too.
const REACHED_WITH_CALLS: [&str; 4] = [
    "TcpActiveOpens",
    "UdpOutDatagrams",
    "TcpOutRsts",
    "IxTcpHandshakeTimeouts",
];
/// Counters that the one with segments moves: connections open, move data, lose it, recover and close.
const REACHED_WITH_SEGMENTS: [&str; 22] = [
    "TcpActiveOpens",
    "TcpPassiveOpens",
    "TcpExtTCPHPHits",
    "TcpRetransSegs",
    "TcpExtTCPTimeouts",
    "IxTcpFastRecoveries",
    "TcpExtTCPFastRetrans",
    "TcpExtTCPLossProbes",
    "TcpExtTCPDSACKRecv",
    "TcpExtTCPOFOQueue",
    "TcpExtOfoPruned",
    "TcpExtTCPWinProbe",
    "TcpExtPAWSEstab",
    "TcpExtTCPChallengeACK",
    "TcpExtSyncookiesSent",
    "TcpExtTCPAbortOnTimeout",
    "TcpExtTCPAbortOnData",
    "TcpExtTCPAbortOnClose",
    "IxTcpEcnReductions",
    "TcpEstabResets",
    "TcpExtTW",
    "IxTcpSendRecordsExhausted",
];

/// Runs every input of a target; returns the counters' sums by name.
fn replay(target: &str, mode: FuzzMode) -> BTreeMap<&'static str, u64> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let folder = folder.join(target);
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let mut sums = BTreeMap::new();
    for entry in entries {
        let path = entry.expect("a folder entry").path();
        println!("{}", path.display());
        let input = std::fs::read(&path).expect("a readable input");
        for (name, count) in fuzz(mode, &input).iter() {
            *sums.entry(name).or_default() += count;
        }
    }
    sums
}

#[test]
fn the_corpus_holds_and_reaches_what_it_is_for() {
    for (target, mode) in TARGETS {
        let sums = replay(target, mode);
        let reached = match mode {
            FuzzMode::Frames => REACHED.to_vec(),
            FuzzMode::Calls => [&REACHED[..], &REACHED_WITH_CALLS].concat(),
            FuzzMode::Segments => REACHED_WITH_SEGMENTS.to_vec(),
        };
        let moved = sums.iter().filter(|(_, count)| **count != 0);
        println!("{target}: {:?}", moved.collect::<Vec<_>>());
        let missing: Vec<_> = reached.iter().filter(|name| sums[**name] == 0).collect();
        assert!(missing.is_empty(), "{target} does not reach {missing:?}");
    }
}

#[test]
fn noise_holds() {
    for (target, mode) in TARGETS {
        for seed in 0..300 {
            println!("{target}, seed {seed}");
            let random = &mut Random::new(seed);
            let len = 1 + random.below(3000);
            let noise: Vec<u8> = (0..len).map(|_| random.word() as u8).collect();
            fuzz(mode, &noise);
        }
    }
}
