//! What can go wrong in a run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::protocol::Fault;

/// Why a run failed. Connections are numbered from 0 in the order in which they were opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A connection could not be opened.
    #[error("connection {connection} to {target} could not be opened: {source}")]
    Connect {
        /// Where to.
        target: SocketAddr,
        /// Which one.
        connection: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// A connection failed after it was opened.
    #[error("connection {connection} failed after {received} bytes received: {source}")]
    Broken {
        /// Which one.
        connection: u64,
        /// Bytes received and verified before.
        received: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// A byte came back changed.
    #[error(
        "connection {connection}: byte {position} came back as {found:#04x}, \
         {expected:#04x} was sent"
    )]
    Mismatch {
        /// Which one.
        connection: u64,
        /// Position in the connection's stream.
        position: u64,
        /// What came.
        found: u8,
        /// What was sent.
        expected: u8,
    },
    /// More bytes came back than were sent.
    #[error("connection {connection}: the server sent bytes beyond the {expected} expected")]
    TooMuch {
        /// Which one.
        connection: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    /// The server closed too early.
    #[error("connection {connection}: the server closed it after {received} of {expected} bytes")]
    ClosedEarly {
        /// Which one.
        connection: u64,
        /// Bytes received and verified.
        received: u64,
        /// Bytes that there should be.
        expected: u64,
    },
    /// The server closed while it owed replies.
    #[error(
        "connection {connection}: the server closed it after {received} bytes, with {waiting} \
         replies still to come"
    )]
    ClosedWaiting {
        /// Which one.
        connection: u64,
        /// Bytes received and verified.
        received: u64,
        /// Replies that are missing, one of them perhaps in part.
        waiting: usize,
    },
    /// The server answers something that is no answer to what it was asked.
    #[error("connection {connection}: the server answers `{answer}`")]
    Answer {
        /// Which one.
        connection: u64,
        /// What it says, at least its beginning.
        answer: String,
    },
    /// The server did not close although it should have.
    #[error(
        "connection {connection}: the server sent no FIN before its {expected} bytes were \
         echoed; `--half-close server` needs a server that shuts down early \
         (`probe half-close`, `ixload serve-echo --half-close-after`)"
    )]
    NotClosed {
        /// Which one.
        connection: u64,
        /// Bytes that it echoed.
        expected: u64,
    },
    /// Nothing moved for too long.
    #[error(
        "connection {connection}: nothing moved for {} s, after {sent} bytes sent and \
         {received} received", .timeout.as_secs_f64()
    )]
    Timeout {
        /// Which one.
        connection: u64,
        /// How long.
        timeout: Duration,
        /// Bytes handed to the system.
        sent: u64,
        /// Bytes received and verified.
        received: u64,
    },
    /// The server did not close after this side had.
    #[error(
        "{connections} connections are still there {} s after they were closed: the server has to close \
         them too", .timeout.as_secs_f64()
    )]
    Unclosed {
        /// How many.
        connections: usize,
        /// How long.
        timeout: Duration,
    },
    /// A connection was accepted where it should have been refused.
    #[error("{target} accepted a connection; it was expected to refuse it")]
    NotRefused {
        /// Where.
        target: SocketAddr,
    },
    /// More connections than the system lets a process open.
    #[error(
        "{wanted} connections need more open files than the system allows ({allowed}): \
         raise the hard limit (`ulimit -Hn`)"
    )]
    TooManyFiles {
        /// Connections asked for.
        wanted: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// The engine could not be started.
    #[error("the engine cannot be started: {0}")]
    Engine(String),
    /// Threads of the engine need addresses of their own.
    #[error(
        "{threads} threads need as many addresses of their own: give --sources more than {addresses}"
    )]
    TooFewSources {
        /// Threads, the agent's too.
        threads: u64,
        /// Addresses given.
        addresses: u64,
    },
    /// The event queue, or a listening socket, could not be set up.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", .path.display())]
    Output {
        /// Which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl LoadError {
    /// What a fault in a reply is to the user.
    pub(crate) fn of_fault(connection: u64, fault: Fault) -> Self {
        match fault {
            Fault::Mismatch {
                position,
                found,
                expected,
            } => Self::Mismatch {
                connection,
                position,
                found,
                expected,
            },
            Fault::Answer(answer) => Self::Answer { connection, answer },
        }
    }

    /// Adds what was tried to the system's answer.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
