//! Hardware threads that come and go, and flow groups that are moved by hand, under traffic.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use ix_control_plane_tests::{ControlPlane, wait_until};
use ix_machine::Netns;
use ix_tests::Random;
use ix_tests::patience::{self, RTO_MIN_SECS};
use serde_json::Value;

/// Commands that change who serves what.
const COMMANDS: usize = 200;
/// Connections that exchange messages all the while.
const CONNECTIONS: u64 = 64;
/// Elastic threads of the dataplane.
const THREADS: usize = 4;
/// More messages than the load generator can exchange meanwhile.
const ENDLESS: &str = "1000000000";

/// The elastic threads of the dataplane that have a hardware thread, with its number.
fn granted(plane: &ControlPlane) -> Vec<(usize, u64)> {
    let view = plane.view("e").expect("it is there");
    let cores = view["cores"].as_array().expect("a list").iter();
    let cores = cores.enumerate();
    let cores = cores.filter_map(|(thread, core)| Some((thread, core.as_u64()?)));
    cores.collect()
}

/// Grants, revokes or migrates.
fn command_something(plane: &ControlPlane, random: &mut Random) {
    let granted = granted(plane);
    match random.below(3) {
        0 if granted.len() < THREADS => {
            let more = 1 + random.below(THREADS - granted.len());
            plane.done(&["grant", "e", &more.to_string()]);
        }
        1 if granted.len() > 1 => {
            // The first thread serves always.
            let (_, core) = granted[1 + random.below(granted.len() - 1)];
            plane.done(&["revoke", "e", "--core", &core.to_string()]);
        }
        _ => {
            let (to, _) = granted[random.below(granted.len())];
            let first = random.below(128);
            let last = first + random.below(128 - first);
            let groups = format!("{first}-{last}");
            plane.done(&["migrate", "e", &groups, "--to", &to.to_string()]);
        }
    }
}

/// Segments sent again so far, by the dataplane and by Linux. Threads report about once in a millisecond.
fn retransmits(plane: &ControlPlane, netns: &str) -> (u64, u64) {
    std::thread::sleep(Duration::from_secs(1));
    let by_dataplane = sum_of_threads(plane, |thread| thread["retransmits"].as_u64());
    let by_linux = Netns::named(netns).run(patience::retransmitted_segments);
    (by_dataplane, by_linux.expect("the namespace is there"))
}

fn sum_of_threads(plane: &ControlPlane, number: impl Fn(&Value) -> Option<u64>) -> u64 {
    let stats = plane.json(&["stats", "e"]);
    let threads = stats["threads"].as_array().expect("a list").iter();
    threads.map(|it| number(it).expect("a number")).sum()
}

/// The client verifies every byte, and ends at the first wrong one, a reset, or a silence.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn hardware_threads_come_and_go_under_verified_load() {
    let plane = ControlPlane::start("");
    let definition = plane.folder().with_file_name("e.toml");
    let text = format!(
        "name = 'e'\napp = 'echo'\nthreads = {THREADS}\ngranted = 1\n\
         [kernel]\nrto_min_us = '{}'\n",
        RTO_MIN_SECS * 1_000_000
    );
    fs::write(&definition, text).unwrap();
    plane.done(&["run", definition.to_str().unwrap()]);
    let netns = plane.view("e").unwrap()["netns"]
        .as_str()
        .unwrap()
        .to_owned();
    Netns::named(&netns).run(patience::be_patient).unwrap();
    let words = |messages| {
        let connections = CONNECTIONS.to_string();
        let echo = [
            "echo",
            "--connect",
            "10.9.0.2:7",
            "--connections",
            &connections,
        ];
        let words = [&echo[..], &["--size", "3000", "--messages", messages]].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut load = plane
        .load(&netns, &words(ENDLESS))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("all connections are open", || {
        let open = |thread: &Value| thread["connections"].as_u64();
        sum_of_threads(&plane, open) == CONNECTIONS
    });
    let before = retransmits(&plane, &netns);
    let mut random = Random(4);
    for number in 0..COMMANDS {
        command_something(&plane, &mut random);
        if let Some(status) = load.try_wait().unwrap() {
            let said = std::io::read_to_string(load.stderr.take().unwrap()).unwrap();
            panic!("after command {number} the load ended, {status}: {said}");
        }
    }
    let after = retransmits(&plane, &netns);
    assert_eq!(after, before, "sent again by the dataplane, and by Linux");
    let came = sum_of_threads(&plane, |thread| thread["migrated_in"].as_u64());
    let went = sum_of_threads(&plane, |thread| thread["migrated_out"].as_u64());
    assert!(
        came == went && came > CONNECTIONS,
        "{came} came, {went} went"
    );
    load.kill().unwrap();
    load.wait().unwrap();
    let status = plane.load(&netns, &words("640")).status();
    assert!(status.unwrap().success(), "after all commands");
    for (_, core) in granted(&plane).split_off(1) {
        plane.done(&["revoke", "e", "--core", &core.to_string()]);
    }
    let groups = plane.json(&["groups", "e"]);
    let owners: Vec<&Value> = groups
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["thread"])
        .collect();
    assert!(owners.iter().all(|owner| **owner == 0), "{owners:?}");
    plane.done(&["stop", "e"]);
}
