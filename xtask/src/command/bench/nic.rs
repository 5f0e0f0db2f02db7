//! `cargo xtask bench nic`: what frames cost the NIC model and its driver.

use std::process::Command;

use anyhow::Result;

use crate::child;
use crate::step::{Step, say};
use crate::workspace;

const PACKAGE: &str = "ix-nic-bench";

/// How to measure and report.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Sizes of frames, with FCS.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u32>,
    /// Runs, of which the best counts.
    #[arg(long)]
    runs: Option<u32>,
    /// Print JSON, as the last line.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let program = Step::run("build", |step| {
        let command = workspace::cargo(&["build", "--release", "-p", PACKAGE]);
        child::capture(step, command)?;
        let path = workspace::target_folder().join("release").join(PACKAGE);
        Ok((path, PACKAGE.to_owned()))
    })?;
    let printed = Step::run("model and driver in one process", |step| {
        let mut command = Command::new(&program);
        if !options.sizes.is_empty() {
            let sizes: Vec<String> = options.sizes.iter().map(u32::to_string).collect();
            command.args(["--sizes", &sizes.join(",")]);
        }
        if let Some(runs) = options.runs {
            command.args(["--runs", &runs.to_string()]);
        }
        command.args(options.json.then_some("--json"));
        Ok((child::capture(step, command)?, String::new()))
    })?;
    say(printed.trim_end());
    Ok(())
}
