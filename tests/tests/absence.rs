//! An application that stays in user mode: the network is looked after meanwhile, or it is stopped.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use ix_machine::exit::GuestExit;
use ix_tests::{Booted, EXCHANGE_TIMEOUT, Pinger, pattern};

const PORT: u16 = 9;
/// What the kernel says when the application has used up its time.
const OVERSTAYED: &str = "the application has not returned for 10 ms";
/// Linux probes a closed window (`tr` in /proc/net/tcp).
const WINDOW_PROBE: &str = "04";

fn away() -> Booted {
    let booted = Booted::start("probe", &["away", "9"], |_| {});
    booted.line("probe: away on port 9");
    booted
}

/// A connection that has carried something both ways.
fn connected(booted: &Booted) -> TcpStream {
    let mut stream = booted.connect_when_up(PORT);
    exchange(&mut stream, &pattern(1, 100));
    stream
}

fn exchange(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).expect("send");
    let mut echo = vec![0; message.len()];
    stream.read_exact(&mut echo).expect("receive");
    assert!(echo == message, "the stream came back changed");
}

/// Bytes of the connection that are not acknowledged, and the timer that runs for it, as Linux says.
fn send_queue(booted: &Booted, stream: &TcpStream) -> (u64, String) {
    let port = stream.local_addr().expect("an own address").port();
    let table = booted
        .inside(|| fs::read_to_string("/proc/thread-self/net/tcp"))
        .expect("the namespace's connections");
    let local = format!(":{port:04X}");
    for line in table.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if fields.len() > 5 && fields[1].ends_with(&local) {
            let (queue, _) = fields[4].split_once(':').expect("two queues");
            let (timer, _) = fields[5].split_once(':').expect("a timer and its end");
            let queued = u64::from_str_radix(queue, 16).expect("a number of bytes");
            return (queued, timer.to_owned());
        }
    }
    panic!("no connection of port {port} in:\n{table}");
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + EXCHANGE_TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn the_network_is_answered_while_the_application_spins() {
    let booted = away();
    let (mut one, mut other) = (connected(&booted), connected(&booted));
    one.write_all(b"for ever").expect("send");
    booted.line(OVERSTAYED);

    let guest = booted.guest();
    let pinger = booted
        .inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT))
        .expect("a raw socket");
    for sequence in 1..=5 {
        pinger.ping(sequence, &pattern(7, 200)).expect("a reply");
    }
    other.write_all(&pattern(3, 10_000)).expect("send");
    wait_until("data is not acknowledged", || {
        send_queue(&booted, &other).0 == 0
    });
    // Until the window is closed, and beyond.
    other.set_nonblocking(true).expect("a non-blocking socket");
    let block = pattern(4, 1 << 16);
    wait_until("the window does not close", || {
        loop {
            match other.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("send: {error}"),
            }
        }
        send_queue(&booted, &other).1 == WINDOW_PROBE
    });
    pinger.ping(6, &pattern(7, 200)).expect("a reply");
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_application_that_comes_back_finds_what_came_meanwhile() {
    let booted = away();
    let (mut one, mut other) = (connected(&booted), connected(&booted));
    for round in 0..3 {
        one.write_all(b"away 200").expect("send");
        if round == 0 {
            booted.line(OVERSTAYED);
        }
        exchange(&mut other, &pattern(round, 30_000));
        let mut echo = [0; 8];
        one.read_exact(&mut echo).expect("receive");
        assert_eq!(&echo, b"away 200");
        // Connections that come and go meanwhile, too.
        one.write_all(b"away 200").expect("send");
        drop(connected(&booted));
        one.read_exact(&mut echo).expect("receive");
    }
    exchange(&mut one, &pattern(5, 1_000));
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn an_application_that_may_not_stay_is_stopped() {
    let booted = Booted::start("probe", &["spin"], |config| {
        for (key, value) in [("limit_ms", "100"), ("overstay", "kill")] {
            let option = (key.to_owned(), value.to_owned());
            config.kernel_options.push(option);
        }
    });
    booted.line("ix: application stopped: it stayed in user mode for more than 100 ms");
    booted.line("rip");
    booted.expect_end(GuestExit::AppOverstayed);
}
