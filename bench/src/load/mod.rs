//! Load of many connections, in a closed or an open loop, and what became of it.
//!
//! [`run`] carries `ixload load` out, [`exchange`] a load that is given as a [`Plan`]. A [`Worker`] is
//! the loop of one thread over its connections; it is generic over what is spoken
//! ([`crate::protocol`]) and what carries it ([`crate::transport`]). [`arrivals`] says when requests of an
//! open loop are due, [`measured`] collects, [`bottleneck`] judges whether it was the server that was
//! measured.
//!
//! Latency is counted from when a request was due, not from when it was sent. So a server that falls
//! behind, or this program, shows in full (no coordinated omission).

mod arrivals;
pub(crate) mod bottleneck;
mod connection;
pub(crate) mod hdr;
pub(crate) mod measured;
mod worker;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::connections::allow_open_files;
use crate::error::LoadError;
use crate::options::load::{self, Close, Load};
use crate::progress::Progress;
use crate::protocol::Protocol;
use crate::protocol::binary::Binary;
use crate::protocol::echo::Echo;
use crate::protocol::key_value::{Format, KeyValue};
use crate::protocol::text::Text;
use crate::report::{AgentReport, ClientReport, Latency, LoadReport};
use crate::transport::Transport;
use crate::transport::engine::{ACKNOWLEDGEMENT_DELAY, Configuration, Engines};
use crate::transport::sockets::{Sockets, wait_precisely};
use crate::workload::Workload;
use bottleneck::Evidence;
use measured::Measured;
use worker::Worker;

/// Requests under way on the connection that sets the keys.
const PRELOAD_DEPTH: u32 = 32;

/// What the connections of one kind do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub server: SocketAddr,
    /// Connections, numbered from `first` on.
    pub connections: u64,
    pub first: u64,
    /// How long they may be opened before those that are open have to do; all are opened unless given.
    pub opening: Option<Duration>,
    /// Threads that share them.
    pub threads: u64,
    /// Requests under way on each.
    pub depth: u32,
    /// Requests under way on all together, so that connections take turns; on every one unless given.
    pub at_once: Option<u64>,
    /// Requests on a connection before it is opened anew.
    pub requests_per_connection: Option<u64>,
    pub close: Close,
    /// Requests a second in all and how they arrive; a closed loop if there is none.
    pub pace: Option<(f64, load::Arrivals)>,
    /// Measured requests on each connection, if these end the run.
    pub messages: Option<u64>,
    /// When measuring begins, after all connections are open.
    pub warmup: Duration,
    /// For how long it is measured, if the time ends the run.
    pub duration: Option<Duration>,
    /// Equal parts of that time, whose replies are counted apart.
    pub parts: u32,
    /// How long nothing may move.
    pub timeout: Duration,
    pub seed: u64,
}

/// Carries out `ixload load`.
pub(crate) fn run(options: &Load) -> Result<(LoadReport, Outcome), LoadError> {
    match options.protocol {
        load::Protocol::Echo => {
            let message_bytes = options.size.get();
            run_as(options, |_| Echo { message_bytes })
        }
        load::Protocol::Text => run_key_value::<Text>(options),
        load::Protocol::Binary => run_key_value::<Binary>(options),
    }
}

/// What was measured, of the load and, if there is one, of the agent beside it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub load: Measured,
    pub agent: Option<Measured>,
    /// Time until all connections were open.
    pub connect_seconds: f64,
}

fn run_key_value<F: Format + Send>(options: &Load) -> Result<(LoadReport, Outcome), LoadError> {
    if !options.items.no_preload {
        preload::<F>(options)?;
    }
    run_as(options, |thread| {
        // Each thread draws numbers of its own.
        let seed = options.shape.seed.wrapping_add(thread << 32);
        KeyValue::<F>::new(Workload::new(&options.items, seed))
    })
}

/// Sets every key once, on one connection.
fn preload<F: Format + Send>(options: &Load) -> Result<(), LoadError> {
    let plan = Plan {
        connections: 1,
        opening: None,
        threads: 1,
        depth: PRELOAD_DEPTH,
        at_once: None,
        requests_per_connection: None,
        pace: None,
        messages: Some(options.items.keys.get()),
        warmup: Duration::ZERO,
        duration: None,
        ..plan(options)
    };
    let workload = Workload::new(&options.items, options.shape.seed);
    let protocol = |_| KeyValue::<F>::preload(workload.clone());
    carry(options, &plan, None, "keys set", &protocol).map(drop)
}

/// Exchanges over the transport that the options name.
fn carry<P: Protocol<Reply: Send> + Send>(
    options: &Load,
    plan: &Plan,
    agent: Option<&Plan>,
    unit: &'static str,
    protocol: &(impl Fn(u64) -> P + Sync),
) -> Result<Outcome, LoadError> {
    let from = &options.from;
    match (from.transport, from.sources) {
        (load::Transport::Engine, Some(sources)) => {
            let threads = plan.threads + u64::from(agent.is_some());
            if sources.count() < threads {
                let addresses = sources.count();
                return Err(LoadError::TooFewSources { threads, addresses });
            }
            let engines = |thread| {
                Engines::start(&Configuration {
                    server: plan.server,
                    device: &from.device,
                    addresses: &sources.share(thread, threads),
                    connections: plan.connections.div_ceil(plan.threads),
                    bytes_under_way: u64::from(plan.depth) * request_bytes(options),
                    acknowledgement_delay: ACKNOWLEDGEMENT_DELAY,
                })
            };
            exchange(plan, agent, unit, &engines, protocol)
        }
        (load::Transport::Engine, None) => unreachable!("the command line requires --sources"),
        (load::Transport::Sockets, sources) => {
            allow_open_files(plan.connections + agent.map_or(0, |agent| agent.connections))?;
            let sockets = |_| {
                let made = Sockets::new(plan.server, sources);
                made.map_err(LoadError::system("make an event queue"))
            };
            exchange(plan, agent, unit, &sockets, protocol)
        }
    }
}

/// Room for a request; one that needs more waits in parts.
fn request_bytes(options: &Load) -> u64 {
    const KEY_VALUE_BYTES: u64 = 4096;
    match options.protocol {
        load::Protocol::Echo => options.size.get(),
        load::Protocol::Text | load::Protocol::Binary => KEY_VALUE_BYTES,
    }
}

fn run_as<P: Protocol<Reply: Send> + Send>(
    options: &Load,
    protocol: impl Fn(u64) -> P + Sync,
) -> Result<(LoadReport, Outcome), LoadError> {
    let plan = plan(options);
    let agent = options.shape.agent.map(|rate| Plan {
        connections: 1,
        first: plan.connections,
        opening: None,
        threads: 1,
        depth: 1,
        at_once: None,
        requests_per_connection: None,
        pace: Some((rate, load::Arrivals::Poisson)),
        ..plan
    });
    let outcome = carry(options, &plan, agent.as_ref(), "requests", &protocol)?;
    Ok((report(options, &outcome), outcome))
}

fn plan(options: &Load) -> Plan {
    let shape = &options.shape;
    Plan {
        server: options.target.connect,
        connections: shape.connections.get(),
        first: 0,
        opening: shape.opening,
        threads: shape.threads.get(),
        depth: shape.depth.get(),
        at_once: shape
            .at_once
            .map(|number| number.get().min(shape.connections.get())),
        requests_per_connection: shape.requests_per_connection.map(|number| number.get()),
        close: shape.close,
        pace: shape.rate.map(|rate| (rate, shape.arrivals)),
        messages: None,
        warmup: options.warmup,
        duration: Some(options.duration),
        parts: options.parts.get(),
        timeout: options.target.timeout,
        seed: shape.seed,
    }
}

/// Opens all connections, exchanges requests as planned, and verifies every reply.
pub(crate) fn exchange<T: Transport + Send, P: Protocol<Reply: Send> + Send>(
    plan: &Plan,
    agent: Option<&Plan>,
    unit: &'static str,
    transport: &(impl Fn(u64) -> Result<T, LoadError> + Sync),
    protocol: &(impl Fn(u64) -> P + Sync),
) -> Result<Outcome, LoadError> {
    let total = plan
        .messages
        .and_then(|messages| messages.checked_mul(plan.connections));
    let progress = Progress::start(unit, total);
    let connect_start = Instant::now();
    let plans: Vec<Plan> = shares(plan).chain(agent.copied()).collect();
    let workers = in_parallel(&plans, |thread, plan| {
        let transport = transport(thread)?;
        Worker::open(*plan, transport, protocol(thread), &progress)
    })?;
    let connect_seconds = connect_start.elapsed().as_secs_f64();
    let start = Instant::now() + plan.warmup;
    let mut measured = in_parallel(workers, |_, worker| {
        wait_precisely().map_err(LoadError::system("set the timer slack"))?;
        worker.run(start)
    })?;
    drop(progress);
    let agent = agent.and_then(|_| measured.pop());
    let load = measured
        .into_iter()
        .reduce(Measured::plus)
        .expect("there is a thread");
    Ok(Outcome {
        load,
        agent,
        connect_seconds,
    })
}

/// The plan of each thread.
fn shares(plan: &Plan) -> impl Iterator<Item = Plan> {
    let plan = *plan;
    let threads = plan.threads.min(plan.connections);
    let first_of = move |thread| plan.connections * thread / threads;
    (0..threads).map(move |thread| {
        let connections = first_of(thread + 1) - first_of(thread);
        let share = connections as f64 / plan.connections as f64;
        Plan {
            connections,
            at_once: plan
                .at_once
                .map(|all| (all * (thread + 1) / threads - all * thread / threads).max(1)),
            first: plan.first + first_of(thread),
            threads: 1,
            pace: plan.pace.map(|(rate, arrivals)| (rate * share, arrivals)),
            seed: plan.seed.wrapping_add(thread),
            ..plan
        }
    })
}

/// Does `work` with each item on a thread of its own.
fn in_parallel<I: Send, R: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(u64, I) -> Result<R, LoadError> + Sync,
) -> Result<Vec<R>, LoadError> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(items)
            .map(|(thread, item)| scope.spawn(move || work(thread, item)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<_>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect()
    })
}

fn report(options: &Load, outcome: &Outcome) -> LoadReport {
    let Outcome { load, agent, .. } = outcome;
    let evidence = Evidence::of(load);
    let bottleneck = evidence.verdict();
    // With an agent, the load's own latencies are the agent's business too: both are withheld.
    let is_shown = bottleneck.is_none() || options.force;
    let shown =
        |measured: &Measured| is_shown.then(|| Latency::from_nanoseconds(&measured.latency));
    LoadReport {
        server: options.target.connect,
        protocol: name_of(options.protocol),
        transport: name_of(options.from.transport),
        connections: load.connections,
        depth: options.shape.depth.get(),
        requests_per_connection: options
            .shape
            .requests_per_connection
            .map(|number| number.get()),
        connect_seconds: outcome.connect_seconds,
        seconds: load.seconds,
        offered_per_second: options.shape.rate,
        requests: load.completed,
        requests_per_second: load.per_second(load.completed),
        requests_per_second_by_part: load.per_second_by_part(),
        megabytes_sent_per_second: load.per_second(load.sent_bytes) / 1e6,
        megabytes_received_per_second: load.per_second(load.received_bytes) / 1e6,
        connections_per_second: load.per_second(load.connected),
        never_sent: load.never_sent,
        answers: load.tally,
        latency_us: shown(load),
        connect_us: (is_shown && !load.connect.is_empty())
            .then(|| Latency::from_nanoseconds(&load.connect)),
        agent: agent.as_ref().map(|agent| AgentReport {
            requests: agent.completed,
            latency_us: shown(agent),
        }),
        client: ClientReport {
            threads: options.shape.threads.get(),
            busy: evidence.busy,
            kept_waiting: evidence.kept_waiting,
            late_us: evidence.late_ns as f64 / 1e3,
            frames_lost: load.lost_frames,
            bottleneck,
        },
    }
}

/// What a value is called on the command line.
fn name_of(value: impl ValueEnum) -> String {
    let value = value.to_possible_value().expect("nothing is hidden");
    value.get_name().to_owned()
}
