//! What a Linux guest gets out of its card: this project's 82599 beside QEMU's `igb`, the same guest on the
//! same kind of wire, one after the other. `cargo xtask bench nic` runs it.
//!
//! Bytes are those of iperf3, both ways; requests are 64 bytes over one connection, answered by `cat` in
//! the guest, each sent when the one before is answered. Times are the host's, and of what it does besides.

#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ix_linux_guest::LinuxGuest;
use ix_machine::NicKind;
use serde_json::{Value, json};

/// Bytes of a request and of its answer.
const REQUEST_BYTES: usize = 64;
/// Requests before those that count.
const WARM_UP: u32 = 100;
const REQUESTS: u32 = 2000;
/// Seconds of each run of iperf3.
const SECONDS: &str = "5";

/// What was measured with a card.
struct Row {
    card: &'static str,
    /// Of TCP, in bits a second.
    to_guest: f64,
    from_guest: f64,
    requests_per_second: f64,
}

fn main() -> Result<()> {
    let as_json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(other) => bail!("`{other}` is unknown: use --json or nothing"),
    };
    let rows = [
        measure("82599 (ixnicd)", NicKind::Intel82599)?,
        measure("igb (QEMU)", NicKind::Igb)?,
    ];
    if as_json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", json!(rows));
        return Ok(());
    }
    println!("card             to guest   from guest   64 B requests");
    for row in &rows {
        println!(
            "{:15} {:5.0} Mbit/s {:5.0} Mbit/s {:9.0} /s",
            row.card,
            row.to_guest / 1e6,
            row.from_guest / 1e6,
            row.requests_per_second
        );
    }
    Ok(())
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "card": self.card,
            "to_guest_bits_per_second": self.to_guest,
            "from_guest_bits_per_second": self.from_guest,
            "requests_per_second": self.requests_per_second,
        })
    }
}

fn measure(card: &'static str, nic: NicKind) -> Result<Row> {
    let at = |what: &str| eprintln!("{card}: {what}");
    at("a guest boots");
    let mut guest = LinuxGuest::with_link(|config| {
        config.cpus = 2;
        config.nic = nic;
    });
    at("bytes to the guest");
    let to_guest = iperf3(&mut guest, &[])?;
    at("bytes from the guest");
    let from_guest = iperf3(&mut guest, &["-R"])?;
    at("requests");
    let requests_per_second = requests(&mut guest)?;
    guest.stop();
    Ok(Row {
        card,
        to_guest,
        from_guest,
        requests_per_second,
    })
}

/// Bits a second that have arrived.
fn iperf3(guest: &mut LinuxGuest, flags: &[&str]) -> Result<f64> {
    // One server a run: the daemon of Debian 12 does not always survive the first.
    guest.run("iperf3 -s -1 -D");
    guest.run("until netstat -tln | grep -q ':5201 '; do usleep 50000; done");
    let address = guest.address().to_string();
    let mut command = guest.host_program("iperf3");
    command.args(["-J", "-t", SECONDS, "-c", &address]);
    let output = command.args(flags).output().context("cannot run iperf3")?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let received = report["end"]["sum_received"]["bits_per_second"].as_f64();
    received.with_context(|| format!("iperf3 has no result: {}", report["error"]))
}

/// Requests a second, one after the other.
fn requests(guest: &mut LinuxGuest) -> Result<f64> {
    guest.serve_echo();
    let mut stream = guest.connect();
    stream.set_nodelay(true)?;
    let (request, mut answer) = ([0x5a; REQUEST_BYTES], [0; REQUEST_BYTES]);
    let mut exchange = |count: u32| -> Result<()> {
        for _ in 0..count {
            stream.write_all(&request)?;
            stream.read_exact(&mut answer)?;
        }
        Ok(())
    };
    exchange(WARM_UP)?;
    let start = Instant::now();
    exchange(REQUESTS)?;
    Ok(f64::from(REQUESTS) / start.elapsed().as_secs_f64())
}
