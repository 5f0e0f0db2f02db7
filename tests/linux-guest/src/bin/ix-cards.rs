//! What a Linux guest gets out of its card: this project's 82599 beside QEMU's `igb`, the same guest on the
//! same kind of wire. `cargo xtask bench nic` runs it.
//!
//! Both guests are booted at once, and the runs go to one and the other in turn, so that whatever else the host
//! does falls on both; medians count, and the least and the most of the runs are shown beside. Bytes are those
//! of iperf3, both ways; requests are 64 bytes, answered by `ixload`'s echo server in the guest, on each
//! connection one after the other.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ix_linux_guest::LinuxGuest;
use ix_linux_guest::image::Contents;
use ix_machine::{Artifacts, NicKind};
use serde_json::{Map, Value, json};

/// Processors of each guest.
const GUEST_CPUS: u32 = 2;
const ECHO_PORT: u16 = 7;
/// Seconds of each run of iperf3.
const BULK_SECONDS: &str = "3";
/// Seconds of each run of requests, and of those before that do not count.
const REQUEST_SECONDS: &str = "2";
const WARM_UP_SECONDS: &str = "0.3";

const CARDS: [(&str, NicKind); 2] = [
    ("82599 (ixnicd)", NicKind::Intel82599),
    ("igb (QEMU)", NicKind::Igb),
];

/// Compare the cards of a Linux guest.
#[derive(Debug, Parser)]
struct Options {
    /// Runs of each kind for each card, of which the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is measured: name in JSON, the table's heading, its unit, and how much of it is 1 in the table.
struct Measure {
    name: &'static str,
    heading: &'static str,
    unit: f64,
    digits: usize,
    take: fn(&mut LinuxGuest) -> Result<f64>,
}

const MEASURES: [Measure; 4] = [
    Measure {
        name: "to_guest_bits_per_second",
        heading: "to guest, Gbit/s",
        unit: 1e9,
        digits: 2,
        take: |guest| iperf3(guest, &[]),
    },
    Measure {
        name: "from_guest_bits_per_second",
        heading: "from guest, Gbit/s",
        unit: 1e9,
        digits: 2,
        take: |guest| iperf3(guest, &["-R"]),
    },
    Measure {
        name: "requests_per_second",
        heading: "requests/s",
        unit: 1.0,
        digits: 0,
        take: |guest| requests(guest, 1),
    },
    Measure {
        name: "requests_per_second_64_connections",
        heading: "by 64 connections",
        unit: 1.0,
        digits: 0,
        take: |guest| requests(guest, 64),
    },
];

/// A booted guest, and what was measured: the runs of each measure.
struct Bed {
    card: &'static str,
    guest: LinuxGuest,
    runs: [Vec<f64>; MEASURES.len()],
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut beds = CARDS.map(|(card, nic)| Bed::boot(card, nic));
    for run in 1..=options.runs {
        eprintln!("run {run} of {}", options.runs);
        for (place, measure) in MEASURES.iter().enumerate() {
            for bed in &mut beds {
                let taken = (measure.take)(&mut bed.guest)
                    .with_context(|| format!("{}: {}", bed.card, measure.heading))?;
                bed.runs[place].push(taken);
            }
        }
    }
    if options.json {
        let rows: Vec<Value> = beds.iter().map(Bed::json).collect();
        println!("{}", json!(rows));
    } else {
        print_table(&beds);
    }
    beds.into_iter().for_each(|bed| bed.guest.stop());
    Ok(())
}

impl Bed {
    fn boot(card: &'static str, nic: NicKind) -> Self {
        eprintln!("{card}: a guest boots");
        let contents = Contents {
            servers: true,
            ..Contents::default()
        };
        let mut guest = LinuxGuest::with_link_contents(contents, |config| {
            config.cpus = GUEST_CPUS;
            config.nic = nic;
        });
        let server = format!("ixload serve-echo --listen 0.0.0.0:{ECHO_PORT}");
        guest
            .try_serve(&server, ECHO_PORT)
            .expect("the echo server starts");
        Self {
            card,
            guest,
            runs: [const { Vec::new() }; MEASURES.len()],
        }
    }

    fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("card".to_owned(), json!(self.card));
        for (measure, runs) in MEASURES.iter().zip(&self.runs) {
            let Spread {
                least,
                median,
                most,
            } = Spread::of(runs);
            let spread = json!({ "median": median, "least": least, "most": most, "runs": runs });
            row.insert(measure.name.to_owned(), spread);
        }
        Value::Object(row)
    }
}

fn print_table(beds: &[Bed]) {
    let cell = |measure: &Measure, runs: &[f64]| {
        let Spread {
            least,
            median,
            most,
        } = Spread::of(runs);
        let show = |value: f64| format!("{:.*}", measure.digits, value / measure.unit);
        format!("{} ({} to {})", show(median), show(least), show(most))
    };
    print!("{:15}", "card");
    for measure in &MEASURES {
        print!(" {:>24}", measure.heading);
    }
    println!();
    for bed in beds {
        print!("{:15}", bed.card);
        for (measure, runs) in MEASURES.iter().zip(&bed.runs) {
            print!(" {:>24}", cell(measure, runs));
        }
        println!();
    }
}

/// How runs lie.
#[derive(Debug, PartialEq)]
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Of at least one run; of an even number, the lower middle one is the median.
    fn of(runs: &[f64]) -> Self {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            least: sorted[0],
            median: sorted[(sorted.len() - 1) / 2],
            most: sorted[sorted.len() - 1],
        }
    }
}

/// Bits a second that have arrived.
fn iperf3(guest: &mut LinuxGuest, flags: &[&str]) -> Result<f64> {
    // One server a run: the daemon of Debian 12 does not always survive the first.
    guest.try_run("iperf3 -s -1 -D")?;
    guest.try_run("until netstat -tln | grep -q ':5201 '; do usleep 50000; done")?;
    let address = guest.address().to_string();
    let mut command = guest.host_program("iperf3");
    command.args(["-J", "-t", BULK_SECONDS, "-c", &address]);
    let output = command.args(flags).output().context("cannot run iperf3")?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let received = report["end"]["sum_received"]["bits_per_second"].as_f64();
    received.with_context(|| format!("iperf3 has no result: {}", report["error"]))
}

/// Requests a second over so many connections, each byte of the answers verified.
fn requests(guest: &mut LinuxGuest, connections: u32) -> Result<f64> {
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let file = folder.path().join("report");
    let mut command = guest.host_command(&Artifacts::of_workspace().load_program());
    command
        .args(["echo", "--duration", REQUEST_SECONDS])
        .args(["--warmup", WARM_UP_SECONDS])
        .args(["--connect", &format!("{}:{ECHO_PORT}", guest.address())])
        .args(["--connections", &connections.to_string(), "--json"])
        .arg(&file);
    let output = command.output().context("cannot run ixload")?;
    ensure!(
        output.status.success(),
        "ixload: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    messages_per_second(&file)
}

fn messages_per_second(file: &Path) -> Result<f64> {
    let report: Value = serde_json::from_slice(&fs::read(file)?)?;
    let rate = report["messages_per_second"].as_f64();
    rate.with_context(|| format!("ixload has no result: {report}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_run_counts_whatever_their_order() {
        let spread = |least, median, most| Spread {
            least,
            median,
            most,
        };
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), spread(1.0, 2.0, 3.0));
        assert_eq!(Spread::of(&[9.0, 1.0, 4.0, 7.0]), spread(1.0, 4.0, 9.0));
        assert_eq!(Spread::of(&[5.0]), spread(5.0, 5.0, 5.0));
    }
}
