//! Child processes that cannot outlive their owner, and short runs of the host's tools.
//!
//! A [`Process`] is started through `setpriv --pdeathsig KILL`, so the kernel ends it when the thread
//! that started it dies, whatever the reason; dropping it kills and reaps it. It has a process group
//! of its own, so that a Ctrl-C on the terminal reaches the owner alone, who stops things in order.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::error::{Error, Result};
use crate::exit::words;
use crate::netns::Netns;

/// How long a tool of the host may take.
const TOOL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last output of a dead process is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// Lines of a process's messages that are kept for reports.
const KEPT_LINES: usize = 20;

/// A child process that dies with its owner.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    pidfd: OwnedFd,
    exit_status: Option<ExitStatus>,
    messages: Arc<Mutex<VecDeque<String>>>,
    message_reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `program`, in network namespace `netns` if there is one. With `echo`, what it writes to
    /// stderr is also printed, with `name` before each line.
    pub fn spawn<I: AsRef<OsStr>>(
        name: &'static str,
        netns: Option<&Netns>,
        program: &Path,
        args: &[I],
        echo: bool,
    ) -> Result<Process> {
        let setpriv = find_tool("setpriv", "util-linux")?;
        let mut command = match netns {
            Some(netns) => netns.command(&setpriv)?,
            None => Command::new(setpriv),
        };
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        log::debug!("starting {name}: {command:?}");
        let mut child = command
            .spawn()
            .map_err(Error::io(format!("start {name} ({})", program.display())))?;
        let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                kill_and_reap(&mut child);
                return Err(Error::io(format!("watch {name}"))(error.into()));
            }
        };
        let messages = Arc::new(Mutex::new(VecDeque::new()));
        let message_reader = child.stderr.take().map(|stderr| {
            let messages = Arc::clone(&messages);
            thread::spawn(move || keep_messages(name, stderr, &messages, echo))
        });
        Ok(Process {
            name,
            child,
            pidfd,
            exit_status: None,
            messages,
            message_reader,
        })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes readable when the process ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its standard output, once.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end, at most `timeout`.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<ExitStatus> {
        if self.exit_status.is_none() && readable(&[self.pidfd.as_fd()], Some(timeout))[0] {
            match self.child.wait() {
                Ok(status) => self.exit_status = Some(status),
                // Only when SIGCHLD is ignored, which makes the system reap and forget.
                Err(error) => log::error!("cannot learn how {} ended: {error}", self.name),
            }
        }
        self.exit_status
    }

    /// Sends SIGTERM, and SIGKILL after `grace`; returns when the process is gone.
    pub fn terminate(&mut self, grace: Duration) -> Option<ExitStatus> {
        if self.wait_timeout(Duration::ZERO).is_none() {
            // A failure means that it ended just now.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if self.wait_timeout(grace).is_none() {
                log::warn!(
                    "{} (pid {}) ignored SIGTERM, killing it",
                    self.name,
                    self.pid()
                );
                self.exit_status = kill_and_reap(&mut self.child);
            }
        }
        self.exit_status
    }

    /// Kills it unless it has ended; returns when the process is gone.
    pub fn kill(&mut self) {
        if self.wait_timeout(Duration::ZERO).is_none() {
            log::warn!("killing {} (pid {})", self.name, self.pid());
            self.exit_status = kill_and_reap(&mut self.child);
        }
    }

    /// Last lines that it wrote to stderr.
    pub fn last_messages(&mut self) -> Vec<String> {
        if self.exit_status.is_some()
            && let Some(reader) = self.message_reader.take()
        {
            join_within(reader, DRAIN_TIMEOUT);
        }
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().cloned().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit_status.is_none() {
            kill_and_reap(&mut self.child);
        }
    }
}

/// Which of `fds` are readable or closed, after waiting at most `timeout` (`None`: for ever) for one.
pub(crate) fn readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Vec<bool> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec {
            tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut polled, left.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            // Nothing is readable where the system cannot even tell: callers then run into their deadline.
            Err(error) => log::error!("cannot wait for processes: {error}"),
            Ok(_) => {}
        }
        return polled.iter().map(|fd| !fd.revents().is_empty()).collect();
    }
}

/// Runs a tool of the host to its end, with `input` on its stdin, and returns what it printed.
pub(crate) fn run_tool(doing: &str, mut command: Command, input: &str) -> Result<String> {
    let program = Path::new(command.get_program()).display().to_string();
    let failed = |why: String| Error::ToolFailed {
        program: program.clone(),
        doing: doing.to_owned(),
        why,
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|source| failed(source.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends without reading reports why by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let ended = pidfd.map(|pidfd| readable(&[pidfd.as_fd()], Some(TOOL_TIMEOUT))[0]);
    if !matches!(ended, Ok(true)) {
        kill_and_reap(&mut child);
        return Err(failed(format!("no end after {} s", TOOL_TIMEOUT.as_secs())));
    }
    let status = child.wait().map_err(|source| failed(source.to_string()))?;
    let stderr = stderr.join().unwrap_or_default();
    if !status.success() {
        return Err(failed(format!(
            "{}: {}",
            words(status),
            stderr.trim().replace('\n', "; ")
        )));
    }
    Ok(stdout.join().unwrap_or_default())
}

/// Finds `program` in `PATH` or in the folders of system tools, which are not in everyone's `PATH`.
pub fn find_tool(program: &str, package: &'static str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::NoTool {
            program: program.to_owned(),
            package,
        })
}

fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            // What was read before an error is still worth reporting.
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn keep_messages(name: &str, stderr: impl Read, messages: &Mutex<VecDeque<String>>, echo: bool) {
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        log::debug!("{name}: {line}");
        if echo {
            // Most programs name themselves. A closed terminal is no reason to lose the messages.
            let prefix = if line.starts_with(name) {
                String::new()
            } else {
                format!("{name}: ")
            };
            let _ = writeln!(io::stderr(), "{prefix}{line}");
        }
        let mut messages = messages.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() == KEPT_LINES {
            messages.pop_front();
        }
        messages.push_back(line);
    }
}

fn kill_and_reap(child: &mut Child) -> Option<ExitStatus> {
    // Killing fails only for a process that has ended and is reaped below.
    let _ = child.kill();
    child.wait().ok()
}

fn join_within(thread: JoinHandle<()>, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
    if thread.is_finished() {
        // It has nothing to return, and a panic of it has been printed.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::spawn("shell", None, Path::new("/bin/sh"), &["-c", script], false).unwrap()
    }

    #[test]
    fn exit_code_and_last_words_are_reported() {
        let mut process = shell("echo one >&2; echo two >&2; exit 3");
        let status = process.wait_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.last_messages(), ["one", "two"]);
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed() {
        let mut process = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
        let mut ready = [0; 6];
        process
            .take_stdout()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        assert!(process.wait_timeout(Duration::ZERO).is_none());
        let status = process.terminate(Duration::from_millis(100)).unwrap();
        assert_eq!(words(status), "signal 9 (SIGKILL)");
    }

    #[test]
    fn dropping_leaves_no_process() {
        let process = shell("exec sleep 1000");
        let path = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(path.exists());
        drop(process);
        assert!(!path.exists());
    }

    #[test]
    fn the_death_of_the_owning_thread_ends_the_process() {
        let owner = thread::spawn(|| {
            let mut process = shell("echo ready; exec sleep 1000");
            let mut ready = [0; 6];
            process
                .take_stdout()
                .unwrap()
                .read_exact(&mut ready)
                .unwrap();
            process
        });
        let mut process = owner.join().unwrap();
        let status = process
            .wait_timeout(Duration::from_secs(10))
            .expect("killed with its parent");
        assert_eq!(words(status), "signal 9 (SIGKILL)");
    }

    #[test]
    fn a_failed_tool_reports_its_words() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read word; echo \"no $word\" >&2; exit 4"]);
        let error = run_tool("testing", command, "luck\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "/bin/sh failed while testing: exit code 4: no luck"
        );
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let error = find_tool("no-such-tool-here", "ix-tools").unwrap_err();
        assert!(
            error.to_string().ends_with("install the package ix-tools"),
            "{error}"
        );
    }
}
