//! Flow groups that move, and threads that park and run, under traffic. Both ends are told to wait long
//! before they take anything for a loss (`patience`).

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ix_channel::{Command, CommandError, Commander, ControlPage, Doorbells, Ivshmem};
use ix_machine::{ControlChannel, NicKind};
use ix_tests::patience::{self, RTO_MIN_SECS};
use ix_tests::{BOOT_TIMEOUT, Booted, Random, pattern};

const PORT: u16 = 7;
const THREADS: usize = 4;
const CONNECTIONS: usize = 64;
const MOVES: usize = 200;
const FEW_MOVES: usize = 40;
/// Under emulation on few host processors a command may take long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A machine of four threads, its control page, and who commands it.
fn machine(folder: &std::path::Path, nic: NicKind) -> (Booted, Arc<ControlPage>, Commander) {
    let page = ControlPage::create(&folder.join("page")).expect("make a control page");
    let page = Arc::new(page);
    let doorbells = Arc::new(Doorbells::new(THREADS).expect("make doorbells"));
    let socket = folder.join("ivshmem");
    Ivshmem::bind(&socket, Arc::clone(&page), Arc::clone(&doorbells))
        .expect("serve the control page")
        .spawn();
    let booted = Booted::echo(|config| {
        config.cpus = THREADS as u32;
        config.nic = nic;
        let rto_min_us = (RTO_MIN_SECS * 1_000_000).to_string();
        config.kernel_options = vec![("rto_min_us".to_owned(), rto_min_us)];
        config.control = Some(ControlChannel {
            socket,
            vectors: THREADS as u32,
        });
    });
    booted.inside(patience::be_patient);
    let deadline = Instant::now() + BOOT_TIMEOUT;
    let has_begun = |thread| page.thread(thread).is_some_and(|report| report.rounds > 0);
    while !(0..THREADS).all(has_begun) {
        assert!(Instant::now() < deadline, "not all threads serve");
        thread::sleep(Duration::from_millis(20));
    }
    let commander = Commander::new(Arc::clone(&page), doorbells);
    (booted, page, commander)
}

/// The owner of each group when the machine has started.
fn owners(page: &ControlPage) -> Vec<usize> {
    let groups = (0..128).filter_map(|group| page.group(group));
    groups.map(|group| usize::from(group.owner)).collect()
}

/// The groups of a thread, a bit each.
fn owned(owners: &[usize], thread: usize) -> u128 {
    let groups = owners.iter().enumerate();
    groups.fold(0, |mask, (group, owner)| {
        mask | u128::from(*owner == thread) << group
    })
}

/// Moves groups to and fro; now and then a thread loses all of them and parks.
fn hand_around(page: &ControlPage, commander: &Commander, most: usize) {
    let mut random = Random(4);
    let mut owners = owners(page);
    let mut parked = [false; THREADS];
    let mut moves = 0;
    while moves < most {
        let from = random.below(THREADS);
        let to = (from + 1 + random.below(THREADS - 1)) % THREADS;
        if parked[from] {
            commander
                .execute(from, Command::Run, PATIENCE)
                .expect("run again");
            parked[from] = false;
            continue;
        }
        let groups = owned(&owners, from);
        if groups == 0 || parked[to] {
            continue;
        }
        let revokes = from != 0 && random.below(4) == 0;
        let some = groups & (u128::MAX / 3) << random.below(2);
        let groups = if revokes || some == 0 { groups } else { some };
        commander
            .execute(from, Command::Give { groups, to }, PATIENCE)
            .expect("give groups");
        for (group, owner) in owners.iter_mut().enumerate() {
            if groups >> group & 1 != 0 {
                *owner = to;
            }
        }
        moves += 1;
        if revokes {
            match commander.execute(from, Command::Park { to }, PATIENCE) {
                Ok(_) => parked[from] = true,
                // What is dead there was not released yet.
                Err(CommandError::Refused(ix_abi::Error::TryAgain)) => {}
                Err(error) => panic!("park: {error}"),
            }
        }
    }
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn two_hundred_moves_under_sixty_four_connections_lose_nothing() {
    let folder = tempfile::tempdir().expect("make a folder");
    let (booted, page, commander) = machine(folder.path(), NicKind::Intel82599);
    let came = move_under_load(&booted, &page, &commander, MOVES);
    assert!(came > 500, "{came} came");
    let reports = (0..THREADS).filter_map(|thread| page.thread(thread));
    let retransmits: u64 = reports.map(|report| report.retransmits).sum();
    assert_eq!(retransmits, 0, "segments were sent again by the dataplane");
    let by_linux = booted.inside(patience::retransmitted_segments);
    assert_eq!(by_linux, 0, "segments were sent again by Linux");
    booted.stop();
}

/// Flow groups of a VIRTIO card move by a command to the device. Linux and QEMU may change the order of
/// segments meanwhile, since a TAP of several queues follows a flow in its own way.
#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn moves_on_a_virtio_card_lose_nothing() {
    let folder = tempfile::tempdir().expect("make a folder");
    let (booted, page, commander) = machine(folder.path(), NicKind::Virtio);
    let came = move_under_load(&booted, &page, &commander, FEW_MOVES);
    assert!(came > 50, "{came} came");
    booted.stop();
}

/// Moves flow groups while all connections exchange messages; how many connections came to another
/// thread, which is how many left one.
fn move_under_load(
    booted: &Booted,
    page: &ControlPage,
    commander: &Commander,
    moves: usize,
) -> u64 {
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| booted.connect_when_up_to(booted.guest().into(), PORT))
        .collect();
    let is_over = AtomicBool::new(false);
    let mut rounds = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            hand_around(page, commander, moves);
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            exchange(&mut streams, rounds);
            rounds += 1;
        }
    });
    exchange(&mut streams, rounds);
    assert!(rounds > 3, "only {rounds} rounds of all connections");
    // Each thread reports about once in a millisecond.
    thread::sleep(Duration::from_secs(1));
    let reports: Vec<_> = (0..THREADS)
        .filter_map(|thread| page.thread(thread))
        .collect();
    let came: u64 = reports.iter().map(|report| report.migrated_in).sum();
    let left: u64 = reports.iter().map(|report| report.migrated_out).sum();
    println!("{rounds} rounds, {came} connections moved");
    assert_eq!(came, left, "as many came as left");
    came
}

/// A message and its echo on every connection.
fn exchange(streams: &mut [std::net::TcpStream], round: usize) {
    for (index, stream) in streams.iter_mut().enumerate() {
        let message = pattern((round * CONNECTIONS + index) as u64, 3000);
        stream.write_all(&message).expect("send on each");
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let mut reply = [0; 3000];
        stream.read_exact(&mut reply).expect("receive on each");
        let message = pattern((round * CONNECTIONS + index) as u64, 3000);
        assert!(reply[..] == message, "connection {index} got other bytes");
    }
}
