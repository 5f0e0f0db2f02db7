//! Figure 3: throughput over the number of open connections.

use anyhow::Result;

use crate::Run;
use crate::bed::{Bed, System, Transport};
use crate::report::{Axis, Figure, Report, Series};
use crate::throughput::saturate;
use ix_machine::MemorySize;

/// Measures it. Each connection sends in turn, so that all of their state is needed.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let numbers: &[u32] = match run.options.quick {
        true => &[1, 64, 1_000, 10_000],
        false => &[1, 10, 100, 1_000, 10_000, 50_000, 100_000, 250_000],
    };
    let most = numbers.iter().copied().max().unwrap_or(1);
    let mut series = Vec::new();
    for system in System::BOTH {
        (run.say)(&format!("figure 3: {}", system.name()));
        let bed = Bed::boot(system, |config| {
            config.memory = MemorySize::from_mib(if run.options.quick { 1024 } else { 6144 });
            if system == System::Ours {
                let connections = (2 * most).to_string();
                config
                    .kernel_options
                    .push(("connections".to_owned(), connections));
            }
        })?;
        let mut points = Vec::new();
        for &number in numbers {
            let arguments = format!("--connections {number}");
            // The host has one address, and that so many ports.
            let transports = match number {
                ..=25_000 => &[Transport::Sockets, Transport::Engine][..],
                _ => &[Transport::Engine],
            };
            points.push(saturate(
                run,
                &bed,
                transports,
                f64::from(number),
                &arguments,
            )?);
        }
        bed.stop()?;
        series.push(Series {
            name: system.name().to_owned(),
            points,
        });
    }
    report.figures.push(Figure {
        number: 3,
        title: "Echo throughput over open connections".to_owned(),
        caption: format!(
            "64 bytes, closed loop, every connection has a message under way. The client held {most} \
             connections at most."
        ),
        x: Axis::logarithmic("connections"),
        y: Axis::logarithmic("messages/s"),
        series,
    });
    Ok(())
}
