//! `ixload` with Debian's memcached on the loopback interface: what it says is understood by a server that
//! nobody here wrote, and what it counts is what that server has counted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use ix_load::options::Options;
use ix_load::report::{LoadReport, Report};
use ix_memcached_tests::debian::Debian;
use ix_memcached_tests::original::OnLoopback;

/// Keys of each load.
const KEYS: u64 = 500;

/// Carries out `ixload load`; every value that it is sent is verified.
fn load(server: SocketAddr, arguments: &str) -> Result<LoadReport> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let line = format!(
        "ixload load --connect {server} --force --connections 8 --keys {KEYS} --warmup 0 --duration 0.5 \
         --json {} {arguments}",
        json.display()
    );
    let options = Options::try_parse_from(line.split_whitespace())?;
    ix_load::run(&options).with_context(|| line.clone())?;
    match serde_json::from_str(&fs::read_to_string(&json)?)? {
        Report::Load(report) => Ok(*report),
        _ => bail!("{line} wrote another report"),
    }
}

/// A number that the server counts.
fn counter(server: SocketAddr, name: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"stats\r\nquit\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if let Some(value) = line.strip_prefix(&format!("STAT {name} ")) {
            return Ok(value.trim().parse()?);
        }
    }
    bail!("memcached has no counter {name}")
}

#[test]
#[ignore = "fetches Debian's memcached: cargo xtask test boot"]
fn both_protocols_are_those_of_memcached() -> Result<()> {
    let debian = Debian::fetch()?;
    for protocol in ["text", "binary"] {
        let memcached = OnLoopback::start(&debian)?;
        let server = memcached.address;
        let (mut sets, mut gets) = (0, 0);
        for arguments in [
            "--workload etc --depth 4",
            "--workload usr --get-share 0.5 --requests-per-connection 10",
            "--workload fixed --value-size 20000 --rate 500",
        ] {
            let arguments = format!("--protocol {protocol} {arguments}");
            let report = load(server, &arguments)?;
            let found = report.answers;
            ensure!(
                report.requests > 0 && found.hits > 0,
                "{arguments}: {report}"
            );
            ensure!(found.misses == 0, "{arguments} misses its keys: {report}");
            // What the end cut off was counted by the server alone.
            (sets, gets) = (sets + KEYS + found.sets, gets + found.hits);
            let (set, got) = (counter(server, "cmd_set")?, counter(server, "get_hits")?);
            ensure!(
                set >= sets && got >= gets,
                "{arguments}: of {sets} SETs memcached counted {set}, of {gets} GETs {got}"
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "fetches Debian's memcached: cargo xtask test boot"]
fn keys_that_are_not_there_are_missed() -> Result<()> {
    let memcached = OnLoopback::start(&Debian::fetch()?)?;
    for protocol in ["text", "binary"] {
        let arguments = format!("--protocol {protocol} --workload fixed --no-preload");
        let report = load(memcached.address, &arguments)?;
        ensure!(
            report.answers.misses > 0 && report.answers.hits == 0,
            "{report}"
        );
    }
    Ok(())
}
