//! Programs that are run to their end: cargo, apt, the load generator. They get a process group of
//! their own, and a SIGTERM when the user interrupts; what they print is shown, read along, or kept for
//! the case that they fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ix_machine::exit::words;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::interrupt;
use crate::step::Step;

const POLL: Duration = Duration::from_millis(10);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of a failed program that are shown.
const SHOWN_LINES: usize = 60;

/// Runs `command` with its output kept; `step` shows the last line while it lasts. Returns stdout.
pub fn capture(step: &Step, mut command: Command) -> Result<String> {
    let name = name_of(&command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let printed = Arc::new(Mutex::new(Vec::new()));
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (status, stdout) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut text = String::new();
            for line in lines(stdout) {
                // Messages of cargo are for programs.
                if !line.starts_with('{') {
                    step.at(&line);
                    lock(&printed).push(line.clone());
                }
                text.push_str(&line);
                text.push('\n');
            }
            text
        });
        scope.spawn(|| {
            for line in lines(stderr) {
                step.at(&line);
                lock(&printed).push(line);
            }
        });
        let status = wait(&mut child);
        (status, reader.join().unwrap_or_default())
    });
    let status = status?;
    if !status.success() {
        let printed = lock(&printed);
        let shown = printed[printed.len().saturating_sub(SHOWN_LINES)..].join("\n");
        bail!("{name} ended with {}:\n{shown}", words(status));
    }
    Ok(stdout)
}

/// Runs `command` with its output shown and each line of it also handed to `read`.
pub fn show(mut command: Command, mut read: impl FnMut(&str) + Send) -> Result<ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let stdout = child.stdout.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut terminal = std::io::stdout();
            for line in lines(stdout) {
                // A closed terminal does not change what is counted.
                let _ = writeln!(terminal, "{line}");
                read(&line);
            }
        });
        wait(&mut child)
    })
}

/// Runs `command` with its output shown; anything but success is an error.
pub fn run(mut command: Command) -> Result<()> {
    let name = name_of(&command);
    let mut child = spawn(command.stdin(Stdio::null()))?;
    let status = wait(&mut child)?;
    if !status.success() {
        bail!("{name} ended with {}", words(status));
    }
    Ok(())
}

fn spawn(command: &mut Command) -> Result<Child> {
    let name = name_of(command);
    command
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {name}"))
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    let mut term_sent: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for a program")? {
            interrupt::check()?;
            return Ok(status);
        }
        if interrupt::requested() {
            let (signal, sent) = match term_sent {
                None => (Some(Signal::TERM), Instant::now()),
                Some(sent) if sent.elapsed() > GRACE => (Some(Signal::KILL), sent),
                Some(sent) => (None, sent),
            };
            term_sent = Some(sent);
            if let Some(signal) = signal {
                // It fails only when the group has ended, which the next round sees.
                let _ = kill_process_group(Pid::from_child(child), signal);
            }
        }
        thread::sleep(POLL);
    }
}

/// Lines of a stream, without their ends; bytes that are not UTF-8 are replaced.
fn lines(stream: Option<impl Read>) -> impl Iterator<Item = String> {
    let lines = stream
        .into_iter()
        .flat_map(|stream| BufReader::new(stream).split(b'\n'));
    lines
        .map_while(|line| line.ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
}

fn name_of(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .take(3)
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn stdout_is_returned_and_a_failure_shows_both_streams() {
        let text = Step::run("test", |step| {
            Ok((capture(step, shell("echo one; echo two"))?, String::new()))
        });
        assert_eq!(text.unwrap(), "one\ntwo\n");
        let failed = Step::run("test", |step| {
            Ok((
                capture(step, shell("echo out; echo err >&2; exit 3"))?,
                String::new(),
            ))
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("exit code 3"), "{message}");
        assert!(
            message.contains("out") && message.contains("err"),
            "{message}"
        );
    }

    #[test]
    fn shown_lines_are_read_along() {
        let mut seen = Vec::new();
        let status = show(shell("echo a; printf b; exit 1"), |line| {
            seen.push(line.to_owned())
        });
        assert_eq!(status.unwrap().code(), Some(1));
        assert_eq!(seen, ["a", "b"]);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(Command::new("/no/such/program")).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
