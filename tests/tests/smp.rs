//! Several processors, an elastic thread on each.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::thread;

use ix_machine::exit::GuestExit;
use ix_machine::{CpuModel, MemorySize, NicKind};
use ix_tests::{Booted, pattern};

const PORT: u16 = 9;

/// An echo server on each of `cpus` threads.
fn crowd(cpus: u32, change: impl FnOnce(&mut ix_machine::MachineConfig)) -> Booted {
    let booted = Booted::start("probe", &["crowd", "9"], |config| {
        config.cpus = cpus;
        change(config);
    });
    for thread in 0..cpus {
        booted.line(&format!("probe: thread {thread} of {cpus} starts"));
    }
    booted
}

/// Echoes on `connections` that are all open at once, ends the application, and expects every
/// thread to have taken part.
fn is_served_by_all(booted: &Booted, guest: IpAddr, cpus: u32, connections: usize) {
    let mut streams: Vec<_> = (0..connections)
        .map(|_| booted.connect_when_up_to(guest, PORT))
        .collect();
    for round in 0..3 {
        for (index, stream) in streams.iter_mut().enumerate() {
            let message = pattern((round * connections + index) as u64, 100);
            stream.write_all(&message).expect("send on each");
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            let mut reply = [0; 100];
            stream.read_exact(&mut reply).expect("receive on each");
            let message = pattern((round * connections + index) as u64, 100);
            assert!(reply[..] == message, "connection {index} got other bytes");
        }
    }
    streams[0].write_all(b"quit").expect("ask for the end");
    booted.expect_end(GuestExit::AppSucceeded);
    let lines = booted.machine().console().lines();
    for thread in 0..cpus {
        let frames = lines.iter().find_map(|line| frames_of(line, thread));
        let frames = frames.expect("each thread reports its frames");
        // A handshake and three messages on a few connections at least.
        assert!(frames >= 20, "thread {thread} took {frames} frames");
    }
}

/// The frames in the last words of that thread.
fn frames_of(line: &str, thread: u32) -> Option<u64> {
    let words = line.strip_prefix(&format!("ix: thread {thread}: "))?;
    words.split_once(" frames")?.0.parse().ok()
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn four_threads_serve_two_hundred_connections() {
    let booted = crowd(4, |_| {});
    is_served_by_all(&booted, booted.guest().into(), 4, 200);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn four_threads_serve_two_hundred_connections_over_ipv6() {
    let booted = crowd(4, |_| {});
    is_served_by_all(&booted, booted.guest6().into(), 4, 200);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn two_threads_serve_on_256_mib_and_a_cpu_without_x2apic() {
    let booted = crowd(2, |config| {
        config.memory = MemorySize::from_mib(256);
        config.cpu_model = CpuModel::Named("qemu64".to_owned());
    });
    is_served_by_all(&booted, booted.guest().into(), 2, 40);
}

/// RSS of the 82599 knows 16 queues (datasheet 7.1.2.8): further processors have nothing to serve.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn sixteen_of_sixty_four_processors_serve_the_card() {
    let booted = Booted::start("probe", &["crowd", "9"], |config| {
        config.cpus = 64;
        config.memory = MemorySize::from_mib(1024);
    });
    booted.line("16 CPUs serve, 48 stay parked");
    for thread in 0..16 {
        booted.line(&format!("probe: thread {thread} of 16 starts"));
    }
    is_served_by_all(&booted, booted.guest().into(), 16, 400);
}

/// Without a card there are no queues to run out of.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn sixty_four_threads_start_without_a_card() {
    let booted = crowd(64, |config| {
        config.nic = NicKind::None;
        config.memory = MemorySize::from_mib(4096);
    });
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn processors_without_memory_are_refused_with_the_figure() {
    let booted = Booted::start("probe", &["hello"], |config| {
        config.cpus = 12;
        config.memory = MemorySize::from_mib(256);
    });
    booted.line("too little for 12 CPUs, which need 504 MiB");
    booted.expect_end(GuestExit::BadBoot);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn each_of_four_threads_opens_connections_that_come_back_to_it() {
    is_called_by_all("10.9.0.1", NicKind::Intel82599);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn each_of_four_threads_opens_connections_over_ipv6_that_come_back_to_it() {
    is_called_by_all("fd69:7882:599::1", NicKind::Intel82599);
}

/// That the replies come to the thread which asked takes the same hash and the same table in the driver
/// and in QEMU's card.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn connections_come_back_to_the_thread_that_opened_them_on_an_82576() {
    is_called_by_all("fd69:7882:599::1", NicKind::Igb);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn connections_come_back_to_the_thread_that_opened_them_on_a_virtio_card() {
    is_called_by_all("10.9.0.1", NicKind::Virtio);
}

/// Expects every thread to open its connections to the Linux end.
fn is_called_by_all(host: &str, nic: NicKind) {
    const CALLS: usize = 4 * 8;
    // It listens from the start, so that the first SYN finds it.
    let booted = Booted::start("probe", &["call", host, "4000", "hello"], |config| {
        config.cpus = 4;
        config.nic = nic;
    });
    let host: IpAddr = host.parse().expect("an address");
    let server = booted.listen(host, 4000);
    let echoes: Vec<_> = (0..CALLS)
        .map(|_| {
            let (mut stream, _) = booted.accept(&server);
            thread::spawn(move || {
                let mut message = [0; 5];
                stream.read_exact(&mut message).expect("its message");
                stream.write_all(&message).expect("echo it");
                let end = stream.read(&mut message).expect("its FIN");
                assert_eq!(end, 0);
            })
        })
        .collect();
    for echo in echoes {
        echo.join().expect("each connection ends in order");
    }
    for thread in 0..4 {
        booted.line(&format!("probe: thread {thread} is done"));
    }
    booted.line("ix: app: probe: ok");
    booted.expect_end(GuestExit::AppSucceeded);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_fault_on_one_thread_stops_them_all() {
    let booted = Booted::start("probe", &["fault-on", "2"], |config| config.cpus = 4);
    let line = booted.line("ix: application stopped: page fault");
    assert!(line.ends_with("in thread 2"), "{line}");
    booted.line("rip");
    booted.expect_end(GuestExit::AppFault);
}
