//! apps/memcached on a booted machine: with clients of others, with one that does not read, over UDP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Result, ensure};
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
