//! A dataplane that belongs to a VLAN: the wire carries tagged frames, and the Linux end sits behind
//! an access port.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ix_machine::exit::GuestExit;
use ix_machine::{MachineConfig, Vlan};
use ix_tests::{Booted, EXCHANGE_TIMEOUT, Pinger, captured_frames, pattern};

const VLAN: Vlan = Vlan {
    id: 100,
    priority: 5,
};
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A place for a capture, which the test removes.
fn capture(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ix-vlan-{name}-{}.pcap", std::process::id()))
}

/// The tags of all frames, to the dataplane and from it: tag control information, or `None`.
fn tags(path: &Path) -> [Vec<Option<u16>>; 2] {
    let frames = captured_frames(path);
    std::fs::remove_file(path).expect("remove the capture");
    [false, true].map(|is_ours| {
        frames
            .iter()
            .filter(|frame| (frame[6..12] == MAC) == is_ours)
            .map(|frame| {
                (frame[12..14] == [0x81, 0x00]).then(|| u16::from_be_bytes([frame[14], frame[15]]))
            })
            .collect()
    })
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_in_a_vlan_serves_over_tagged_frames_only() {
    let pcap = capture("member");
    let booted = Booted::echo(|config| {
        config.network.vlan = Some(VLAN);
        config.nic_model.pcap = Some(pcap.clone());
    });
    let guest = booted.guest();
    let pinger = booted.inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT));
    let pinger = pinger.expect("a raw socket");
    // The tag does not count towards the MTU.
    pinger.ping(1, &pattern(7, 1472)).expect("a reply");
    let socket = booted.datagrams(7);
    let payload = pattern(3, 1472);
    socket.send(&payload).expect("send a datagram");
    let mut reply = [0; 2048];
    let count = socket.recv(&mut reply).expect("its echo");
    assert!(reply[..count] == payload, "the datagram came back changed");
    let server = format!("{guest}:7");
    let echo = ["echo", "--connect", &server, "--connections", "64"];
    booted.ixload(&[&echo[..], &["--messages", "20"]].concat());
    for address in [IpAddr::from(guest), booted.guest6().into()] {
        drop(booted.connect_when_up_to(address, 7));
        let server = SocketAddr::new(address, 7).to_string();
        let stream = ["stream", "--connect", &server, "--connections", "2"];
        booted.ixload(&[&stream[..], &["--bytes", "2M"]].concat());
    }
    booted.stop();

    let [to_us, from_us] = tags(&pcap);
    assert!(to_us.len() > 1000 && from_us.len() > 1000);
    assert!(to_us.iter().all(|tag| *tag == Some(VLAN.id)));
    let ours = u16::from(VLAN.priority) << 13 | VLAN.id;
    assert!(from_us.iter().all(|tag| *tag == Some(ours)));
}

/// An application that calls a Linux server that it cannot reach, over a wire that `change` made so;
/// what the NIC counted of the frames that Linux sent meanwhile.
fn dropped_by_a_stranger(change: impl FnOnce(&mut MachineConfig)) -> u64 {
    let booted = Booted::start(
        "probe",
        &["connect", "10.9.0.1", "4000", "hello"],
        |config| {
            config.log_level = ix_machine::LogLevel::Debug;
            change(config);
        },
    );
    booted.line("ix: serving");
    let guest = booted.guest();
    let short = std::time::Duration::from_millis(200);
    let pinger = booted.inside(|| Pinger::open(guest, short));
    let pinger = pinger.expect("a raw socket");
    pinger.ping(1, b"anybody?").expect_err("nobody answers");
    booted.expect_end(GuestExit::AppFailed);
    let lines = booted.machine().console().lines();
    let count = lines.iter().find_map(|line| {
        let (_, count) = line.split_once("rx_wrong_vlan: ")?;
        count.split_once(',')?.0.parse().ok()
    });
    count.expect("the kernel reports what the NIC counted")
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn frames_without_a_tag_are_dropped_and_counted_by_a_machine_in_a_vlan() {
    let pcap = capture("untagged");
    let dropped = dropped_by_a_stranger(|config| {
        config
            .kernel_options
            .push(("vlan".to_owned(), VLAN.to_string()));
        config.nic_model.pcap = Some(pcap.clone());
    });
    let [to_us, from_us] = tags(&pcap);
    assert!(to_us.iter().all(Option::is_none) && from_us.iter().all(Option::is_some));
    assert!(dropped > 0, "of {} frames", to_us.len());
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn tagged_frames_are_dropped_and_counted_by_a_machine_without_a_vlan() {
    let pcap = capture("tagged");
    let dropped = dropped_by_a_stranger(|config| {
        config.nic_model.extra_args = ["--access-vlan", "100"].map(str::to_owned).to_vec();
        config.nic_model.pcap = Some(pcap.clone());
    });
    let [to_us, from_us] = tags(&pcap);
    assert!(to_us.iter().all(|tag| *tag == Some(VLAN.id)));
    assert!(from_us.iter().all(Option::is_none));
    assert!(dropped > 0, "of {} frames", to_us.len());
}
