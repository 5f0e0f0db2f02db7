//! Linux's `ixgbe` on the model of an X540: `cargo xtask test linux`.
//!
//! What is not an 82599's is in its driver's hands: the PHY behind MDIO, the semaphore around it, a reset that
//! leaves the link alone.

use ix_linux_guest::LinuxGuest;

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_driver_finds_the_phy_and_uses_the_card() {
    let mut guest = LinuxGuest::with_link(|config| {
        config.cpus = 2;
        config.nic_model.extra_args.push("--kind=x540".to_owned());
    });
    let log = guest.log();
    let says = |text| log.iter().any(|(_, line)| line.contains(text));
    // That is an X540's.
    assert!(says("MAC: 3"), "{log:#?}");
    assert!(says("NIC Link is Up 10 Gbps"), "{log:#?}");
    let settings = guest.run("ethtool eth0");
    // What the PHY says that it can.
    let modes = ["100baseT/Full", "1000baseT/Full", "10000baseT/Full"];
    for expected in modes
        .into_iter()
        .chain(["Speed: 10000Mb/s", "Port: Twisted Pair"])
    {
        assert!(settings.contains(expected), "{expected}: {settings}");
    }
    guest.ping(3, 1472);
    guest.serve_echo();
    guest.echo(1 << 20);
    guest.run("ip link set eth0 down");
    guest.run("ip link set eth0 up");
    guest.wait_for_carrier(true);
    guest.ping(2, 56);
    guest.stop();
}
