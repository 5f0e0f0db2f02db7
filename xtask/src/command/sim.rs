//! `cargo xtask sim`.

use std::process::Command;

use anyhow::Result;

use crate::child;
use crate::failure::Reported;
use crate::workspace;

/// Seeds in the test command.
pub const TEST_SEEDS: u64 = 10_000;

/// Simulate the engine against itself over a faulty wire, in virtual time, once per seed.
///
/// Each seed stands for one choice of faults, transfers, windows and incidents, and goes the same way
/// every time. The first seed that fails is printed with what is wrong and with the command that
/// replays it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = TEST_SEEDS, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// Only this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print what the seed stands for, and each frame.
    #[arg(long, requires = "seed")]
    trace: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let words = match (args.seed, args.trace) {
        (Some(seed), true) => vec!["trace".to_owned(), seed.to_string()],
        (Some(seed), false) => vec!["run".to_owned(), seed.to_string(), "1".to_owned()],
        (None, _) => vec![
            "run".to_owned(),
            args.from.to_string(),
            args.seeds.to_string(),
        ],
    };
    let mut command = simulate();
    command.args(words);
    if !child::show(command, |_| ())?.success() {
        return Err(Reported.into());
    }
    Ok(())
}

/// The simulations of the test command.
pub fn test_command() -> Command {
    let mut command = simulate();
    command.args(["run", "0", &TEST_SEEDS.to_string()]);
    command
}

fn simulate() -> Command {
    workspace::cargo(&[
        "run",
        "--quiet",
        "--release",
        "-p",
        "ix-net",
        "--features",
        "testing",
        "--example",
        "simulate",
        "--",
    ])
}
