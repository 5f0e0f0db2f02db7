//! Figure 6: echo throughput over cores, as far as this machine has them, and guest instructions of an echo
//! over elastic threads, of which it can have any number.

use std::thread;

use anyhow::Result;
use ix_insns::exchange::Application;
use ix_insns::{run::build_plugin, scaling};
use ix_machine::qemu::Qemu;

use crate::bed::{Bed, System, Transport};
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::throughput::{CONNECTIONS, saturate};
use crate::{Options, Run};

/// Numbers of cores, of which those are taken that the machine has.
const CORES: [u32; 4] = [1, 2, 4, 8];

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let available = thread::available_parallelism()?.get();
    let mut lines = System::BOTH.map(|system| (system, Vec::new()));
    for (system, points) in &mut lines {
        for cores in CORES
            .into_iter()
            .filter(|&cores| cores as usize <= available)
        {
            let plural = if cores == 1 { "" } else { "s" };
            let part = format!("{}, {cores} core{plural}", system.name());
            run.attempt(report, 6, &part, |_| {
                let point = time(run, *system, cores)?;
                (run.say)(&format!("figure 6: {part}: {}", point.text()));
                points.push(point);
                Ok(())
            })?;
        }
    }
    let mut counts = Vec::new();
    for &threads in threads(run.options) {
        let part = format!("instructions on {threads} threads");
        run.attempt(report, 6, &part, |_| {
            let point = count(run, threads)?;
            (run.say)(&format!("figure 6: {part}: {}", point.text()));
            counts.push(point);
            Ok(())
        })?;
    }
    report.figures.push(Figure {
        number: 6,
        title: "Echo throughput over cores".to_owned(),
        caption: format!(
            "64 bytes, {CONNECTIONS} connections for each core, closed loop; Linux's server has a thread for \
             each. The client and the emulated card need cores too: of the {available} here nobody has one \
             to himself, so that this is a lower bound of what a further core brings."
        ),
        x: Axis::logarithmic("cores"),
        y: Axis::logarithmic("messages/s"),
        series: lines
            .into_iter()
            .map(|(system, points)| Series::of(system, points))
            .collect(),
    });
    report.figures.push(Figure {
        number: 6,
        title: "Guest instructions of an echo over elastic threads".to_owned(),
        caption: "16 connections for each thread, so that batches are the same and what would show is what \
                  threads cost each other."
            .to_owned(),
        x: Axis::logarithmic("elastic threads"),
        y: Axis::linear("guest instructions per request"),
        series: vec![Series::of(System::Ours, counts)],
    });
    Ok(())
}

fn time(run: Run, system: System, cores: u32) -> Result<Point> {
    let bed = Bed::boot(system, |config| config.cpus = cores)?;
    let arguments = format!("--connections {}", CONNECTIONS * cores);
    let point = saturate(run, &bed, &Transport::BOTH, cores.into(), &arguments)?;
    bed.stop()?;
    Ok(point)
}

fn count(run: Run, threads: u32) -> Result<Point> {
    let plugin = build_plugin(&Qemu::locate()?)?;
    let boots = (0..run.options.boots()).map(|_| {
        let measured = scaling::measure_once(&plugin, Application::Echo, threads, run.check)?;
        Ok(measured.windows)
    });
    let windows = boots.collect::<Result<Vec<_>>>()?.concat();
    let totals: Vec<f64> = windows.iter().map(|window| window.total()).collect();
    Ok(Point::new(threads.into(), Spread::of(&totals)))
}

/// Numbers of elastic threads.
fn threads(options: &Options) -> &'static [u32] {
    match options.quick {
        true => &[1, 4, 16],
        false => &[1, 2, 4, 8, 16],
    }
}
