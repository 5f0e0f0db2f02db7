//! What a frame costs the 82599 model and its driver together: one queue, one thread, no virtual machine.
//!
//! The driver hands out and takes back buffers as the dataplane kernel does, in batches of 64 frames with a
//! doorbell each way. Time is this thread's processor time, so that others on the machine do not lengthen
//! it; the best of several runs counts. `cargo xtask bench nic` runs this, beside guests.

mod machine;

use std::time::Duration;

use clap::Parser;
use machine::{BATCH, Doorbells, Machine};
use serde::Serialize;

/// Least and most bytes of a frame with FCS.
const FRAME_BYTES: std::ops::RangeInclusive<i64> = 64..=1518;

/// Measures what frames cost the NIC model and its driver in this process.
#[derive(Debug, Parser)]
struct Options {
    /// Sizes of frames, with FCS.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1518],
          value_parser = clap::value_parser!(u32).range(FRAME_BYTES))]
    sizes: Vec<u32>,
    /// Batches of 64 frames in a run.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Runs, of which the best counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Path {
    /// From the wire to the driver.
    Receive,
    /// From the driver to the wire.
    Transmit,
    /// To the driver, and a frame of the same size back.
    Reflect,
}

/// A measurement.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    path: Path,
    doorbells: Doorbells,
    /// Bytes of a frame, with FCS.
    frame_bytes: u32,
    ns_per_frame: f64,
    frames_per_second: f64,
    bytes_per_second: f64,
}

fn main() {
    let options = Options::parse();
    let mut rows = Vec::new();
    for path in [Path::Receive, Path::Transmit, Path::Reflect] {
        for doorbells in [Doorbells::Trapped, Doorbells::Mapped] {
            for frame_bytes in &options.sizes {
                eprintln!("{path:?}, {doorbells:?} doorbells, {frame_bytes} bytes");
                rows.push(measure(path, doorbells, *frame_bytes, &options));
            }
        }
    }
    if options.json {
        println!("{}", serde_json::json!(rows));
    } else {
        print(&rows);
    }
}

fn measure(path: Path, doorbells: Doorbells, frame_bytes: u32, options: &Options) -> Row {
    let mut machine = Machine::new(doorbells, frame_bytes as usize);
    let runs = (0..options.runs).map(|_| run(&mut machine, path, options.batches));
    // A run takes some time.
    let best = runs.min().unwrap_or(Duration::MAX);
    let frames = f64::from(options.batches) * BATCH as f64;
    let per_frame = best.as_secs_f64() / frames;
    Row {
        path,
        doorbells,
        frame_bytes,
        ns_per_frame: per_frame * 1e9,
        frames_per_second: 1.0 / per_frame,
        bytes_per_second: f64::from(frame_bytes) / per_frame,
    }
}

/// Processor time of so many batches, each of which must arrive whole.
fn run(machine: &mut Machine, path: Path, batches: u32) -> Duration {
    let (receives, sends) = match path {
        Path::Receive => (true, false),
        Path::Transmit => (false, true),
        Path::Reflect => (true, true),
    };
    let before = machine.counts();
    let start = processor_time();
    for _ in 0..batches {
        if receives {
            machine.receive_batch();
        }
        if sends {
            machine.send_batch();
        }
    }
    let taken = processor_time() - start;
    let after = machine.counts();
    let expected = u64::from(batches) * BATCH as u64;
    let moved = (after.0 - before.0, after.1 - before.1);
    let whole = (expected * u64::from(receives), expected * u64::from(sends));
    assert_eq!(
        moved,
        whole,
        "frames were lost: {}",
        machine.model_counters()
    );
    taken
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

fn print(rows: &[Row]) {
    println!("path      doorbells  bytes  ns/frame   frames/s    Mbyte/s");
    for row in rows {
        let path = match row.path {
            Path::Receive => "receive",
            Path::Transmit => "transmit",
            Path::Reflect => "reflect",
        };
        let doorbells = match row.doorbells {
            Doorbells::Trapped => "trapped",
            Doorbells::Mapped => "mapped",
        };
        println!(
            "{path:9} {doorbells:9} {:6} {:9.0} {:10.0} {:10.0}",
            row.frame_bytes,
            row.ns_per_frame,
            row.frames_per_second,
            row.bytes_per_second / 1e6
        );
    }
}
