//! Decides whether this machine's KVM can run the dataplane, by running a small guest that must
//! finish.
//!
//! Opening `/dev/kvm` proves nothing: there are software implementations that open, create a VM,
//! and then emulate ring 0 slowly or never come back from ring 3. So [`probe_kvm`] boots the image
//! of [`guest`] under `-accel kvm` and believes only its exit status.
//!
//! Neighbours: the machine launcher picks the accelerator with this; the nested KVM test runs the
//! same guest where KVM is known to be real, so that a probe which always says no cannot pass.

pub mod guest;

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the probe guest may take. Hardware needs a quarter of a second, nearly all of it
/// firmware; a KVM that needs longer than this is of no use.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why KVM cannot be used; the message completes the sentence "KVM is not usable: ...".
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The image could not be written, or QEMU not be started.
    #[error("cannot start the probe guest: {0}")]
    Start(#[from] io::Error),
    /// The guest was still running at the deadline.
    #[error("the probe guest did not come back from ring 3 within {} s", .0.as_secs())]
    Stuck(Duration),
    /// QEMU ended, but not with the guest's exit code.
    #[error("the probe guest did not finish ({status}){}", suffix(.diagnostic))]
    Failed {
        /// How QEMU ended.
        status: ExitStatus,
        /// The last line that QEMU wrote to its standard error.
        diagnostic: String,
    },
}

/// Boots the probe guest under KVM; `Ok` means that it went to ring 3 and came back.
///
/// `qemu` is the program to start, with whatever arguments its installation needs (firmware
/// directories, for instance); the machine's own arguments are added here.
pub fn probe_kvm(mut qemu: Command) -> Result<(), ProbeError> {
    let mut image = tempfile::NamedTempFile::new()?;
    image.write_all(guest::image())?;
    let mut diagnostics = tempfile::tempfile()?;
    let mut child = qemu
        .args(machine_arguments())
        .arg("-kernel")
        .arg(image.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(diagnostics.try_clone()?)
        .spawn()?;
    let status = wait(&mut child, PROBE_TIMEOUT)?;
    if status.code() == Some(guest::EXIT_STATUS) {
        return Ok(());
    }
    Err(ProbeError::Failed {
        status,
        diagnostic: last_line(&mut diagnostics)?,
    })
}

/// QEMU arguments of the machine that [`guest::image`] needs, without the `-kernel`.
pub fn machine_arguments() -> Vec<String> {
    let exit_device = format!("isa-debug-exit,iobase={:#x},iosize=4", guest::EXIT_PORT);
    let fixed = "-machine q35 -accel kvm -cpu host -m 32M -display none -nodefaults -no-reboot";
    let fixed = fixed.split(' ').map(str::to_owned);
    fixed.chain(["-device".to_owned(), exit_device]).collect()
}

fn wait(child: &mut Child, timeout: Duration) -> Result<ExitStatus, ProbeError> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(ProbeError::Stuck(timeout));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn last_line(diagnostics: &mut File) -> io::Result<String> {
    let mut text = String::new();
    diagnostics.rewind()?;
    diagnostics.read_to_string(&mut text)?;
    Ok(text
        .lines()
        .next_back()
        .unwrap_or_default()
        .trim()
        .to_owned())
}

fn suffix(diagnostic: &str) -> String {
    if diagnostic.is_empty() {
        String::new()
    } else {
        format!(": {diagnostic}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        command
    }

    #[test]
    fn only_the_guests_own_exit_status_counts() {
        assert!(probe_kvm(shell(&format!("exit {}", guest::EXIT_STATUS))).is_ok());
        assert!(
            probe_kvm(shell("exit 0")).is_err(),
            "a guest that reset is no success"
        );
    }

    #[test]
    fn refusal_carries_what_qemu_said() {
        let error = probe_kvm(shell("echo warning; echo no module >&2; exit 1")).unwrap_err();
        assert!(error.to_string().ends_with(": no module"), "{error}");
    }

    #[test]
    fn missing_program_is_an_answer() {
        let error = probe_kvm(Command::new("/nonexistent/qemu")).unwrap_err();
        assert!(matches!(error, ProbeError::Start(_)), "{error}");
    }

    #[test]
    fn a_guest_that_hangs_is_ended_at_the_deadline() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let error = wait(&mut child, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, ProbeError::Stuck(_)));
        assert!(child.try_wait().unwrap().is_some(), "no process left");
    }
}
