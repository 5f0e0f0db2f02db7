//! Guest instructions per request, exactly: `cargo xtask bench insns`.
//!
//! Time under emulation says little; instruction counts under `-icount` are repeatable to a percent,
//! so they carry the regression gate and the optimisation of the packet path. A measurement boots
//! a machine with a QEMU plugin (folder `plugin/`) that counts each guest instruction by its address, sends
//! rounds of requests, and compares samples taken between rounds.
//!
//! | module | what |
//! |---|---|
//! | [`run`] | one boot: machine, client, samples |
//! | [`client`] | the client, which knows exactly what is complete; [`hold`] saturates the guest |
//! | [`exchange`] | the applications, what they are asked and what they have to answer |
//! | [`sample`] | the plugin's counters; [`work`] takes the empty polls out |
//! | [`scaling`] | the same on several elastic threads; [`crowd`] with very many connections |
//! | [`migrate`], [`crew`] | how long moves of flow groups take: `cargo xtask bench migrate` |
//! | [`report`], [`baseline`] | the table, and the comparison with the checked-in figures |
//! | [`code`], [`profile`], [`annotate`] | which functions, lines and instructions it was |

#![forbid(unsafe_code)]

pub mod annotate;
pub mod baseline;
pub mod client;
pub mod code;
pub mod crew;
pub mod crowd;
pub mod exchange;
pub mod hold;
pub mod migrate;
pub mod profile;
pub mod report;
pub mod run;
pub mod sample;
pub mod scaling;
pub mod work;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use ix_machine::Artifacts;
use ix_machine::qemu::Qemu;

use crate::annotate::annotate;
use crate::baseline::Baseline;
use crate::client::Check;
use crate::code::Code;
use crate::exchange::Application;
use crate::report::Report;
use crate::run::Measured;
use crate::scaling::Scaling;

/// What to measure, and what to do with the result.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The application that is asked
    #[arg(long, value_name = "NAME", default_value = "echo")]
    pub app: Application,
    /// Boots to take the median over
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    pub boots: u8,
    /// Numbers of connections to measure at
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,64",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: Vec<u16>,
    /// Numbers of elastic threads to compare the cost of a request on, with 16 connections each; 0 for none
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8,16",
          value_parser = clap::value_parser!(u32).range(0..=16))]
    pub threads: Vec<u32>,
    /// Numbers of open connections of which 64 have a request under way at a time, by the host's clock;
    /// there is no baseline for them
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    pub crowd: Vec<usize>,
    /// Also write the result to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the result to the checked-in baseline instead of comparing with it
    #[arg(long)]
    pub update: bool,
    /// Print the N costliest functions and lines of the last boot
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "40")]
    pub profile: Option<usize>,
    /// Print the disassembly, with executions per request, of functions whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub annotate: Option<String>,
}

/// Measures with the images that `cargo xtask image` has built, prints, and compares.
///
/// `check` is asked again and again; an error from it ends the run.
pub fn bench(options: &Options, check: Check) -> Result<()> {
    let mut baseline = Baseline::read(&baseline_path())?;
    let plugin = run::build_plugin(&Qemu::locate()?)?;
    let mut boots = Vec::new();
    for _ in 0..options.boots {
        boots.push(run::measure(
            &plugin,
            options.app,
            &options.connections,
            check,
        )?);
    }
    print_details(options, boots.last().map_or(&[], Vec::as_slice))?;
    if !options.crowd.is_empty() {
        print_details(options, &crowd::measure(&plugin, &options.crowd, check)?)?;
    }

    let mut report = Report::new(&boots, (!options.update).then_some(&baseline));
    print!("{}", report.render());
    let threads: Vec<u32> = options
        .threads
        .iter()
        .copied()
        .filter(|&it| it > 0)
        .collect();
    if !threads.is_empty() {
        let scaling = Scaling::measure(&plugin, options.app, &threads, options.boots, check)?;
        print!("{}", scaling.render());
        report.threads = Some(scaling);
    }
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    if options.update {
        report.update(&mut baseline);
        return baseline.write(&baseline_path());
    }
    let regressions = report.regressions();
    ensure!(
        regressions.is_empty(),
        "more than {} % above the baseline (accept it with --update, if it is worth it):\n{}",
        100.0 * baseline::TOLERANCE,
        regressions.join("\n")
    );
    let excesses = report
        .threads
        .as_ref()
        .map_or(Vec::new(), Scaling::excesses);
    ensure!(
        excesses.is_empty(),
        "more than {} % above the fewest threads:\n{}",
        100.0 * scaling::TOLERANCE,
        excesses.join("\n")
    );
    Ok(())
}

/// The code that runs in the guest.
fn images(application: Application) -> Result<Code> {
    let [kernel, app] = image_paths(application);
    Code::read(&[&kernel, &app])
}

fn image_paths(application: Application) -> [PathBuf; 2] {
    let artifacts = Artifacts::of_workspace();
    [artifacts.kernel(), artifacts.app(application.name())]
}

fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml")
}

fn print_details(options: &Options, boot: &[Measured]) -> Result<()> {
    for measured in boot {
        let (name, connections) = (measured.exchange.name(), measured.point.connections);
        if let Some(limit) = options.profile {
            let profile = measured.profile(options.app)?;
            println!(
                "Instructions per request ({name}) at {connections} connections\n{}",
                profile.render(limit)
            );
        }
        if let Some(function) = &options.annotate {
            let images = image_paths(options.app);
            let listings = images
                .iter()
                .map(|image| annotate(image, function, &measured.work));
            let listing = listings.collect::<Result<String>>()?;
            ensure!(
                !listing.is_empty(),
                "no function that was executed has {function:?} in its name; what is inlined everywhere \
                 has no code of its own: look for the function around it"
            );
            println!("Executions per request ({name}) at {connections} connections\n{listing}");
        }
    }
    Ok(())
}
