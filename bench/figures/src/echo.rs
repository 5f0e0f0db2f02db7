//! Figures 1, 2 and 5: echo over message size, over messages per connection, and over the batch bound.

use anyhow::Result;

use crate::bed::{Bed, System, Transport};
use crate::report::{Axis, Figure, Headline, Point, Report, Series, Spread, Target};
use crate::residence;
use crate::{Options, Run};

/// Connections that saturate one core of either system.
const CONNECTIONS: u32 = 64;
/// A message small enough that its bytes do not matter.
const SMALL_BYTES: u32 = 64;

/// Measures figures 1 and 2, as far as they are asked for; each system is booted once.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let mut lines = Vec::new();
    for system in System::BOTH {
        (run.say)(&format!("figures 1 and 2: {}", system.name()));
        let bed = Bed::boot(system, |_| {})?;
        report.conditions.accelerator = Some(bed.machine().accel().to_string());
        lines.push(Lines::measure(run, &bed, system)?);
        bed.stop()?;
    }
    if run.options.wants(1) {
        figure_1(report, &lines);
    }
    if run.options.wants(2) {
        figure_2(report, &lines);
    }
    Ok(())
}

/// What one system does.
#[derive(Default)]
struct Lines {
    name: &'static str,
    /// Over size: microseconds of a round trip, and megabits of goodput, one way.
    ping_pong: Vec<(f64, Spread, Spread)>,
    /// Microseconds within the guest, of the smallest message.
    residence: Option<Spread>,
    /// Messages a second over messages per connection, and over size.
    by_messages: Vec<Point>,
    by_size: Vec<Point>,
}

impl Lines {
    fn measure(run: Run, bed: &Bed, system: System) -> Result<Self> {
        let mut lines = Self {
            name: system.name(),
            ..Self::default()
        };
        if run.options.wants(1) {
            lines.measure_ping_pong(run, bed)?;
        }
        if run.options.wants(2) {
            lines.measure_throughput(run, bed)?;
        }
        Ok(lines)
    }

    fn measure_ping_pong(&mut self, run: Run, bed: &Bed) -> Result<()> {
        for &bytes in ping_pong_sizes(run.options) {
            let arguments = format!("--connections 1 --size {bytes}");
            let mut latencies = Vec::new();
            let mut goodputs = Vec::new();
            for _ in 0..run.options.repetitions {
                (run.check)()?;
                let load = bed.load(&arguments, Transport::Sockets, run.options.seconds())?;
                latencies.extend(load.latency_us.map(|latency| latency.p50));
                goodputs.push(load.megabytes_received_per_second * 8.0);
            }
            let point = (
                f64::from(bytes),
                Spread::of(&latencies),
                Spread::of(&goodputs),
            );
            self.ping_pong.push(point);
        }
        let mut residences = Vec::new();
        for _ in 0..run.options.repetitions {
            (run.check)()?;
            let arguments = format!("--connections 1 --size {SMALL_BYTES}");
            residences.push(residence::median_us(
                bed,
                &arguments,
                run.options.seconds(),
            )?);
        }
        self.residence = Some(Spread::of(&residences));
        Ok(())
    }

    fn measure_throughput(&mut self, run: Run, bed: &Bed) -> Result<()> {
        for &messages in messages_per_connection(run.options) {
            let arguments = format!(
                "--connections {CONNECTIONS} --size {SMALL_BYTES} --requests-per-connection {messages}"
            );
            self.by_messages
                .push(saturate(run, bed, f64::from(messages), &arguments)?);
        }
        for &bytes in throughput_sizes(run.options) {
            let arguments = format!("--connections {CONNECTIONS} --size {bytes}");
            self.by_size
                .push(saturate(run, bed, f64::from(bytes), &arguments)?);
        }
        Ok(())
    }
}

/// Requests a second, by whichever transport of the client gets more out of the server.
pub fn saturate(run: Run, bed: &Bed, x: f64, arguments: &str) -> Result<Point> {
    saturate_by(
        run,
        bed,
        &[Transport::Sockets, Transport::Engine],
        x,
        arguments,
    )
}

/// The same by these transports.
pub fn saturate_by(
    run: Run,
    bed: &Bed,
    transports: &[Transport],
    x: f64,
    arguments: &str,
) -> Result<Point> {
    let mut best: Option<(Spread, String)> = None;
    for &transport in transports {
        let mut rates = Vec::new();
        let mut is_bound = false;
        for _ in 0..run.options.repetitions {
            (run.check)()?;
            let load = bed.load(arguments, transport, run.options.seconds())?;
            rates.push(load.requests_per_second);
            is_bound |= load.client.bottleneck.is_some();
        }
        let spread = Spread::of(&rates);
        let limit = if is_bound { ", client-bound" } else { "" };
        let note = format!("{}{limit}", transport.name());
        if best
            .as_ref()
            .is_none_or(|(best, _)| spread.median > best.median)
        {
            best = Some((spread, note));
        }
    }
    let (y, note) = best.expect("there are transports");
    Ok(Point {
        x,
        y,
        note: Some(note),
    })
}

fn figure_1(report: &mut Report, lines: &[Lines]) {
    type Pick = fn(&(f64, Spread, Spread)) -> Spread;
    let caption = "One connection, one message under way, over the client's sockets. The client's wake-ups \
                   are part of the time; the residence time above is without them.";
    let parts: [(&str, Axis, Pick); 2] = [
        (
            "Ping-pong: round trip",
            Axis::logarithmic("median round trip, us"),
            |point| point.1,
        ),
        (
            "Ping-pong: goodput",
            Axis::logarithmic("goodput one way, Mbit/s"),
            |point| point.2,
        ),
    ];
    for (title, y, pick) in parts {
        let series = lines.iter().map(|line| Series {
            name: line.name.to_owned(),
            points: line
                .ping_pong
                .iter()
                .map(|point| Point {
                    x: point.0,
                    y: pick(point),
                    note: None,
                })
                .collect(),
        });
        report.figures.push(Figure {
            number: 1,
            title: title.to_owned(),
            caption: caption.to_owned(),
            x: Axis::logarithmic("message size, bytes"),
            y,
            series: series.collect(),
        });
    }
    if let [
        Lines {
            residence: Some(ours),
            ..
        },
        Lines {
            residence: Some(linux),
            ..
        },
    ] = *lines
    {
        report.headlines.push(Headline {
            what: "residence time of a 64-byte request, one connection, as the NIC model sees it"
                .to_owned(),
            unit: "us",
            ours,
            linux,
            target: Target::AtMostShare(0.25),
        });
    }
}

fn figure_2(report: &mut Report, lines: &[Lines]) {
    type Pick = fn(&Lines) -> &Vec<Point>;
    let caption = "64 connections, closed loop, a connection ends with RST after its last message. Each point is \
                   by the transport of the client that got more out of the server.";
    let parts: [(&str, &'static str, Pick); 2] = [
        (
            "Echo throughput over messages per connection",
            "messages per connection",
            |line| &line.by_messages,
        ),
        (
            "Echo throughput over message size",
            "message size, bytes",
            |line| &line.by_size,
        ),
    ];
    for (title, x, pick) in parts {
        report.figures.push(Figure {
            number: 2,
            title: title.to_owned(),
            caption: caption.to_owned(),
            x: Axis::logarithmic(x),
            y: Axis::logarithmic("messages/s"),
            series: lines
                .iter()
                .map(|line| Series {
                    name: line.name.to_owned(),
                    points: pick(line).clone(),
                })
                .collect(),
        });
    }
    let [ours, linux] = lines else { return };
    let mut compare = |what: &str, pick: Pick| {
        if let (Some(ours), Some(linux)) = (pick(ours).first(), pick(linux).first()) {
            report.headlines.push(Headline {
                what: what.to_owned(),
                unit: "per second",
                ours: ours.y,
                linux: linux.y,
                target: Target::AtLeastTimes(10.0),
            });
        }
    };
    compare("echo of 64 bytes, 64 connections", |line| &line.by_size);
    compare("connect + one message + close", |line| &line.by_messages);
}

/// Measures figure 5: the bound of a batch is decided at boot.
pub fn measure_batches(run: Run, report: &mut Report) -> Result<()> {
    let mut points = Vec::new();
    for bound in [1u32, 2, 8, 16, 64] {
        (run.say)(&format!("figure 5: batches of at most {bound}"));
        let bed = Bed::boot(System::Ours, |config| {
            config
                .kernel_options
                .push(("batch".to_owned(), bound.to_string()));
        })?;
        let arguments = format!("--connections {CONNECTIONS} --size {SMALL_BYTES}");
        points.push(saturate(run, &bed, f64::from(bound), &arguments)?);
        bed.stop()?;
    }
    report.figures.push(Figure {
        number: 5,
        title: "Echo throughput over the batch bound B".to_owned(),
        caption: "64 connections, 64 bytes, closed loop.".to_owned(),
        x: Axis::logarithmic("frames in a batch, at most"),
        y: Axis::linear("messages/s"),
        series: vec![Series {
            name: System::Ours.name().to_owned(),
            points,
        }],
    });
    Ok(())
}

fn ping_pong_sizes(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[64, 1 << 10, 16 << 10, 128 << 10, 512 << 10],
        false => &[
            64,
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

fn messages_per_connection(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[1, 8, 64, 1024],
        false => &[1, 2, 8, 32, 64, 128, 256, 512, 1024],
    }
}

fn throughput_sizes(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[64, 1024, 8192],
        false => &[64, 256, 1024, 2048, 4096, 8192],
    }
}
