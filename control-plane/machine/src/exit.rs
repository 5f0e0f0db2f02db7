//! How a machine ended, in words.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::error::tail;

/// How a machine ended, and what its processes said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// What ended it.
    pub cause: Cause,
    /// Last lines of QEMU's own messages.
    pub qemu_stderr: Vec<String>,
    /// Last lines of the NIC model's messages.
    pub nic_stderr: Vec<String>,
    /// The functions that the guest ended in, the innermost first, if it said where.
    pub places: Vec<String>,
}

/// What ended a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The guest's kernel said so.
    Guest(GuestExit),
    /// The guest reset or powered off without a word: on this machine, a triple fault.
    Reset,
    /// It was asked to stop.
    Stopped,
    /// QEMU failed.
    Qemu(ExitStatus),
    /// The NIC model ended while the machine was running, which stops the machine.
    NicModel(ExitStatus),
}

/// The code that the kernel ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestExit {
    /// The application ended with 0.
    AppSucceeded,
    /// The application ended with another code.
    AppFailed,
    /// The application faulted and was stopped.
    AppFault,
    /// The kernel panicked.
    Panic,
    /// The kernel refused its command line, its image or the machine.
    BadBoot,
    /// The kernel found no card that it can drive.
    NoNic,
    /// The application stayed in user mode for too long and was stopped.
    AppOverstayed,
    /// A code without a meaning.
    Unknown(u8),
}

impl GuestExit {
    /// Meaning of the byte written to the exit port.
    pub fn from_code(code: u8) -> Self {
        match code {
            0x10 => GuestExit::AppSucceeded,
            0x11 => GuestExit::AppFailed,
            0x12 => GuestExit::AppFault,
            0x13 => GuestExit::Panic,
            0x14 => GuestExit::BadBoot,
            0x15 => GuestExit::NoNic,
            0x16 => GuestExit::AppOverstayed,
            other => GuestExit::Unknown(other),
        }
    }
}

impl Cause {
    /// Meaning of QEMU's exit status. isa-debug-exit makes it `code << 1 | 1`; 1 is QEMU's own failure,
    /// so that code 0 is not used by the kernel.
    pub fn from_qemu(status: ExitStatus) -> Self {
        match status.code() {
            Some(0) => Cause::Reset,
            Some(code @ 3..=255) if code % 2 == 1 => {
                Cause::Guest(GuestExit::from_code((code >> 1) as u8))
            }
            _ => Cause::Qemu(status),
        }
    }
}

impl ExitReport {
    /// Whether the machine did what it was there for: served until it was stopped, or ran its
    /// application to a good end.
    pub fn is_success(&self) -> bool {
        matches!(
            self.cause,
            Cause::Stopped | Cause::Guest(GuestExit::AppSucceeded)
        )
    }
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            Cause::Guest(exit) => {
                write!(f, "{exit}")?;
                for place in &self.places {
                    write!(f, "\n  at {place}")?;
                }
                Ok(())
            }
            Cause::Reset => f.write_str(
                "the guest reset or powered off without a report, as after a triple fault",
            ),
            Cause::Stopped => f.write_str("stopped on request"),
            Cause::Qemu(status) => {
                write!(
                    f,
                    "QEMU ended with {}{}",
                    words(status),
                    tail(&self.qemu_stderr)
                )
            }
            Cause::NicModel(status) => write!(
                f,
                "the NIC model ended with {} under a running machine, which was stopped{}",
                words(status),
                tail(&self.nic_stderr)
            ),
        }
    }
}

impl fmt::Display for GuestExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GuestExit::AppSucceeded => "the application exited with code 0",
            GuestExit::AppFailed => "the application exited with a code other than 0",
            GuestExit::AppFault => "the application was stopped for a fault",
            GuestExit::Panic => "the dataplane kernel panicked",
            GuestExit::BadBoot => {
                "the dataplane kernel refused its configuration, image or machine"
            }
            GuestExit::NoNic => "the dataplane kernel found no network card",
            GuestExit::AppOverstayed => {
                "the application was stopped because it stayed in user mode for too long"
            }
            GuestExit::Unknown(code) => {
                return write!(f, "the guest ended with the unknown code {code:#04x}");
            }
        })
    }
}

/// An exit status in words: `exit code 3`, or `signal 6 (SIGABRT)`.
pub fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                1 => "SIGHUP",
                2 => "SIGINT",
                4 => "SIGILL",
                6 => "SIGABRT",
                7 => "SIGBUS",
                8 => "SIGFPE",
                9 => "SIGKILL",
                11 => "SIGSEGV",
                13 => "SIGPIPE",
                15 => "SIGTERM",
                _ => return format!("signal {signal}"),
            };
            format!("signal {signal} ({name})")
        }
        (None, None) => format!("{status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn report(cause: Cause) -> ExitReport {
        ExitReport {
            cause,
            qemu_stderr: vec!["no such file".to_owned()],
            nic_stderr: Vec::new(),
            places: vec!["0x12 start".to_owned()],
        }
    }

    #[test]
    fn the_guests_end_is_told_with_its_places() {
        let panic = report(Cause::Guest(GuestExit::Panic)).to_string();
        assert_eq!(panic, "the dataplane kernel panicked\n  at 0x12 start");
    }

    #[test]
    fn status_33_is_a_good_end() {
        let report = report(Cause::from_qemu(exited(33)));
        assert_eq!(report.cause, Cause::Guest(GuestExit::AppSucceeded));
        assert!(report.is_success());
    }

    #[test]
    fn each_kernel_code_has_its_own_meaning() {
        use GuestExit::*;
        for (code, exit) in [
            (0x11, AppFailed),
            (0x12, AppFault),
            (0x13, Panic),
            (0x14, BadBoot),
            (0x15, NoNic),
            (0x16, AppOverstayed),
            (0x7f, Unknown(0x7f)),
        ] {
            let cause = Cause::from_qemu(exited(code << 1 | 1));
            assert_eq!(cause, Cause::Guest(exit));
            assert!(!report(cause).is_success());
        }
    }

    #[test]
    fn failures_of_qemu_are_not_taken_for_the_guests() {
        assert_eq!(Cause::from_qemu(exited(0)), Cause::Reset);
        let failed = Cause::from_qemu(exited(1));
        assert!(matches!(failed, Cause::Qemu(_)));
        assert_eq!(
            report(failed).to_string(),
            "QEMU ended with exit code 1; last lines:\n  no such file"
        );
        let aborted = Cause::from_qemu(ExitStatus::from_raw(6));
        assert!(
            report(aborted)
                .to_string()
                .starts_with("QEMU ended with signal 6 (SIGABRT)")
        );
    }
}
