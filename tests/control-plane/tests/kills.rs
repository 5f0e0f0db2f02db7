//! Somebody dies at a random moment, again and again: the others report it, go on or clean up, nothing
//! is left behind, and the next start works.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use ix_control_plane_tests::processes::{self, Process};
use ix_control_plane_tests::{ControlPlane, wait_until};
use serde_json::Value;

/// Deaths, unless the variable says otherwise; `cargo xtask test --full` asks for 50.
const KILLS: u64 = 10;
const KILLS_VARIABLE: &str = "IX_KILLS";
/// The longest time after a start, and after the first load, at which somebody is killed.
const MOMENT_MS: u64 = 1_500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Daemon,
    Keeper,
    Machine,
    Card,
    Client,
}

const VICTIMS: [Victim; 5] = [
    Victim::Daemon,
    Victim::Keeper,
    Victim::Machine,
    Victim::Card,
    Victim::Client,
];

/// Numbers that look random, the same ones each time (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
#[ignore = "boots machines: cargo xtask test boot"]
fn whoever_is_killed_at_whatever_moment_leaves_nothing() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |text| text.parse().unwrap());
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut plane = ControlPlane::start("");
    for kill in 0..kills {
        // Each in turn, half of them while the machine comes up.
        let victim = VICTIMS[(kill % VICTIMS.len() as u64) as usize];
        let is_early = victim != Victim::Client && random.below(2) == 0;
        // More often soon, when most happens.
        let latest = 1 + random.below(MOMENT_MS);
        let moment = Duration::from_millis(random.below(latest));
        println!("kill {kill}: {victim:?}, early: {is_early}, after {moment:?}");
        plane.done(&["run", "echo", "--name", "k", "--no-wait", "--", "7"]);
        let mut client = None;
        if !is_early {
            wait_for_state(&plane, "running");
            client = Some(load(&plane));
        }
        thread::sleep(moment);
        round(&mut plane, victim, client);
    }
}

/// Kills the victim, sees that the others do what they should, and stops what is left.
fn round(plane: &mut ControlPlane, victim: Victim, client: Option<Child>) {
    let all = owned(plane);
    match victim {
        Victim::Daemon => {
            plane.kill_daemon();
            let mut lasting = all.iter().filter(|it| is_part(it));
            assert!(lasting.all(Process::is_alive), "{all:?}");
            assert!(find(&all, "ixcpd").is_alive(), "{all:?}");
            plane.start_daemon();
            wait_for_state(plane, "running");
            assert_serves(plane);
        }
        Victim::Client => {}
        Victim::Keeper => {
            find(&all, "ixcpd").kill();
            assert!(ended(plane).contains("keeper was killed"));
        }
        // Early enough, and it is not there yet: then the daemon has nothing to report, and it comes up.
        Victim::Machine => kill_part(plane, &all, "qemu"),
        Victim::Card => kill_part(plane, &all, "ixnicd"),
    }
    if let Some(mut client) = client {
        client.kill().unwrap();
        client.wait().unwrap();
    }
    if victim == Victim::Client {
        assert_serves(plane);
    }
    let keepers = processes::keepers(&plane.folder());
    let last = [all, owned(plane)].concat();
    plane.done(&["stop", "k"]);
    wait_until("all processes are gone", || {
        !last.iter().any(Process::is_alive) && owned(plane).is_empty()
    });
    for keeper in keepers {
        assert_nothing_of(&keeper, plane);
    }
}

fn kill_part(plane: &ControlPlane, all: &[Process], name: &str) {
    let mut parts = all.iter().filter(|it| is_part(it));
    let Some(part) = parts.find(|it| it.name.starts_with(name)) else {
        wait_for_state(plane, "running");
        return assert_serves(plane);
    };
    part.kill();
    let how = ended(plane);
    let reported = match name {
        "qemu" => "QEMU",
        _ => "the NIC model",
    };
    assert!(how.contains(reported), "{name} was killed: {how}");
}

/// Whether it lasts as long as the machine, unlike the tools that put it together, or the QEMU that only
/// tries whether KVM works.
fn is_part(process: &Process) -> bool {
    process.command_line.contains("nic.sock")
}

/// The keeper and all that it has started.
fn owned(plane: &ControlPlane) -> Vec<Process> {
    let keepers = processes::keepers(&plane.folder());
    let children: Vec<Process> = keepers.iter().flat_map(processes::children).collect();
    [keepers, children].concat()
}

fn find<'a>(all: &'a [Process], name: &str) -> &'a Process {
    let found = all.iter().find(|it| it.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {all:?}"))
}

fn view(plane: &ControlPlane) -> Value {
    plane.view("k").expect("it is still known")
}

fn wait_for_state(plane: &ControlPlane, state: &str) {
    wait_until(state, || view(plane)["state"] == state);
}

/// Waits until the daemon says that it has ended, and how.
fn ended(plane: &ControlPlane) -> String {
    wait_for_state(plane, "ended");
    view(plane)["ended"].as_str().unwrap().to_owned()
}

fn load(plane: &ControlPlane) -> Child {
    let netns = view(plane)["netns"].as_str().unwrap().to_owned();
    let words = [
        "echo",
        "--connect",
        "10.9.0.2:7",
        "--connections",
        "4",
        "--messages",
    ];
    let mut load = plane.load(&netns, &[&words[..], &["100000000"]].concat());
    load.stdin(Stdio::null()).spawn().unwrap()
}

fn assert_serves(plane: &ControlPlane) {
    let netns = view(plane)["netns"].as_str().unwrap().to_owned();
    let words = [
        "echo",
        "--connect",
        "10.9.0.2:7",
        "--connections",
        "2",
        "--messages",
        "10",
    ];
    // A machine that has just come up may still be asked who it is.
    wait_until("it serves", || {
        plane.load(&netns, &words).status().unwrap().success()
    });
}

/// Machines are called after their keeper.
fn assert_nothing_of(keeper: &Process, plane: &ControlPlane) {
    let prefix = format!("ix-{}-", keeper.pid);
    for folder in ["/run/netns", "/run/ix"] {
        let left: Vec<String> = names(Path::new(folder))
            .into_iter()
            .filter(|name| name.starts_with(&prefix))
            .collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    let left = names(&plane.folder().join("dataplanes"));
    assert!(left.is_empty(), "{left:?}");
    assert!(
        names(&plane.folder())
            .iter()
            .all(|name| { ["lock", "ixcpd.sock", "dataplanes"].contains(&name.as_str()) })
    );
}

fn names(folder: &Path) -> Vec<String> {
    // A folder that is not there holds nothing.
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
