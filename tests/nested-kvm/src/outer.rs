//! The outer machine's run: boots it, reads its console against a deadline, and says how each
//! guest ended.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Guest;
use crate::protocol::{FAILED, GUEST_ENDED, KVM_READY, PREFIX, SERVED, Served};
use crate::qemu::Qemu;

/// Memory of the outer machine: the archive twice (packed and unpacked), Linux, and the guests.
const MEMORY: &str = "2G";
/// Its processors: one for Linux, which keeps its first core, and one for a dataplane.
const PROCESSORS: &str = "2";

/// Linux's command line: no delays, nothing on the console but what `nested-init` prints, and a
/// panic ends the machine.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off nokaslr \
    random.trust_cpu=on no_timer_check";

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// One for each guest, in order.
    pub guests: Vec<GuestOutcome>,
    /// What the control plane did, and how long that took.
    pub served: Option<(Served, Duration)>,
    /// From power-on to a usable `/dev/kvm`.
    pub kvm_ready: Duration,
    /// From power-on to the end of all of it.
    pub total: Duration,
}

/// How one guest ended.
#[derive(Debug)]
pub struct GuestOutcome {
    /// Exit status of the inner QEMU.
    pub status: i32,
    /// What the guest and its QEMU wrote.
    pub console: Vec<String>,
    /// How long it ran.
    pub duration: Duration,
}

impl Outcome {
    /// Whether each guest said and returned what was expected of it.
    pub fn check(&self, guests: &[Guest]) -> Result<()> {
        ensure!(self.guests.len() == guests.len(), "not every guest was run");
        for (guest, outcome) in guests.iter().zip(&self.guests) {
            let console = outcome.console.join("\n");
            ensure!(
                outcome.status == guest.expected_status,
                "{} under nested KVM ended with status {}, not {}:\n{console}",
                guest.name,
                outcome.status,
                guest.expected_status
            );
            if let Some(line) = &guest.expected_line {
                ensure!(
                    outcome.console.iter().any(|seen| seen.contains(line)),
                    "{} under nested KVM did not say \"{line}\":\n{console}",
                    guest.name
                );
            }
        }
        Ok(())
    }
}

/// What the outer machine reports before its run is over.
pub struct Expected {
    /// So many guests that ended.
    pub guests: usize,
    /// That the control plane has served.
    pub is_served: bool,
}

/// Boots Linux `image` with `initrd` and waits until all is reported that is `expected`.
pub fn boot(
    qemu: &Qemu,
    image: &Path,
    initrd: &Path,
    timeout: Duration,
    expected: &Expected,
) -> Result<Outcome> {
    let mut command = qemu.command();
    command
        .args([
            "-machine",
            "q35",
            "-accel",
            "tcg",
            "-cpu",
            "max,+svm,+npt",
            "-m",
            MEMORY,
            "-smp",
            PROCESSORS,
        ])
        .args([
            "-display",
            "none",
            "-nodefaults",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", COMMAND_LINE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let child = command
        .spawn()
        .context("cannot start QEMU for the outer machine")?;
    let mut machine = Machine {
        child,
        start,
        deadline: start + timeout,
    };
    let lines = machine.lines();
    machine.follow(&lines, expected)
}

/// The outer machine while it runs; dropping it ends it.
struct Machine {
    child: Child,
    start: Instant,
    deadline: Instant,
}

impl Machine {
    /// Console lines as they come; the channel closes when QEMU ends.
    fn lines(&mut self) -> Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        let console = self.child.stdout.take().expect("stdout is piped");
        thread::spawn(move || {
            for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        receiver
    }

    fn follow(&mut self, lines: &Receiver<String>, expected: &Expected) -> Result<Outcome> {
        let mut outcome = Outcome {
            guests: Vec::new(),
            served: None,
            kvm_ready: Duration::ZERO,
            total: Duration::ZERO,
        };
        let mut console = Vec::new();
        let mut began = Duration::ZERO;
        while outcome.guests.len() < expected.guests
            || outcome.served.is_some() != expected.is_served
        {
            let line = self.next_line(lines, &console)?;
            let now = self.start.elapsed();
            let Some(message) = line.strip_prefix(PREFIX) else {
                console.push(line);
                continue;
            };
            if message == KVM_READY {
                outcome.kvm_ready = now;
                console.clear();
            } else if let Some(reason) = message.strip_prefix(FAILED) {
                bail!("in the outer Linux: {reason}\n{}", tail(&console));
            } else if let Some(status) = message.strip_prefix(GUEST_ENDED) {
                let status = status
                    .parse()
                    .context("nested-init reports no exit status")?;
                let console = std::mem::take(&mut console);
                outcome.guests.push(GuestOutcome {
                    status,
                    console,
                    duration: now - began,
                });
            } else if let Some(served) = message.strip_prefix(SERVED) {
                let served = serde_json::from_str(served)
                    .context("nested-init's report of the control plane")?;
                outcome.served = Some((served, now - began));
            }
            began = now;
        }
        outcome.total = self.start.elapsed();
        Ok(outcome)
    }

    fn next_line(&mut self, lines: &Receiver<String>, console: &[String]) -> Result<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = (self.deadline - self.start).as_secs();
                bail!(
                    "not finished after {seconds} s; last on the console:\n{}",
                    tail(console)
                )
            }
            Err(RecvTimeoutError::Disconnected) => {
                let mut diagnostics = String::new();
                if let Some(mut stderr) = self.child.stderr.take() {
                    stderr.read_to_string(&mut diagnostics)?;
                }
                bail!(
                    "the outer machine ended early: {diagnostics}\n{}",
                    tail(console)
                )
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(console: &[String]) -> String {
    console[console.len().saturating_sub(20)..].join("\n")
}
