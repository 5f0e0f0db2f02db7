//! Cards of QEMU's own, which another hand has modelled than ours.

use std::net::{IpAddr, SocketAddr};

use ix_machine::NicKind;
use ix_tests::{Booted, EXCHANGE_TIMEOUT, Pinger, pattern};

/// Echo on two CPUs over that card: ICMP of a full frame, datagrams, many connections, and bulk in both
/// directions over both IP versions, every byte compared.
fn serves_on(nic: NicKind) {
    let booted = Booted::echo(|config| {
        config.nic = nic;
        config.cpus = 2;
    });
    let guest = booted.guest();
    let pinger = booted.inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT));
    let pinger = pinger.expect("a raw socket");
    pinger.ping(1, &pattern(7, 1472)).expect("a reply");
    let socket = booted.datagrams(7);
    let payload = pattern(3, 1472);
    socket.send(&payload).expect("send a datagram");
    let mut reply = [0; 2048];
    let count = socket.recv(&mut reply).expect("its echo");
    assert!(reply[..count] == payload, "the datagram came back changed");
    for address in [IpAddr::from(guest), booted.guest6().into()] {
        drop(booted.connect_when_up_to(address, 7));
        let server = SocketAddr::new(address, 7).to_string();
        let echo = ["echo", "--connect", &server, "--connections", "32"];
        booted.ixload(&[&echo[..], &["--messages", "20"]].concat());
        let stream = ["stream", "--connect", &server, "--connections", "2"];
        booted.ixload(&[&stream[..], &["--bytes", "2M"]].concat());
    }
    booted.stop();
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_with_an_82576_serves_on_two_cpus() {
    serves_on(NicKind::Igb);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_with_a_virtio_card_serves_on_two_cpus() {
    serves_on(NicKind::Virtio);
}
