//! `ixload`, the client at the Linux end of the wire: it opens connections to an echo server,
//! sends bytes whose pattern is different at every position of every connection, verifies each
//! byte that comes back, and measures.
//!
//! [`options`] is the command line, [`run`] carries it out. One module a command: `load` (closed and
//! open loops over a protocol and a transport), [`echo`] (the same, as a test of the server), [`stream`]
//! (bulk, half-close), [`refuse`], [`kill`], [`serve`] (an echo server on Linux, to measure the client
//! itself against). [`rounds`] is a client for measurements in other programs. Below `load`: `protocol` is what is said, `workload` what about, `transport` what
//! carries it. [`report`] is what `--json` writes.
//!
//! Every run ends with all bytes verified or with a [`LoadError`].

#![forbid(unsafe_code)]

mod connections;
mod cpu;
pub mod echo;
mod error;
pub mod kill;
mod load;
pub mod options;
pub mod pattern;
mod progress;
mod protocol;
pub mod refuse;
pub mod report;
pub mod rounds;
pub mod serve;
pub mod stream;
mod transport;
mod unacknowledged;
mod workload;

pub use error::LoadError;

use std::path::Path;

use options::load::Load;
use options::{Command, Options};
use report::Report;

/// How a run ended that did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All figures stand.
    Good,
    /// This program was the bottleneck, so that there are no latencies.
    Withheld,
}

/// Carries a command out: prints its report as a table, and writes the files that are asked for.
pub fn run(options: &Options) -> Result<Verdict, LoadError> {
    let (report, json) = match &options.command {
        Command::Load(options) => return run_load(options),
        Command::Echo(echo) => (Report::Echo(echo::run(echo)?), &echo.json),
        Command::Open(open) => (Report::Echo(echo::run_open(open)?), &open.json),
        Command::Stream(stream) => (Report::Stream(stream::run(stream)?), &stream.json),
        Command::Refuse(refuse) => (Report::Refuse(refuse::run(refuse)?), &None),
        Command::Kill(kill) => (Report::Kill(kill::run(kill)?), &None),
        Command::ServeEcho(serve) => return serve::run(serve).map(|()| Verdict::Good),
    };
    present(&report, json.as_deref())?;
    Ok(Verdict::Good)
}

fn run_load(options: &Load) -> Result<Verdict, LoadError> {
    let (report, outcome) = load::run(options)?;
    if let Some(path) = &options.hdr {
        load::hdr::write(&outcome, path)?;
    }
    let verdict = match report.latency_us {
        Some(_) => Verdict::Good,
        None => Verdict::Withheld,
    };
    present(&Report::Load(Box::new(report)), options.json.as_deref())?;
    Ok(verdict)
}

fn present(report: &Report, json: Option<&Path>) -> Result<(), LoadError> {
    print!("{report}");
    match json {
        Some(path) => write_json(report, path),
        None => Ok(()),
    }
}

fn write_json(report: &Report, path: &Path) -> Result<(), LoadError> {
    let mut text = serde_json::to_string_pretty(report).expect("reports are plain data");
    text.push('\n');
    std::fs::write(path, text).map_err(|source| LoadError::Output {
        path: path.to_owned(),
        source,
    })
}
