//! `cargo xtask bench nic`: what frames cost the NIC model and its driver, and what a Linux guest gets out of
//! the model beside a card of QEMU's own.

use std::fs;
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
    /// Runs of each kind: the best counts in one process, the median in guests.
    #[arg(long)]
    runs: Option<u32>,
    /// Boot no guests.
    #[arg(long)]
    in_process_only: bool,
    /// Print JSON, as the last line.
    #[arg(long)]
    json: bool,
    /// Write the JSON to this file, instead of printing anything.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    output: Option<PathBuf>,
}

impl Options {
    /// Whether the programs are to print JSON.
    fn is_json(&self) -> bool {
        self.json || self.output.is_some()
    }
}

pub fn run(options: &Options) -> Result<()> {
    let frames = in_process(options)?;
    let cards = match options.in_process_only {
        true => None,
        false => Some(guests(options)?),
    };
    if options.is_json() {
        let parse = |text: &str| -> Result<Value> {
            serde_json::from_str(text.trim()).context("a program printed no JSON")
        };
        let cards = cards.as_deref().map(parse).transpose()?;
        let all = json!({ "in_process": parse(&frames)?, "guests": cards });
        let Some(file) = &options.output else {
            say(&all.to_string());
            return Ok(());
        };
        fs::write(file, format!("{all:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        say(&format!("written to {}", file.display()));
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
        command.args(options.is_json().then_some("--json"));
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
        if let Some(runs) = options.runs {
            command.args(["--runs", &runs.to_string()]);
        }
        command.args(options.is_json().then_some("--json"));
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
