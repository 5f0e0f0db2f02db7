//! The closed loop: each connection has one message under way; when it has come back whole, the
//! next one goes out.

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::Events;

use crate::connections::{Arrival, Connection, Connections, SCRATCH_BYTES, TICK, allow_open_files};
use crate::cpu::CpuMeter;
use crate::error::LoadError;
use crate::options;
use crate::progress::Progress;
use crate::report::{EchoReport, Latency};

/// Messages on each connection if neither number nor time is given.
const DEFAULT_MESSAGES: u64 = 1000;

/// Precision of recorded latencies: three digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Longer latencies count as one hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Carries out `ixload echo`.
pub fn run(options: &options::Echo) -> Result<EchoReport, LoadError> {
    allow_open_files(options.connections.get())?;
    let messages = match (options.messages, options.duration) {
        (Some(messages), _) => messages.get(),
        (None, Some(_)) => u64::MAX,
        (None, None) => DEFAULT_MESSAGES,
    };
    let cpu = CpuMeter::start();
    let connect_start = Instant::now();
    let shares = open_shares(options)?;
    let connect_seconds = connect_start.elapsed().as_secs_f64();

    let total = messages.checked_mul(options.connections.get());
    let progress = Progress::start("messages", total);
    let start = Instant::now() + options.warmup;
    let plan = Plan {
        message_bytes: options.size.get(),
        messages,
        start,
        end: options.duration.map(|duration| start + duration),
        timeout: options.target.timeout,
    };
    let results = thread::scope(|scope| {
        let run_share = |share| scope.spawn(|| Loop::new(plan, &progress, share).run());
        let threads: Vec<_> = shares.into_iter().map(run_share).collect();
        let join = |thread: thread::ScopedJoinHandle<_>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
    })?;
    drop(progress);
    Ok(report(options, &plan, connect_seconds, &results, &cpu))
}

/// Carries out `ixload open`: one message on each of many connections, all of them open.
pub fn run_open(options: &options::Open) -> Result<EchoReport, LoadError> {
    run(&options::Echo {
        target: options.target.clone(),
        connections: options.connections,
        messages: Some(NonZeroU64::MIN),
        size: NonZeroU64::new(64).expect("64 is not zero"),
        duration: None,
        warmup: Duration::ZERO,
        threads: NonZeroU64::MIN,
        json: None,
    })
}

/// The connections of each thread, opened.
fn open_shares(options: &options::Echo) -> Result<Vec<Connections>, LoadError> {
    let connections = options.connections.get();
    let threads = options.threads.get().min(connections);
    let first_of = |thread| connections * thread / threads;
    (0..threads)
        .map(|thread| {
            let (first, end) = (first_of(thread), first_of(thread + 1));
            Connections::open(&options.target, first, end - first)
        })
        .collect()
}

fn report(
    options: &options::Echo,
    plan: &Plan,
    connect_seconds: f64,
    results: &[Measured],
    cpu: &CpuMeter,
) -> EchoReport {
    let mut latency = new_histogram();
    let mut warmup_messages = 0;
    let mut last = plan.start;
    for result in results {
        let bounds = "all histograms have the same bounds";
        latency.add(&result.latency).expect(bounds);
        warmup_messages += result.warmup_messages;
        last = last.max(result.last);
    }
    let end = plan.end.map_or(last, |end| end.min(last));
    let seconds = end.duration_since(plan.start).as_secs_f64();
    EchoReport {
        server: options.target.connect,
        connections: options.connections.get(),
        message_bytes: plan.message_bytes,
        connect_seconds,
        messages: latency.len(),
        warmup_messages,
        seconds,
        messages_per_second: latency.len() as f64 / seconds.max(1e-9),
        latency_us: Latency::from_nanoseconds(&latency),
        client_cpu_share: cpu.share(),
    }
}

/// What every thread is to do.
#[derive(Clone, Copy)]
struct Plan {
    message_bytes: u64,
    /// Measured messages on each connection.
    messages: u64,
    /// When measuring starts.
    start: Instant,
    /// When no further message is sent.
    end: Option<Instant>,
    timeout: Duration,
}

/// What one thread measured.
struct Measured {
    latency: Histogram<u64>,
    warmup_messages: u64,
    /// When the last measured message was back.
    last: Instant,
}

/// The loop of one thread.
struct Loop<'a> {
    plan: Plan,
    progress: &'a Progress,
    connections: Connections,
    states: Vec<State>,
    scratch: Vec<u8>,
    measured: Measured,
    /// Connections that still have messages to exchange.
    running: usize,
}

/// Where a connection is.
#[derive(Clone, Copy)]
struct State {
    /// Position at which the current message ends.
    goal: u64,
    sent_at: Instant,
    /// Measured messages that are back.
    messages: u64,
    is_running: bool,
}

impl<'a> Loop<'a> {
    fn new(plan: Plan, progress: &'a Progress, connections: Connections) -> Self {
        let state = State {
            goal: 0,
            sent_at: plan.start,
            messages: 0,
            is_running: true,
        };
        Self {
            plan,
            progress,
            states: vec![state; connections.all.len()],
            scratch: vec![0; SCRATCH_BYTES],
            measured: Measured {
                latency: new_histogram(),
                warmup_messages: 0,
                last: plan.start,
            },
            running: connections.all.len(),
            connections,
        }
    }

    fn run(mut self) -> Result<Measured, LoadError> {
        for index in 0..self.states.len() {
            self.next_message(index, Instant::now())?;
            // Events that came while the connections were opened are gone.
            self.advance(index, true)?;
        }
        let mut events = Events::with_capacity(1024);
        let mut looked = Instant::now();
        while self.running > 0 {
            self.connections.wait(&mut events)?;
            for event in &events {
                self.advance(event.token().0, event.is_read_closed())?;
            }
            let now = Instant::now();
            if now.duration_since(looked) >= TICK {
                looked = now;
                self.check_silence(now)?;
            }
        }
        Ok(self.measured)
    }

    /// Does what one connection can do now. Events come once for each change. A short read means
    /// that there is nothing more, unless the server has closed: then the end is behind it, and
    /// `until_nothing` is to be set.
    fn advance(&mut self, index: usize, until_nothing: bool) -> Result<(), LoadError> {
        let goal = self.states[index].goal;
        let connection = &mut self.connections.all[index];
        if connection.sent < goal {
            connection.send_up_to(goal, &mut self.scratch)?;
        }
        loop {
            let connection = &mut self.connections.all[index];
            let goal = self.states[index].goal;
            match connection.receive(goal, &mut self.scratch)? {
                Arrival::Nothing => return Ok(()),
                Arrival::End => return Err(connection.closed_early(goal)),
                Arrival::Bytes { is_last, .. } => {
                    if connection.received == goal && self.states[index].is_running {
                        self.message_is_back(index)?;
                    }
                    if is_last && !until_nothing {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn message_is_back(&mut self, index: usize) -> Result<(), LoadError> {
        let now = Instant::now();
        let state = &mut self.states[index];
        if state.sent_at >= self.plan.start {
            let latency = now.duration_since(state.sent_at).as_nanos() as u64;
            self.measured.latency.saturating_record(latency);
            self.measured.last = now;
            state.messages += 1;
            self.progress.add(1);
        } else {
            self.measured.warmup_messages += 1;
        }
        let is_late = self.plan.end.is_some_and(|end| now >= end);
        if state.messages >= self.plan.messages || is_late {
            state.is_running = false;
            self.running -= 1;
            return Ok(());
        }
        self.next_message(index, now)
    }

    fn next_message(&mut self, index: usize, now: Instant) -> Result<(), LoadError> {
        let state = &mut self.states[index];
        state.goal += self.plan.message_bytes;
        state.sent_at = now;
        let connection: &mut Connection = &mut self.connections.all[index];
        connection.send_up_to(state.goal, &mut self.scratch)?;
        Ok(())
    }

    fn check_silence(&self, now: Instant) -> Result<(), LoadError> {
        let pairs = self.connections.all.iter().zip(&self.states);
        for (connection, state) in pairs {
            if state.is_running {
                connection.check_silence(now, self.plan.timeout)?;
            }
        }
        Ok(())
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are in order")
}
