//! Linux's TCP where nothing may be taken for lost that is merely late: on a host with fewer processors
//! than the machine has, virtual ones stand still now and then. What is sent again all the same has been
//! lost or reordered. Both are about the network namespace of the calling thread.

use std::fs;
use std::process::Command;

/// Least time before a segment is sent again, for both ends.
pub const RTO_MIN_SECS: u64 = 10;

/// Lets Linux wait for [`RTO_MIN_SECS`], and probe no tail earlier, as it does with SACK. Connections that
/// are there already stay as they are.
pub fn be_patient() {
    fs::write("/proc/sys/net/ipv4/tcp_sack", "0").expect("switch SACK off");
    let run = |words: &[&str]| {
        let output = Command::new("ip").arg("route").args(words).output();
        let output = output.expect("run ip");
        assert!(output.status.success(), "ip route {words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("routes are text")
    };
    let rto_min = format!("{RTO_MIN_SECS}s");
    for route in run(&["show"]).lines() {
        let words = ["change"].into_iter().chain(route.split_whitespace());
        let words: Vec<_> = words.chain(["rto_min", &rto_min]).collect();
        run(&words);
    }
}

/// Segments that Linux has sent again.
pub fn retransmitted_segments() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").expect("Linux counts");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs
        .find(|(name, _)| *name == "RetransSegs")
        .expect("RetransSegs");
    value.parse().expect("a number")
}
