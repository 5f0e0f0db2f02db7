//! The loop of one thread over its connections.

use std::io;
use std::time::{Duration, Instant};

use super::Plan;
use super::arrivals::Arrivals;
use super::connection::{Connection, Waiting};
use super::measured::{Measured, UsageMeter};
use crate::connections::{SCRATCH_BYTES, TICK};
use crate::error::LoadError;
use crate::progress::Progress;
use crate::protocol::{Protocol, Tally};
use crate::transport::{Ready, Received, Transport};

/// Connections that are being opened at the same time at the beginning: fewer than any listen queue
/// holds.
const OPENING_AT_ONCE: u64 = 64;

/// How often silence is looked for: it costs a look at each connection.
const SILENCE_CHECK_NS: u64 = 100_000_000;

/// A thread's connections.
pub(super) struct Worker<'a, T, P: Protocol> {
    plan: Plan,
    transport: T,
    protocol: P,
    progress: &'a Progress,
    connections: Vec<Connection<P::Reply>>,
    /// Connections opened so far, which numbers the next one.
    opened: u64,
    /// Those whose handshake has ended.
    established: u64,
    arrivals: Option<Arrivals>,
    /// Which connection gets the next request of an open loop.
    turn: usize,
    /// Connections that still have measured requests to exchange, if their number ends the run.
    unfinished: u64,
    /// Requests under way.
    under_way: u64,
    epoch: Instant,
    /// The measured time. Both are 0 until the run begins.
    start_ns: u64,
    end_ns: u64,
    phase: Phase,
    /// When the last measured reply ended.
    last_ns: u64,
    checked_ns: u64,
    scratch: Vec<u8>,
    measured: Measured,
}

/// Where a run is, with what was counted before.
enum Phase {
    Warmup,
    Measuring(UsageMeter, Tally),
    /// No further requests; replies may still come.
    Draining,
}

impl<'a, T: Transport, P: Protocol> Worker<'a, T, P> {
    /// Opens all connections of the plan.
    pub fn open(
        plan: Plan,
        transport: T,
        protocol: P,
        progress: &'a Progress,
    ) -> Result<Self, LoadError> {
        let mut worker = Self {
            plan,
            transport,
            protocol,
            progress,
            connections: Vec::new(),
            opened: 0,
            established: 0,
            arrivals: None,
            turn: 0,
            unfinished: plan.messages.map_or(0, |_| plan.connections),
            under_way: 0,
            epoch: Instant::now(),
            start_ns: 0,
            end_ns: 0,
            phase: Phase::Warmup,
            last_ns: 0,
            checked_ns: 0,
            scratch: vec![0; SCRATCH_BYTES],
            measured: Measured::new(),
        };
        worker.open_all()?;
        Ok(worker)
    }

    fn open_all(&mut self) -> Result<(), LoadError> {
        let mut ready = Vec::new();
        while self.established < self.plan.connections {
            while self.opened
                < self
                    .plan
                    .connections
                    .min(self.established + OPENING_AT_ONCE)
            {
                let slot = self.connections.len();
                let number = self.next_number();
                let connection = Connection::opening(number, self.now_ns());
                self.connections.push(connection);
                self.begin_to_open(slot)?;
            }
            ready.clear();
            self.wait(TICK, &mut ready)?;
            for Ready { slot, .. } in &ready {
                self.look_whether_open(*slot)?;
            }
            self.check_silence()?;
        }
        Ok(())
    }

    /// Exchanges requests, of which those due from `start` on are measured, until time or number is up
    /// and the last reply has come.
    pub fn run(mut self, start: Instant) -> Result<Measured, LoadError> {
        let duration_ns = self
            .plan
            .duration
            .map(|duration| duration.as_nanos() as u64);
        self.start_ns = start.saturating_duration_since(self.epoch).as_nanos() as u64;
        self.end_ns = duration_ns.map_or(u64::MAX, |duration| self.start_ns + duration);
        self.last_ns = self.start_ns;
        let now_ns = self.now_ns();
        let seed = self.plan.seed;
        let arrivals = self
            .plan
            .pace
            .map(|(rate, kind)| Arrivals::new(rate, kind, now_ns, seed));
        self.arrivals = arrivals;
        for slot in 0..self.connections.len() {
            self.connections[slot].moved_ns = now_ns;
            self.fill(slot);
            // Events that came while the connections were opened are gone.
            self.advance(Ready {
                slot,
                is_ending: true,
            })?;
        }
        let mut ready = Vec::new();
        loop {
            self.change_phase();
            if self.is_over() {
                break;
            }
            ready.clear();
            self.wait(self.patience(), &mut ready)?;
            for ready in &ready {
                self.advance(*ready)?;
            }
            self.issue_due()?;
            self.check_silence()?;
        }
        Ok(self.finish())
    }

    /// How long to wait for events.
    fn patience(&self) -> Duration {
        let is_measuring = matches!(self.phase, Phase::Measuring(..));
        let change_ns = match is_measuring {
            true => self.end_ns,
            false => self.start_ns,
        };
        let due_ns = self.arrivals.as_ref().map_or(u64::MAX, Arrivals::next_ns);
        let next_ns = match self.phase {
            Phase::Draining => u64::MAX,
            _ => due_ns.min(change_ns),
        };
        TICK.min(Duration::from_nanos(next_ns.saturating_sub(self.now_ns())))
    }

    fn change_phase(&mut self) {
        let now_ns = self.now_ns();
        if matches!(self.phase, Phase::Warmup) && now_ns >= self.start_ns {
            self.phase = Phase::Measuring(UsageMeter::start(), self.protocol.tally());
        }
        let is_up = match self.plan.messages {
            Some(_) => self.unfinished == 0 || now_ns >= self.end_ns,
            None => now_ns >= self.end_ns,
        };
        if let Phase::Measuring(meter, tally) = &self.phase
            && is_up
        {
            self.measured.usage = meter.usage();
            self.measured.tally = self.protocol.tally().since(tally);
            self.phase = Phase::Draining;
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Draining) && self.under_way == 0
    }

    fn finish(mut self) -> Measured {
        let now_ns = self.now_ns();
        let (start_ns, end_ns) = (self.start_ns, self.end_ns);
        let is_measured = |due_ns: &u64| (start_ns..end_ns).contains(due_ns);
        for connection in &self.connections {
            for due_ns in connection.backlog.iter().copied().filter(is_measured) {
                // It would have taken longer than that.
                self.measured.latency.saturating_record(now_ns - due_ns);
                self.measured.never_sent += 1;
            }
        }
        let ended_ns = self.end_ns.min(match self.plan.messages {
            Some(_) => self.last_ns,
            None => self.end_ns,
        });
        self.measured.lost_frames = self.transport.lost();
        self.measured.seconds = ended_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        self.measured
    }

    /// Does what one connection can do now.
    fn advance(&mut self, ready: Ready) -> Result<(), LoadError> {
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
        self.fill(slot);
        Ok(())
    }

    /// Writes requests on a connection, as many as may be under way; they leave with the next flush.
    fn fill(&mut self, slot: usize) {
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
    fn issue_due(&mut self) -> Result<(), LoadError> {
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
            let slot = self.turn;
            self.turn = if slot + 1 == self.connections.len() {
                0
            } else {
                slot + 1
            };
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

    fn begin_to_open(&mut self, slot: usize) -> Result<(), LoadError> {
        let number = self.connections[slot].number;
        let opened = self.transport.open(slot, number);
        opened.map_err(|source| self.not_opened(number, source))
    }

    /// Looks whether a connection that is being opened has been, and says so.
    fn look_whether_open(&mut self, slot: usize) -> Result<bool, LoadError> {
        let connection = &mut self.connections[slot];
        let Some(since_ns) = connection.opening_since_ns else {
            return Ok(true);
        };
        let number = connection.number;
        match self.transport.is_open(slot) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(source) => return Err(self.not_opened(number, source)),
        }
        let now_ns = self.now_ns();
        let connection = &mut self.connections[slot];
        connection.opening_since_ns = None;
        connection.moved_ns = now_ns;
        self.established += 1;
        if self.is_in_window(now_ns) {
            self.measured.connect.saturating_record(now_ns - since_ns);
            self.measured.connected += 1;
        }
        Ok(true)
    }

    fn wait(&mut self, at_most: Duration, ready: &mut Vec<Ready>) -> Result<(), LoadError> {
        let waited = self.transport.wait(at_most, ready);
        waited.map_err(LoadError::system("wait for events"))
    }

    fn check_silence(&mut self) -> Result<(), LoadError> {
        let now_ns = self.now_ns();
        if now_ns.saturating_sub(self.checked_ns) < SILENCE_CHECK_NS {
            return Ok(());
        }
        self.checked_ns = now_ns;
        let timeout = self.plan.timeout;
        let mut connections = self.connections.iter();
        let Some(stuck) = connections.find(|connection| connection.is_stuck(now_ns, timeout))
        else {
            return Ok(());
        };
        Err(match stuck.opening_since_ns {
            Some(_) => self.not_opened(stuck.number, io::ErrorKind::TimedOut.into()),
            None => LoadError::Timeout {
                connection: stuck.number,
                timeout,
                sent: stuck.written - stuck.out.len() as u64,
                received: stuck.received,
            },
        })
    }

    fn is_in_window(&self, at_ns: u64) -> bool {
        (self.start_ns..self.end_ns).contains(&at_ns)
    }

    fn next_number(&mut self) -> u64 {
        let round = self.opened / self.plan.connections;
        let number = self.plan.first + self.opened % self.plan.connections + (round << 20);
        self.opened += 1;
        number
    }

    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn not_opened(&self, connection: u64, source: io::Error) -> LoadError {
        LoadError::Connect {
            target: self.plan.server,
            connection,
            source,
        }
    }

    fn broken(&self, slot: usize, source: io::Error) -> LoadError {
        LoadError::Broken {
            connection: self.connections[slot].number,
            received: self.connections[slot].received,
            source,
        }
    }

    fn closed_early(&self, slot: usize) -> LoadError {
        let connection = &self.connections[slot];
        LoadError::ClosedWaiting {
            connection: connection.number,
            received: connection.received,
            waiting: connection.waiting.len(),
        }
    }
}
