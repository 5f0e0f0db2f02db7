//! The driver against the device model, in process: what is asked of every driver (`conformance`), and
//! what only an 82599 has.

mod conformance;
mod ipv6;
mod support;
mod vlan;

use ix_conformance::MAC;
use ix_conformance::frames::{self, TCP, UDP};
use ix_hal::{Nic, Release, Transmit, TxChecksum, TxFrame};
use ix_nic::Redirect;
use ixgbe::{Config, Error, Link, PortStatistics, Rss};
use ixgbe_spec::{ipv4_input, toeplitz};
use support::{Machine, Port, Sizes};

fn machine() -> (Machine, Port) {
    let (machine, _, port) = Machine::with_port(Config::new(1), Sizes::default());
    (machine, port)
}

#[test]
fn bring_up_finds_address_and_link() {
    let machine = Machine::new(1 << 20);
    let mut device = machine.device(Config::new(4));
    assert_eq!(device.mac(), MAC);
    assert_eq!(device.queues(), 4);
    let link = device.wait_for_link(1_000_000, &mut machine.delay());
    let ten_gigabit = Link {
        up: true,
        megabits: 10_000,
    };
    assert_eq!(link, Ok(ten_gigabit));
}

#[test]
fn a_configured_address_replaces_that_of_the_eeprom() {
    let other = [0x02, 0, 0, 0, 0, 0x77];
    let mut config = Config::new(1);
    config.mac = Some(other);
    let (mut machine, device, mut port) = Machine::with_port(config, Sizes::default());
    assert_eq!((device.mac(), port.pair.mac()), (other, other));
    let mut frame = frames::ipv4(TCP, 100, 1);
    machine.inject(&frame);
    frame[..6].copy_from_slice(&other);
    machine.inject(&frame);
    machine.run();
    let received = port.receive();
    assert_eq!(received.len(), 1, "{}", machine.counters());
    assert_eq!(machine.bytes(&port, &received[0]), frame);
}

#[test]
fn the_link_goes_down_with_the_cable() {
    let (machine, mut port) = machine();
    assert!(port.pair.link_up());
    let Machine { registers, far, .. } = machine;
    drop(far);
    // The model follows the wire when time passes.
    registers.advance(1_000_000);
    assert!(!port.pair.link_up());
}

/// Sends flows to a machine of four queues, and checks that each frame comes in where `rss` says.
fn check_spreading(machine: &mut Machine, ports: &mut [Port], rss: &Rss) {
    let mut used = [0; 4];
    for seed in 0..200 {
        let frame = frames::ipv4(
            if seed % 2 == 0 { TCP } else { UDP },
            70,
            seed * 0x0101_0f05,
        );
        let address = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
        let port = |at: usize| u16::from_be_bytes(frame[at..at + 2].try_into().unwrap());
        let input = ipv4_input(address(26), address(30), port(34), port(36));
        let hash = toeplitz(&rss.key, &input);
        let queue = usize::from(rss.queue_of(hash));
        used[queue] += 1;
        machine.inject(&frame);
        machine.run();
        for (number, port) in ports.iter_mut().enumerate() {
            let received = port.receive();
            assert_eq!(received.len(), usize::from(number == queue), "flow {seed}");
            if let [only] = received[..] {
                assert_eq!(only.rss_hash, hash);
                assert_eq!(machine.bytes(port, &only), frame);
            }
            port.give_back(&received);
            port.pair.refill(&mut port.pool);
        }
    }
    let expected = rss.reta.iter().any(|&queue| queue != rss.reta[0]);
    assert_eq!(
        used.iter().filter(|&&count| count > 20).count() > 1,
        expected
    );
}

#[test]
fn flows_are_spread_over_queues_as_hash_and_table_say() {
    let mut machine = Machine::new(64 << 20);
    let mut config = Config::new(4);
    config.rss.key = std::array::from_fn(|n| (n * 37 + 11) as u8);
    let mut device = machine.device(config);
    let mut ports: Vec<Port> = (0..4)
        .map(|queue| machine.open(&mut device, queue, Sizes::default()))
        .collect();
    device.start(&mut machine.delay()).unwrap();
    let rss = device.rss().clone();
    check_spreading(&mut machine, &mut ports, &rss);

    // Flow groups move: all to queue 2, then uneven.
    device.set_redirection([2; 128]).unwrap();
    let rss = device.rss().clone();
    check_spreading(&mut machine, &mut ports, &rss);
    device
        .set_redirection(std::array::from_fn(|n| if n < 96 { 3 } else { 0 }))
        .unwrap();
    let rss = device.rss().clone();
    check_spreading(&mut machine, &mut ports, &rss);
    let beyond = Error::Redirection {
        entry: 0,
        queue: 4,
        queues: 4,
    };
    assert_eq!(device.set_redirection([4; 128]), Err(beyond));
}

#[test]
fn each_queue_transmits_and_interrupts_on_its_own() {
    let mut machine = Machine::new(64 << 20);
    let mut device = machine.device(Config::new(4));
    let mut ports: Vec<Port> = (0..4)
        .map(|queue| machine.open(&mut device, queue, Sizes::default()))
        .collect();
    device.start(&mut machine.delay()).unwrap();
    for (seed, port) in (0..).zip(&mut ports) {
        assert!(port.send_short(&frames::ipv4(TCP, 64, seed)));
        port.pair.flush();
    }
    machine.run();
    let mut arrived = machine.arrived();
    arrived.sort();
    let mut expected: Vec<_> = (0..4).map(|seed| frames::ipv4(TCP, 64, seed)).collect();
    expected.sort();
    assert_eq!(arrived, expected);

    device.set_redirection([3; 128]).unwrap();
    for port in &mut ports {
        port.pair.arm_interrupt();
    }
    let before: Vec<u32> = (0..4).map(|vector| machine.interrupts(vector)).collect();
    machine.inject(&frames::ipv4(TCP, 64, 1));
    machine.run();
    let after: Vec<u32> = (0..4).map(|vector| machine.interrupts(vector)).collect();
    assert_eq!(after[..3], before[..3]);
    assert_eq!(after[3], before[3] + 1);
}

#[test]
fn interrupts_keep_the_configured_distance() {
    let sizes = Sizes {
        interrupt_interval_us: 500,
        ..Sizes::default()
    };
    let (mut machine, _, mut port) = Machine::with_port(Config::new(1), sizes);
    let frame = frames::ipv4(TCP, 64, 1);
    port.pair.arm_interrupt();
    machine.run();
    let start = machine.interrupts(0);
    machine.inject(&frame);
    machine.run_for(1);
    assert_eq!(machine.interrupts(0), start + 1);
    machine.inject(&frame);
    machine.run_for(400);
    assert_eq!(machine.interrupts(0), start + 1, "too soon");
    machine.run_for(200);
    assert_eq!(machine.interrupts(0), start + 2);
    assert_eq!(port.receive().len(), 2);
}

#[test]
fn a_device_reset_while_running_starts_anew_with_all_buffers() {
    let (mut machine, mut device, mut port) = Machine::with_port(Config::new(1), Sizes::default());
    let frame = frames::ipv4(TCP, 64, 1);
    // Descriptors and mbufs are in flight in both directions.
    machine.inject(&frame);
    machine.run();
    let release = port.pool.take().map(Release::Mbuf);
    port.pair.header().unwrap()[..64].copy_from_slice(&frame);
    port.pair.send(&TxFrame {
        header_len: 64,
        fragments: &[],
        checksum: TxChecksum::None,
        segment_size: 0,
        release,
    });
    port.pair.flush();
    device.reset(&mut machine.delay()).unwrap();

    assert!(matches!(
        device.open(
            0,
            queue_config(&port.pool),
            machine.queue_memory(Sizes::default()),
            &mut machine.delay()
        ),
        Err(Error::QueueInUse(0))
    ));
    let memory = device
        .close(port.pair, &mut port.pool, &mut machine.delay())
        .unwrap();
    assert_eq!(port.pool.available(), 1024);

    port.pair = device
        .open(0, queue_config(&port.pool), memory, &mut machine.delay())
        .unwrap();
    port.pair.refill(&mut port.pool);
    device.start(&mut machine.delay()).unwrap();
    machine.arrived();
    for seed in 0..500 {
        let frame = frames::ipv4(TCP, 64, seed);
        machine.inject(&frame);
        assert!(port.send_short(&frame));
        port.pair.flush();
        machine.run();
        let received = port.receive();
        assert_eq!(received.len(), 1, "{}", machine.counters());
        assert_eq!(machine.bytes(&port, &received[0]), frame);
        assert_eq!(machine.arrived(), [frame]);
        port.give_back(&received);
        port.pair.refill(&mut port.pool);
        port.pair.reclaim(&mut port.pool);
    }
}

fn queue_config(pool: &ix_hal::MbufPool) -> ixgbe::QueueConfig {
    ixgbe::QueueConfig {
        vector: 0,
        interrupt_interval_us: 0,
        pool: *pool.geometry(),
    }
}

#[test]
fn a_device_shut_down_touches_no_memory() {
    let (mut machine, device, mut port) = Machine::with_port(Config::new(1), Sizes::default());
    device.shut_down(&mut machine.delay()).unwrap();
    machine.inject(&frames::ipv4(TCP, 64, 1));
    assert!(port.send_short(&frames::ipv4(TCP, 64, 2)));
    port.pair.flush();
    machine.run();
    assert_eq!(port.receive().len(), 0);
    assert_eq!(machine.arrived().len(), 0);
}

#[test]
fn statistics_of_port_and_queue_agree() {
    let (mut machine, device, mut port) = Machine::with_port(Config::new(1), Sizes::default());
    for seed in 0..30 {
        machine.inject(&frames::ipv4(TCP, 100, seed));
    }
    for seed in 0..20 {
        assert!(port.send_short(&frames::ipv4(TCP, 90, seed)));
    }
    port.pair.flush();
    machine.run();
    assert_eq!(port.receive().len(), 30);
    let queue = port.pair.statistics();
    assert_eq!((queue.rx_frames, queue.rx_bytes), (30, 3000));
    assert_eq!((queue.tx_frames, queue.tx_bytes), (20, 1800));
    let mut whole = PortStatistics::default();
    for _ in 0..2 {
        // The registers clear when read, the sums do not.
        whole.update(device.registers());
        assert_eq!((whole.rx_frames, whole.rx_bytes), (30, 30 * 104));
        assert_eq!((whole.tx_frames, whole.tx_bytes), (20, 20 * 94));
    }
}

#[test]
fn filters_let_in_what_was_asked_for() {
    let (mut machine, mut device, mut port) = Machine::with_port(Config::new(1), Sizes::default());
    let group = [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb];
    let to = |address: [u8; 6]| {
        let mut frame = frames::ipv4(UDP, 80, 1);
        frame[..6].copy_from_slice(&address);
        frame
    };
    let count = |machine: &mut Machine, port: &mut Port, address| {
        machine.inject(&to(address));
        machine.run();
        port.receive().len()
    };
    let stranger = [0x52, 0x54, 0x00, 0xaa, 0xbb, 0xcc];
    assert_eq!(count(&mut machine, &mut port, MAC), 1);
    assert_eq!(count(&mut machine, &mut port, [0xff; 6]), 1);
    assert_eq!(count(&mut machine, &mut port, stranger), 0);
    assert_eq!(count(&mut machine, &mut port, group), 0);

    let delay = &mut machine.delay();
    device.join_multicast(group, delay).unwrap();
    assert_eq!(count(&mut machine, &mut port, group), 1);
    assert_eq!(
        device.join_multicast(stranger, delay),
        Err(Error::NotMulticast(stranger))
    );

    ixgbe::set_promiscuous(device.registers(), true);
    assert_eq!(count(&mut machine, &mut port, stranger), 1);
    ixgbe::set_promiscuous(device.registers(), false);
    assert_eq!(count(&mut machine, &mut port, stranger), 0);
    assert_eq!(count(&mut machine, &mut port, MAC), 1);
}
