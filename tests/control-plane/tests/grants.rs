//! Hardware threads that come and go, and flow groups that are moved by hand, under traffic.

use std::fs;
use std::process::Stdio;

use ix_control_plane_tests::ControlPlane;
use serde_json::Value;

/// Commands that change who serves what.
const COMMANDS: usize = 200;
/// Elastic threads of the dataplane.
const THREADS: usize = 4;
/// More messages than the load generator can exchange meanwhile.
const ENDLESS: &str = "1000000000";

/// Numbers that look random (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

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

/// The client verifies every byte, and ends at the first wrong one, a reset, or a silence.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn hardware_threads_come_and_go_under_verified_load() {
    let plane = ControlPlane::start("");
    let definition = plane.folder().with_file_name("e.toml");
    let text = format!("name = 'e'\napp = 'echo'\nthreads = {THREADS}\ngranted = 1\n");
    fs::write(&definition, text).unwrap();
    plane.done(&["run", definition.to_str().unwrap()]);
    let netns = plane.view("e").unwrap()["netns"]
        .as_str()
        .unwrap()
        .to_owned();
    let words = |messages| {
        let echo = ["echo", "--connect", "10.9.0.2:7", "--connections", "64"];
        [&echo[..], &["--size", "3000", "--messages", messages]].concat()
    };
    let mut load = plane
        .load(&netns, &words(ENDLESS))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut random = Random(4);
    for number in 0..COMMANDS {
        command_something(&plane, &mut random);
        if let Some(status) = load.try_wait().unwrap() {
            let said = std::io::read_to_string(load.stderr.take().unwrap()).unwrap();
            panic!("after command {number} the load ended, {status}: {said}");
        }
    }
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
