//! Very many connections of echo over the engine, for whoever says himself when something is sent: a request
//! on some of them, then all the replies. So between rounds nothing is under way but acknowledgements.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::protocol::Protocol;
use crate::protocol::echo::Echo;
pub use crate::transport::engine::Configuration;
use crate::transport::engine::Engines;
use crate::transport::{Ready, Received, Transport};

/// Connections that are being opened at the same time.
const OPENING_AT_ONCE: usize = 64;
/// Bytes of a message.
pub const MESSAGE_BYTES: u64 = 64;

/// The connections.
pub struct Rounds {
    server: SocketAddr,
    engines: Engines,
    protocol: Echo,
    connections: Vec<Connection>,
    timeout: Duration,
    ready: Vec<Ready>,
}

/// One of them.
#[derive(Debug, Default)]
struct Connection {
    /// Bytes sent before, and those that came back.
    written: u64,
    received: u64,
    /// What is still to come.
    waiting: Option<<Echo as Protocol>::Reply>,
}

impl Rounds {
    /// Without connections yet, at an interface of this thread's network namespace. Nothing may take longer
    /// than `timeout`.
    pub fn start(configuration: &Configuration, timeout: Duration) -> Result<Self, LoadError> {
        Ok(Self {
            server: configuration.server,
            engines: Engines::start(configuration)?,
            protocol: Echo {
                message_bytes: MESSAGE_BYTES,
            },
            connections: Vec::new(),
            timeout,
            ready: Vec::new(),
        })
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Opens some more: as many as `connections` in all, but not more than listen queues hold.
    pub fn open_some(&mut self, connections: usize) -> Result<(), LoadError> {
        let first = self.connections();
        let last = connections.min(first + OPENING_AT_ONCE);
        for slot in first..last {
            let opened = self.engines.open(slot, slot as u64);
            opened.map_err(|source| self.not_opened(slot, source))?;
            self.connections.push(Connection::default());
        }
        let deadline = Instant::now() + self.timeout;
        for slot in first..last {
            while !self
                .engines
                .is_open(slot)
                .map_err(|source| self.not_opened(slot, source))?
            {
                if Instant::now() > deadline {
                    return Err(self.not_opened(slot, io::ErrorKind::TimedOut.into()));
                }
                self.wait(Duration::from_millis(10))?;
            }
        }
        Ok(())
    }

    /// Sends one message on each of these connections.
    pub fn send(&mut self, connections: &[usize]) -> Result<(), LoadError> {
        let mut message = Vec::new();
        for &slot in connections {
            let connection = &mut self.connections[slot];
            message.clear();
            let (number, position) = (slot as u64, connection.written);
            let reply = self.protocol.request(number, position, &mut message);
            connection.waiting = Some(reply);
            connection.written += message.len() as u64;
            let sent = self.engines.send(slot, &message);
            let sent = sent.map_err(|error| self.broken(slot, error))?;
            assert_eq!(
                sent,
                message.len(),
                "there is room: all before has been answered"
            );
        }
        self.wait(Duration::ZERO)
    }

    /// Waits for the replies on these connections, and verifies each byte.
    pub fn receive(&mut self, connections: &[usize]) -> Result<(), LoadError> {
        let deadline = Instant::now() + self.timeout;
        let mut scratch = [0; 4096];
        for &slot in connections {
            self.digest(slot, &mut scratch)?;
            while self.connections[slot].waiting.is_some() {
                if Instant::now() > deadline {
                    return Err(self.timed_out(slot));
                }
                self.wait(Duration::from_millis(10))?;
                self.digest(slot, &mut scratch)?;
            }
        }
        Ok(())
    }

    /// Lets acknowledgements leave that wait for something to ride on.
    pub fn linger(&mut self, time: Duration) -> Result<(), LoadError> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.wait(left)?;
        }
    }

    fn digest(&mut self, slot: usize, scratch: &mut [u8]) -> Result<(), LoadError> {
        loop {
            let received = self.engines.receive(slot, scratch);
            let count = match received.map_err(|error| self.broken(slot, error))? {
                Received::Bytes(count) => count,
                Received::Nothing => return Ok(()),
                Received::End => return Err(self.broken(slot, io::ErrorKind::UnexpectedEof.into())),
            };
            let mut bytes = &scratch[..count];
            while !bytes.is_empty() {
                let connection = &mut self.connections[slot];
                let Some(reply) = &mut connection.waiting else {
                    return Err(LoadError::TooMuch {
                        connection: slot as u64,
                        expected: connection.received,
                    });
                };
                let step = self.protocol.consume(reply, bytes);
                let step = step.map_err(|fault| LoadError::of_fault(slot as u64, fault))?;
                connection.received += step.used as u64;
                bytes = &bytes[step.used..];
                if step.is_whole {
                    connection.waiting = None;
                }
            }
        }
    }

    /// What is ready is asked for by slot, in any case.
    fn wait(&mut self, at_most: Duration) -> Result<(), LoadError> {
        self.ready.clear();
        let waited = self.engines.wait(at_most, &mut self.ready);
        waited.map_err(LoadError::system("wait for frames"))
    }

    fn not_opened(&self, slot: usize, source: io::Error) -> LoadError {
        LoadError::Connect {
            target: self.server,
            connection: slot as u64,
            source,
        }
    }

    fn broken(&self, slot: usize, source: io::Error) -> LoadError {
        LoadError::Broken {
            connection: slot as u64,
            received: self.connections[slot].received,
            source,
        }
    }

    fn timed_out(&self, slot: usize) -> LoadError {
        let connection = &self.connections[slot];
        LoadError::Timeout {
            connection: slot as u64,
            timeout: self.timeout,
            sent: connection.written,
            received: connection.received,
        }
    }
}
