//! `cargo xtask test`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use ix_machine::process::find_tool;

use crate::child;
use crate::command::{image, sim};
use crate::failure::{Reported, bad_input};
use crate::step::say;
use crate::workspace;

/// Run the tests: first those on the host, then ten thousand simulations, then those with Linux as the
/// engine's peer, then those on booted machines, then those under real KVM.
///
/// Installs and builds what they need. The last line is the sum of all stages.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only this stage.
    #[arg(value_enum)]
    stage: Option<Stage>,
    /// Run only the tests whose name contains this.
    filter: Option<String>,
    /// Let the bulk transfers between Linux and the engine carry 1 GiB instead of 64 MiB, and open a
    /// million connections to one engine instead of a quarter of it; kill 50 processes instead of 10.
    #[arg(long)]
    full: bool,
}

/// Tests that need the same surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// On the host, without a virtual machine.
    Host,
    /// Of the engine over a faulty wire in virtual time, ten thousand seeds; counted as one.
    Simulation,
    /// On the host as root, with Linux's TCP at the other end of the engine's wire.
    LinuxPeer,
    /// On booted machines, with Linux at the other end of the wire.
    Boot,
    /// Of the NIC model, by Linux's own driver for the card in a booted Linux.
    LinuxDriver,
    /// Of the dashboard, in Chromium; left out where it is not installed.
    Dashboard,
    /// The same image under Linux's KVM, which runs in an emulated virtualization-capable CPU.
    Kvm,
}

const NO_CHROMIUM: &str = "there is no Chromium; `apt install chromium` helps";

/// Passed and failed tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Args {
    /// All stages.
    pub fn everything() -> Self {
        Args {
            stage: None,
            filter: None,
            full: false,
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let total = run_stages(args)?;
    if total == Count::default() {
        return Err(bad_input("no test has that in its name"));
    }
    say(&format!("{} passed, {} failed", total.passed, total.failed));
    if total.failed > 0 {
        return Err(Reported.into());
    }
    Ok(())
}

fn run_stages(args: &Args) -> Result<Count> {
    crate::setup::run()?;
    let stages: Vec<Stage> = Stage::value_variants()
        .iter()
        .copied()
        .filter(|stage| args.stage.is_none_or(|only| only == *stage))
        // Seeds have no names.
        .filter(|stage| args.filter.is_none() || *stage != Stage::Simulation)
        .collect();
    let (stages, left_out): (Vec<Stage>, Vec<Stage>) =
        stages.into_iter().partition(|stage| stage.can_run());
    if args.stage == Some(Stage::Dashboard) && !left_out.is_empty() {
        return Err(bad_input(NO_CHROMIUM));
    }
    if stages.iter().any(|stage| stage.boots()) {
        image::build(None)?;
    }
    if stages.contains(&Stage::Kvm) {
        // The nested Linux starts the daemon from the artifacts, where a fresh clone has none yet.
        image::build_control_plane()?;
    }
    if stages.contains(&Stage::Boot) || stages.contains(&Stage::Dashboard) {
        // Cargo builds programs for tests of their own packages alone.
        let programs = workspace::cargo(&["build", "-p", "ixcpd", "-p", "ixctl"]);
        child::run(programs).context("the control plane's programs could not be built")?;
    }
    let mut total = Count::default();
    let mut summary = Vec::new();
    for stage in stages {
        let started = Instant::now();
        let count = run_stage(stage, args)?;
        summary.push((stage, count, started.elapsed()));
        total.passed += count.passed;
        total.failed += count.failed;
    }
    for stage in left_out {
        say(&format!("test: {}: left out: {NO_CHROMIUM}", name(stage)));
    }
    for (stage, count, time) in summary {
        say(&summary_line(stage, count, time));
    }
    Ok(total)
}

fn run_stage(stage: Stage, args: &Args) -> Result<Count> {
    say(&format!("test: {}", name(stage)));
    let mut count = Count::default();
    let result = child::show(command(stage, args), |line| count.read(line));
    if stage.boots() {
        // Tests that were killed cannot remove their machines' namespaces.
        ix_machine::run_dir::remove_all_abandoned();
    }
    match result?.success() {
        // Something did not compile, or a test program died.
        false if count.failed == 0 => count.failed = 1,
        true if stage == Stage::Simulation => count.passed = 1,
        _ => {}
    }
    Ok(count)
}

fn command(stage: Stage, args: &Args) -> Command {
    let mut command = match stage {
        Stage::Host => workspace::cargo(&["test", "--workspace", "--no-fail-fast"]),
        Stage::Simulation => return sim::test_command(),
        Stage::LinuxPeer => {
            workspace::cargo(&["test", "-p", "ix-linux-peer", "--release", "--no-fail-fast"])
        }
        Stage::Boot => workspace::cargo(&[
            "test",
            "-p",
            "ix-machine",
            "-p",
            "ix-tests",
            "-p",
            "ix-memcached-tests",
            "-p",
            "ix-insns",
            "-p",
            "ixcpd",
            "-p",
            "ixctl",
            "-p",
            "ix-control-plane-tests",
            "--no-fail-fast",
        ]),
        Stage::Dashboard => workspace::cargo(&[
            "test",
            "-p",
            "ix-control-plane-tests",
            "--features",
            "chromium",
            "--test",
            "dashboard",
        ]),
        Stage::LinuxDriver => workspace::cargo(&["test", "-p", "ix-linux-guest", "--no-fail-fast"]),
        Stage::Kvm => workspace::cargo(&["test", "-p", "ix-nested-kvm", "--no-fail-fast"]),
    };
    if args.full {
        command.env("IX_PEER_MIB", "1024");
        command.env("IX_CONNECTIONS", "1000000");
        command.env("IX_KILLS", "50");
    }
    command.arg("--").args(args.filter.as_deref());
    if stage != Stage::Host {
        // One machine at a time: two would share the processors that the other one's clock needs.
        command.args(["--ignored", "--test-threads=1"]);
    }
    command
}

impl Stage {
    /// Whether it runs virtual machines.
    fn boots(self) -> bool {
        matches!(
            self,
            Stage::Boot | Stage::LinuxDriver | Stage::Dashboard | Stage::Kvm
        )
    }
}

impl Stage {
    /// Whether what it needs is there; everything else is installed by `setup`.
    fn can_run(self) -> bool {
        self != Stage::Dashboard || find_tool("chromium", "chromium").is_ok()
    }
}

impl Count {
    /// Adds what a line of the test harness says, if it is one of its results.
    fn read(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let number_before = |word: &str| {
            let before = result
                .split(word)
                .next()
                .filter(|before| before.len() < result.len())?;
            before
                .trim_end()
                .rsplit([' ', ';'])
                .next()?
                .parse::<u64>()
                .ok()
        };
        self.passed += number_before(" passed").unwrap_or(0);
        self.failed += number_before(" failed").unwrap_or(0);
    }
}

fn summary_line(stage: Stage, count: Count, time: Duration) -> String {
    let Count { passed, failed } = count;
    format!(
        "test: {}: {passed} passed, {failed} failed ({:.1} s)",
        name(stage),
        time.as_secs_f64()
    )
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Host => "host",
        Stage::Simulation => "simulation",
        Stage::LinuxPeer => "Linux as the peer",
        Stage::Boot => "booted machines",
        Stage::LinuxDriver => "Linux's driver on the NIC model",
        Stage::Dashboard => "dashboard",
        Stage::Kvm => "real KVM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_summed() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 34 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.15s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.1s",
        ] {
            count.read(line);
        }
        assert_eq!(
            count,
            Count {
                passed: 36,
                failed: 3
            }
        );
    }

    #[test]
    fn machines_run_one_at_a_time() {
        let args = |stage| {
            let args = Args {
                filter: Some("ping".to_owned()),
                ..Args::everything()
            };
            let command = command(stage, &args);
            command
                .get_args()
                .map(|arg| arg.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(args(Stage::Host), "test --workspace --no-fail-fast -- ping");
        for stage in [
            Stage::LinuxPeer,
            Stage::Boot,
            Stage::LinuxDriver,
            Stage::Dashboard,
            Stage::Kvm,
        ] {
            assert!(args(stage).ends_with("-- ping --ignored --test-threads=1"));
        }
    }
}
