//! The task runner: `cargo xtask --help`.
//!
//! One file per subcommand in [`command`]; [`setup`] installs what they need; [`workspace`] calls
//! cargo; [`child`] runs programs so that they end when the user says so; [`step`] says what is being
//! done and how long it took. Machines are the business of the `ix-machine` crate.

#![forbid(unsafe_code)]

mod child;
mod command;
mod failure;
mod interrupt;
mod setup;
mod step;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::command::Command;

/// Builds, runs and tests the IX dataplane.
///
/// On a fresh machine, `cargo xtask demo` shows the main job, and `cargo xtask test` runs all tests;
/// both install what is missing first.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::watch().and_then(|()| cli.command.run());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn unknown_flags_and_values_are_refused_with_exit_code_2() {
        for words in [
            "run --colour red",
            "run --cpus 0",
            "run --cpus many",
            "run --memory 3T",
            "run --accel xen",
            "run --ip 10.9.0.300",
            "run --mac 53:54:00:12:34:56",
            "run --port 65536",
            "run --nic e1000",
            "run --log loud",
            "test everything",
            "dance",
        ] {
            let words = ["xtask"].into_iter().chain(words.split(' '));
            let error = Cli::try_parse_from(words.clone()).expect_err("refused");
            assert_eq!(error.exit_code(), 2, "{:?}", words.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_documented_flags_are_accepted() {
        let line = "xtask run --app echo --cpus 2 --memory 1G --accel tcg --pcap wire.pcap --log debug \
                    --ip 10.9.0.7/16 --mac 52:54:00:00:00:01 --port 7 --nic 82599 -- --verbose";
        Cli::try_parse_from(line.split_whitespace()).unwrap();
    }
}
