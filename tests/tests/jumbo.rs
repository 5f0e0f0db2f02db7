//! Frames of up to 9,000 bytes of IP.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ix_machine::MachineConfig;
use ix_tests::{Booted, EXCHANGE_TIMEOUT, Pinger, captured_frames, pattern};

const MTU: u16 = 9000;
/// Ethernet header and the longest IP packet.
const LONGEST: usize = 14 + MTU as usize;
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

fn large(config: &mut MachineConfig) {
    config.network.mtu = MTU;
}

/// The longest frame to the dataplane, and the longest from it.
fn longest(path: &Path) -> (usize, usize) {
    let frames = captured_frames(path);
    let longest = |at: std::ops::Range<usize>| {
        let frames = frames.iter().filter(|frame| frame[at.clone()] == MAC);
        frames.map(Vec::len).max().unwrap_or(0)
    };
    (longest(0..6), longest(6..12))
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn frames_of_9000_bytes_carry_pings_echoes_and_streams() {
    let pcap = std::env::temp_dir().join(format!("ix-jumbo-{}.pcap", std::process::id()));
    let booted = Booted::echo(|config| {
        large(config);
        config.nic_model.pcap = Some(pcap.clone());
    });
    let guest = booted.guest();
    let pinger = booted.inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT));
    let pinger = pinger.expect("a raw socket");
    // Headers take 28 bytes.
    for (sequence, len) in [(1, 0), (2, 1472), (3, 2020), (4, 4068), (5, 8972)] {
        pinger.ping(sequence, &pattern(7, len)).expect("a reply");
    }
    carries_echoes_and_streams(&booted, guest.into());
    booted.stop();
    assert_eq!(
        longest(&pcap),
        (LONGEST, LONGEST),
        "to and from the dataplane"
    );
    std::fs::remove_file(&pcap).expect("remove the capture");
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn frames_of_9000_bytes_carry_ipv6() {
    let booted = Booted::echo(large);
    let guest = booted.guest6().into();
    drop(booted.connect_when_up_to(guest, 7));
    let pinger = booted.inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT));
    let pinger = pinger.expect("a raw socket");
    // Headers take 48 bytes.
    for (sequence, len) in [(1, 0), (2, 1452), (3, 8952)] {
        pinger.ping(sequence, &pattern(7, len)).expect("a reply");
    }
    carries_echoes_and_streams(&booted, guest);
    let socket = booted.datagrams_to(guest, 7);
    let payload = pattern(3, 8952);
    socket.send(&payload).expect("send a datagram");
    let mut reply = vec![0; 10_000];
    let count = socket.recv(&mut reply).expect("its echo");
    assert!(reply[..count] == payload, "the datagram came back changed");
    booted.stop();
}

fn carries_echoes_and_streams(booted: &Booted, guest: IpAddr) {
    let server = SocketAddr::new(guest, 7).to_string();
    let echo = ["echo", "--connect", &server, "--connections", "16"];
    booted.ixload(&[&echo[..], &["--messages", "20", "--size", "20000"]].concat());
    let stream = ["stream", "--connect", &server, "--connections", "2"];
    booted.ixload(&[&stream[..], &["--bytes", "8M"]].concat());
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_datagram_that_fills_a_large_frame_comes_back() {
    let booted = Booted::echo(large);
    let socket = booted.datagrams(7);
    let mut reply = vec![0; 10_000];
    for len in [1473, 4096, 8972] {
        let payload = pattern(3, len);
        socket.send(&payload).expect("send a datagram");
        let count = socket.recv(&mut reply).expect("its echo");
        assert!(reply[..count] == payload, "{len} bytes");
    }
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn two_processors_share_large_frames() {
    let booted = Booted::echo(|config| {
        large(config);
        config.cpus = 2;
    });
    let server = format!("{}:7", booted.guest());
    let stream = ["stream", "--connect", &server, "--connections", "4"];
    booted.ixload(&[&stream[..], &["--bytes", "2M"]].concat());
    booted.stop();
}
