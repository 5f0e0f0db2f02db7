//! Figure 1: ping-pong on one connection, over message size: the round trip, and the goodput.

use anyhow::{Result, ensure};

use crate::bed::{Bed, System, Transport};
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::residence;
use crate::targets::{Goal, Measured};
use crate::{Options, Run};

/// The size that the targets are about.
const SMALL_BYTES: u32 = 64;

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let mut lines = System::BOTH.map(Line::new);
    for line in &mut lines {
        let name = line.system.name();
        run.attempt(report, 1, name, |report| {
            let bed = Bed::boot(line.system, |_| {})?;
            report.conditions.accelerator = Some(bed.machine().accel().to_string());
            line.measure(run, &bed)?;
            bed.stop()
        })?;
    }
    reach(report, &lines);
    report.figures.extend(figures(&lines));
    Ok(())
}

/// What one system does.
struct Line {
    system: System,
    /// Over size: microseconds of a round trip, and megabits a second, one way.
    round_trips: Vec<Point>,
    goodputs: Vec<Point>,
    /// Microseconds within the guest, of the small message.
    residence: Option<Spread>,
}

impl Line {
    fn new(system: System) -> Self {
        Self {
            system,
            round_trips: Vec::new(),
            goodputs: Vec::new(),
            residence: None,
        }
    }

    fn measure(&mut self, run: Run, bed: &Bed) -> Result<()> {
        let mut residences = Vec::new();
        for _ in 0..run.options.repetitions {
            let arguments = format!("--connections 1 --size {SMALL_BYTES}");
            residences.push(residence::median_us(run, bed, &arguments)?);
        }
        self.residence = Some(Spread::of(&residences));
        // The others are drawn in any case.
        let mut failure = Ok(());
        for &bytes in sizes(run.options) {
            if let Err(error) = self.measure_size(run, bed, bytes) {
                (run.check)()?;
                failure = Err(error);
            }
        }
        failure
    }

    fn measure_size(&mut self, run: Run, bed: &Bed, bytes: u32) -> Result<()> {
        let arguments = format!("--connections 1 --size {bytes}");
        let (mut latencies, mut goodputs) = (Vec::new(), Vec::new());
        for _ in 0..run.options.repetitions {
            let load = bed.load(run, &arguments, Transport::Sockets)?;
            ensure!(
                load.requests > 0,
                "not one message of {bytes} bytes came back in {} s: leave the machine alone meanwhile",
                load.seconds
            );
            latencies.extend(load.latency_us.map(|latency| latency.p50));
            goodputs.push(load.megabytes_received_per_second * 8.0);
        }
        let (latency, goodput) = (Spread::of(&latencies), Spread::of(&goodputs));
        (run.say)(&format!(
            "figure 1: {}, {bytes} bytes: {:.0} us, {:.1} Mbit/s",
            self.system.name(),
            latency.median,
            goodput.median
        ));
        self.round_trips.push(Point::new(bytes.into(), latency));
        self.goodputs.push(Point::new(bytes.into(), goodput));
        Ok(())
    }
}

fn reach(report: &mut Report, [ours, linux]: &[Line; 2]) {
    if let (Some(ours), Some(linux)) = (ours.residence, linux.residence) {
        let measured = Measured::new(ours).beside(linux);
        let note = "from the request's frame entering the NIC model to the reply's leaving it, by captures, \
                    which slow the model";
        report.reach(Goal::Residence, measured.note(note));
    }
    if let (Some(ours), Some(linux)) = (ours.round_trips.first(), linux.round_trips.first()) {
        let measured = Measured::new(ours.y).beside(linux.y);
        let note = "over the client's sockets, without captures";
        report.reach(Goal::RoundTrip, measured.note(note));
    }
}

fn figures(lines: &[Line; 2]) -> [Figure; 2] {
    let figure = |title: &str, y: Axis, pick: fn(&Line) -> &Vec<Point>| {
        Figure {
        number: 1,
        title: title.to_owned(),
        caption: "One connection, one message under way, over the client's sockets. The client's wake-ups \
                  are part of the time; the time in the guest, among the targets, is without them."
            .to_owned(),
        x: Axis::logarithmic("message size, bytes"),
        y,
        series: lines
            .iter()
            .map(|line| Series::of(line.system, pick(line).clone()))
            .collect(),
    }
    };
    [
        figure(
            "Ping-pong: round trip",
            Axis::logarithmic("median round trip, us"),
            |line| &line.round_trips,
        ),
        figure(
            "Ping-pong: goodput",
            Axis::logarithmic("goodput one way, Mbit/s"),
            |line| &line.goodputs,
        ),
    ]
}

fn sizes(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[SMALL_BYTES, 1 << 10, 16 << 10, 128 << 10, 512 << 10],
        false => &[
            SMALL_BYTES,
            256,
            1 << 10,
            4 << 10,
            16 << 10,
            64 << 10,
            128 << 10,
            256 << 10,
            512 << 10,
        ],
    }
}
