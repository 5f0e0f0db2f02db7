//! The evaluation of the IX paper, of this dataplane and of Linux side by side in one run:
//! `cargo xtask bench figures`.
//!
//! Both are guests of the same emulator on the same NIC model, and `ixload` is the client of both: a
//! [`Bed`] is one of them, booted. Each figure is a module: [`latency`] (1), [`throughput`] (2),
//! [`connections`] (3), [`key_value`] (4), [`batches`] (5), [`cores`] (6), [`instructions`] (7);
//! [`residence`] is the time that the NIC model sees. They fill [`report`], which begins with [`targets`], and
//! which [`plot`] and [`page`] turn into one HTML file. It is written after each figure, and says what could
//! not be measured.
//!
//! Absolute figures mean little under emulation, so ratios and instruction counts lead.

#![forbid(unsafe_code)]

pub mod batches;
pub mod bed;
mod client;
pub mod conditions;
pub mod connections;
pub mod cores;
pub mod counted;
pub mod instructions;
pub mod key_value;
pub mod latency;
pub mod page;
pub mod plot;
pub mod report;
pub mod residence;
pub mod targets;
pub mod throughput;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;

use conditions::Conditions;
use report::{Failure, Report};

pub use bed::{Bed, System};

/// Asked between measurements; an error ends the run.
pub type Check = fn() -> Result<()>;

/// What to measure, and how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Fewer points, of half a second each, and instructions of one boot. All figures take some ten
    /// minutes, and about an hour without this.
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
        if self.quick { 0.5 } else { 5.0 }
    }

    /// Boots to count instructions in, which differ by a percent.
    fn boots(&self) -> u8 {
        if self.quick { 1 } else { self.repetitions }
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

impl Run<'_> {
    /// Does a part of a figure. If that fails, the report says why, and the rest of the figure goes on;
    /// only an interruption ends the run.
    pub fn attempt(
        self,
        report: &mut Report,
        figure: u8,
        part: &str,
        work: impl FnOnce(&mut Report) -> Result<()>,
    ) -> Result<()> {
        let Err(error) = work(report) else {
            return Ok(());
        };
        (self.check)()?;
        let why = format!("{error:#}");
        (self.say)(&format!("figure {figure}: {part} failed: {why}"));
        report.failures.push(Failure {
            figure,
            part: part.to_owned(),
            why,
        });
        Ok(())
    }
}

/// Measures a figure.
type Measure = fn(Run, &mut Report) -> Result<()>;

/// The figures, in the order in which they are measured.
const FIGURES: [(u8, Measure); 7] = [
    (1, latency::measure),
    (2, throughput::measure),
    (3, connections::measure),
    (4, key_value::measure),
    (5, batches::measure),
    (6, cores::measure),
    (7, instructions::measure),
];

/// Measures and writes the report, anew after each figure. Images and programs must have been built.
pub fn bench(run: Run) -> Result<()> {
    let mut report = Report::new(Conditions::now()?);
    let wanted = FIGURES
        .iter()
        .filter(|(number, _)| run.options.wants(*number));
    for &(number, measure) in wanted {
        let start = Instant::now();
        run.attempt(&mut report, number, "a part", |report| measure(run, report))?;
        report.conditions.end()?;
        write(run.options, &report)?;
        let seconds = start.elapsed().as_secs();
        (run.say)(&format!("figure {number}: written after {seconds} s"));
    }
    print!("{}", report.summary());
    ensure!(
        report.failures.is_empty(),
        "{} parts of figures are missing; the report says why",
        report.failures.len()
    );
    Ok(())
}

fn write(options: &Options, report: &Report) -> Result<()> {
    let folder = &options.out;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let files = [
        ("report.json", serde_json::to_string_pretty(report)? + "\n"),
        ("report.html", page::render(report)?),
    ];
    for (name, text) in files {
        // Whoever reads it meanwhile finds a whole one.
        let (path, fresh) = (folder.join(name), folder.join(format!("{name}.new")));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
