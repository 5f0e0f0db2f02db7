//! Requests and replies, and the connections that come and go with them.

use super::{Phase, Worker};
use crate::error::LoadError;
use crate::load::connection::Waiting;
use crate::protocol::Protocol;
use crate::transport::{Ready, Received, Transport};

impl<T: Transport, P: Protocol> Worker<'_, T, P> {
    /// Does what one connection can do now.
    pub(super) fn advance(&mut self, ready: Ready) -> Result<(), LoadError> {
        let slot = ready.slot;
        if self.connections[slot].opening_since_ns.is_some() {
            if !self.look_whether_open(slot)? {
                return Ok(());
            }
            self.fill(slot);
        }
        self.flush(slot)?;
        let number = self.connections[slot].number;
        let mut scratch = std::mem::take(&mut self.scratch);
        // What is read after a reconnection would be another connection's.
        while self.connections[slot].number == number {
            match self.transport.receive(slot, &mut scratch) {
                Err(error) => return Err(self.broken(slot, error)),
                Ok(Received::Nothing) => break,
                Ok(Received::End) => return Err(self.closed_early(slot)),
                Ok(Received::Bytes(count)) => {
                    self.digest(slot, &scratch[..count])?;
                    // Events come once for each change; a short read means that nothing is left.
                    if count < scratch.len() && !ready.is_ending {
                        break;
                    }
                }
            }
        }
        self.scratch = scratch;
        self.flush(slot)
    }

    /// Reads replies.
    fn digest(&mut self, slot: usize, bytes: &[u8]) -> Result<(), LoadError> {
        let now_ns = self.now_ns();
        let connection = &mut self.connections[slot];
        connection.moved_ns = now_ns;
        if self.is_in_window(now_ns) {
            self.measured.received_bytes += bytes.len() as u64;
        }
        let mut joined = std::mem::take(&mut self.connections[slot].rest);
        let mut bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        while !bytes.is_empty() {
            let connection = &mut self.connections[slot];
            let Some(waiting) = connection.waiting.front_mut() else {
                return Err(LoadError::TooMuch {
                    connection: connection.number,
                    expected: connection.received,
                });
            };
            let step = self
                .protocol
                .consume(&mut waiting.reply, bytes)
                .map_err(|fault| LoadError::of_fault(connection.number, fault))?;
            connection.received += step.used as u64;
            bytes = &bytes[step.used..];
            if step.is_whole {
                self.reply_is_whole(slot)?;
            } else if step.used == 0 {
                self.connections[slot].rest = bytes.to_vec();
                return Ok(());
            }
        }
        Ok(())
    }

    fn reply_is_whole(&mut self, slot: usize) -> Result<(), LoadError> {
        let now_ns = self.now_ns();
        let connection = &mut self.connections[slot];
        let waiting = connection.waiting.pop_front().expect("it was consumed");
        self.under_way -= 1;
        let is_measured = (self.start_ns..self.end_ns).contains(&waiting.due_ns);
        if is_measured {
            self.measured
                .latency
                .saturating_record(now_ns - waiting.due_ns);
            connection.measured += 1;
            if Some(connection.measured) == self.plan.messages {
                self.unfinished -= 1;
            }
        }
        // What ends in the measured time is its throughput, whenever it was due.
        let counts = match self.plan.messages {
            Some(_) => is_measured,
            None => self.is_in_window(now_ns),
        };
        if counts {
            self.measured.completed += 1;
            self.count_in_part(now_ns);
            self.last_ns = now_ns;
            self.progress.add(1);
        } else if waiting.due_ns < self.start_ns {
            self.measured.warmup += 1;
        }
        let connection = &self.connections[slot];
        if Some(connection.requests) == self.plan.requests_per_connection
            && connection.waiting.is_empty()
        {
            return self.reconnect(slot);
        }
        self.go_on(slot)
    }

    fn count_in_part(&mut self, now_ns: u64) {
        let parts = &mut self.measured.completed_by_part;
        let part_ns = (self.end_ns - self.start_ns).div_ceil(parts.len() as u64);
        let part = now_ns.saturating_sub(self.start_ns) / part_ns;
        // Replies to a given number of messages may end later than that.
        let last = parts.len() - 1;
        parts[last.min(part as usize)] += 1;
    }

    /// After a reply it is the same connection's turn again, or, where few have a request under way at a
    /// time, that of the next one that has none.
    fn go_on(&mut self, slot: usize) -> Result<(), LoadError> {
        if self.plan.at_once.is_none() {
            self.fill(slot);
            return Ok(());
        }
        while !self.connections[self.turn].waiting.is_empty() {
            self.pass_turn();
        }
        let next = self.pass_turn();
        self.fill(next);
        self.flush(next)
    }

    /// The connection whose turn it is; the next one is next.
    pub(super) fn pass_turn(&mut self) -> usize {
        let slot = self.turn;
        let following = slot + 1;
        self.turn = if following == self.connections.len() {
            0
        } else {
            following
        };
        slot
    }

    /// Writes requests on a connection, as many as may be under way; they leave with the next flush.
    pub(super) fn fill(&mut self, slot: usize) {
        loop {
            let connection = &self.connections[slot];
            let is_full = connection.opening_since_ns.is_some()
                || connection.waiting.len() >= self.plan.depth as usize
                || Some(connection.requests) == self.plan.requests_per_connection;
            if is_full || matches!(self.phase, Phase::Draining) {
                break;
            }
            let now_ns = self.now_ns();
            let due_ns = match (self.plan.pace, self.plan.messages) {
                (Some(_), _) => match self.connections[slot].backlog.pop_front() {
                    Some(due_ns) => due_ns,
                    None => break,
                },
                _ if now_ns >= self.end_ns => break,
                (None, Some(messages)) if !self.wants_more(slot, messages) => break,
                (None, _) => now_ns,
            };
            self.write_request(slot, due_ns, now_ns);
        }
    }

    /// Whether a connection has measured requests left, beside those under way.
    fn wants_more(&self, slot: usize, messages: u64) -> bool {
        let connection = &self.connections[slot];
        let is_measured = |waiting: &&Waiting<_>| waiting.due_ns >= self.start_ns;
        let under_way = connection.waiting.iter().filter(is_measured).count() as u64;
        connection.measured + under_way < messages
    }

    fn write_request(&mut self, slot: usize, due_ns: u64, now_ns: u64) {
        let connection = &mut self.connections[slot];
        if connection.waiting.is_empty() {
            connection.moved_ns = now_ns;
        }
        let before = connection.out.len();
        let (number, position) = (connection.number, connection.written);
        let reply = self.protocol.request(number, position, &mut connection.out);
        let len = (connection.out.len() - before) as u64;
        connection.written += len;
        connection.requests += 1;
        connection.waiting.push_back(Waiting { due_ns, reply });
        self.under_way += 1;
        if self.is_in_window(now_ns) {
            self.measured.sent_bytes += len;
        }
    }

    fn flush(&mut self, slot: usize) -> Result<(), LoadError> {
        let connection = &mut self.connections[slot];
        if connection.out.is_empty() || connection.opening_since_ns.is_some() {
            return Ok(());
        }
        let sent = match self.transport.send(slot, &connection.out) {
            Ok(sent) => sent,
            Err(error) => return Err(self.broken(slot, error)),
        };
        let connection = &mut self.connections[slot];
        if sent == connection.out.len() {
            connection.out.clear();
        } else {
            connection.out.drain(..sent);
        }
        if sent > 0 {
            self.connections[slot].moved_ns = self.now_ns();
        }
        Ok(())
    }

    /// Gives requests of an open loop that are due to the connections, in turn.
    pub(super) fn issue_due(&mut self) -> Result<(), LoadError> {
        if matches!(self.phase, Phase::Draining) {
            return Ok(());
        }
        let now_ns = self.now_ns().min(self.end_ns - 1);
        while let Some(due_ns) = self
            .arrivals
            .as_mut()
            .and_then(|arrivals| arrivals.take(now_ns))
        {
            if self.is_in_window(due_ns) {
                self.measured.lateness.saturating_record(now_ns - due_ns);
            }
            let slot = self.pass_turn();
            self.connections[slot].backlog.push_back(due_ns);
            self.fill(slot);
            self.flush(slot)?;
        }
        Ok(())
    }

    /// Ends a connection that has had its requests, and begins another one in its place.
    fn reconnect(&mut self, slot: usize) -> Result<(), LoadError> {
        if matches!(self.phase, Phase::Draining) {
            return Ok(());
        }
        if let Err(error) = self.transport.close(slot, self.plan.close) {
            return Err(self.broken(slot, error));
        }
        let number = self.next_number();
        let now_ns = self.now_ns();
        self.connections[slot].reopen(number, now_ns);
        self.begin_to_open(slot)
    }
}
