//! What simulations have to meet: each of these by some seed, or the seeds prove less than they seem to.

use super::{EngineStation, Incident, Network, Scenario};
use crate::Counters;
use alloc::vec;
use alloc::vec::Vec;

/// A name, and whether it was met.
pub type Condition = (&'static str, bool);

/// Every condition, in the order in which they are printed, and which of them a simulation met.
pub(crate) fn conditions(
    scenario: &Scenario,
    network: &Network<EngineStation, EngineStation>,
) -> Vec<Condition> {
    let mut all = of_the_wire(scenario, network);
    all.extend(of_the_surroundings(scenario, network));
    all.extend(of_the_engines(network));
    all
}

fn of_the_wire(
    scenario: &Scenario,
    network: &Network<EngineStation, EngineStation>,
) -> Vec<Condition> {
    let links = [&network.there, &network.back];
    let any = |met: fn(&super::Link) -> bool| links.into_iter().any(met);
    let faults = &scenario.faults;
    vec![
        ("a wire without faults", faults.is_perfect()),
        ("loss", any(|link| link.tally.lost != 0)),
        ("10 % loss", faults.loss == 100),
        ("duplication", any(|link| link.tally.duplicated != 0)),
        ("corruption", any(|link| link.tally.corrupted != 0)),
        ("reordering", any(|link| link.tally.reordered != 0)),
        ("congestion marks", any(|link| link.tally.marked != 0)),
        ("delay above 100 ms", faults.delay > 100_000_000),
        ("jitter above the delay", faults.jitter > faults.delay),
    ]
}

fn of_the_surroundings(
    scenario: &Scenario,
    network: &Network<EngineStation, EngineStation>,
) -> Vec<Condition> {
    let incident = scenario.incident;
    let has_mtu =
        |range: core::ops::RangeInclusive<u16>| scenario.mtu.iter().any(|mtu| range.contains(mtu));
    let least_window = scenario.rx_window[0].min(scenario.rx_window[1]);
    vec![
        ("IPv4", !scenario.is_ipv6),
        ("IPv6", scenario.is_ipv6),
        ("an MTU of 576 to 600", has_mtu(576..=600)),
        ("an MTU of 1400 to 1500", has_mtu(1400..=1500)),
        ("an MTU of 9000", has_mtu(9000..=9000)),
        ("a window below one segment", least_window < 500),
        ("sequence numbers wrap", network.wraps() != 0),
        (
            "the clock jumps",
            matches!(incident, Incident::ClockJump { .. }),
        ),
        ("the wire is cut", matches!(incident, Incident::Cut { .. })),
        (
            "the peer aborts",
            matches!(incident, Incident::Abort { .. }),
        ),
        (
            "the peer restarts",
            matches!(incident, Incident::Restart { .. }),
        ),
    ]
}

fn of_the_engines(network: &Network<EngineStation, EngineStation>) -> Vec<Condition> {
    let counters = [&network.first, &network.second].map(|station| station.host.engine.counters());
    let any =
        |count: fn(&Counters) -> u64| counters.into_iter().any(|counters| count(counters) != 0);
    let checksums =
        |c: &Counters| c.rx_bad_checksum + c.tcp_in_checksum_errors + c.ip_in_checksum_errors;
    vec![
        ("wrong checksums are found", any(checksums)),
        ("the fast path is taken", any(|c| c.tcp_header_prediction)),
        ("a retransmission timeout", any(|c| c.tcp_timeouts)),
        ("a fast recovery", any(|c| c.tcp_fast_recoveries)),
        ("a tail loss probe", any(|c| c.tcp_loss_probes)),
        (
            "a loss repaired by one",
            any(|c| c.tcp_loss_probe_recoveries),
        ),
        ("a duplicate reported", any(|c| c.tcp_dsack_received)),
        ("segments kept out of order", any(|c| c.tcp_ofo_queued)),
        ("a window is shut and probed", any(|c| c.tcp_window_probes)),
        ("a window update", any(|c| c.tcp_window_updates)),
        ("no buffer for payload", any(|c| c.tcp_rcv_dropped)),
        ("segments out of order give way", any(|c| c.tcp_ofo_pruned)),
        ("no send record", any(|c| c.tcp_send_records_exhausted)),
        ("a large frame", any(|c| c.tcp_large_frames)),
        ("a part of one is sacked", any(|c| c.tcp_sack_cuts)),
        (
            "a part of one is repeated uncut",
            any(|c| c.tcp_uncut_retransmits),
        ),
        ("a SYN cookie completes", any(|c| c.tcp_cookies_received)),
        ("an old timestamp (PAWS)", any(|c| c.tcp_paws_rejected)),
        ("a challenge acknowledgement", any(|c| c.tcp_challenge_acks)),
        ("a mark is echoed", any(|c| c.tcp_ecn_reductions)),
        ("a keepalive probe", any(|c| c.tcp_keepalives)),
        ("a peer is given up", any(|c| c.tcp_aborts_on_timeout)),
        ("a neighbour is lost", any(|c| c.arp_failures)),
        ("TIME-WAIT", any(|c| c.tcp_time_waits)),
    ]
}
