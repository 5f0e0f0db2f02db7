//! The daemon's way to a keeper.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ix_channel::Command;

use super::protocol::{Answer, Hello, PROTOCOL, Reply, Request, Status};
use crate::store::Folder;

/// Longer than a keeper waits for an elastic thread, twice.
const TIMEOUT: Duration = Duration::from_secs(25);
/// Longest reply.
const REPLY_BYTES: u64 = 64 << 10;

/// Why a keeper did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// It cannot be reached.
    #[error("its keeper cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// It speaks another version.
    #[error("its keeper speaks version {0} of the protocol, this daemon {PROTOCOL}")]
    Version(u32),
    /// It will not, or cannot.
    #[error("{0}")]
    Refused(String),
}

/// A connection to a keeper.
#[derive(Debug)]
pub struct Keeper {
    stream: BufReader<UnixStream>,
    /// The keeper's process.
    pub pid: u32,
}

impl Keeper {
    /// Connects to the keeper of `folder`.
    pub fn connect(folder: &Folder) -> Result<Keeper, KeeperError> {
        let stream = UnixStream::connect(folder.file("keeper.sock"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut stream = BufReader::new(stream);
        let hello: Hello = read(&mut stream)?;
        if hello.protocol != PROTOCOL {
            return Err(KeeperError::Version(hello.protocol));
        }
        Ok(Keeper {
            stream,
            pid: hello.pid,
        })
    }

    /// How the machine is.
    pub fn status(&mut self) -> Result<Status, KeeperError> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(status),
            Answer::Done { .. } => Err(KeeperError::Refused("it gave no status".to_owned())),
        }
    }

    /// Has an elastic thread execute a command.
    pub fn command(&mut self, thread: usize, command: Command) -> Result<(), KeeperError> {
        let command = command.into();
        self.ask(&Request::Command { thread, command }).map(drop)
    }

    /// Binds virtual CPUs, and the rest of the machine's threads, to hardware threads.
    pub fn pin(&mut self, vcpus: Vec<Vec<u32>>, rest: Vec<u32>) -> Result<(), KeeperError> {
        self.ask(&Request::Pin { vcpus, rest }).map(drop)
    }

    /// Stops the machine.
    pub fn stop(&mut self) -> Result<(), KeeperError> {
        self.ask(&Request::Stop).map(drop)
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, KeeperError> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::from)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        match read(&mut self.stream)? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Refused { reason } => Err(KeeperError::Refused(reason)),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> io::Result<T> {
    let mut line = String::new();
    if stream.by_ref().take(REPLY_BYTES).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&line).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// A keeper that says these lines, the first one at once and each other one for a request.
    fn keeper(lines: &'static [&'static str]) -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::at(root.path());
        let listener = UnixListener::bind(folder.file("keeper.sock")).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut requests = BufReader::new(stream.try_clone().unwrap()).lines();
            for (turn, line) in lines.iter().enumerate() {
                if turn > 0 {
                    requests.next().unwrap().unwrap();
                }
                stream.write_all(line.as_bytes()).unwrap();
                stream.write_all(b"\n").unwrap();
            }
        });
        (root, folder)
    }

    #[test]
    fn a_keeper_of_another_version_is_refused() {
        let (_root, folder) = keeper(&[r#"{"protocol": 9, "name": "a", "pid": 1}"#]);
        let error = Keeper::connect(&folder).unwrap_err();
        assert!(matches!(error, KeeperError::Version(9)), "{error}");
    }

    #[test]
    fn refusals_come_in_the_keepers_words() {
        let (_root, folder) = keeper(&[
            r#"{"protocol": 1, "name": "a", "pid": 7}"#,
            r#"{"refused": {"reason": "not today"}}"#,
        ]);
        let mut keeper = Keeper::connect(&folder).unwrap();
        assert_eq!(keeper.pid, 7);
        let error = keeper.command(0, Command::Run).unwrap_err();
        assert_eq!(error.to_string(), "not today");
        assert!(matches!(keeper.status(), Err(KeeperError::Unreachable(_))));
    }
}
