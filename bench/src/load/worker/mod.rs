//! The loop of one thread over its connections: from opening them to closing them. [`exchange`] is what
//! happens on them in between.

mod exchange;

use std::io;
use std::time::{Duration, Instant};

use super::Plan;
use super::arrivals::Arrivals;
use super::connection::Connection;
use super::measured::{Measured, UsageMeter};
use crate::connections::{SCRATCH_BYTES, TICK};
use crate::error::LoadError;
use crate::progress::Progress;
use crate::protocol::{Protocol, Tally};
use crate::transport::{Ready, Transport};

/// Connections that are being opened at the same time at the beginning, and closed in the end: fewer than
/// any listen queue and any wire holds.
const OPENING_AT_ONCE: u64 = 64;

/// How often silence is looked for at most, and the time between two looks for each connection: it costs
/// a look at each.
const SILENCE_CHECK_NS: u64 = 100_000_000;
const SILENCE_CHECK_EACH_NS: u64 = 4_000;

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
    /// Which connection gets the next request, where they take turns.
    turn: usize,
    /// Connections that still have measured requests to exchange, if their number ends the run.
    unfinished: u64,
    /// Requests under way.
    under_way: u64,
    epoch: Instant,
    /// How long it took to open all connections in the beginning.
    opening_ns: u64,
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
            opening_ns: 0,
            start_ns: 0,
            end_ns: 0,
            phase: Phase::Warmup,
            last_ns: 0,
            checked_ns: 0,
            scratch: vec![0; SCRATCH_BYTES],
            measured: Measured::new(plan.parts),
        };
        worker.open_all()?;
        Ok(worker)
    }

    fn open_all(&mut self) -> Result<(), LoadError> {
        let mut ready = Vec::new();
        while self.established < self.plan.connections {
            if self.is_time_to_open_over() {
                self.plan.connections = self.opened;
            }
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
        self.opening_ns = self.now_ns();
        self.measured.connections = self.plan.connections;
        Ok(())
    }

    /// Whether those that are open or being opened have to do.
    fn is_time_to_open_over(&self) -> bool {
        let at_most = self.plan.opening;
        self.opened > 0 && at_most.is_some_and(|at_most| self.epoch.elapsed() >= at_most)
    }

    /// Exchanges requests, of which those due from `start` on are measured, until time or number is up
    /// and the last reply has come, and closes the connections.
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
        let all = self.connections.len();
        let busy = self.plan.at_once.map_or(all, |some| all.min(some as usize));
        self.turn = if busy < all { busy } else { 0 };
        for slot in 0..all {
            self.connections[slot].moved_ns = now_ns;
            if slot < busy {
                self.fill(slot);
            }
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
        self.conclude();
        self.close_all()?;
        Ok(self.measured)
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
        let is_opening = self.established < self.opened;
        matches!(self.phase, Phase::Draining) && self.under_way == 0 && !is_opening
    }

    /// Ends the connections as the plan says, twice as fast as they were opened: a RST that finds no room
    /// on the way is not sent again, and the server would keep the connection.
    fn close_all(&mut self) -> Result<(), LoadError> {
        let each_ns = self.opening_ns / (2 * self.plan.connections).max(1);
        for first in (0..self.connections.len()).step_by(OPENING_AT_ONCE as usize) {
            let until_ns = self.now_ns() + OPENING_AT_ONCE * each_ns;
            let last = self.connections.len().min(first + OPENING_AT_ONCE as usize);
            for slot in first..last {
                let closed = self.transport.close(slot, self.plan.close);
                closed.map_err(|error| self.broken(slot, error))?;
            }
            if last < self.connections.len() {
                self.linger(until_ns)?;
            }
        }
        let deadline_ns = self.now_ns() + self.plan.timeout.as_nanos() as u64;
        while self.transport.closing() > 0 {
            if self.now_ns() > deadline_ns {
                return Err(LoadError::Unclosed {
                    connections: self.transport.closing(),
                    timeout: self.plan.timeout,
                });
            }
            self.wait(TICK, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Lets the transport do its work for a while.
    fn linger(&mut self, until_ns: u64) -> Result<(), LoadError> {
        let mut ready = Vec::new();
        loop {
            let left_ns = until_ns.saturating_sub(self.now_ns());
            ready.clear();
            self.wait(Duration::from_nanos(left_ns), &mut ready)?;
            if left_ns == 0 {
                return Ok(());
            }
        }
    }

    fn conclude(&mut self) {
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
        let pause_ns = SILENCE_CHECK_EACH_NS * self.connections.len() as u64;
        if now_ns.saturating_sub(self.checked_ns) < pause_ns.max(SILENCE_CHECK_NS) {
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
