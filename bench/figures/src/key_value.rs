//! Figure 4: memcached under Facebook's ETC and USR pools: latency over offered load, and the load that is
//! served within a bound of the tail.
//!
//! Requests are due by a Poisson process, whatever the server does, and latency counts from then on. The
//! offered load is multiplied until the tail is beyond the bound; then the last step is halved, by factors.
//! Latencies that were taken while the client was the bottleneck are refused. They are too long rather than
//! too short, though, so that those within the bound show that the server is.

use anyhow::{Context, Result};
use ix_insns::exchange::Application;
use ix_load::report::LoadReport;

use crate::bed::{Bed, System, Transport};
use crate::plot::short;
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::targets::{Goal, Measured};
use crate::{Options, Run};

/// Connections that share the load.
const CONNECTIONS: u32 = 64;
/// The load that the search begins with, which leaves either server mostly idle: requests a second.
const LIGHTEST: f64 = 500.0;
/// No client here gets so far.
const HEAVIEST: f64 = 1e6;
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
    /// What each transport got out of the server in a closed loop.
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
            peaks: String::new(),
        };
        client.load("", Transport::Sockets)?;
        let mut best = 0.0;
        let mut peaks = Vec::new();
        for transport in Transport::BOTH {
            let load = client.load("--no-preload", transport)?;
            let rate = load.requests_per_second;
            let limit = if load.client.bottleneck.is_some() {
                ", client-bound"
            } else {
                ""
            };
            peaks.push(format!("{} {}{limit}", transport.name(), short(rate)));
            if rate > best {
                (best, client.transport) = (rate, transport);
            }
        }
        client.peaks = peaks.join("; ");
        client.say(&format!("closed loop: {}", client.peaks));
        Ok(client)
    }

    fn load(&self, arguments: &str, transport: Transport) -> Result<LoadReport> {
        let workload = self.pool.workload;
        let arguments = format!(
            "--protocol text --workload {workload} --connections {CONNECTIONS} {arguments}"
        );
        self.bed.load(self.run, &arguments, transport)
    }

    fn say(&self, what: &str) {
        let (name, pool) = (self.system.name(), self.pool.name);
        (self.run.say)(&format!("figure 4: {name}, {pool}, {what}"));
    }

    /// Searches for the highest load within the bound. If there is none yet, it follows from the lightest
    /// load whose latencies are this system's.
    fn sweep(self, bound_us: &mut Option<f64>) -> Result<Sweep> {
        let (step, refinements) = steps(self.run.options);
        let mut sweep = Sweep::new(&self);
        let mut offered = LIGHTEST;
        loop {
            let level = self.level(offered)?;
            let unloaded = level.latencies.map(|(p99, _)| p99.median);
            *bound_us = bound_us.or(unloaded.map(|p99_us| BOUND_BY_UNLOADED * p99_us));
            if !sweep.add(level, *bound_us) || offered >= HEAVIEST {
                break;
            }
            offered *= step;
        }
        let (mut within, mut beyond) = (offered / step, offered);
        for _ in 0..refinements {
            let middle = (within * beyond).sqrt().round();
            match sweep.add(self.level(middle)?, *bound_us) {
                true => within = middle,
                false => beyond = middle,
            }
        }
        let by_load = |one: &Level, other: &Level| one.offered.total_cmp(&other.offered);
        sweep.levels.sort_by(by_load);
        Ok(sweep)
    }

    /// Measures at one offered load.
    fn level(&self, offered: f64) -> Result<Level> {
        let mut loads = Vec::new();
        for _ in 0..self.run.options.repetitions {
            let arguments = format!("--no-preload --rate {offered}");
            loads.push(self.load(&arguments, self.transport)?);
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

/// What was measured at one offered load. Latencies are in microseconds.
struct Level {
    offered: f64,
    /// Requests a second that were answered.
    rate: Spread,
    /// The tail, of which a part may be the client's.
    p99_at_most: Spread,
    /// Tail and mean; none if they were mostly the client's.
    latencies: Option<(Spread, Spread)>,
}

impl Level {
    fn of(offered: f64, loads: &[LoadReport]) -> Result<Self> {
        type Pick = fn(&LoadReport) -> Option<f64>;
        let spread = |loads: &[&LoadReport], pick: Pick| {
            let values: Option<Vec<f64>> = loads.iter().map(|load| pick(load)).collect();
            let values = values.context("ixload withholds latencies in spite of --force")?;
            anyhow::Ok(Spread::of(&values))
        };
        let p99: Pick = |load| Some(load.latency_us?.p99);
        let all: Vec<_> = loads.iter().collect();
        let of_the_server: Vec<_> = loads
            .iter()
            .filter(|load| load.client.bottleneck.is_none())
            .collect();
        let latencies = match 2 * of_the_server.len() > all.len() {
            true => Some((
                spread(&of_the_server, p99)?,
                spread(&of_the_server, |load| Some(load.latency_us?.mean))?,
            )),
            false => None,
        };
        Ok(Self {
            offered,
            rate: spread(&all, |load| Some(load.requests_per_second))?,
            p99_at_most: spread(&all, p99)?,
            latencies,
        })
    }

    /// Whether it is within the bound; as long as there is none it may be.
    fn is_within(&self, bound_us: Option<f64>) -> bool {
        bound_us.is_none_or(|bound_us| self.p99_at_most.median <= bound_us)
    }

    fn text(&self) -> String {
        let latencies = match self.latencies {
            Some((p99, mean)) => {
                format!(
                    "p99 {} us, mean {} us",
                    short(p99.median),
                    short(mean.median)
                )
            }
            None => format!(
                "p99 at most {} us, refused: the client was the bottleneck",
                short(self.p99_at_most.median)
            ),
        };
        format!("{} offered: {latencies}", short(self.offered))
    }
}

/// The loads of one pool on one system.
struct Sweep {
    system: System,
    levels: Vec<Level>,
    /// The highest offered load within the bound, and what was answered of it.
    best: Option<(f64, Spread)>,
    /// The client, as far as the reader has to know.
    client: String,
}

impl Sweep {
    fn new(client: &Client) -> Self {
        Self {
            system: client.system,
            levels: Vec::new(),
            best: None,
            client: format!(
                "{} (closed loop: {})",
                client.transport.name(),
                client.peaks
            ),
        }
    }

    /// Takes a level in; whether it is within the bound.
    fn add(&mut self, level: Level, bound_us: Option<f64>) -> bool {
        let is_within = level.is_within(bound_us);
        if is_within && self.best.is_none_or(|(best, _)| level.offered > best) {
            self.best = Some((level.offered, level.rate));
        }
        self.levels.push(level);
        is_within
    }

    /// Whether the client ended the search, so that the server could do more.
    fn is_client_bound(&self) -> bool {
        let best = self.best.map_or(0.0, |(offered, _)| offered);
        let beyond = self.levels.iter().find(|level| level.offered > best);
        beyond.is_some_and(|level| level.latencies.is_none())
    }

    fn note(&self) -> String {
        let limit = if self.is_client_bound() {
            ", at least: from there on the client is the bottleneck"
        } else {
            ""
        };
        format!("by {}{limit}", self.client)
    }

    fn series(&self, what: &str, pick: fn((Spread, Spread)) -> Spread) -> Series {
        let points = self.levels.iter().filter_map(|level| {
            let latency = pick(level.latencies?);
            Some(Point::new(level.offered, latency))
        });
        Series {
            name: format!("{}, {what}", self.system.name()),
            points: points.collect(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn level(offered: f64, p99: f64, is_refused: bool) -> Level {
        let spread = |value: f64| Spread::of(&[value]);
        Level {
            offered,
            rate: spread(0.99 * offered),
            p99_at_most: spread(p99),
            latencies: (!is_refused).then(|| (spread(p99), spread(p99 / 2.0))),
        }
    }

    fn sweep(levels: Vec<Level>) -> Sweep {
        let mut sweep = Sweep {
            system: System::Ours,
            levels: Vec::new(),
            best: None,
            client: "engine".to_owned(),
        };
        for level in levels {
            sweep.add(level, Some(100.0));
        }
        sweep
    }

    #[test]
    fn the_best_load_is_the_highest_within_the_bound() {
        let sweep = sweep(vec![
            level(500.0, 20.0, false),
            level(1000.0, 90.0, false),
            level(2000.0, 300.0, false),
            level(1400.0, 101.0, false),
            level(1200.0, 100.0, false),
        ]);
        let (offered, rate) = sweep.best.expect("some are within");
        assert_eq!((offered, rate.median), (1200.0, 0.99 * 1200.0));
        assert!(!sweep.is_client_bound());
    }

    #[test]
    fn what_the_client_spoilt_is_not_drawn_and_bounds_the_load_from_below() {
        let sweep = sweep(vec![
            level(500.0, 20.0, false),
            level(1000.0, 80.0, true),
            level(2000.0, 300.0, true),
        ]);
        assert_eq!(sweep.best.expect("two are within").0, 1000.0);
        assert!(sweep.is_client_bound() && sweep.note().contains("at least"));
        let series = sweep.series("p99", |(p99, _)| p99);
        assert_eq!(series.points.len(), 1);
    }

    #[test]
    fn without_a_load_within_the_bound_there_is_no_best() {
        assert!(sweep(vec![level(500.0, 101.0, false)]).best.is_none());
    }
}
