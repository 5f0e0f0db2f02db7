//! `cargo xtask bench nic`: what frames cost the NIC model and its driver, and what a Linux guest gets out of
//! the model beside a card of QEMU's own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use ix_machine::artifacts::ARTIFACTS_VARIABLE;
use serde_json::{Value, json};

use crate::child;
use crate::command::image;
use crate::step::{Step, say};
use crate::workspace;

/// Measures in its own process.
const IN_PROCESS: &str = "ix-nic-bench";
/// Measures guests: package and program.
const GUESTS: (&str, &str) = ("ix-linux-guest", "ix-cards");

/// How to measure and report.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Sizes of frames, with FCS.
    #[arg(long, value_delimiter = ',')]
    sizes: Vec<u32>,
    /// Runs, of which the best counts.
    #[arg(long)]
    runs: Option<u32>,
    /// Boot no guests.
    #[arg(long)]
    in_process_only: bool,
    /// Print JSON, as the last line.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let frames = in_process(options)?;
    let cards = match options.in_process_only {
        true => None,
        false => Some(guests(options)?),
    };
    if options.json {
        let parse = |text: &str| -> Result<Value> {
            serde_json::from_str(text.trim()).context("a program printed no JSON")
        };
        let cards = cards.as_deref().map(parse).transpose()?;
        say(&json!({ "in_process": parse(&frames)?, "guests": cards }).to_string());
        return Ok(());
    }
    say(frames.trim_end());
    if let Some(cards) = cards {
        say("");
        say(cards.trim_end());
    }
    Ok(())
}

fn in_process(options: &Options) -> Result<String> {
    let program = build(IN_PROCESS, IN_PROCESS)?;
    Step::run("model and driver in one process", |step| {
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
    })
}

fn guests(options: &Options) -> Result<String> {
    crate::setup::run()?;
    image::build_host_programs()?;
    let program = build(GUESTS.0, GUESTS.1)?;
    Step::run("a Linux guest with each card", |step| {
        let mut command = Command::new(&program);
        command.env(ARTIFACTS_VARIABLE, workspace::artifacts().folder());
        command.args(options.json.then_some("--json"));
        Ok((child::capture(step, command)?, String::new()))
    })
}

fn build(package: &str, program: &str) -> Result<PathBuf> {
    Step::run(format!("build {program}"), |step| {
        let command = workspace::cargo(&["build", "--release", "-p", package, "--bin", program]);
        child::capture(step, command)?;
        let folder = workspace::target_folder().join("release");
        Ok((folder.join(program), String::new()))
    })
}
