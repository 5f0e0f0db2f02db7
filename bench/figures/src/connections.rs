//! Figure 3: what a request costs, and how many a second there are, over the number of open connections.
//!
//! 64 requests are under way however many connections there are, which take turns. So the load is the same
//! everywhere, and what differs is the size of the crowd.

use std::time::{Duration, Instant};

use anyhow::Result;
use ix_insns::crowd::{self, Crowd, ROUNDS};
use ix_insns::exchange::Application;
use ix_insns::run::{self, Clock, build_plugin};
use ix_machine::MachineConfig;
use ix_machine::qemu::Qemu;

use crate::bed::{Bed, Load, System, Transport};
use crate::counted::CountedLinux;
use crate::plot::short;
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::targets::{Cost, Goal, Measured};
use crate::throughput::{CONNECTIONS, saturate};
use crate::{Options, Run};

/// The most connections of a timed load that is measured by either transport, and is opened anew each time:
/// the host's TCP has one address, and more take long to open.
const FEW: usize = 1_000;

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let mut costs = System::BOTH.map(Line::new);
    for line in &mut costs {
        let part = format!("{}, instructions", line.system.name());
        run.attempt(report, 3, &part, |_| line.count(run))?;
    }
    let mut rates = System::BOTH.map(Line::new);
    for line in &mut rates {
        let part = format!("{}, messages/s", line.system.name());
        run.attempt(report, 3, &part, |_| line.time(run))?;
    }
    reach(report, &costs[0]);
    report.figures.push(figure(
        "Guest instructions of an echo over open connections",
        Axis::logarithmic("guest instructions per request"),
        costs,
    ));
    report.figures.push(figure(
        "Echo throughput over open connections",
        Axis::logarithmic("messages/s"),
        rates,
    ));
    Ok(())
}

/// What was measured of one system.
struct Line {
    system: System,
    points: Vec<Point>,
    /// Where the instructions at the last point go.
    profile: Vec<Cost>,
}

impl Line {
    fn new(system: System) -> Self {
        Self {
            system,
            points: Vec::new(),
            profile: Vec::new(),
        }
    }

    fn add(&mut self, run: Run, point: Point) {
        let (name, x) = (self.system.name(), point.x);
        (run.say)(&format!(
            "figure 3: {name}, {x} connections: {}",
            point.text()
        ));
        self.points.push(point);
    }

    fn count(&mut self, run: Run) -> Result<()> {
        match self.system {
            System::Ours => self.count_ours(run),
            System::Linux => self.count_linux(run),
        }
    }

    fn count_ours(&mut self, run: Run) -> Result<()> {
        let plugin = build_plugin(&Qemu::locate()?)?;
        let numbers = counted(run.options, System::Ours);
        let mut bed =
            run::Bed::start_changed(&plugin, Application::Echo, 1, Clock::Host, |config| {
                make_room(config, System::Ours, numbers);
            })?;
        let mut crowd = Crowd::gather(bed.machine(), bed.server(), most(numbers))?;
        for &number in numbers {
            let budget = Instant::now() + opening_budget(run.options);
            crowd.grow(bed.machine(), number, budget, run.check)?;
            let mut totals = Vec::new();
            for _ in 0..run.options.boots() {
                let measured = bed.measure_crowd(&mut crowd, ROUNDS, run.check)?;
                totals.extend(measured.windows.iter().map(|window| window.total()));
                self.profile = Cost::of(&measured.profile(Application::Echo)?);
            }
            self.add(
                run,
                Point::new(crowd.connections() as f64, Spread::of(&totals)),
            );
            if crowd.connections() < number {
                break;
            }
        }
        bed.stop()
    }

    fn count_linux(&mut self, run: Run) -> Result<()> {
        let plugin = build_plugin(&Qemu::locate()?)?;
        let numbers = counted(run.options, System::Linux);
        let (mut linux, server) = CountedLinux::boot_echo(&plugin, |config| {
            make_room(config, System::Linux, numbers);
        })?;
        let mut crowd = Crowd::gather(linux.machine(), server, most(numbers))?;
        for &number in numbers {
            let budget = Instant::now() + opening_budget(run.options);
            crowd.grow(linux.machine(), number, budget, run.check)?;
            let requests = ROUNDS * crowd.active() as u64;
            let windows = linux.count(requests, |machine| {
                (0..ROUNDS).try_for_each(|_| crowd.round(machine, run.check))
            })?;
            let totals = windows.map(|window| window.total());
            self.add(
                run,
                Point::new(crowd.connections() as f64, Spread::of(&totals)),
            );
            if crowd.connections() < number {
                break;
            }
        }
        linux.stop()
    }

    fn time(&mut self, run: Run) -> Result<()> {
        let numbers = timed(run.options);
        let bed = Bed::boot(self.system, |config| {
            make_room(config, self.system, numbers);
        })?;
        for &number in numbers {
            let arguments = format!("--connections {number} --at-once {CONNECTIONS}");
            let point = match number {
                ..=FEW => saturate(run, &bed, &Transport::BOTH, number as f64, &arguments)?,
                _ => many(run, &bed, &arguments)?,
            };
            let opened = point.x;
            self.add(run, point);
            if opened < number as f64 {
                break;
            }
        }
        bed.stop()
    }
}

/// The rates on as many of the connections as are open in time, in windows that follow each other.
fn many(run: Run, bed: &Bed, arguments: &str) -> Result<Point> {
    let load = Load {
        arguments,
        transport: Transport::Engine,
        parts: run.options.repetitions,
        opening: Some(opening_budget(run.options)),
    };
    let report = bed.carry(run, load)?;
    let mut note = format!(
        "{}; opened in {:.1} s",
        report.transport, report.connect_seconds
    );
    if report.client.bottleneck.is_some() {
        note += ", client-bound";
    }
    Ok(Point {
        note: Some(note),
        ..Point::new(
            report.connections as f64,
            Spread::of(&report.requests_per_second_by_part),
        )
    })
}

/// What is left of the peak at the largest crowd.
fn reach(report: &mut Report, ours: &Line) {
    let medians = ours.points.iter().map(|point| point.y.median);
    let (Some(fewest), Some(last)) = (medians.reduce(f64::min), ours.points.last()) else {
        return;
    };
    let share = |instructions: f64| fewest / instructions;
    let left = Spread {
        median: share(last.y.median),
        min: share(last.y.max),
        max: share(last.y.min),
    };
    let note = format!(
        "{} connections: {} instructions a request, {} at the peak",
        last.x,
        short(last.y.median),
        short(fewest)
    );
    let measured = Measured::new(left).note(note).profile(&ours.profile);
    report.reach(Goal::ManyConnections, measured);
}

fn figure(title: &str, y: Axis, lines: [Line; 2]) -> Figure {
    Figure {
        number: 3,
        title: title.to_owned(),
        caption: format!(
            "64 bytes, closed loop, {CONNECTIONS} requests under way at a time, of connections that take \
             turns; at more than {FEW} of them, the same ones throughout. From some thousand on a connection \
             is silent for long enough that it acknowledges each response by a frame of its own and that each \
             request sets up a timer, which is in the counts. A line ends where the time for opening \
             connections was over. Instructions of this dataplane are counted by the host's clock, those of \
             Linux by their own (-icount)."
        ),
        x: Axis::logarithmic("connections"),
        y,
        series: lines
            .into_iter()
            .map(|line| Series::of(line.system, line.points))
            .collect(),
    }
}

/// Gives a machine memory and tables for that many connections.
fn make_room(config: &mut MachineConfig, system: System, numbers: &[usize]) {
    let most = most(numbers);
    crowd::make_room(config, most);
    if system == System::Ours {
        crowd::give_tables(config, most);
    }
}

fn most(numbers: &[usize]) -> usize {
    numbers.iter().copied().max().unwrap_or(0)
}

/// How long connections may be opened to get to the next number.
fn opening_budget(options: &Options) -> Duration {
    Duration::from_secs(if options.quick { 15 } else { 240 })
}

/// Numbers of connections to count instructions at.
fn counted(options: &Options, system: System) -> &'static [usize] {
    match (system, options.quick) {
        (System::Ours, true) => &[1, 64, 1_000, 10_000, 250_000],
        (System::Linux, true) => &[1, 64, 1_000, 10_000],
        (_, false) => &[1, 16, 64, 1_000, 10_000, 50_000, 100_000, 250_000],
    }
}

/// Numbers of connections to time at.
fn timed(options: &Options) -> &'static [usize] {
    match options.quick {
        true => &[64, 10_000, 250_000],
        false => &[1, 16, 64, 1_000, 10_000, 50_000, 100_000, 250_000],
    }
}
