//! `ixctl`: commands for the control plane. It asks the daemon over its socket and prints the answer,
//! for people or, with `--json`, as it came.

#![forbid(unsafe_code)]

mod client;
mod command;
mod doctor;
mod table;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};

use client::Client;
use command::Command;

/// Runs dataplanes, and grants hardware threads to them and revokes them.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Socket of the daemon.
    #[arg(long, value_name = "PATH", default_value = ix_api::SOCKET, global = true, env = "IXCP_SOCKET")]
    socket: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ixctl: {error:#}");
            match error.downcast_ref::<ix_api::Refusal>() {
                // Nothing is wrong with the daemon: something else has to be asked for.
                Some(refusal) if refusal.kind != ix_api::Kind::Failed => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn run(cli: Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Completions { shell } => {
            let mut description = Cli::command();
            clap_complete::generate(*shell, &mut description, "ixctl", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor => doctor::run(&cli.socket, cli.json),
        command => {
            let client = Client::new(&cli.socket);
            command::run(command, &client, cli.json).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_may_stand_anywhere() {
        for line in ["ixctl --json ps", "ixctl ps --json"] {
            assert!(Cli::parse_from(line.split(' ')).json, "{line}");
        }
    }
}
