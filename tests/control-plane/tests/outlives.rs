//! `ixctl` and `ixcpd` with a booted dataplane: it is run, seen, found again by a daemon that comes
//! after one that was killed, and stopped, and leaves nothing behind. Needs root, and what
//! `cargo xtask image` builds.

use std::fs;
use std::path::Path;

use ix_control_plane_tests::{ControlPlane, wait_until};
use serde_json::Value;

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_dataplane_outlives_its_daemon_and_leaves_nothing() {
    let mut plane = ControlPlane::start("");
    let run = plane.done(&["run", "echo", "--name", "e", "--threads", "2", "--", "7"]);
    assert!(
        run.starts_with("e serves 10.9.0.2 on 2 hardware threads"),
        "{run}"
    );
    let before = plane.json(&["ps"])[0].clone();
    assert_eq!(before["cores"], serde_json::json!([1, 2]));
    wait_until("both threads report", || {
        let stats = plane.json(&["stats", "e"]);
        let threads = stats["threads"].as_array().unwrap().clone();
        let has_run = |thread: &Value| thread["cycles"].as_u64() > Some(0);
        threads.len() == 2 && threads.iter().all(has_run)
    });
    assert!(plane.done(&["cores"]).contains("e (thread 1)"));
    assert_eq!(plane.json(&["groups", "e"]).as_array().unwrap().len(), 128);
    assert!(plane.done(&["logs", "e"]).contains("ix: serving"));

    let said = plane.refused(&["run", "echo", "--name", "f", "--threads", "6"]);
    assert!(said.contains("5 free: e holds 1, 2"), "{said}");
    assert!(plane.refused(&["grant", "e"]).contains("0 are parked"));
    assert!(
        plane
            .refused(&["revoke", "e", "2"])
            .contains("last hardware thread")
    );

    plane.kill_daemon();
    assert!(is_alive(&before["vm_pid"]) && is_alive(&before["keeper_pid"]));
    let netns = before["netns"].as_str().unwrap();
    let words = ["echo", "--connect", "10.9.0.2:7", "--messages", "10"];
    let load = plane.load(netns, &words).status();
    assert!(load.unwrap().success(), "it serves without a daemon");
    plane.start_daemon();
    wait_until("the dataplane is managed again", || {
        plane.json(&["ps"])[0]["state"] == "running"
    });
    let after = plane.json(&["ps"])[0].clone();
    assert_eq!(
        (&after["vm_pid"], &after["cores"]),
        (&before["vm_pid"], &before["cores"])
    );
    let events = plane.done(&["events"]);
    assert!(events.contains("found, and managed again"), "{events}");

    plane.done(&["stop", "e"]);
    assert_eq!(plane.json(&["ps"]), serde_json::json!([]));
    assert!(!is_alive(&before["vm_pid"]));
    wait_until("the keeper is gone", || !is_alive(&before["keeper_pid"]));
    assert!(!Path::new("/run/netns").join(netns).exists());
    assert!(!Path::new("/run/ix").join(netns).exists());
    let folder = plane.folder().join("dataplanes");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}

fn is_alive(pid: &Value) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
