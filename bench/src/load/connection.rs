//! One connection of a worker.

use std::collections::VecDeque;
use std::time::Duration;

/// A connection, and the requests that are its business.
#[derive(Debug)]
pub(super) struct Connection<R> {
    /// Different for each connection of a run.
    pub number: u64,
    /// When it began to be opened, while that is under way.
    pub opening_since_ns: Option<u64>,
    /// Requests written on it.
    pub requests: u64,
    /// Requests under way, oldest first.
    pub waiting: VecDeque<Waiting<R>>,
    /// When requests were due that found as many under way as may be.
    pub backlog: VecDeque<u64>,
    /// Bytes of requests that the transport has not taken yet.
    pub out: Vec<u8>,
    /// Bytes of a reply that could not be read without more of it.
    pub rest: Vec<u8>,
    /// Bytes of requests written, and of replies read.
    pub written: u64,
    pub received: u64,
    /// When a byte last moved.
    pub moved_ns: u64,
    /// Measured replies, over all connections that the slot had.
    pub measured: u64,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Waiting<R> {
    /// When it was due.
    pub due_ns: u64,
    pub reply: R,
}

impl<R> Connection<R> {
    /// One that begins to be opened.
    pub fn opening(number: u64, now_ns: u64) -> Self {
        Self {
            number,
            opening_since_ns: Some(now_ns),
            requests: 0,
            waiting: VecDeque::new(),
            backlog: VecDeque::new(),
            out: Vec::new(),
            rest: Vec::new(),
            written: 0,
            received: 0,
            moved_ns: now_ns,
            measured: 0,
        }
    }

    /// Becomes another connection, with the same backlog.
    pub fn reopen(&mut self, number: u64, now_ns: u64) {
        let fresh = Self {
            backlog: std::mem::take(&mut self.backlog),
            measured: self.measured,
            ..Self::opening(number, now_ns)
        };
        *self = fresh;
    }

    /// Whether something should be moving, and has not for too long.
    pub fn is_stuck(&self, now_ns: u64, timeout: Duration) -> bool {
        let is_busy = self.opening_since_ns.is_some() || !self.waiting.is_empty();
        is_busy && u128::from(now_ns.saturating_sub(self.moved_ns)) >= timeout.as_nanos()
    }
}
