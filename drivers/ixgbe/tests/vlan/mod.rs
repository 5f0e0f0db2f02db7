//! A port that belongs to a VLAN, and one that belongs to none, against the device model: what
//! leaves has the tag, what arrives has lost it, and what belongs elsewhere is counted.

use crate::support::frames::{self, TCP, UDP};
use crate::support::{Machine, Port, Registers, Sizes};
use ix_hal::{Fragment, Nic, RxChecksum, Transmit, TxChecksum, TxFrame};
use ixgbe::{Config, Ixgbe, VlanTag};

const VLAN: u16 = 100;
const PRIORITY: u8 = 5;

fn member(vlan: Option<VlanTag>, mtu: u32) -> (Machine, Ixgbe<Registers>, Port) {
    let mut config = Config::new(1);
    config.vlan = vlan;
    config.mtu = mtu;
    let sizes = Sizes {
        buffers: 512,
        buffer_shift: 14,
        ..Sizes::default()
    };
    Machine::with_port(config, sizes)
}

fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    let mut frame = frame.to_vec();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

#[test]
fn every_frame_sent_has_the_tag_and_its_checksums_are_right() {
    let vlan = VlanTag::new(VLAN, PRIORITY);
    let (mut machine, _, mut port) = member(vlan, 9000);
    let control = u16::from(PRIORITY) << 13 | VLAN;
    let mbuf = port.pool.take().expect("a buffer for payload");
    for (protocol, length, checksum) in [
        (TCP, 60, TxChecksum::None),
        (TCP, 60, TxChecksum::Ipv4Tcp),
        (UDP, 61, TxChecksum::Ipv4Udp),
        (TCP, 1514, TxChecksum::Ipv4Tcp),
        (TCP, 9014, TxChecksum::Ipv4Tcp),
        (UDP, 90, TxChecksum::None),
    ] {
        let whole = frames::ipv4(protocol, length, 9);
        let frame = match checksum {
            TxChecksum::None => whole.clone(),
            _ => frames::ipv4_for_offload(protocol, length, 9),
        };
        let header_len = if protocol == TCP { 54 } else { 42 };
        let bus = machine.fill(&port, mbuf, &frame[header_len..]);
        port.pair.header().expect("room for a frame")[..header_len]
            .copy_from_slice(&frame[..header_len]);
        port.pair.send(&TxFrame {
            header_len: header_len as u16,
            fragments: &[Fragment {
                bus,
                len: (length - header_len) as u32,
            }],
            checksum,
            segment_size: 0,
            release: None,
        });
        port.pair.flush();
        machine.run();
        let arrived = machine.arrived();
        assert_eq!(arrived, [tagged(&whole, control)], "{checksum:?} {length}");
    }
}

#[test]
fn only_frames_of_the_vlan_come_in_and_the_others_are_counted() {
    let (mut machine, mut device, mut port) = member(VlanTag::new(VLAN, 0), 9000);
    let frame = frames::ipv4(TCP, 9014, 3);
    machine.inject(&frame);
    // Its priority is the sender's business.
    machine.inject(&tagged(&frame, 7 << 13 | VLAN));
    machine.inject(&tagged(&frame, VLAN + 1));
    machine.inject(&tagged(&frame, 0));
    machine.run();
    let received = port.receive();
    assert_eq!(received.len(), 1, "{}", machine.counters());
    assert_eq!(machine.bytes(&port, &received[0]), frame);
    assert_eq!(received[0].checksum, RxChecksum::Good);
    let statistics = port.pair.statistics();
    assert_eq!((statistics.rx_frames, statistics.rx_errors), (1, 0));
    assert_eq!(statistics.rx_wrong_vlan, 1, "the one without a tag");
    assert_eq!(device.statistics().rx_filtered, 2, "those of other VLANs");
}

#[test]
fn without_a_vlan_nothing_tagged_comes_in() {
    let (mut machine, mut device, mut port) = member(None, 1500);
    let frame = frames::ipv4(TCP, 1514, 3);
    for control in [VLAN, 0, 3 << 13] {
        machine.inject(&tagged(&frame, control));
    }
    machine.inject(&frame);
    machine.run();
    let received = port.receive();
    assert_eq!(received.len(), 1, "{}", machine.counters());
    assert_eq!(machine.bytes(&port, &received[0]), frame);
    assert_eq!(port.pair.statistics().rx_wrong_vlan, 3);
    assert_eq!(device.statistics().rx_filtered, 0);
}
