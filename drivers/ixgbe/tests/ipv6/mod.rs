//! IPv6 against the device model: checksums in both directions, groups, and which queue a flow comes
//! to.

use crate::support::frames::{self, TCP, UDP};
use crate::support::{Machine, Port, Sizes};
use ix_hal::{Fragment, Nic, RxChecksum, Transmit, TxChecksum, TxFrame};
use ixgbe::{Config, Rss, Steering};

fn machine() -> (Machine, Port) {
    let (machine, _, port) = Machine::with_port(Config::new(1), Sizes::default());
    (machine, port)
}

/// Sends a frame whose payload lies in the first buffer of the pool.
fn send(machine: &mut Machine, port: &mut Port, frame: &[u8], checksum: TxChecksum) {
    let ip = if matches!(checksum, TxChecksum::Ipv4Tcp | TxChecksum::Ipv4Udp) {
        20
    } else {
        40
    };
    let l4 = match checksum {
        TxChecksum::Ipv4Udp | TxChecksum::Ipv6Udp => 8,
        _ => 20,
    };
    let header_len = 14 + ip + l4;
    let bus = machine.fill(port, ix_hal::MbufId(0), &frame[header_len..]);
    port.pair.header().expect("room for a frame")[..header_len]
        .copy_from_slice(&frame[..header_len]);
    port.pair.send(&TxFrame {
        header_len: header_len as u16,
        fragments: &[Fragment {
            bus,
            len: (frame.len() - header_len) as u32,
        }],
        checksum,
        segment_size: 0,
        release: None,
    });
    port.pair.flush();
    machine.run();
}

#[test]
fn both_families_and_both_protocols_in_turn_leave_with_right_checksums() {
    let (mut machine, mut port) = machine();
    for length in (80..=400).step_by(7) {
        let seed = length as u32;
        for (frame, whole, checksum) in [
            (
                frames::ipv6_for_offload(TCP, length, seed),
                frames::ipv6(TCP, length, seed),
                TxChecksum::Ipv6Tcp,
            ),
            (
                frames::ipv4_for_offload(TCP, length, seed),
                frames::ipv4(TCP, length, seed),
                TxChecksum::Ipv4Tcp,
            ),
            (
                frames::ipv6_for_offload(UDP, length, seed),
                frames::ipv6(UDP, length, seed),
                TxChecksum::Ipv6Udp,
            ),
            (
                frames::ipv4_for_offload(UDP, length, seed),
                frames::ipv4(UDP, length, seed),
                TxChecksum::Ipv4Udp,
            ),
        ] {
            send(&mut machine, &mut port, &frame, checksum);
            assert_eq!(machine.arrived(), [whole], "{checksum:?} {length}");
            port.pair.reclaim(&mut port.pool);
        }
    }
    assert_eq!(port.pair.statistics().tx_drops, 0);
}

#[test]
fn checksums_of_what_arrives_are_verified() {
    let (mut machine, mut port) = machine();
    for length in 75..=300 {
        let protocol = if length % 2 == 0 { TCP } else { UDP };
        let good = frames::ipv6(protocol, length, length as u32);
        let mut bad = good.clone();
        bad[22 + length % 32] ^= 0x10;
        machine.inject(&good);
        machine.inject(&bad);
        machine.run();
        let received = port.receive();
        assert_eq!(received.len(), 2, "{length}: {}", machine.counters());
        assert_eq!(machine.bytes(&port, &received[0]), good);
        assert_eq!(received[0].checksum, RxChecksum::Good, "length {length}");
        assert_eq!(received[1].checksum, RxChecksum::Bad, "length {length}");
        port.give_back(&received);
        port.pair.refill(&mut port.pool);
    }
}

#[test]
fn flows_come_to_the_queue_foretold_and_what_has_no_ports_to_the_first() {
    let mut machine = Machine::new(64 << 20);
    let mut config = Config::new(4);
    config.rss = Rss::even(4);
    let steering = Steering::new(&config.rss);
    let mut device = machine.device(config);
    let mut ports: Vec<Port> = (0..4)
        .map(|queue| machine.open(&mut device, queue, Sizes::default()))
        .collect();
    device.start(&mut machine.delay()).expect("start");
    let mut used = [0; 4];
    for seed in 0..100 {
        let frame = frames::ipv6(TCP, 90, seed * 0x0101_0f05);
        let address = |at: usize| frame[at..at + 16].try_into().expect("sixteen bytes");
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let foretold = steering.queue_of_tcp_ipv6((address(22), port(54)), (address(38), port(56)));
        used[usize::from(foretold)] += 1;
        machine.inject(&frame);
        let mut solicitation = frame.clone();
        solicitation[20] = 58;
        machine.inject(&solicitation);
        machine.run();
        for (number, port) in ports.iter_mut().enumerate() {
            let received = port.receive();
            let expected = usize::from(number == usize::from(foretold)) + usize::from(number == 0);
            assert_eq!(received.len(), expected, "flow {seed}, queue {number}");
            port.give_back(&received);
            port.pair.refill(&mut port.pool);
        }
    }
    assert!(used.iter().all(|&count| count > 5), "{used:?}");
}
