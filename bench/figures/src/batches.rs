//! Figure 5: echo throughput over the bound of a batch, which is decided at boot.

use anyhow::Result;

use crate::Run;
use crate::bed::{Bed, System, Transport};
use crate::report::{Axis, Figure, Report, Series};
use crate::throughput::{CONNECTIONS, SMALL_BYTES, saturate};

/// The bounds of the paper's figure.
const BOUNDS: [u32; 5] = [1, 2, 8, 16, 64];

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let mut points = Vec::new();
    for bound in BOUNDS {
        let part = format!("batches of at most {bound}");
        run.attempt(report, 5, &part, |_| {
            let bed = Bed::boot(System::Ours, |config| {
                let option = ("batch".to_owned(), bound.to_string());
                config.kernel_options.push(option);
            })?;
            let arguments = format!("--connections {CONNECTIONS} --size {SMALL_BYTES}");
            let point = saturate(run, &bed, &Transport::BOTH, bound.into(), &arguments)?;
            (run.say)(&format!("figure 5: {part}: {}", point.text()));
            points.push(point);
            bed.stop()
        })?;
    }
    report.figures.push(Figure {
        number: 5,
        title: "Echo throughput over the batch bound B".to_owned(),
        caption: format!("{CONNECTIONS} connections, {SMALL_BYTES} bytes, closed loop."),
        x: Axis::logarithmic("frames in a batch, at most"),
        y: Axis::linear("messages/s"),
        series: vec![Series::of(System::Ours, points)],
    });
    Ok(())
}
