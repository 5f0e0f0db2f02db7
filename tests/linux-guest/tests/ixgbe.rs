//! Linux's `ixgbe` on the model: `cargo xtask test linux`.
//!
//! Each guest's kernel log must be free of warnings in the end: see `LinuxGuest::stop`.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use ix_linux_guest::LinuxGuest;
use ix_linux_guest::guest::{Counters, wait_for};
use ix_linux_guest::image::{Contents, Kernel};
use ix_linux_guest::raw::RawSender;
use ix_machine::exit::Cause;
use rustix::process::{Pid, Signal, kill_process};

/// The host's end of the wire, in its namespace.
const TAP: &str = "ix0";
/// Where nobody listens; the guest answers nothing, since it is told so.
const SINK_PORT: u16 = 9;

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_driver_probes_and_tests_the_card() {
    let mut guest = LinuxGuest::with_link(|_| {});
    let log = guest.log();
    let says = |text| log.iter().any(|(_, line)| line.contains(text));
    assert!(says("NIC Link is Up 10 Gbps"), "{log:#?}");
    assert!(says("SFP+: 5"), "no short-reach module: {log:#?}");
    let settings = guest.run("ethtool eth0");
    assert!(settings.contains("Speed: 10000Mb/s"), "{settings}");
    assert!(guest.run("ethtool -i eth0").contains("driver: ixgbe"));
    let module = guest.run("ethtool -m eth0");
    assert!(module.contains("10G Base-SR"), "{module}");

    let eeprom = eeprom_words(&guest.run("ethtool -e eth0 offset 0 length 128"));
    let sum = eeprom
        .iter()
        .fold(0, |sum: u16, word| sum.wrapping_add(*word));
    assert_eq!((eeprom.len(), sum), (64, EEPROM_CHECKSUM), "{eeprom:#06x?}");

    guest.ping(5, 56);
    // Registers, EEPROM, interrupts, loopback, link: ethtool fails if one of them does.
    guest.run("ethtool -t eth0 offline");
    guest.wait_for_carrier(true);
    guest.ping(1, 1472);
    guest.stop();
}

/// What words 0 to 0x3f add up to.
const EEPROM_CHECKSUM: u16 = 0xbaba;

/// Reads lines `0x0010:\t12 34 ...`: bytes, of which two make a word, the lower first.
fn eeprom_words(dump: &str) -> Vec<u16> {
    let lines = dump.lines().filter_map(|line| line.split_once(':'));
    let bytes: Vec<u8> = lines
        .filter(|(offset, _)| offset.trim().starts_with("0x"))
        .flat_map(|(_, bytes)| bytes.split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).expect(dump))
        .collect();
    let (words, _) = bytes.as_chunks();
    words.iter().map(|word| u16::from_le_bytes(*word)).collect()
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_driver_of_linux_6_12_probes_tests_and_uses_the_card() {
    let contents = Contents {
        kernel: Kernel::Linux6_12,
        ..Contents::default()
    };
    let mut guest = LinuxGuest::with_link_contents(contents, |config| config.cpus = 4);
    assert!(guest.run("uname -r").starts_with("6.12."));
    guest.run("ethtool -t eth0 offline");
    guest.wait_for_carrier(true);
    set_tap(&guest, "down");
    guest.wait_for_carrier(false);
    set_tap(&guest, "up");
    guest.wait_for_carrier(true);
    guest.serve_echo();
    guest.echo(1 << 20);
    guest.run("ethtool -N eth0 rx-flow-hash udp4 sdfn");
    let before = guest.counters();
    send_flows(&guest, 200);
    let after = wait_for_packets(&mut guest, &before, 200);
    for queue in 0..4 {
        let name = format!("rx_queue_{queue}_packets");
        assert!(after.since(&before, &name) > 20, "{name} is left out");
    }
    guest.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbe/unbind");
    guest.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbe/bind");
    guest.configure();
    guest.ping(2, 56);
    guest.stop();
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn tcp_survives_each_offload_on_and_off_and_jumbo_frames() {
    const OFFLOADS: [&str; 10] = [
        "tso", "gso", "tx", "rx", "gro", "sg", "lro", "rxhash", "rxvlan", "txvlan",
    ];
    let mut guest = LinuxGuest::with_link(|config| config.network.mtu = 9000);
    guest.serve_echo();
    guest.echo(1 << 20);
    for offload in OFFLOADS {
        guest.run(&format!("ethtool -K eth0 {offload} off"));
        guest.echo(1 << 18);
        guest.run(&format!("ethtool -K eth0 {offload} on"));
    }
    guest.run("ethtool -K eth0 tso on gso on tx on rx on gro on sg on");
    guest.echo(1 << 20);

    guest.run("ip link set eth0 mtu 9000");
    guest.wait_for_carrier(true);
    guest.ping(2, 8972);
    guest.echo(1 << 20);
    guest.stop();
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn four_queues_share_flows_as_the_table_says_and_counters_add_up() {
    let mut guest = LinuxGuest::with_link(|config| config.cpus = 4);
    let table = guest.run("ethtool -x eth0");
    assert!(table.contains("with 4 RX ring(s)"), "{table}");
    // Ports count for UDP too: many flows between two addresses.
    guest.run("ethtool -N eth0 rx-flow-hash udp4 sdfn");
    guest.ping(1, 56);

    let before = guest.counters();
    send_flows(&guest, 200);
    let after = wait_for_packets(&mut guest, &before, 200);
    for queue in 0..4 {
        let name = format!("rx_queue_{queue}_packets");
        assert!(after.since(&before, &name) > 20, "{name} is left out");
    }
    // Linux may send something of its own while these are read.
    let (first, before, second) = both_ends(&mut guest);
    guest.ping(10, 1000);
    let (third, later, fourth) = both_ends(&mut guest);
    let sent = later.since(&before, "tx_pkts_nic");
    assert!(sent >= 10);
    assert!(
        (third - second..=fourth - first).contains(&sent),
        "{sent} frames were sent by the card; the host received {first}, {second}, {third}, {fourth}"
    );

    guest.run("ethtool -X eth0 equal 2");
    let before = guest.counters();
    send_flows(&guest, 100);
    let after = wait_for_packets(&mut guest, &before, 100);
    for queue in [2, 3] {
        let name = format!("rx_queue_{queue}_packets");
        assert_eq!(after.since(&before, &name), 0, "{name}");
    }
    guest.stop();
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn flows_go_where_filters_send_them() {
    const PORT: u16 = 7777;
    let mut guest = LinuxGuest::with_link(|config| config.cpus = 4);
    // Without filters by hand, the driver makes its own: a flow is to arrive where it is sent from. It
    // computes the hashes itself, so one that matches proves that both compute the same.
    guest.serve_echo();
    let before = guest.counters();
    guest.echo(1 << 20);
    let after = wait_for("a match", || {
        let counters = guest.counters();
        (counters.since(&before, "fdir_match") > 0).then_some(counters)
    });
    assert!(after.since(&before, "fdir_miss") > 0, "the first frames");

    guest.run("ethtool -K eth0 ntuple on");
    guest.wait_for_carrier(true);
    guest.ping(1, 56);
    guest.run(&format!(
        "ethtool -N eth0 flow-type udp4 dst-port {PORT} action 2 loc 5"
    ));
    let before = guest.counters();
    send_flows_to(&guest, PORT, 50);
    let after = wait_for_packets(&mut guest, &before, 50);
    assert_eq!(after.since(&before, "rx_queue_2_packets"), 50);
    assert_eq!(after.since(&before, "fdir_match"), 50);
    guest.run("ethtool -N eth0 delete 5");

    // Action -1 drops. What comes behind and is not dropped shows that all have been looked at.
    guest.run(&format!(
        "ethtool -N eth0 flow-type udp4 dst-port {PORT} action -1 loc 6"
    ));
    let before = guest.counters();
    send_flows_to(&guest, PORT, 50);
    send_flows_to(&guest, SINK_PORT, 10);
    let after = wait_for("all frames", || {
        let counters = guest.counters();
        (counters.since(&before, "rx_packets") >= 10 && counters.since(&before, "fdir_match") == 50)
            .then_some(counters)
    });
    assert_eq!(after.since(&before, "rx_packets"), 10);
    guest.stop();
}

/// Sends `count` datagrams of 100 bytes, each from a port of its own.
fn send_flows(guest: &LinuxGuest, count: usize) {
    send_flows_to(guest, SINK_PORT, count);
}

fn send_flows_to(guest: &LinuxGuest, port: u16, count: usize) {
    let to = (guest.address(), port);
    guest.inside(|| {
        for _ in 0..count {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&[0x5a; 100], to).unwrap();
        }
    });
}

/// Waits until the card has counted `count` more frames; their bytes must add up.
fn wait_for_packets(guest: &mut LinuxGuest, before: &Counters, count: u64) -> Counters {
    const DATAGRAM_BYTES: u64 = 14 + 20 + 8 + 100 + 4;
    const SHORTEST_BYTES: u64 = 64;
    let counters = wait_for("receiving all frames", || {
        let counters = guest.counters();
        (counters.since(before, "rx_packets") >= count
            && counters.since(before, "rx_pkts_nic") >= count)
            .then_some(counters)
    });
    // What else there may be is ARP.
    let others = counters.since(before, "rx_pkts_nic") - count;
    assert_eq!(
        counters.since(before, "rx_bytes_nic"),
        count * DATAGRAM_BYTES + others * SHORTEST_BYTES
    );
    counters
}

/// The counters of the card, and what the host had received before and after they were read.
fn both_ends(guest: &mut LinuxGuest) -> (u64, Counters, u64) {
    let before = tap_packets_received(guest);
    let counters = guest.counters();
    (before, counters, tap_packets_received(guest))
}

fn tap_packets_received(guest: &LinuxGuest) -> u64 {
    let mut command = guest.host_program("ip");
    let output = command.args(["-s", "-o", "link", "show", TAP]).output();
    let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
    // RX:  bytes packets errors ...\    123 45 0 ...
    let numbers = text
        .split("RX:")
        .nth(1)
        .and_then(|rest| rest.split('\\').nth(1));
    let packets = numbers.and_then(|numbers| numbers.split_whitespace().nth(1));
    packets
        .and_then(|packets| packets.parse().ok())
        .expect(&text)
}

const FOREIGN: [u8; 6] = [0x52, 0x54, 0, 0xff, 0xff, 0x01];
const GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x01, 0x02, 0x03];
const VLAN: u16 = 5;

/// A frame that the guest's stack has no use for; the driver counts it.
fn frame(to: [u8; 6], tag: Option<u16>) -> Vec<u8> {
    const LOCAL_EXPERIMENTAL: [u8; 2] = [0x88, 0xb5];
    let mut frame = to.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1]);
    if let Some(tag) = tag {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(LOCAL_EXPERIMENTAL);
    frame.resize(100, 0);
    frame
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn filters_and_vlan_tags_do_what_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let pcap = folder.path().join("wire.pcap");
    let mut guest = LinuxGuest::with_link(|config| config.nic_model.pcap = Some(pcap.clone()));
    let sender = guest.inside(|| RawSender::open(TAP)).unwrap();
    let own = guest.run("cat /sys/class/net/eth0/address");
    let own: Vec<u8> = own
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    let own: [u8; 6] = own.try_into().unwrap();
    // Ten frames, and one that passes for certain: when that has come, the others have or never will.
    let delivered = |guest: &mut LinuxGuest, frame_of_interest: &[u8]| {
        let before = guest.counters();
        for _ in 0..10 {
            sender.send(frame_of_interest).unwrap();
        }
        sender.send(&frame(own, None)).unwrap();
        let after = wait_for("receiving the last frame", || {
            let counters = guest.counters();
            (counters.since(&before, "rx_packets") >= 1).then_some(counters)
        });
        after.since(&before, "rx_packets") - 1
    };
    assert_eq!(delivered(&mut guest, &frame(own, None)), 10);
    assert_eq!(delivered(&mut guest, &frame(FOREIGN, None)), 0);
    guest.run("ip link set eth0 promisc on");
    assert_eq!(delivered(&mut guest, &frame(FOREIGN, None)), 10);
    guest.run("ip link set eth0 promisc off");
    assert_eq!(delivered(&mut guest, &frame(FOREIGN, None)), 0);

    assert_eq!(delivered(&mut guest, &frame(GROUP, None)), 0);
    guest.run("/usr/sbin/ip maddr add 01:00:5e:01:02:03 dev eth0");
    assert_eq!(delivered(&mut guest, &frame(GROUP, None)), 10);
    guest.run("/usr/sbin/ip maddr del 01:00:5e:01:02:03 dev eth0");
    assert_eq!(delivered(&mut guest, &frame(GROUP, None)), 0);

    assert_eq!(delivered(&mut guest, &frame(own, Some(VLAN))), 0);
    guest.run("/usr/sbin/ip link add link eth0 name v5 type vlan id 5");
    guest.run("ip link set v5 up");
    let received = "cat /sys/class/net/v5/statistics/rx_packets";
    let before: u64 = guest.run(received).parse().unwrap();
    assert_eq!(delivered(&mut guest, &frame(own, Some(VLAN))), 10);
    guest.run("ethtool -K eth0 rxvlan off");
    assert_eq!(delivered(&mut guest, &frame(own, Some(VLAN))), 10);
    let after: u64 = guest.run(received).parse().unwrap();
    assert_eq!(
        after - before,
        20,
        "frames on the VLAN's interface, stripped by card and by stack"
    );

    // The other way: the tag is put in by the card, and by the stack. Nobody is there to answer.
    guest.run("ip addr add 10.55.0.2/24 dev v5");
    guest.run("/usr/sbin/ip neigh add 10.55.0.1 lladdr 02:00:00:00:00:01 dev v5");
    for txvlan in ["on", "off"] {
        guest.run(&format!("ethtool -K eth0 txvlan {txvlan}"));
        guest.wait_for_carrier(true);
        guest.run("ping -q -c 3 -i 0.1 -W 1 10.55.0.1; true");
    }
    guest.stop();
    let tagged = |frame: &&[u8]| {
        let [tag_high, tag_low] = VLAN.to_be_bytes();
        frame[6..12] == own && frame[12..18] == [0x81, 0x00, tag_high, tag_low, 0x08, 0x00]
    };
    let recorded = std::fs::read(&pcap).unwrap();
    assert_eq!(frames_of(&recorded).filter(tagged).count(), 6);
}

/// The frames of a capture: a header of 24 bytes, then one of 16 before each, with its length.
fn frames_of(pcap: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = &pcap[24..];
    std::iter::from_fn(move || {
        let (header, behind) = rest.split_at_checked(16)?;
        let length = u32::from_le_bytes(header[8..12].try_into().ok()?);
        let (frame, behind) = behind.split_at_checked(length as usize)?;
        rest = behind;
        Some(frame)
    })
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_driver_comes_back_from_down_unbind_and_reset() {
    let mut guest = LinuxGuest::with_link(|_| {});
    guest.serve_echo();
    let loops = 100;
    guest.run(&format!(
        "i=0; while [ $i -lt {loops} ]; do ip link set eth0 down; ip link set eth0 up; i=$((i+1)); done"
    ));
    guest.wait_for_carrier(true);
    guest.ping(2, 56);

    guest.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbe/unbind");
    guest.run("[ ! -e /sys/class/net/eth0 ]");
    guest.run("echo 0000:01:00.0 > /sys/bus/pci/drivers/ixgbe/bind");
    guest.configure();
    guest.ping(2, 56);

    // A restart of the link resets the device while an exchange is under way.
    let mut stream = guest.connect();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    for _ in 0..5 {
        stream.write_all(&[0x5a; 50_000]).unwrap();
        guest.run("ethtool -r eth0");
        let mut echo = vec![0; 50_000];
        stream.read_exact(&mut echo).unwrap();
        assert!(echo.iter().all(|&byte| byte == 0x5a));
    }

    guest.ping(2, 56);
    guest.stop();
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn the_link_follows_the_other_end_of_the_wire() {
    let mut guest = LinuxGuest::with_link(|_| {});
    guest.ping(1, 56);
    for _ in 0..3 {
        set_tap(&guest, "down");
        guest.wait_for_carrier(false);
        set_tap(&guest, "up");
        guest.wait_for_carrier(true);
        guest.ping(1, 56);
    }
    let log = guest.log();
    let times = |text: &str| log.iter().filter(|(_, line)| line.contains(text)).count();
    assert_eq!(
        (times("NIC Link is Down"), times("NIC Link is Up 10 Gbps")),
        (3, 4),
        "{log:#?}"
    );
    guest.stop();
}

/// Switches the other end of the wire on or off.
fn set_tap(guest: &LinuxGuest, state: &str) {
    let mut command = guest.host_program("ip");
    let status = command.args(["link", "set", TAP, state]).status().unwrap();
    assert!(status.success(), "{state}: {status}");
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn a_card_without_msix_interrupts_by_msi() {
    let mut guest = LinuxGuest::with_link(|config| {
        config.cpus = 2;
        config.nic_model.extra_args.push("--no-msix".to_owned());
    });
    let interrupts = guest.run("grep eth0 /proc/interrupts");
    assert_eq!(interrupts.lines().count(), 1, "{interrupts}");
    assert!(interrupts.contains("MSI"), "{interrupts}");
    guest.serve_echo();
    guest.echo(1 << 20);
    set_tap(&guest, "down");
    guest.wait_for_carrier(false);
    set_tap(&guest, "up");
    guest.wait_for_carrier(true);
    guest.ping(2, 56);
    guest.stop_expecting(&[
        "Failed to allocate MSI-X interrupts",
        "Disabling SR-IOV support",
        "Disabling RSS support",
    ]);
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn a_model_that_dies_under_traffic_takes_the_guest_with_it() {
    let mut guest = LinuxGuest::with_link(|_| {});
    let host = guest.host();
    guest.run(&format!("ping -f -q {host} >/dev/null 2>&1 &"));
    guest.ping(1, 56);
    let model = guest.machine().pids().1.expect("there is a model");
    let killed = Instant::now();
    let model = Pid::from_raw(i32::try_from(model).unwrap()).unwrap();
    kill_process(model, Signal::KILL).unwrap();
    let report = guest.machine().wait(Duration::from_secs(60));
    let report = report.expect("the machine ends");
    println!("both gone and reported after {:?}", killed.elapsed());
    assert!(matches!(report.cause, Cause::NicModel(_)), "{report}");
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn iperf3_runs_both_ways() {
    let mut guest = LinuxGuest::with_link(|config| config.cpus = 2);
    let address = guest.address().to_string();
    for (direction, flags) in [("to the guest", &[][..]), ("from the guest", &["-R"][..])] {
        // One server a run: the daemon of Debian 12 does not always survive the first.
        guest.run("iperf3 -s -1 -D");
        guest.run("until netstat -tln | grep -q ':5201 '; do usleep 50000; done");
        let mut command = guest.host_program("iperf3");
        command
            .args(["-c", &address, "-t", "3", "-f", "m"])
            .args(flags);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let figure = text
            .lines()
            .rfind(|line| line.contains("receiver"))
            .expect(&text);
        // Past the test harness, which keeps what a passing test prints.
        writeln!(std::io::stdout(), "iperf3 {direction}: {}", figure.trim()).unwrap();
    }
    guest.stop();
}
