//! `ixctl` and `ixcpd` with a booted dataplane: it is run, seen, found again by a daemon that comes
//! after one that was killed, and stopped, and leaves nothing behind. Needs root, and what
//! `cargo xtask image` builds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder, the daemon that works in it, and `ixctl` for it.
struct Bench {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = ix_machine::Artifacts::of_workspace();
        let artifacts = std::path::absolute(artifacts.folder()).unwrap();
        let text = format!(
            "folder = {:?}\nartifacts = {artifacts:?}\nemulate_cores = 4\nreserved = '0'\n",
            folder.path().join("run"),
        );
        fs::write(folder.path().join("ixcpd.toml"), text).unwrap();
        let mut bench = Bench {
            folder,
            daemon: None,
        };
        bench.start_daemon();
        bench
    }

    fn start_daemon(&mut self) {
        // Cargo puts it beside this package's own program.
        let program = Path::new(env!("CARGO_BIN_EXE_ixctl")).with_file_name("ixcpd");
        let child = Command::new(program)
            .arg("--config")
            .arg(self.folder.path().join("ixcpd.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.daemon = Some(child.expect("ixcpd is built with its package"));
        wait_until("the daemon answers", || {
            self.ixctl(&["ps"]).status.success()
        });
    }

    fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/ixcpd.sock")
    }

    fn ixctl(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ixctl"))
            .arg("--socket")
            .arg(self.socket())
            .args(words)
            .output()
            .unwrap()
    }

    fn done(&self, words: &[&str]) -> String {
        let output = self.ixctl(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let text = self.done(&[&["--json"], words].concat());
        serde_json::from_str(&text).unwrap()
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = self.ixctl(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

impl Drop for Bench {
    /// A test that failed leaves a dataplane, which must not outlive it.
    fn drop(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        let _ = self.ixctl(&["stop", "e"]);
        self.kill_daemon();
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: &Value) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_dataplane_outlives_its_daemon_and_leaves_nothing() {
    let mut bench = Bench::new();
    let run = bench.done(&["run", "echo", "--name", "e", "--threads", "2", "--", "7"]);
    assert!(
        run.starts_with("e serves 10.9.0.2 on 2 hardware threads"),
        "{run}"
    );
    let before = bench.json(&["ps"])[0].clone();
    assert_eq!(before["cores"], serde_json::json!([1, 2]));
    wait_until("both threads report", || {
        let stats = bench.json(&["stats", "e"]);
        let threads = stats["threads"].as_array().unwrap().clone();
        let has_run = |thread: &Value| thread["cycles"].as_u64() > Some(0);
        threads.len() == 2 && threads.iter().all(has_run)
    });
    assert!(bench.done(&["cores"]).contains("e (thread 1)"));
    assert_eq!(bench.json(&["groups", "e"]).as_array().unwrap().len(), 128);
    assert!(bench.done(&["logs", "e"]).contains("ix: serving"));

    let said = bench.refused(&["run", "echo", "--name", "f", "--threads", "2"]);
    assert!(said.contains("1 free: e holds 1, 2"), "{said}");
    assert!(bench.refused(&["grant", "e"]).contains("0 are parked"));
    assert!(
        bench
            .refused(&["revoke", "e", "2"])
            .contains("last hardware thread")
    );

    bench.kill_daemon();
    assert!(is_alive(&before["vm_pid"]) && is_alive(&before["keeper_pid"]));
    bench.start_daemon();
    wait_until("the dataplane is managed again", || {
        bench.json(&["ps"])[0]["state"] == "running"
    });
    let after = bench.json(&["ps"])[0].clone();
    assert_eq!(
        (&after["vm_pid"], &after["cores"]),
        (&before["vm_pid"], &before["cores"])
    );
    let events = bench.done(&["events"]);
    assert!(events.contains("found, and managed again"), "{events}");

    bench.done(&["stop", "e"]);
    assert_eq!(bench.json(&["ps"]), serde_json::json!([]));
    assert!(!is_alive(&before["vm_pid"]));
    wait_until("the keeper is gone", || !is_alive(&before["keeper_pid"]));
    let netns = before["netns"].as_str().unwrap();
    assert!(!Path::new("/run/netns").join(netns).exists());
    assert!(!Path::new("/run/ix").join(netns).exists());
    let folder = bench.folder.path().join("run/dataplanes");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
}
