//! Counting the instructions of some functions of a program with valgrind's callgrind.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::child;
use crate::failure::bad_input;
use crate::step::Step;

/// Fails if there is no valgrind.
pub fn require() -> Result<()> {
    let mut command = Command::new("valgrind");
    command.arg("--version").stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(bad_input(
            "there is no working valgrind, whose callgrind counts: install it (apt-get install valgrind)",
        )),
    }
}

/// Runs a program that `add` puts behind valgrind's own arguments. Returns what was printed, and the
/// instructions of the functions whose names match.
pub fn count(
    step: &Step,
    functions: &str,
    add: impl FnOnce(&mut Command),
) -> Result<(String, u64)> {
    count_toggled(step, &[functions], add)
}

/// The same, where each function whose name matches one of those turns counting on or off until it ends.
pub fn count_toggled(
    step: &Step,
    functions: &[&str],
    add: impl FnOnce(&mut Command),
) -> Result<(String, u64)> {
    let mut command = Command::new("valgrind");
    command.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--log-fd=1",
    ]);
    let toggles = functions.iter();
    command.args(toggles.map(|functions| format!("--toggle-collect={functions}")));
    add(&mut command);
    let printed = child::capture(step, command)?;
    let collected = collected(&printed)
        .with_context(|| format!("callgrind did not say how much it collected:\n{printed}"))?;
    if collected == 0 {
        bail!("callgrind found no function {functions:?}");
    }
    Ok((printed, collected))
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
