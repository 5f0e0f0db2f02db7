//! What carries the bytes: connections by their slot, without blocking.
//!
//! [`sockets`] is Linux's TCP. [`engine`] is this project's own engine in this process, at the interface
//! that Linux has to the same server.

pub(crate) mod engine;
pub(crate) mod sockets;

use std::io;
use std::time::Duration;

use crate::options::load::Close;

/// Many connections to one server. A slot that is opened again after it was closed is a new connection.
pub(crate) trait Transport {
    /// Begins to open the connection of `slot`. `number` is different for each connection of a run, and
    /// chooses the local address.
    fn open(&mut self, slot: usize, number: u64) -> io::Result<()>;

    /// Whether the connection has been opened; an error if that failed.
    fn is_open(&mut self, slot: usize) -> io::Result<bool>;

    /// Ends the connection at once.
    fn close(&mut self, slot: usize, how: Close) -> io::Result<()>;

    /// Connections that were closed and of whose end the peer may not know yet. Linux sees to its own.
    fn closing(&self) -> usize {
        0
    }

    /// Sends what goes of `bytes` and returns how much that was. After less than all, the slot becomes
    /// ready when there is room.
    fn send(&mut self, slot: usize, bytes: &[u8]) -> io::Result<usize>;

    /// Takes what has come, as far as it fits.
    fn receive(&mut self, slot: usize, buffer: &mut [u8]) -> io::Result<Received>;

    /// Frames that this end lost for want of room.
    fn lost(&self) -> u64 {
        0
    }

    /// Waits for slots to become ready, at most for so long, and appends them. Each change is told once;
    /// a slot may be told without one.
    fn wait(&mut self, at_most: Duration, ready: &mut Vec<Ready>) -> io::Result<()>;
}

/// What a look at received bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes.
    Bytes(usize),
    /// None for now.
    Nothing,
    /// The peer sends no more.
    End,
}

/// A slot that something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub slot: usize,
    /// The end may be behind the bytes: receive until there is nothing.
    pub is_ending: bool,
}
