//! A flood of SYNs from spoofed addresses while honest connections go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ix_tests::{Booted, SynFlood, exchange, pattern};

const CONNECTIONS: u64 = 100;
const LENGTH: Duration = Duration::from_secs(10);
/// SYNs a second that are aimed at; a machine under emulation on few processors may see fewer.
const RATE: u32 = 100_000;
/// SYNs between two looks at the clock.
const BURST: u32 = 100;

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_flood_of_syns_costs_no_connection_and_keeps_nobody_out() {
    let booted = Booted::echo(|_| {});
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| booted.connect()).collect();
    let is_over = AtomicBool::new(false);
    let (sent, took, newcomers, rounds) = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let result = booted.inside(|| flood(&booted, &is_over));
            result.expect("flood the machine")
        });
        let newcomers = scope.spawn(|| {
            let mut newcomers = 0;
            while !is_over.load(Ordering::Relaxed) {
                booted.assert_echoes();
                newcomers += 1;
            }
            newcomers
        });
        let (start, mut rounds) = (Instant::now(), 0);
        while start.elapsed() < LENGTH {
            for (seed, stream) in (rounds..).zip(&mut streams) {
                exchange(stream, &pattern(seed, 64));
            }
            rounds += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        let (sent, took) = flood.join().expect("the flood ends");
        (sent, took, newcomers.join().expect("they end"), rounds)
    });
    let rate = f64::from(sent) / took.as_secs_f64();
    println!(
        "{sent} SYNs in {took:.1?}, {rate:.0} a second; {CONNECTIONS} connections exchanged {rounds} messages each, \
         and {newcomers} new ones were opened"
    );
    // Far more than the table of half-open connections holds: cookies were needed.
    assert!(sent > 100_000, "only {sent} SYNs were sent");
    assert!(newcomers > 0 && rounds > 0);
    for stream in &mut streams {
        exchange(stream, &pattern(1, 64));
    }
    booted.stop();
}

/// Floods the echo port at [`RATE`], as far as the wire takes it; returns how many and how long.
fn flood(booted: &Booted, is_over: &AtomicBool) -> std::io::Result<(u32, Duration)> {
    let mut flood = SynFlood::open(booted.guest(), 7)?;
    let start = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        let due = (start.elapsed() * RATE).as_secs() as u32;
        if flood.sent() > due {
            thread::sleep(Duration::from_micros(500));
            continue;
        }
        for _ in 0..BURST {
            if !flood.send()? {
                thread::yield_now();
            }
        }
    }
    Ok((flood.sent(), start.elapsed()))
}
