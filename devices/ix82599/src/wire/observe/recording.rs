//! What one observer gets: a pcapng stream of what its filter wants, as fast as it takes it.

use std::io::{ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::super::{Direction, Filter, pcapng};

/// What an observer may be behind.
pub(super) const BACKLOG_BYTES: usize = 1 << 20;
/// Frames are sent when there are so many bytes of them ...
pub(super) const SEND_BYTES: usize = 32 << 10;
/// ... or when they are so old. It is also the time after which a full socket is tried again.
pub(super) const SEND_INTERVAL_NS: u64 = 20_000_000;

#[derive(Debug)]
pub(super) struct Recording {
    filter: Filter,
    backlog: Vec<u8>,
    /// Bytes at the start of the backlog that are sent.
    sent: usize,
    /// Where the block of the frame begins that was added last, while nothing of it is sent: whether
    /// the device takes it is known only then.
    last: Option<usize>,
    /// When the rest of it is sent at the latest; tried again, if the socket is full.
    due_ns: Option<u64>,
    /// Whether the socket took no more the last time.
    is_full: bool,
    dropped: u64,
    /// As much of `dropped` as the stream says.
    dropped_told: u64,
}

impl Recording {
    /// Begins the stream of a wire with this name.
    pub(super) fn new(name: &str, filter: Filter, now_ns: u64) -> Recording {
        let mut backlog = Vec::new();
        pcapng::begin(&mut backlog, name);
        Recording {
            filter,
            backlog,
            sent: 0,
            last: None,
            due_ns: Some(now_ns),
            is_full: false,
            dropped: 0,
            dropped_told: 0,
        }
    }

    /// Adds a frame, if it is wanted and there is room.
    pub(super) fn add(
        &mut self,
        now_ns: u64,
        time: Duration,
        direction: Direction,
        frame: &[u8],
        comment: Option<&str>,
    ) {
        self.last = None;
        if !self.filter.wants(frame) {
            return;
        }
        // Twice, for the statistics.
        let needed = frame.len() + 2 * pcapng::PACKET_OVERHEAD;
        if self.unsent() + needed > BACKLOG_BYTES {
            self.dropped += 1;
            return;
        }
        self.tell_drops(time);
        self.last = Some(self.backlog.len());
        pcapng::packet(&mut self.backlog, time, direction, frame, comment);
        self.due_ns.get_or_insert(now_ns + SEND_INTERVAL_NS);
    }

    /// Adds a frame that the device did not send; says of the one that it received last that the device
    /// did not take it.
    pub(super) fn add_dropped(
        &mut self,
        now_ns: u64,
        time: Duration,
        direction: Direction,
        frame: &[u8],
        reason: &str,
    ) {
        if direction == Direction::Inbound {
            // Without it the frame was not wanted, or there was no room.
            let Some(last) = self.last.take() else { return };
            self.backlog.truncate(last);
        }
        self.add(now_ns, time, direction, frame, Some(reason));
    }

    fn tell_drops(&mut self, time: Duration) {
        if self.dropped != self.dropped_told {
            pcapng::statistics(&mut self.backlog, time, self.dropped);
            self.dropped_told = self.dropped;
        }
    }

    /// Bytes that wait.
    pub(super) fn unsent(&self) -> usize {
        self.backlog.len() - self.sent
    }

    /// Whether the observer took no more the last time.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// When [`Recording::send`] is to be called at the latest.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.due_ns
    }

    /// Frames that were left out.
    #[cfg(test)]
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends what the observer takes. `false` when it has left.
    pub(super) fn send(&mut self, now_ns: u64, time: Duration, mut stream: &UnixStream) -> bool {
        self.is_full = false;
        self.due_ns = None;
        self.last = None;
        loop {
            if self.unsent() == 0 {
                self.forget_sent();
                self.tell_drops(time);
            }
            if self.unsent() == 0 {
                return true;
            }
            match stream.write(&self.backlog[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.forget_sent();
                    self.is_full = true;
                    self.due_ns = Some(now_ns + SEND_INTERVAL_NS);
                    return error.kind() == ErrorKind::WouldBlock;
                }
            }
        }
    }

    fn forget_sent(&mut self) {
        self.backlog.drain(..self.sent);
        self.sent = 0;
    }
}
