//! `ixload`, the client at the Linux end of the wire: it opens connections to an echo server,
//! sends bytes whose pattern is different at every position of every connection, verifies each
//! byte that comes back, and measures.
//!
//! [`options`] is the command line, [`run`] carries it out. One module a command: [`echo`] (closed
//! loop, latency), [`stream`] (bulk, half-close), [`refuse`], [`kill`], [`serve`] (an echo server
//! on Linux, to measure the client itself against). [`report`] is what `--json` writes.
//!
//! Every run ends with all bytes verified or with a [`LoadError`].

#![forbid(unsafe_code)]

mod connections;
mod cpu;
pub mod echo;
mod error;
pub mod kill;
pub mod options;
pub mod pattern;
mod progress;
pub mod refuse;
pub mod report;
pub mod serve;
pub mod stream;
mod unacknowledged;

pub use error::LoadError;

use std::path::Path;

use options::{Command, Options};
use report::Report;

/// Carries a command out: prints its report as a table, and writes the JSON file if one is asked
/// for.
pub fn run(options: &Options) -> Result<(), LoadError> {
    let (report, json) = match &options.command {
        Command::Echo(echo) => (Report::Echo(echo::run(echo)?), &echo.json),
        Command::Open(open) => (Report::Echo(echo::run_open(open)?), &open.json),
        Command::Stream(stream) => (Report::Stream(stream::run(stream)?), &stream.json),
        Command::Refuse(refuse) => (Report::Refuse(refuse::run(refuse)?), &None),
        Command::Kill(kill) => (Report::Kill(kill::run(kill)?), &None),
        Command::ServeEcho(serve) => return serve::run(serve),
    };
    print!("{report}");
    match json {
        Some(path) => write_json(&report, path),
        None => Ok(()),
    }
}

fn write_json(report: &Report, path: &Path) -> Result<(), LoadError> {
    let mut text = serde_json::to_string_pretty(report).expect("reports are plain data");
    text.push('\n');
    std::fs::write(path, text).map_err(|source| LoadError::Json {
        path: path.to_owned(),
        source,
    })
}
