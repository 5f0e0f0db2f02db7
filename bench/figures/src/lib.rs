//! The evaluation of the IX paper, of this dataplane and of Linux side by side in one run:
//! `cargo xtask bench figures`.
//!
//! Both are guests of the same emulator on the same NIC model, and `ixload` is the client of both: a
//! [`Bed`] is one of them, booted. Each figure is a module: [`echo`] (1, 2, 5), [`connections`] (3),
//! [`instructions`] (7); [`residence`] is the time that the NIC model sees. They fill [`report`], which
//! [`plot`] and [`page`] turn into one HTML file.
//!
//! Absolute figures mean little under emulation, so ratios and instruction counts lead.

#![forbid(unsafe_code)]

pub mod bed;
pub mod conditions;
pub mod connections;
pub mod echo;
pub mod instructions;
pub mod page;
pub mod plot;
pub mod report;
pub mod residence;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use conditions::Conditions;
use report::Report;

pub use bed::{Bed, System};

/// Asked between measurements; an error ends the run.
pub type Check = fn() -> Result<()>;

/// What to measure, and how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Fewer points, of a second each. Those of figure 3 take the longest.
    #[arg(long)]
    pub quick: bool,
    /// Numbers of the figures, all unless given.
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=7))]
    pub only: Vec<u8>,
    /// Times that each point is measured; the spread is shown.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    pub repetitions: u8,
    /// Do not install or build anything first.
    #[arg(long)]
    pub no_build: bool,
    /// Folder for report.html and report.json.
    #[arg(long, value_name = "FOLDER", default_value = "target/figures")]
    pub out: PathBuf,
}

impl Options {
    /// Whether this figure is asked for.
    fn wants(&self, figure: u8) -> bool {
        self.only.is_empty() || self.only.contains(&figure)
    }

    /// Measured time of one point, in seconds.
    fn seconds(&self) -> f64 {
        if self.quick { 1.0 } else { 5.0 }
    }
}

/// A run under way.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// What is asked for.
    pub options: &'a Options,
    /// See [`Check`].
    pub check: Check,
    /// Tells the user what is being done.
    pub say: fn(&str),
}

/// Measures and writes the report. Images and programs must have been built.
pub fn bench(run: Run) -> Result<()> {
    let mut report = Report::new(Conditions::now()?);
    if [1, 2].iter().any(|&figure| run.options.wants(figure)) {
        echo::measure(run, &mut report)?;
    }
    if run.options.wants(3) {
        connections::measure(run, &mut report)?;
    }
    if run.options.wants(5) {
        echo::measure_batches(run, &mut report)?;
    }
    if run.options.wants(7) {
        instructions::measure(run, &mut report)?;
    }
    report.conditions.end()?;
    write(run, &report)
}

fn write(run: Run, report: &Report) -> Result<()> {
    let folder = &run.options.out;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let files = [
        ("report.json", serde_json::to_string_pretty(report)? + "\n"),
        ("report.html", page::render(report)?),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        (run.say)(&format!("figures: {}", path.display()));
    }
    print!("{}", report.summary());
    Ok(())
}
