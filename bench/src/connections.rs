//! Opening many connections, and what all of them have in common afterwards.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::error::LoadError;
use crate::options::Target;
use crate::pattern;

/// Connections that are being opened at the same time: fewer than any listen queue holds.
const OPENING_AT_ONCE: usize = 64;

/// How often silence is looked for.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Size of the buffers that bytes are read into and sent from.
pub(crate) const SCRATCH_BYTES: usize = 64 << 10;

/// One connection, with what went over it.
pub(crate) struct Connection {
    pub stream: TcpStream,
    /// Number in the order of opening; chooses the pattern.
    pub number: u64,
    /// Bytes handed to the system.
    pub sent: u64,
    /// Bytes received and verified.
    pub received: u64,
    /// When a byte last moved, or the connection was opened.
    pub moved: Instant,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// So many bytes, all as they should be; `is_last` if none waited behind them.
    Bytes { count: usize, is_last: bool },
    /// None for now.
    Nothing,
    /// FIN.
    End,
}

impl Connection {
    /// Sends as much as goes of the pattern up to position `goal`. `scratch` is overwritten.
    pub fn send_up_to(&mut self, goal: u64, scratch: &mut [u8]) -> Result<u64, LoadError> {
        let before = self.sent;
        while self.sent < goal {
            let count = (goal - self.sent).min(scratch.len() as u64) as usize;
            let bytes = &mut scratch[..count];
            pattern::fill(bytes, self.number, self.sent);
            match self.stream.write(bytes) {
                Ok(written) => {
                    self.sent += written as u64;
                    self.moved = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        }
        Ok(self.sent - before)
    }

    /// Reads once, and verifies what came; more than `goal` in all is an error.
    pub fn receive(&mut self, goal: u64, scratch: &mut [u8]) -> Result<Arrival, LoadError> {
        let count = loop {
            match self.stream.read(scratch) {
                Ok(0) => return Ok(Arrival::End),
                Ok(count) => break count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Arrival::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
        };
        let bytes = &scratch[..count];
        if let Some((index, expected)) = pattern::mismatch(bytes, self.number, self.received) {
            return Err(LoadError::Mismatch {
                connection: self.number,
                position: self.received + index as u64,
                found: bytes[index],
                expected,
            });
        }
        self.received += count as u64;
        self.moved = Instant::now();
        if self.received > goal {
            return Err(LoadError::TooMuch {
                connection: self.number,
                expected: goal,
            });
        }
        let is_last = count < scratch.len();
        Ok(Arrival::Bytes { count, is_last })
    }

    /// Complains if nothing moved for too long.
    pub fn check_silence(&self, now: Instant, timeout: Duration) -> Result<(), LoadError> {
        if now.saturating_duration_since(self.moved) < timeout {
            return Ok(());
        }
        Err(LoadError::Timeout {
            connection: self.number,
            timeout,
            sent: self.sent,
            received: self.received,
        })
    }

    /// The server closed where bytes were still expected.
    pub fn closed_early(&self, expected: u64) -> LoadError {
        LoadError::ClosedEarly {
            connection: self.number,
            received: self.received,
            expected,
        }
    }

    /// The connection failed.
    pub fn broken(&self, source: io::Error) -> LoadError {
        LoadError::Broken {
            connection: self.number,
            received: self.received,
            source,
        }
    }
}

/// Connections and the queue that tells of them; tokens are indices.
pub(crate) struct Connections {
    pub poll: Poll,
    pub all: Vec<Connection>,
}

impl Connections {
    /// Opens `count` connections, numbered from `first` on. They are registered for both
    /// directions.
    pub fn open(target: &Target, first: u64, count: u64) -> Result<Self, LoadError> {
        let mut opening = Opening {
            target,
            first,
            poll: Poll::new().map_err(LoadError::system("make an event queue"))?,
            streams: Vec::new(),
        };
        let mut events = Events::with_capacity(OPENING_AT_ONCE);
        let mut is_open = vec![false; count as usize];
        let mut open = 0;
        let mut moved = Instant::now();
        while open < is_open.len() {
            while opening.streams.len() < is_open.len().min(open + OPENING_AT_ONCE) {
                opening.start_one()?;
            }
            wait(&mut opening.poll, &mut events)?;
            for event in &events {
                let index = event.token().0;
                if !is_open[index] && opening.is_open(index)? {
                    is_open[index] = true;
                    open += 1;
                    moved = Instant::now();
                }
            }
            if moved.elapsed() > target.timeout {
                let index = is_open.iter().position(|&is_open| !is_open);
                let source = io::Error::from(ErrorKind::TimedOut);
                return Err(opening.failed(index.unwrap_or(0), source));
            }
        }
        Ok(opening.finish())
    }

    /// Waits for events, but not longer than a tick.
    pub fn wait(&mut self, events: &mut Events) -> Result<(), LoadError> {
        wait(&mut self.poll, events)
    }
}

/// Connections on their way.
struct Opening<'a> {
    target: &'a Target,
    first: u64,
    poll: Poll,
    streams: Vec<TcpStream>,
}

impl Opening<'_> {
    fn start_one(&mut self) -> Result<(), LoadError> {
        let index = self.streams.len();
        let mut stream =
            TcpStream::connect(self.target.connect).map_err(|error| self.failed(index, error))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), both)
            .and_then(|()| stream.set_nodelay(true))
            .map_err(|error| self.failed(index, error))?;
        self.streams.push(stream);
        Ok(())
    }

    fn is_open(&self, index: usize) -> Result<bool, LoadError> {
        let stream = &self.streams[index];
        let error = stream.take_error().and_then(|error| match error {
            Some(error) => Err(error),
            None => stream.peer_addr(),
        });
        match error {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(self.failed(index, error)),
        }
    }

    fn failed(&self, index: usize, source: io::Error) -> LoadError {
        LoadError::Connect {
            target: self.target.connect,
            connection: self.first + index as u64,
            source,
        }
    }

    fn finish(self) -> Connections {
        let moved = Instant::now();
        let connection = |(number, stream)| Connection {
            stream,
            number,
            sent: 0,
            received: 0,
            moved,
        };
        Connections {
            poll: self.poll,
            all: (self.first..).zip(self.streams).map(connection).collect(),
        }
    }
}

/// Waits for events, but not longer than a tick.
pub(crate) fn wait(poll: &mut Poll, events: &mut Events) -> Result<(), LoadError> {
    wait_at_most(poll, events, Some(TICK))
}

/// The same, for no longer than this.
pub(crate) fn wait_at_most(
    poll: &mut Poll,
    events: &mut Events,
    timeout: Option<Duration>,
) -> Result<(), LoadError> {
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        result => result.map_err(LoadError::system("wait for events")),
    }
}

/// Files that the process needs besides its connections.
const OTHER_FILES: u64 = 64;

/// Raises the limit on open files for so many connections, if it has to.
pub(crate) fn allow_open_files(connections: u64) -> Result<(), LoadError> {
    let wanted = connections + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum.map(|maximum| maximum.max(wanted)),
    };
    // Raising the hard limit is for root alone, so stay below it if possible.
    let within = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    let is_within = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    setrlimit(Resource::Nofile, if is_within { within } else { raised }).map_err(|_| {
        LoadError::TooManyFiles {
            wanted: connections,
            allowed: limit.maximum.unwrap_or(u64::MAX),
        }
    })
}

/// The end points of a connection.
pub(crate) fn end_points(stream: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    Ok((stream.local_addr()?, stream.peer_addr()?))
}
