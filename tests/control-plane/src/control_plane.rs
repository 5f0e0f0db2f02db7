//! A daemon in a folder, and `ixctl` for it. Everything here panics with the reason when it fails: it
//! serves tests.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use ix_machine::{Artifacts, Netns};
use serde_json::Value;

use crate::{processes, wait_until};

/// A folder, the daemon that works in it, and `ixctl` for it.
pub struct ControlPlane {
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl ControlPlane {
    /// Starts a daemon with eight made-up hardware threads, of which Linux keeps the first, and with
    /// `more` lines in its configuration.
    pub fn start(more: &str) -> ControlPlane {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = std::path::absolute(Artifacts::of_workspace().folder()).unwrap();
        let text = format!(
            "folder = {:?}\nartifacts = {artifacts:?}\nemulate_cores = 8\nreserved = '0'\n{more}",
            folder.path().join("run"),
        );
        fs::write(folder.path().join("ixcpd.toml"), text).unwrap();
        let mut control_plane = ControlPlane {
            folder,
            daemon: None,
        };
        control_plane.start_daemon();
        control_plane
    }

    /// Starts the next daemon, and waits until it answers.
    pub fn start_daemon(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"));
        let child = Command::new(program("ixcpd"))
            .arg("--config")
            .arg(self.folder.path().join("ixcpd.toml"))
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.daemon = Some(child.expect("ixcpd is there: cargo build -p ixcpd -p ixctl"));
        wait_until("the daemon answers", || {
            self.ixctl(&["ps"]).status.success()
        });
    }

    /// Kills the daemon, with no chance to do anything about it.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// The daemon's folder.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Runs `ixctl`.
    pub fn ixctl(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// `ixctl` with these words, to be run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("ixctl"));
        command
            .arg("--socket")
            .arg(self.folder().join("ixcpd.sock"))
            .args(words);
        command
    }

    /// What `ixctl` prints, having done what it was told.
    pub fn done(&self, words: &[&str]) -> String {
        let output = self.ixctl(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        let text = self.done(&[&["--json"], words].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Why `ixctl` refuses.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.ixctl(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// A dataplane as `ixctl ps` shows it.
    pub fn view(&self, name: &str) -> Option<Value> {
        let all = self.json(&["ps"]);
        let mut all = all.as_array().unwrap().iter();
        all.find(|view| view["name"] == name).cloned()
    }

    /// The load generator at the host's end of a dataplane's wire.
    pub fn load(&self, netns: &str, words: &[impl AsRef<OsStr>]) -> Command {
        let program = Artifacts::of_workspace().load_program();
        let mut command = Netns::named(netns).command(&program).unwrap();
        command
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// What the daemons have logged, for whoever looks at a failure.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for ControlPlane {
    /// A test that failed leaves a daemon and dataplanes, which must not outlive it. Whoever kills a
    /// keeper kills its machine.
    fn drop(&mut self) {
        if self.daemon.is_some() {
            self.kill_daemon();
        }
        processes::keepers(&self.folder())
            .iter()
            .for_each(processes::Process::kill);
        ix_machine::run_dir::remove_all_abandoned();
    }
}

/// Cargo puts the programs of all packages into one folder, and tests below it.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap();
    folder.join(name)
}
