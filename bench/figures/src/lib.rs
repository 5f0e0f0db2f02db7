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

/// Times that a point is measured unless told otherwise.
const REPETITIONS: u8 = 3;

/// Asked between measurements; an error ends the run.
pub type Check = fn() -> Result<()>;

/// What to measure, and how long.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Fewer points, of half a second each, and instructions of one boot. All figures take some twelve
    /// minutes, and about an hour without this.
    #[arg(long)]
    pub quick: bool,
    /// Numbers of the figures, all unless given.
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=7))]
    pub only: Vec<u8>,
    /// Times that each point is measured; the spread is shown.
    #[arg(long, value_name = "N", default_value_t = REPETITIONS, value_parser = clap::value_parser!(u8).range(1..))]
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
        if self.quick { 0.5 } else { 2.0 }
    }

    /// About how long a figure takes with them, in seconds, on two cores that do nothing else.
    fn estimate(&self, figure: &Figure) -> f64 {
        let usual = if self.quick {
            figure.quick_seconds
        } else {
            figure.full_seconds
        };
        // A quarter of it is boots and openings, which are not repeated.
        usual * (f64::from(self.repetitions) / f64::from(REPETITIONS) * 0.75 + 0.25)
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

/// A figure, and how long it takes.
struct Figure {
    number: u8,
    measure: fn(Run, &mut Report) -> Result<()>,
    quick_seconds: f64,
    full_seconds: f64,
}

impl Figure {
    const fn new(
        number: u8,
        measure: fn(Run, &mut Report) -> Result<()>,
        [quick_seconds, full_seconds]: [f64; 2],
    ) -> Self {
        Self {
            number,
            measure,
            quick_seconds,
            full_seconds,
        }
    }
}

/// The figures, in the order in which they are measured.
const FIGURES: [Figure; 7] = [
    Figure::new(1, latency::measure, [50.0, 210.0]),
    Figure::new(2, throughput::measure, [60.0, 540.0]),
    Figure::new(3, connections::measure, [140.0, 1050.0]),
    Figure::new(4, key_value::measure, [200.0, 650.0]),
    Figure::new(5, batches::measure, [40.0, 130.0]),
    Figure::new(6, cores::measure, [100.0, 480.0]),
    Figure::new(7, instructions::measure, [80.0, 300.0]),
];

/// Measures and writes the report, anew after each figure. Images and programs must have been built.
pub fn bench(run: Run) -> Result<()> {
    let mut report = Report::new(Conditions::now()?);
    let figures = FIGURES
        .iter()
        .filter(|figure| run.options.wants(figure.number));
    let mut left: Vec<&Figure> = figures.collect();
    (run.say)(&format!("figures: {} on two quiet cores", time(run, &left)));
    while !left.is_empty() {
        let Figure {
            number, measure, ..
        } = left.remove(0);
        let start = Instant::now();
        run.attempt(&mut report, *number, "a part", |report| {
            measure(run, report)
        })?;
        report.conditions.end()?;
        write(run.options, &report)?;
        let (seconds, rest) = (start.elapsed().as_secs(), time(run, &left));
        (run.say)(&format!(
            "figure {number}: written after {seconds} s; to go: {rest}"
        ));
    }
    print!("{}", report.summary());
    ensure!(
        report.failures.is_empty(),
        "{} parts of figures are missing; the report says why",
        report.failures.len()
    );
    Ok(())
}

/// About how long these figures take, in words.
fn time(run: Run, figures: &[&Figure]) -> String {
    let seconds = figures.iter().map(|figure| run.options.estimate(figure));
    match seconds.sum::<f64>() {
        0.0 => "nothing".to_owned(),
        seconds => format!("some {:.0} minutes", (seconds / 60.0).ceil()),
    }
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
