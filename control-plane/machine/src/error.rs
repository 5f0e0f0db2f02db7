//! What can go wrong before a machine runs, or while waiting for it. Each message names the thing
//! that failed and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::exit::ExitReport;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A machine could not be started, or did not do what was waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that does not parse, or that contradicts another one.
    #[error("{what} {value:?}: {why}")]
    BadValue {
        /// The setting, as its flag or key is called.
        what: &'static str,
        /// What was given.
        value: String,
        /// Why it cannot be, and what can.
        why: String,
    },
    /// A file that has to be built first.
    #[error("no {what} at {path}: build it with `cargo xtask image`")]
    NoArtifact {
        /// What the file is.
        what: String,
        /// Where it was expected.
        path: PathBuf,
    },
    /// An image that is not an ELF program for this machine.
    #[error("{what} {path} is not usable: {why}; build it again with `cargo xtask image`")]
    BadImage {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No emulator that can carry the machine.
    #[error(
        "no QEMU {minimum} or newer with vfio-user-pci ({tried}): \
         run `cargo xtask setup`, or set IX_QEMU to one"
    )]
    NoQemu {
        /// The oldest version that will do.
        minimum: String,
        /// What was looked at, and why it would not do.
        tried: String,
    },
    /// A program of the host that is missing.
    #[error("cannot run {program}: not found; install the package {package}")]
    NoTool {
        /// The program.
        program: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// The caller lacks a privilege.
    #[error(
        "{what} needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN): run it as root, for example with sudo -E"
    )]
    NotPermitted {
        /// What was refused.
        what: &'static str,
    },
    /// A program of the host that failed.
    #[error("{program} failed while {doing}: {why}")]
    ToolFailed {
        /// The program.
        program: String,
        /// What it was to do.
        doing: String,
        /// Exit status and output.
        why: String,
    },
    /// A system call that failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was being done, on what.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The device model did not come up.
    #[error("the NIC model {why}{}", tail(stderr))]
    NicModel {
        /// What it did instead.
        why: String,
        /// Its last words.
        stderr: Vec<String>,
    },
    /// QEMU did not come up.
    #[error("QEMU {why}{}", tail(stderr))]
    Qemu {
        /// What it did instead.
        why: String,
        /// Its last words.
        stderr: Vec<String>,
    },
    /// QEMU's control socket did not answer as it should.
    #[error("QEMU's control socket: {0}")]
    Qmp(String),
    /// A line that did not come in time.
    #[error(
        "no line with {needle:?} on the serial console within {} ms{}",
        timeout.as_millis(), tail(last_lines)
    )]
    ConsoleTimeout {
        /// What was waited for.
        needle: String,
        /// For how long.
        timeout: Duration,
        /// What came last.
        last_lines: Vec<String>,
    },
    /// The machine ended while something was waited for.
    #[error("the machine ended while waiting for {waiting_for:?}: {report}")]
    MachineEnded {
        /// What was waited for.
        waiting_for: String,
        /// How it ended.
        report: Box<ExitReport>,
    },
}

impl Error {
    /// Whether what was asked for, or the host, has to change before another try makes sense: programs
    /// answer these with exit code 2, and failures of a machine that ran with 1.
    pub fn is_bad_input(&self) -> bool {
        !matches!(
            self,
            Error::Qmp(_) | Error::ConsoleTimeout { .. } | Error::MachineEnded { .. }
        )
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }
}

/// Last lines of a program as an appendix to a message; nothing when there are none.
pub(crate) fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        String::new()
    } else {
        format!("; last lines:\n  {}", lines.join("\n  "))
    }
}
