//! Runs the client's program, for no longer than it may take.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Check;

/// How often is looked whether it has ended.
const POLL: Duration = Duration::from_millis(5);
/// `ixload` ends with this code if it was the bottleneck itself.
const WITHHELD: i32 = 3;

/// Runs `ixload` to its end, within `budget`; `folder` is for what it complains of. An error of `check`
/// ends it.
pub fn run(command: &mut Command, folder: &Path, budget: Duration, check: Check) -> Result<()> {
    let complaints = folder.join("stderr");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&complaints).context("cannot make a file for its messages")?);
    let mut child = command.spawn().context("cannot start it")?;
    let status = wait(&mut child, budget, check);
    if status.is_err() {
        end(&mut child)?;
    }
    let status = status?;
    ensure!(
        matches!(status.code(), Some(0 | WITHHELD)),
        "{status}: {}",
        fs::read_to_string(&complaints)?.trim()
    );
    Ok(())
}

fn wait(child: &mut Child, budget: Duration, check: Check) -> Result<ExitStatus> {
    let deadline = Instant::now() + budget;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            bail!("it has not ended after {} s", budget.as_secs());
        }
        check()?;
        thread::sleep(POLL);
    }
}

fn end(child: &mut Child) -> Result<()> {
    match child.kill() {
        // It has ended by itself.
        Err(error) if error.kind() == ErrorKind::InvalidInput => {}
        other => other.context("cannot kill it")?,
    }
    child.wait().context("cannot wait for its end")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_shell(script: &str, budget: Duration, check: Check) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(&mut command, folder.path(), budget, check)
    }

    #[test]
    fn numbers_that_are_the_clients_own_are_numbers_too() {
        for script in ["exit 0", "exit 3"] {
            run_shell(script, Duration::from_secs(60), || Ok(())).unwrap();
        }
    }

    #[test]
    fn a_failure_comes_with_what_was_said() {
        let error = run_shell("echo no route >&2; exit 1", Duration::from_secs(60), || {
            Ok(())
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("no route") && text.contains('1'), "{text}");
    }

    #[test]
    fn what_takes_too_long_is_ended_and_so_is_what_is_interrupted() {
        let start = Instant::now();
        let late = run_shell("sleep 600", Duration::from_millis(50), || Ok(()));
        assert!(late.unwrap_err().to_string().contains("has not ended"));
        let interrupted = run_shell("sleep 600", Duration::from_secs(600), || bail!("enough"));
        assert_eq!(interrupted.unwrap_err().to_string(), "enough");
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}
