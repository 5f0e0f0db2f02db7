//! Exit codes and the one line that goes with them: 2 for bad input and for what the host lacks, 1 for
//! what failed while it ran, 130 after Ctrl-C.

use std::fmt;
use std::process::ExitCode;

use crate::interrupt;

/// Something that the user or the host has to change.
#[derive(Debug)]
pub struct BadInput(pub String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// A failure whose details have been printed already.
#[derive(Debug)]
pub struct Reported;

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Reported {}

/// A [`BadInput`] as an error.
pub fn bad_input(message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(BadInput(message.into()))
}

/// Prints `error` and returns the exit code that fits it.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if interrupt::requested() {
        eprintln!("interrupted");
        return ExitCode::from(130);
    }
    if !error.is::<Reported>() {
        eprintln!("error: {error:#}");
    }
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let bad_input = error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause
                .downcast_ref::<ix_machine::Error>()
                .is_some_and(|error| error.is_bad_input())
    });
    if bad_input { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn bad_input_is_found_below_context() {
        let error = Err::<(), _>(bad_input("no such app"))
            .context("cannot run")
            .unwrap_err();
        assert_eq!(exit_code(&error), 2);
        let error = anyhow::Error::new("1T".parse::<ix_machine::MemorySize>().unwrap_err());
        assert_eq!(exit_code(&error.context("memory")), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("a test failed")), 1);
    }
}
