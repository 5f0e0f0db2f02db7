//! Cards beside the 82599: those of QEMU's own, which another hand has modelled than ours, and a virtual function.

use std::net::{IpAddr, SocketAddr};

use ix_machine::{MachineConfig, NicKind};
use ix_tests::{Booted, EXCHANGE_TIMEOUT, Pinger, pattern};

/// Echo over a card with jumbo frames: ICMP of full frames, datagrams, many connections, and bulk in both
/// directions over both IP versions, every byte compared.
fn serves(change: impl FnOnce(&mut MachineConfig)) {
    let booted = Booted::echo(|config| {
        config.network.mtu = 9000;
        change(config);
    });
    let guest = booted.guest();
    let pinger = booted.inside(|| Pinger::open(guest, EXCHANGE_TIMEOUT));
    let pinger = pinger.expect("a raw socket");
    for (sequence, len) in [(1, 0), (2, 1472), (3, 8972)] {
        pinger.ping(sequence, &pattern(7, len)).expect("a reply");
    }
    let socket = booted.datagrams(7);
    let payload = pattern(3, 8972);
    socket.send(&payload).expect("send a datagram");
    let mut reply = [0; 9000];
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
    serves(|config| {
        config.nic = NicKind::Igb;
        config.cpus = 2;
    });
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_with_a_virtio_card_serves_on_two_cpus() {
    serves(|config| {
        config.nic = NicKind::Virtio;
        config.cpus = 2;
    });
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_machine_with_a_virtual_function_serves_in_a_vlan_that_it_asked_for() {
    serves(|config| {
        config.nic = NicKind::Virtual82599;
        config.network.vlan = "100:3".parse().ok();
    });
}
