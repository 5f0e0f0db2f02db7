//! The instructions of a move of flow groups, for `cargo xtask bench migrate`: both threads in one process
//! under callgrind (`kernel-dp/core/examples/moves.rs`), whose functions are the phases.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use ix_insns::migrate::{Instructions, PHASES};

use super::callgrind;
use crate::child;
use crate::step::Step;
use crate::workspace;

const EXAMPLE: &str = "moves";

/// The program.
pub struct Moves(PathBuf);

impl Moves {
    /// Builds it as what runs in the guest is built.
    pub fn build() -> Result<Self> {
        callgrind::require()?;
        Step::run("build", |step| {
            let profile = workspace::BARE_PROFILE;
            let words = ["build", "-p", "ix-core", "--example", EXAMPLE];
            let mut command = workspace::cargo(&words);
            command.args(["--profile", profile]);
            child::capture(step, command)?;
            let folder = workspace::target_folder().join(profile);
            let path = folder.join("examples").join(EXAMPLE);
            Ok((Self(path), EXAMPLE.to_owned()))
        })
    }

    /// Counts what a move of so many flow groups with so many connections takes, and what it would take
    /// without any.
    pub fn count(&self, groups: usize, connections: u16) -> Result<Instructions> {
        let name = format!("{connections} connections in {groups} flow groups");
        Step::run(name, |step| {
            let mut phases = [0; PHASES.len()];
            for (number, phase) in (1..).zip(&mut phases) {
                let functions = format!("{EXAMPLE}::phase_{number}_*");
                *phase = self.collect(step, &functions, (groups, connections))?;
            }
            let functions = format!("{EXAMPLE}::phase_*");
            let empty = self.collect(step, &functions, (groups, 0))?;
            let counted = Instructions::new(phases, empty, connections);
            let outcome = format!("{:.0} instructions for each", counted.each);
            Ok((counted, outcome))
        })
    }

    fn collect(
        &self,
        step: &Step,
        functions: &str,
        (groups, connections): (usize, u16),
    ) -> Result<u64> {
        let (printed, collected) = callgrind::count(step, functions, |command| {
            let numbers = [groups.to_string(), connections.to_string()];
            command.arg(&self.0).args(numbers);
        })?;
        let expected = format!("{connections} connections moved");
        ensure!(
            printed.lines().any(|line| line == expected),
            "the program did not do what it was to ({expected}):\n{printed}"
        );
        Ok(collected)
    }
}
