//! Background threads: on a processor of their own, in turns, and in touch with the elastic threads.

use std::io::Write;

use ix_machine::exit::GuestExit;
use ix_machine::{MachineConfig, NicKind};
use ix_tests::{Booted, exchange, pattern};

const PORT: u16 = 7;

/// `elastic` threads, and a processor for background threads.
fn with_background(config: &mut MachineConfig, elastic: u32) {
    config.cpus = elastic + 1;
    let option = ("background".to_owned(), "1".to_owned());
    config.kernel_options.push(option);
}

/// Runs the probe on one elastic thread, without a wire.
fn alone(misbehaviour: &str) -> Booted {
    Booted::start("probe", &[misbehaviour], |config| {
        with_background(config, 1);
        config.nic = NicKind::None;
    })
}

/// What the kernel counted: the number before `what` on its line about background threads.
fn counted(booted: &Booted, what: &str) -> u64 {
    let line = booted.line("ix: background: ");
    let (before, _) = line.split_once(what).expect("the count");
    let number = before.rsplit([' ', ':']).find(|word| !word.is_empty());
    number.and_then(|it| it.parse().ok()).expect("a number")
}

/// Two elastic threads exchange 10,000 messages with background threads, two more of which spin and
/// one sleeps again and again, while connections to both are echoed on.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn messages_and_connections_go_on_beside_threads_that_spin_and_sleep() {
    let booted = Booted::start("probe", &["exchange", "7"], |config| {
        with_background(config, 2);
    });
    let guest = booted.guest().into();
    let mut streams: Vec<_> = (0..16)
        .map(|_| booted.connect_when_up_to(guest, PORT))
        .collect();
    let is_done = || {
        booted
            .machine()
            .console()
            .lines()
            .iter()
            .any(|line| line.ends_with("probe: ok"))
    };
    let mut round = 0;
    while round < 3 || (!is_done() && round < 100_000) {
        for (index, stream) in streams.iter_mut().enumerate() {
            exchange(stream, &pattern(round << 8 | index as u64, 300));
        }
        round += 1;
    }
    booted.line("probe: ok");
    for stream in &mut streams {
        exchange(stream, &pattern(u64::from(PORT), 300));
    }
    streams[0].write_all(b"quit").expect("ask for the end");
    booted.expect_end(GuestExit::AppSucceeded);
    assert_eq!(counted(&booted, " threads started"), 5);
    assert!(
        counted(&booted, " interrupted") >= 2,
        "who spins has to stop"
    );
}

/// The same on one elastic thread that nothing but messages ever wakes.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn messages_wake_an_elastic_thread_that_halts() {
    let booted = alone("exchange-alone");
    booted.line("probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn bad_calls_of_background_threads_are_answered() {
    let booted = alone("background-bad-call");
    booted.line("probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
    assert!(counted(&booted, " refused") >= 1);
    assert!(counted(&booted, " holds broken") >= 1);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_fault_of_a_background_thread_stops_the_application() {
    for (misdeed, cause) in [
        ("background-fault", "read of 0x0"),
        ("background-overflow", "write to 0x38"),
    ] {
        let booted = alone(misdeed);
        let line = booted.line("ix: application stopped: page fault");
        assert!(line.contains(cause), "{line}");
        assert!(line.ends_with("in background thread 0"), "{line}");
        booted.line("rip");
        booted.expect_end(GuestExit::AppFault);
    }
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn without_a_processor_the_error_says_how_to_get_one() {
    let booted = Booted::start("probe", &["background-none"], |config| {
        config.nic = NicKind::None;
    });
    booted.line("no processor for background threads: give the machine one CPU more");
    booted.line("probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn background_threads_do_not_get_the_only_processor() {
    let booted = Booted::start("probe", &["hello"], |config| {
        with_background(config, 0);
        config.nic = NicKind::None;
    });
    booted.line("background=1 takes one CPU of at least two");
    booted.expect_end(GuestExit::BadBoot);
}
