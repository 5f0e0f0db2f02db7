//! Figure 2: echo throughput over messages per connection, and over message size. [`saturate`] is how
//! throughput is measured in the other figures too.

use anyhow::{Result, anyhow};

use crate::bed::{Bed, System, Transport};
use crate::plot::short;
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::targets::{Goal, Measured};
use crate::{Options, Run};

/// Connections that saturate one core of either system.
pub const CONNECTIONS: u32 = 64;
/// A message small enough that its bytes do not matter.
pub const SMALL_BYTES: u32 = 64;

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let mut lines = System::BOTH.map(Line::new);
    for line in &mut lines {
        let name = line.system.name();
        run.attempt(report, 2, name, |report| {
            let bed = Bed::boot(line.system, |_| {})?;
            report.conditions.accelerator = Some(bed.machine().accel().to_string());
            line.measure(run, &bed)?;
            bed.stop()
        })?;
    }
    let [ours, linux] = &lines;
    reach(report, Goal::EchoRate, &ours.by_size, &linux.by_size);
    reach(
        report,
        Goal::ConnectRate,
        &ours.by_messages,
        &linux.by_messages,
    );
    report.figures.extend(figures(&lines));
    Ok(())
}

/// What one system does, in messages a second.
struct Line {
    system: System,
    by_messages: Vec<Point>,
    by_size: Vec<Point>,
}

impl Line {
    fn new(system: System) -> Self {
        Self {
            system,
            by_messages: Vec::new(),
            by_size: Vec::new(),
        }
    }

    fn measure(&mut self, run: Run, bed: &Bed) -> Result<()> {
        let name = self.system.name();
        for &bytes in sizes(run.options) {
            let arguments = format!("--connections {CONNECTIONS} --size {bytes}");
            let point = saturate(run, bed, &Transport::BOTH, bytes.into(), &arguments)?;
            (run.say)(&format!(
                "figure 2: {name}, {bytes} bytes: {}",
                point.text()
            ));
            self.by_size.push(point);
        }
        for &messages in messages_per_connection(run.options) {
            let arguments = format!(
                "--connections {CONNECTIONS} --size {SMALL_BYTES} --requests-per-connection {messages}"
            );
            let point = saturate(run, bed, &Transport::BOTH, messages.into(), &arguments)?;
            (run.say)(&format!(
                "figure 2: {name}, {messages} messages per connection: {}",
                point.text()
            ));
            self.by_messages.push(point);
        }
        Ok(())
    }
}

/// Requests a second, by the transport of the client that gets most out of the server. All are measured in
/// full: a single trial says little on a machine that client and server share.
pub fn saturate(
    run: Run,
    bed: &Bed,
    transports: &[Transport],
    x: f64,
    arguments: &str,
) -> Result<Point> {
    let mut measured = Vec::new();
    for &transport in transports {
        measured.push((transport, Rates::measure(run, bed, transport, arguments)));
        // What ends a run is not the transport's failure.
        (run.check)()?;
    }
    let median = |(_, rates): &(Transport, Result<Rates>)| {
        rates.as_ref().map_or(0.0, |rates| rates.spread.median)
    };
    measured.sort_by(|one, other| median(other).total_cmp(&median(one)));
    let mut measured = measured.into_iter();
    let (transport, best) = measured.next().ok_or_else(|| anyhow!("no transport"))?;
    let best = best?;
    let mut note = transport.name().to_owned();
    if best.is_client_bound {
        note += ", client-bound";
    }
    for (transport, rates) in measured {
        let name = transport.name();
        note += &match rates {
            Ok(rates) => format!("; {name} {}", short(rates.spread.median)),
            Err(_) => format!("; {name} failed"),
        };
    }
    Ok(Point {
        note: Some(note),
        ..Point::new(x, best.spread)
    })
}

/// The rates of repeated loads, and whether the client could have done more.
struct Rates {
    spread: Spread,
    is_client_bound: bool,
}

impl Rates {
    fn measure(run: Run, bed: &Bed, transport: Transport, arguments: &str) -> Result<Self> {
        let mut rates = Vec::new();
        let mut is_client_bound = false;
        for _ in 0..run.options.repetitions {
            let load = bed.load(run, arguments, transport)?;
            rates.push(load.requests_per_second);
            is_client_bound |= load.client.bottleneck.is_some();
        }
        Ok(Self {
            spread: Spread::of(&rates),
            is_client_bound,
        })
    }
}

fn reach(report: &mut Report, goal: Goal, ours: &[Point], linux: &[Point]) {
    if let (Some(ours), Some(linux)) = (ours.first(), linux.first()) {
        let note = |point: &Point| point.note.clone().unwrap_or_default();
        let note = format!("by {}; Linux: {}", note(ours), note(linux));
        report.reach(goal, Measured::new(ours.y).beside(linux.y).note(note));
    }
}

fn figures(lines: &[Line; 2]) -> [Figure; 2] {
    let figure = |title: &str, x: Axis, pick: fn(&Line) -> &Vec<Point>| Figure {
        number: 2,
        title: title.to_owned(),
        caption: format!(
            "{CONNECTIONS} connections, closed loop, a connection ends with RST after its last message. Each \
             point is by the transport of the client that got more out of the server; the other one's rate \
             is beside it."
        ),
        x,
        y: Axis::logarithmic("messages/s"),
        series: lines
            .iter()
            .map(|line| Series::of(line.system, pick(line).clone()))
            .collect(),
    };
    [
        figure(
            "Echo throughput over messages per connection",
            Axis::logarithmic("messages per connection"),
            |line| &line.by_messages,
        ),
        figure(
            "Echo throughput over message size",
            Axis::logarithmic("message size, bytes"),
            |line| &line.by_size,
        ),
    ]
}

fn messages_per_connection(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[1, 8, 64, 1024],
        false => &[1, 2, 8, 32, 64, 128, 256, 512, 1024],
    }
}

fn sizes(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[SMALL_BYTES, 1024, 8192],
        false => &[SMALL_BYTES, 256, 1024, 2048, 4096, 8192],
    }
}
