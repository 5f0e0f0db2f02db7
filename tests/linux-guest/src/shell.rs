//! A shell in the guest, on a virtio port: commands go in, and what they print comes out, ended by a
//! line with the command's number and exit status.
//!
//! It is not on a serial line, since the interrupt of an emulated UART is lost now and then when an
//! answer is followed by a question at once, and nothing comes any more.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Starts the line before a command's output, and the one after it; the command's number follows.
const BEGIN: &str = "#began ";
const END: &str = "#ended ";
/// How long the shell waits between two looks at the clock.
const PATIENCE: Duration = Duration::from_millis(200);

/// Arguments of QEMU that make the port, with its host's end at `socket`.
pub fn qemu_args(socket: &Path) -> Vec<String> {
    let chardev = format!(
        "socket,id=shell,path={},server=on,wait=off",
        socket.display()
    );
    let words = [
        "-chardev",
        &chardev,
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=shell",
    ];
    words.map(str::to_owned).to_vec()
}

/// The line to the guest's shell.
#[derive(Debug)]
pub struct Shell {
    line: BufReader<UnixStream>,
    commands: u64,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status, 0 for success.
    pub status: i32,
    /// What it printed on both of its outputs.
    pub text: String,
}

impl Shell {
    /// Connects to the socket that QEMU made.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("cannot connect to the guest's shell {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            line: BufReader::new(stream),
            commands: 0,
        })
    }

    /// Runs `command` and waits for its end. Commands left in the background must not print.
    pub fn run(&mut self, command: &str, timeout: Duration) -> Result<Outcome> {
        self.commands += 1;
        let number = self.commands;
        // The empty `echo` completes a last line that has no end.
        let text = format!(
            "echo '{BEGIN}{number}'; {{ {command}\n}} </dev/null 2>&1; status=$?; echo; echo \"{END}{number} $status\"\n"
        );
        self.line.get_mut().write_all(text.as_bytes())?;
        let deadline = Instant::now() + timeout;
        let (begin, end) = (format!("{BEGIN}{number}"), format!("{END}{number} "));
        let mut printed = String::new();
        loop {
            let line = self
                .next_line(deadline)
                .with_context(|| format!("`{command}` in the guest; it printed: {printed}"))?;
            if let Some(status) = line.strip_prefix(&end) {
                let status = status.parse().context("the shell tells no exit status")?;
                let text = printed.trim_end().to_owned();
                return Ok(Outcome { status, text });
            }
            if line == begin {
                // What came before is of earlier commands.
                printed.clear();
                continue;
            }
            printed.push_str(&line);
            printed.push('\n');
        }
    }

    fn next_line(&mut self, deadline: Instant) -> Result<String> {
        let mut bytes = Vec::new();
        loop {
            match self.line.read_until(b'\n', &mut bytes) {
                Ok(0) => bail!("the guest closed its end"),
                Ok(_) if bytes.ends_with(b"\n") => {
                    let line = String::from_utf8_lossy(&bytes);
                    return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() > deadline {
                        bail!("no end in time");
                    }
                }
                Err(error) => return Err(error).context("the guest's shell failed"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};
    use std::thread;

    /// A shell of the host at the end of a socket.
    fn served() -> (tempfile::TempDir, Shell) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || listener.accept().unwrap().0);
        let shell = Shell::connect(&path).unwrap();
        let end: std::os::fd::OwnedFd = server.join().unwrap().into();
        let mut child = Command::new("/bin/sh")
            .stdin(Stdio::from(end.try_clone().unwrap()))
            .stdout(Stdio::from(end.try_clone().unwrap()))
            .stderr(Stdio::from(end))
            .spawn()
            .unwrap();
        // It ends when the other end of the socket closes.
        thread::spawn(move || child.wait());
        (folder, shell)
    }

    #[test]
    fn output_and_status_of_each_command_come_back() {
        let (_folder, mut shell) = served();
        let mut run = |command| shell.run(command, Duration::from_secs(10)).unwrap();
        let outcome = run("printf 'one\\ntwo'; echo three >&2");
        assert_eq!(
            (outcome.status, outcome.text.as_str()),
            (0, "one\ntwothree")
        );
        assert_eq!(run("exit_with() { return 3; }; exit_with").status, 3);
        assert_eq!(run("cat").text, "", "commands have no input");
    }

    #[test]
    fn a_late_answer_is_not_taken_for_the_next_one() {
        let (_folder, mut shell) = served();
        let late = shell.run("sleep 1; echo late", Duration::from_millis(10));
        assert!(late.is_err());
        let outcome = shell.run("echo next", Duration::from_secs(10)).unwrap();
        assert_eq!(outcome.text, "next");
    }
}
