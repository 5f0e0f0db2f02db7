//! DPDK's `ixgbe` driver on the model: `cargo xtask test linux`.
//!
//! `testpmd` drives the card from a process of the guest, by polling, and sends back what comes. The
//! host counts and compares.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use ix_linux_guest::LinuxGuest;
use ix_linux_guest::image::Contents;
use ix_linux_guest::raw::{RawReceiver, RawSender};

/// The host's end of the wire, in its namespace.
const TAP: &str = "ix0";
const CARD: &str = "0000:01:00.0";
const LOCAL_EXPERIMENTAL: u16 = 0x88b5;
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ELSEWHERE: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Frames that are under way at once: fewer than the receive ring has descriptors.
const WINDOW: usize = 64;
const FRAMES: usize = 512;
const PATIENCE: Duration = Duration::from_secs(30);
/// Where `testpmd` reads its commands, and where it prints.
const COMMANDS: &str = "/tmp/testpmd.in";
const PRINTED: &str = "/tmp/testpmd.out";

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn testpmd_forwards_each_frame_as_it_is_told() {
    let contents = Contents {
        dpdk: true,
        ..Contents::default()
    };
    let mut guest = LinuxGuest::boot_contents(contents, |config| config.cpus = 2);
    start_testpmd(&mut guest);
    command(&mut guest, "show port info 0");
    let sender = guest.inside(|| RawSender::open(TAP)).unwrap();
    let receiver = guest.inside(|| RawReceiver::open(TAP, LOCAL_EXPERIMENTAL, PATIENCE));
    let receiver = receiver.unwrap();
    command(&mut guest, "set fwd io");
    command(&mut guest, "start");
    forward(&sender, &receiver, |frame| frame.to_vec());
    command(&mut guest, "stop");
    command(&mut guest, "set fwd macswap");
    command(&mut guest, "start");
    forward(&sender, &receiver, |frame| {
        let mut swapped = frame.to_vec();
        swapped[..6].copy_from_slice(&frame[6..12]);
        swapped[6..12].copy_from_slice(&frame[..6]);
        swapped
    });
    command(&mut guest, "stop");
    command(&mut guest, "show port stats 0");
    let printed = quit(&mut guest);
    let numbers = |name| numbers_behind(&printed, name);
    assert!(printed.contains("Link status: up"), "{printed}");
    assert!(printed.contains("Link speed: 10 Gbps"), "{printed}");
    // Each `stop` tells of its own mode, the card of both.
    let once = FRAMES as u64;
    assert_eq!(
        numbers("RX-packets:").iter().max(),
        Some(&(2 * once)),
        "{printed}"
    );
    assert_eq!(
        numbers("TX-packets:").iter().max(),
        Some(&(2 * once)),
        "{printed}"
    );
    assert!(
        numbers("RX-errors:").iter().all(|&errors| errors == 0),
        "{printed}"
    );

    // The driver of the kernel finds the card usable after that of the process.
    guest.run(&format!(
        "echo {CARD} > /sys/bus/pci/drivers/uio_pci_generic/unbind"
    ));
    guest.run(&format!(
        "echo > /sys/bus/pci/devices/{CARD}/driver_override"
    ));
    guest.run(&format!("echo {CARD} > /sys/bus/pci/drivers/ixgbe/bind"));
    guest.configure();
    guest.ping(2, 56);
    guest.stop();
}

/// Takes the card from the kernel's driver, gives it to `testpmd`, and waits for its prompt.
fn start_testpmd(guest: &mut LinuxGuest) {
    let device = format!("/sys/bus/pci/devices/{CARD}");
    guest.run(&format!("echo uio_pci_generic > {device}/driver_override"));
    guest.run(&format!("echo {CARD} > {device}/driver/unbind"));
    guest.run(&format!("echo {CARD} > /sys/bus/pci/drivers_probe"));
    guest.run("echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    guest.run("mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages");
    // DPDK trusts no folder that others may write to, and an initramfs leaves its root so.
    guest.run("chmod 755 / && mkdir -p /var/run");
    guest.run(&format!("mkfifo {COMMANDS}"));
    guest.run(&format!(
        "dpdk-testpmd -l 0,1 -a {CARD} -m 96 --in-memory -d /lib/dpdk/librte_mempool_ring.so -- \
         -i --no-lsc-interrupt --total-num-mbufs=4096 <{COMMANDS} >{PRINTED} 2>&1 & exec 9>{COMMANDS}"
    ));
    wait_until_printed(guest, 0, "Port 0: ");
}

/// Has `testpmd` carry out a command. It keeps what it prints about it until it ends, but for the
/// prompt, which comes when it is done.
fn command(guest: &mut LinuxGuest, command: &str) {
    let printed = guest.run(&format!("wc -c <{PRINTED}"));
    guest.run(&format!("echo '{command}' >&9"));
    wait_until_printed(guest, printed.trim().parse().unwrap(), "testpmd> ");
}

/// Ends `testpmd`, and returns all that it printed.
fn quit(guest: &mut LinuxGuest) -> String {
    guest.run("echo quit >&9");
    wait_until_printed(guest, 0, "Bye...")
}

fn wait_until_printed(guest: &mut LinuxGuest, from: usize, expected: &str) -> String {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        // The shell strips blanks at the end.
        let text = guest.run(&format!("tail -c +{} {PRINTED}; echo .", from + 1));
        if text.contains(expected) {
            return text;
        }
        let failed = text.contains("Error - exiting");
        assert!(
            !failed && Instant::now() < deadline,
            "no `{expected}`: {text}"
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// The numbers that follow `name` anywhere in `text`.
fn numbers_behind(text: &str, name: &str) -> Vec<u64> {
    let after = text.split(name).skip(1);
    after
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

/// Sends frames of all lengths; each must come back exactly once, as `expected` has it.
fn forward(sender: &RawSender, receiver: &RawReceiver, expected: impl Fn(&[u8]) -> Vec<u8>) {
    let mut missing = BTreeMap::new();
    for number in 0..FRAMES {
        let frame = frame(number);
        sender.send(&frame).unwrap();
        missing.insert(number, expected(&frame));
        while missing.len() >= WINDOW || number + 1 == FRAMES && !missing.is_empty() {
            let frame = receiver.receive().unwrap();
            let number = usize::from(u16::from_be_bytes([frame[14], frame[15]]));
            assert_eq!(
                missing.remove(&number).as_ref(),
                Some(&frame),
                "frame {number}"
            );
        }
    }
}

/// A frame with its number; lengths run from the shortest to the longest.
fn frame(number: usize) -> Vec<u8> {
    let length = 60 + number * (1514 - 60) / (FRAMES - 1);
    let mut frame = [&ELSEWHERE[..], &HOST, &LOCAL_EXPERIMENTAL.to_be_bytes()].concat();
    frame.extend((number as u16).to_be_bytes());
    frame.extend((frame.len()..length).map(|at| (at * 7 + number) as u8));
    frame
}
