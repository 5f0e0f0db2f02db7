//! `cargo xtask bench net`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::child;
use crate::failure::bad_input;
use crate::step::{Step, say};
use crate::workspace;

/// The program that is measured.
const EXAMPLE: &str = "request_response";
/// Its counted function.
const COUNTED: &str = "*::one_cycle*";
const CONNECTIONS: [u32; 3] = [1, 1_000, 100_000];
const EXCHANGES: u32 = 20_000;

/// How to report.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print JSON, as the last line.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) -> Result<()> {
    require_valgrind()?;
    let program = build()?;
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        rows.push((connections, measure(&program, connections)?));
    }
    if options.json {
        let rows: Vec<Value> = rows.iter().map(|row| json_row(*row)).collect();
        say(&json!({ "engine": rows }).to_string());
        return Ok(());
    }
    say("connections  instructions per request-response");
    for (connections, instructions) in rows {
        say(&format!("{connections:>11}  {instructions:>10.1}"));
    }
    Ok(())
}

fn json_row((connections, instructions): (u32, f64)) -> Value {
    json!({ "connections": connections, "instructions_per_exchange": instructions })
}

fn require_valgrind() -> Result<()> {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(bad_input(
            "there is no working valgrind, whose callgrind counts: install it (apt-get install valgrind)",
        )),
    }
}

fn build() -> Result<PathBuf> {
    Step::run("build", |step| {
        let profile = workspace::BARE_PROFILE;
        let command = workspace::cargo(&[
            "build",
            "-p",
            "ix-net",
            "--profile",
            profile,
            "--example",
            EXAMPLE,
        ]);
        child::capture(step, command)?;
        let folder = workspace::target_folder().join(profile).join("examples");
        Ok((folder.join(EXAMPLE), EXAMPLE.to_owned()))
    })
}

/// Instructions per exchange.
fn measure(program: &PathBuf, connections: u32) -> Result<f64> {
    Step::run(format!("{connections} connections"), |step| {
        let mut command = Command::new("valgrind");
        command
            .args([
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
                "--log-fd=1",
            ])
            .arg(format!("--toggle-collect={COUNTED}"))
            .arg(program)
            .args([connections.to_string(), EXCHANGES.to_string()]);
        let printed = child::capture(step, command)?;
        let collected = collected(&printed)
            .with_context(|| format!("callgrind did not say how much it collected:\n{printed}"))?;
        if collected == 0 {
            bail!(
                "callgrind found no function {COUNTED} in {}",
                program.display()
            );
        }
        let each = collected as f64 / f64::from(EXCHANGES);
        Ok((each, format!("{each:.1} instructions")))
    })
}

/// Reads `Collected : N` among what callgrind prints.
fn collected(printed: &str) -> Option<u64> {
    let (_, rest) = printed
        .lines()
        .find_map(|line| line.split_once("Collected :"))?;
    rest.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_sum_is_found() {
        let printed = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n";
        assert_eq!(collected(printed), Some(123_456));
        assert_eq!(collected("Collected : many"), None);
        assert_eq!(collected(""), None);
    }
}
