//! The closed loop as a test: each connection has one message under way; when it has come back whole, the
//! next one goes out. What was measured is shown whoever was the bottleneck.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::connections::allow_open_files;
use crate::cpu::CpuMeter;
use crate::error::LoadError;
use crate::load::{Plan, exchange};
use crate::options;
use crate::options::load::Close;
use crate::protocol::echo::Echo;
use crate::report::{EchoReport, Latency};
use crate::transport::sockets::Sockets;

/// Messages on each connection if neither number nor time is given.
const DEFAULT_MESSAGES: NonZeroU64 = NonZeroU64::new(1000).expect("1000 is not zero");

/// Carries out `ixload echo`.
pub fn run(options: &options::Echo) -> Result<EchoReport, LoadError> {
    let default = options.duration.is_none().then_some(DEFAULT_MESSAGES);
    let plan = Plan {
        server: options.target.connect,
        connections: options.connections.get(),
        first: 0,
        opening: None,
        threads: options.threads.get(),
        depth: 1,
        at_once: None,
        requests_per_connection: None,
        close: Close::Fin,
        pace: None,
        messages: options.messages.or(default).map(|messages| messages.get()),
        warmup: options.warmup,
        duration: options.duration,
        parts: 1,
        timeout: options.target.timeout,
        seed: 0,
    };
    allow_open_files(plan.connections)?;
    let cpu = CpuMeter::start();
    let message_bytes = options.size.get();
    let transport =
        |_| Sockets::new(plan.server, None).map_err(LoadError::system("make an event queue"));
    let outcome = exchange(&plan, None, "messages", &transport, &|_| Echo {
        message_bytes,
    })?;
    let load = &outcome.load;
    Ok(EchoReport {
        server: plan.server,
        connections: plan.connections,
        message_bytes,
        connect_seconds: outcome.connect_seconds,
        messages: load.completed,
        warmup_messages: load.warmup,
        seconds: load.seconds,
        messages_per_second: load.per_second(load.completed),
        latency_us: Latency::from_nanoseconds(&load.latency),
        client_cpu_share: cpu.share(),
    })
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
