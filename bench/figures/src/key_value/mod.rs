//! Figure 4: memcached under Facebook's ETC and USR pools: latency over offered load, and the load that is
//! served within a bound of the tail.
//!
//! Requests are due by a Poisson process, whatever the server does, and latency counts from then on. What the
//! server does in a closed loop says where to look: from a fraction of that on, the offered load is multiplied
//! until the tail is beyond the bound; then the last step is halved, by factors. A load beyond the bound is
//! offered again before that counts: the machine may have done something else meanwhile.
//! Latencies that were taken while the client was the bottleneck are refused. They are too long rather than
//! too short, though, so that those within the bound show that the server is.

mod sweep;

use anyhow::{Context, Result};
use ix_insns::exchange::Application;
use ix_load::report::LoadReport;

use crate::bed::{Bed, Load, System, Transport};
use crate::plot::short;
use crate::report::{Axis, Figure, Report};
use crate::targets::{Goal, Measured};
use crate::{Options, Run};
use sweep::{Level, Sweep};

/// Connections that share the load.
const CONNECTIONS: u32 = 64;
/// The load that leaves either server mostly idle, in requests a second, and how many times as long as
/// others it is offered, so that its tail has some requests.
const LIGHTEST: f64 = 500.0;
const LIGHTEST_PARTS: u8 = 4;
/// The search begins at this share of the rate in a closed loop.
const FIRST_SHARE: f64 = 1.0 / 16.0;
/// How often a load is offered before it is taken for beyond the bound, or for too much for the client.
const TRIALS: usize = 3;
/// The bound of the tail, by Linux's under the lightest load. The paper's bound is 500 us, and its Linux had
/// 94 us (ETC) and 85 us (USR): so much that an emulated machine has the same room.
const BOUND_BY_UNLOADED: f64 = 5.3;

/// A pool of Facebook's.
#[derive(Clone, Copy, Debug)]
struct Pool {
    name: &'static str,
    /// For `ixload`.
    workload: &'static str,
    goal: Goal,
}

const POOLS: [Pool; 2] = [
    Pool {
        name: "ETC",
        workload: "etc",
        goal: Goal::EtcRate,
    },
    Pool {
        name: "USR",
        workload: "usr",
        goal: Goal::UsrRate,
    },
];

/// Measures it. Linux comes first, because the bound follows from it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let mut bounds_us = [None; POOLS.len()];
    let mut sweeps = [Vec::new(), Vec::new()];
    for system in [System::Linux, System::Ours] {
        let name = system.name();
        run.attempt(report, 4, name, |report| {
            let bed = Bed::boot_application(system, Application::Memcached, |_| {})?;
            report.conditions.accelerator = Some(bed.machine().accel().to_string());
            for ((pool, bound_us), sweeps) in POOLS.iter().zip(&mut bounds_us).zip(&mut sweeps) {
                let client = Client::choose(run, &bed, system, *pool)?;
                sweeps.push(client.sweep(bound_us)?);
            }
            bed.stop()
        })?;
    }
    for ((pool, bound_us), sweeps) in POOLS.iter().zip(bounds_us).zip(&sweeps) {
        let (Some(bound_us), Some(_)) = (bound_us, sweeps.first()) else {
            continue;
        };
        if let [linux, ours] = &sweeps[..] {
            reach(report, *pool, bound_us, ours, linux);
        }
        report.figures.push(figure(*pool, bound_us, sweeps));
    }
    Ok(())
}

/// A load of one pool on one system.
struct Client<'a> {
    run: Run<'a>,
    bed: &'a Bed,
    system: System,
    pool: Pool,
    transport: Transport,
    /// What it got out of the server in a closed loop, and what each of them did, in words.
    peak: f64,
    peaks: String,
}

impl<'a> Client<'a> {
    /// Sets the keys, and takes the transport that gets more out of the server.
    fn choose(run: Run<'a>, bed: &'a Bed, system: System, pool: Pool) -> Result<Self> {
        let mut client = Self {
            run,
            bed,
            system,
            pool,
            transport: Transport::Sockets,
            peak: 0.0,
            peaks: String::new(),
        };
        client.load("", Transport::Sockets, 1)?;
        let mut peaks = Vec::new();
        for transport in Transport::BOTH {
            let load = client.load("--no-preload", transport, 1)?;
            let rate = load.requests_per_second;
            let limit = if load.client.bottleneck.is_some() {
                ", client-bound"
            } else {
                ""
            };
            peaks.push(format!("{} {}{limit}", transport.name(), short(rate)));
            if rate > client.peak {
                (client.peak, client.transport) = (rate, transport);
            }
        }
        client.peaks = peaks.join("; ");
        client.say(&format!("closed loop: {}", client.peaks));
        Ok(client)
    }

    fn load(&self, arguments: &str, transport: Transport, parts: u8) -> Result<LoadReport> {
        let workload = self.pool.workload;
        let arguments = format!(
            "--protocol text --workload {workload} --connections {CONNECTIONS} {arguments}"
        );
        let load = Load {
            arguments: &arguments,
            transport,
            parts,
            opening: None,
        };
        self.bed.carry(self.run, load)
    }

    fn say(&self, what: &str) {
        let (name, pool) = (self.system.name(), self.pool.name);
        (self.run.say)(&format!("figure 4: {name}, {pool}, {what}"));
    }

    /// Searches for the highest load within the bound. If there is none yet, it follows from the lightest
    /// load whose latencies are this system's.
    fn sweep(self, bound_us: &mut Option<f64>) -> Result<Sweep> {
        let client = format!("{} (closed loop: {})", self.transport.name(), self.peaks);
        let mut sweep = Sweep::new(self.system, client);
        let lightest = self.lightest()?;
        let unloaded = lightest.latencies.map(|(p99, _)| p99.median);
        let bound = bound_us.or(unloaded.map(|p99_us| BOUND_BY_UNLOADED * p99_us));
        let bound = bound.context("the client was the bottleneck even under the lightest load")?;
        *bound_us = Some(bound);
        sweep.add(lightest, bound);
        let first = (FIRST_SHARE * self.peak).max(2.0 * LIGHTEST).round();
        sweep.search(first, steps(self.run.options), bound, |offered| {
            self.level(offered, 1)
        })?;
        Ok(sweep)
    }

    /// Measures under the lightest load, again if the client was too slow for that.
    fn lightest(&self) -> Result<Level> {
        let mut level = self.level(LIGHTEST, LIGHTEST_PARTS)?;
        for _ in 1..TRIALS {
            if level.latencies.is_some() {
                break;
            }
            level = self.level(LIGHTEST, LIGHTEST_PARTS)?;
        }
        Ok(level)
    }

    /// Measures at one offered load.
    fn level(&self, offered: f64, parts: u8) -> Result<Level> {
        let mut loads = Vec::new();
        for _ in 0..self.run.options.repetitions {
            let arguments = format!("--no-preload --rate {offered}");
            loads.push(self.load(&arguments, self.transport, parts)?);
        }
        let level = Level::of(offered, &loads)?;
        self.say(&level.text());
        Ok(level)
    }
}

/// The factor between loads, and how often the last one is halved.
fn steps(options: &Options) -> (f64, u32) {
    if options.quick { (4.0, 3) } else { (2.0, 3) }
}

fn reach(report: &mut Report, pool: Pool, bound_us: f64, ours: &Sweep, linux: &Sweep) {
    if let (Some((_, of_ours)), Some((_, of_linux))) = (ours.best, linux.best) {
        let note = format!(
            "p99 of at most {} us; {}; Linux: {}",
            short(bound_us),
            ours.note(),
            linux.note()
        );
        let measured = Measured::new(of_ours).beside(of_linux).note(note);
        report.reach(pool.goal, measured);
    }
}

fn figure(pool: Pool, bound_us: f64, sweeps: &[Sweep]) -> Figure {
    let within = sweeps.iter().map(|sweep| {
        let rate = sweep.best.map_or("nothing".to_owned(), |(_, rate)| {
            format!("{} requests/s", short(rate.median))
        });
        format!("{}: {rate}, {}", sweep.system.name(), sweep.note())
    });
    let within: Vec<String> = within.collect();
    Figure {
        number: 4,
        title: format!("memcached, {}: latency over offered load", pool.name),
        caption: format!(
            "Text protocol, {CONNECTIONS} connections, open loop, Poisson arrivals, from when a request was \
             due. Loads at which the client was the bottleneck are left out. With a 99th percentile of at \
             most {} us, which is {BOUND_BY_UNLOADED} times Linux's under the lightest load, as in the paper: \
             {}.",
            short(bound_us),
            within.join("; ")
        ),
        x: Axis::logarithmic("offered requests/s"),
        y: Axis::logarithmic("latency, us"),
        series: sweeps
            .iter()
            .rev()
            .flat_map(|sweep| {
                [
                    sweep.series("p99", |(p99, _)| p99),
                    sweep.series("mean", |(_, mean)| mean),
                ]
            })
            .collect(),
    }
}
