//! Debian's memcached, serving on a Unix socket in a folder of its own, or on a port of the loopback
//! interface.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::debian::Debian;

/// How long it may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Without threads beside the serving one: these hold items now and then, and what is done to a number
/// depends on whether somebody does.
const ALONE: [&str; 2] = ["-o", "no_modern"];

/// On a Unix socket. It ends with this.
pub struct Original {
    socket: PathBuf,
    _running: Running,
}

impl Original {
    /// Starts it.
    pub fn start(debian: &Debian) -> Result<Self> {
        Self::start_with(debian, &ALONE)
    }

    /// Starts it with those arguments.
    pub fn start_with(debian: &Debian, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("memcached");
        let mut command = debian.command("memcached");
        command.arg("-s").arg(&socket).args(arguments);
        let original = Self {
            socket,
            _running: Running::start(command, folder)?,
        };
        drop(original.connect()?);
        Ok(original)
    }

    /// A connection.
    pub fn connect(&self) -> Result<UnixStream> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(error).context("Debian's memcached does not listen"),
            }
        }
    }
}

/// On a port that was free. It ends with this.
pub struct OnLoopback {
    /// Where it listens.
    pub address: SocketAddr,
    _running: Running,
}

impl OnLoopback {
    /// Starts it.
    pub fn start(debian: &Debian) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports = folder.path().join("ports");
        let mut command = debian.command("memcached");
        // It takes any port, and tells which.
        command
            .args(["-l", "127.0.0.1", "-p", "-1"])
            .args(ALONE)
            .env("MEMCACHED_PORT_FILENAME", &ports);
        let running = Running::start(command, folder)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = fs::read_to_string(&ports).unwrap_or_default();
            if let Some(port) = tcp_port(&told) {
                return Ok(Self {
                    address: (Ipv4Addr::LOCALHOST, port).into(),
                    _running: running,
                });
            }
            ensure!(
                Instant::now() < deadline,
                "Debian's memcached does not tell its port: {told:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The port in a line `TCP INET: <port>`.
fn tcp_port(told: &str) -> Option<u16> {
    let mut lines = told.lines();
    let port = lines.find_map(|line| line.strip_prefix("TCP INET: "))?;
    port.trim().parse().ok()
}

/// The process, and the folder with what it makes.
struct Running {
    child: Child,
    _folder: TempDir,
}

impl Running {
    fn start(mut command: Command, folder: TempDir) -> Result<Self> {
        command.args(["-t", "1", "-u", "root"]);
        command.stdin(Stdio::null());
        let child = command
            .spawn()
            .context("Debian's memcached does not start")?;
        Ok(Self {
            child,
            _folder: folder,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says something, and reads an answer of the length that is expected.
pub fn exchange(stream: &mut UnixStream, said: &[u8], expected: usize) -> Result<Vec<u8>> {
    let mut writer = stream.try_clone()?;
    thread::scope(|scope| {
        let writing = scope.spawn(move || match writer.write_all(said) {
            // It may end the connection before it has read everything.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        });
        let mut answer = vec![0; expected];
        let mut length = 0;
        while length < expected {
            match stream.read(&mut answer[length..]) {
                Ok(0) => break,
                Ok(bytes) => length += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => bail!("cannot read the answer: {error}"),
            }
        }
        answer.truncate(length);
        let written = writing.join();
        ensure!(written.is_ok_and(|written| written.is_ok()), "cannot write");
        Ok(answer)
    })
}

/// Whether the other side ends the connection, after nothing more.
pub fn ends(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(0) => true,
        // Linux says so where something was left unread.
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => false,
    }
}
