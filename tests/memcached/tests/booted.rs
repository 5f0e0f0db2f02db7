//! apps/memcached on a booted machine: with clients of others, with one that does not read, over UDP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ix_machine::MemorySize;
use ix_machine::exit::GuestExit;
use ix_memcached_tests::debian::Debian;
use ix_tests::{BOOT_TIMEOUT, Booted};

const PORT: u16 = 11211;

fn boot(arguments: &[&str], cpus: u32) -> Result<Booted> {
    let booted = Booted::start("memcached", arguments, |config| config.cpus = cpus);
    booted
        .machine()
        .wait_for_line("ix: app: memcached on port", BOOT_TIMEOUT)?;
    Ok(booted)
}

/// Runs one of Debian's programs in the machine's namespace, and returns what it says.
fn run(booted: &Booted, debian: &Debian, program: &str, arguments: &[&str]) -> Result<String> {
    let inside = |program: &Path| Ok(booted.machine().command(program)?);
    let mut command = debian.command_in(inside, program)?;
    command.args(arguments).envs(debian.python_environment());
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(
        output.status.success(),
        "{program}: {}\n{said}",
        output.status
    );
    Ok(said)
}

#[test]
#[ignore = "boots a machine and fetches Debian's clients: cargo xtask test boot"]
fn clients_of_others_are_served() -> Result<()> {
    let (booted, debian) = (boot(&[], 2)?, Debian::fetch()?);
    let (guest, port) = (booted.guest().to_string(), PORT.to_string());
    drop(booted.connect_when_up(PORT));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients.py");
    let said = run(&booted, &debian, "python3.11", &[script, &guest, &port])?;
    ensure!(said.contains("pymemcache is content"), "{said}");
    let said = run(
        &booted,
        &debian,
        "memccapable",
        &["-h", &guest, "-p", &port],
    )?;
    ensure!(!said.contains("[FAIL]"), "memccapable says\n{said}");
    ensure!(
        said.matches("[pass]").count() > 40,
        "memccapable says\n{said}"
    );
    booted.stop();
    Ok(())
}

fn ask(stream: &mut TcpStream, command: &str, end: &str) -> Result<String> {
    stream.write_all(command.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(end.as_bytes()) {
        let bytes = stream.read(&mut buffer)?;
        ensure!(bytes != 0, "the connection ended after {answer:?}");
        answer.extend_from_slice(&buffer[..bytes]);
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn who_does_not_read_holds_up_nobody_else() -> Result<()> {
    let booted = boot(&["-m", "32"], 1)?;
    let mut idle = booted.connect_when_up(PORT);
    let mut busy = booted.connect_when_up(PORT);
    let value = "v".repeat(500_000);
    let set = format!("set big 0 0 {}\r\n{value}\r\n", value.len());
    ask(&mut busy, &set, "STORED\r\n")?;
    // Five gigabytes of answers.
    idle.write_all(format!("get{}\r\n", " big".repeat(10_000)).as_bytes())?;
    for round in 0..200 {
        let set = format!("set k{round} 0 0 {}\r\n{value}\r\n", value.len());
        ask(&mut busy, &set, "STORED\r\n")?;
        let found = ask(&mut busy, &format!("get k{round}\r\n"), "END\r\n")?;
        ensure!(found.contains(&value), "k{round} is not whole");
    }
    // The item that the idle one is owed has been evicted, and stays for it.
    let mut first = vec![0; 1_000_000];
    idle.read_exact(&mut first)?;
    let line = format!("VALUE big 0 {}\r\n", value.len());
    ensure!(
        first.starts_with(format!("{line}{value}\r\n").as_bytes()),
        "it is another one"
    );
    booted.stop();
    Ok(())
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn datagrams_are_answered_in_frames() -> Result<()> {
    let booted = boot(&["-U", "11211"], 1)?;
    let mut stream = booted.connect_when_up(PORT);
    let value = "v".repeat(3000);
    ask(
        &mut stream,
        &format!("set a 0 0 3000\r\n{value}\r\n"),
        "STORED\r\n",
    )?;
    let socket = booted.datagrams(PORT);
    socket.send(b"\x12\x34\0\0\0\x01\0\0get a\r\n")?;
    let mut parts = vec![Vec::new(); 3];
    let mut buffer = [0; 2000];
    for _ in 0..3 {
        let bytes = socket.recv(&mut buffer)?;
        let (header, part) = buffer[..bytes].split_at(8);
        let number = usize::from(header[3]);
        ensure!(
            header == [0x12, 0x34, 0, number as u8, 0, 3, 0, 0],
            "a frame of {header:?}"
        );
        parts[number] = part.to_vec();
    }
    let answer = String::from_utf8(parts.concat())?;
    ensure!(
        answer == format!("VALUE a 0 3000\r\n{value}\r\nEND\r\n"),
        "{answer}"
    );
    booted.stop();
    Ok(())
}

/// A number that `stats` or one of its topics says.
fn stat(stream: &mut TcpStream, topic: &str, name: &str) -> Result<u64> {
    let said = ask(stream, &format!("stats{topic}\r\n"), "END\r\n")?;
    let mut lines = said.lines();
    let value = lines.find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    Ok(value.context("it is among them")?.parse()?)
}

/// Sizes that are stored, one after the other; in all, twice what there is memory for.
const SIZES: [usize; 6] = [60, 700, 9_000, 100, 90_000, 3_000];
const FILL_BYTES: u64 = 2 * LIMIT;
const LIMIT: u64 = 24 << 20;

fn size(number: usize) -> usize {
    SIZES[number % SIZES.len()]
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn the_limit_of_memory_is_used_and_not_passed() -> Result<()> {
    let booted = boot(&["-m", "24"], 2)?;
    let mut stream = booted.connect_when_up(PORT);
    let value = "v".repeat(90_000);
    let (mut count, mut stored) = (0, 0);
    while stored < FILL_BYTES {
        let bytes = size(count);
        let set = format!(
            "set k{count} 0 0 {bytes} noreply\r\n{}\r\n",
            &value[..bytes]
        );
        stream.write_all(set.as_bytes())?;
        count += 1;
        stored += bytes as u64;
    }
    ask(&mut stream, "mn\r\n", "MN\r\n")?;
    let within = |what: &str, bytes: u64| {
        let is_within = (LIMIT * 95 / 100..=LIMIT * 105 / 100).contains(&bytes);
        ensure!(is_within, "{bytes} bytes of {what}, where -m says {LIMIT}");
        Ok(())
    };
    within("pages", stat(&mut stream, " slabs", "total_malloced")?)?;
    within("the limit", stat(&mut stream, "", "limit_maxbytes")?)?;
    ensure!(stat(&mut stream, "", "bytes")? <= LIMIT * 105 / 100);
    ensure!(stat(&mut stream, "", "evictions")? > 0, "nothing gave way");
    ensure!(
        stat(&mut stream, "", "store_no_memory")? == 0,
        "some were refused"
    );
    // What came last is there, whatever its size, and what came first is not.
    for number in count - 12..count {
        let (bytes, found) = (
            size(number),
            ask(&mut stream, &format!("get k{number}\r\n"), "END\r\n")?,
        );
        let expected = format!(
            "VALUE k{number} 0 {bytes}\r\n{}\r\nEND\r\n",
            &value[..bytes]
        );
        ensure!(found == expected, "k{number} is not what was stored");
    }
    let large = SIZES
        .iter()
        .position(|&bytes| bytes == 90_000)
        .unwrap_or_default();
    let first = ask(&mut stream, &format!("get k{large}\r\n"), "END\r\n")?;
    ensure!(first == "END\r\n", "the first large one is still there");
    booted.stop();
    Ok(())
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_is_as_large_as_m_asks_for() -> Result<()> {
    let arguments = ["-m", "512"];
    let booted = Booted::start("memcached", &arguments, |config| {
        // As `cargo xtask run --app memcached -- -m 512` chooses it.
        config.memory = MemorySize::for_application("memcached", &config.app_args, config.cpus);
    });
    booted.line("ix: app: memcached on port 11211, 512 MiB");
    let mut stream = booted.connect_when_up(PORT);
    let limit = stat(&mut stream, "", "limit_maxbytes")?;
    ensure!(limit == 536_870_912, "the limit is {limit}");
    let load = format!(
        "load --connect {}:{PORT} --protocol text --connections 16 --keys 2000 --warmup 0 --duration 1 --force",
        booted.guest()
    );
    booted.ixload(&load.split(' ').collect::<Vec<_>>());
    ensure!(stat(&mut stream, "", "curr_items")? == 2_000);
    ensure!(stat(&mut stream, "", "get_hits")? > 0, "nothing was found");
    booted.stop();
    Ok(())
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn too_small_a_machine_says_what_to_do() {
    let booted = Booted::start("memcached", &["-m", "512"], |_| {});
    let line = booted.line("ix: app: memcached: this thread needs a heap");
    assert!(
        line.contains("more memory (--memory), or -m less"),
        "{line}"
    );
    booted.expect_end(GuestExit::AppFailed);
}
