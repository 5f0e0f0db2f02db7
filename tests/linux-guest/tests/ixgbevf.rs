//! Linux's `ixgbevf` on a virtual function of the model: `cargo xtask test linux`.
//!
//! The other end of the mailbox is `ixnicd`'s; Linux's driver decides whether its answers make sense. Each guest's
//! kernel log must be free of warnings in the end: see `LinuxGuest::stop`.

use std::process::Command;

use ix_linux_guest::LinuxGuest;
use ix_linux_guest::guest::wait_for;
use ix_linux_guest::image::{Contents, Kernel};
use ix_linux_guest::raw::RawSender;
use ix_machine::MachineConfig;

/// The host's end of the wire, in its namespace.
const TAP: &str = "ix0";
/// An address that the guest chooses.
const CHOSEN: &str = "52:54:00:aa:bb:cc";
const CHOSEN_OCTETS: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const VLAN: u16 = 5;

/// A machine with a virtual function and a CPU for each of its queues.
fn with_function(config: &mut MachineConfig) {
    config.cpus = 2;
    config.network.mtu = 9000;
    config.nic_model.extra_args.push("--kind=vf".to_owned());
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_driver_uses_a_trusted_function() {
    let mut guest = LinuxGuest::with_link(|config| {
        with_function(config);
        config.nic_model.extra_args.push("--trust".to_owned());
    });
    assert!(guest.run("ethtool -i eth0").contains("driver: ixgbevf"));
    let log = guest.log();
    let says = |text| log.iter().any(|(_, line)| line.contains(text));
    assert!(says("NIC Link is Up 10 Gbps"), "{log:#?}");
    let own = guest.run("cat /sys/class/net/eth0/address");
    let given = MachineConfig::new(&ix_machine::Artifacts::of_workspace(), "none");
    assert_eq!(own.trim(), given.network.mac.to_string());

    guest.ping(3, 1472);
    guest.serve_echo();
    let before = guest.counters();
    guest.echo(1 << 20);
    let after = guest.counters();
    assert!(after.since(&before, "rx_bytes") > 1 << 20);
    assert!(after.since(&before, "tx_bytes") > 1 << 20);
    guest.run("ip link set eth0 mtu 9000");
    guest.wait_for_carrier(true);
    guest.ping(2, 8972);
    guest.echo(1 << 20);

    guest.run(
        "i=0; while [ $i -lt 10 ]; do ip link set eth0 down; ip link set eth0 up; i=$((i+1)); done",
    );
    guest.wait_for_carrier(true);
    set_tap(&guest, "down");
    guest.wait_for_carrier(false);
    set_tap(&guest, "up");
    guest.wait_for_carrier(true);

    guest.run(&format!("ip link set eth0 address {CHOSEN}"));
    host_ip(&guest, &["neigh", "flush", "dev", TAP]);
    guest.ping(2, 56);
    receives_in_vlan(&mut guest);

    guest.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbevf/unbind");
    guest.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbevf/bind");
    guest.configure();
    guest.ping(2, 56);
    guest.stop();
}

/// Frames of a VLAN arrive once the guest has joined it.
fn receives_in_vlan(guest: &mut LinuxGuest) {
    let sender = guest.inside(|| RawSender::open(TAP)).unwrap();
    let tagged = frame(CHOSEN_OCTETS);
    sender.send(&tagged).unwrap();
    guest.run("/usr/sbin/ip link add link eth0 name v5 type vlan id 5");
    guest.run("ip link set v5 up");
    for _ in 0..10 {
        sender.send(&tagged).unwrap();
    }
    wait_for("receiving ten frames in the VLAN", || {
        let received = guest.run("cat /sys/class/net/v5/statistics/rx_packets");
        (received.trim() == "10").then_some(())
    });
    guest.run("/usr/sbin/ip link del v5");
}

/// A frame of the VLAN that the guest's stack has no use for; the driver counts it.
fn frame(to: [u8; 6]) -> Vec<u8> {
    const LOCAL_EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 0x81, 0x00]);
    frame.extend(VLAN.to_be_bytes());
    frame.extend(LOCAL_EXPERIMENTAL);
    frame.resize(100, 0);
    frame
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_driver_of_linux_6_12_is_told_what_it_may_not_have() {
    let contents = Contents {
        kernel: Kernel::Linux6_12,
        ..Contents::default()
    };
    let mut guest = LinuxGuest::with_link_contents(contents, with_function);
    guest.ping(3, 1472);
    guest.serve_echo();
    guest.echo(1 << 20);
    guest.run(&format!("! ip link set eth0 address {CHOSEN}"));
    guest.run("! /usr/sbin/ip link add link eth0 name v5 type vlan id 5");
    guest.ping(1, 56);
    guest.stop_expecting(&["VF could not set VLAN 5"]);
}

/// Switches the other end of the wire on or off.
fn set_tap(guest: &LinuxGuest, state: &str) {
    host_ip(guest, &["link", "set", TAP, state]);
}

/// Runs `ip` at the other end of the wire.
fn host_ip(guest: &LinuxGuest, arguments: &[&str]) {
    let mut command: Command = guest.host_program("ip");
    let status = command.args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}: {status}");
}
