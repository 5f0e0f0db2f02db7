//! A port that belongs to a VLAN: which of the other VLANs' frames its filter stops, and which the
//! ring. The rest of it is in `conformance`.

use ix_conformance::frames::{self, TCP};
use ix_hal::Nic;
use ixgbe::{Config, PortStatistics, VlanTag};

use crate::support::{Machine, Sizes};

const VLAN: u16 = 100;

fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    let mut frame = frame.to_vec();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

#[test]
fn the_filter_counts_frames_of_other_vlans_and_the_ring_those_without_a_tag() {
    let mut config = Config::new(1);
    config.vlan = VlanTag::new(VLAN, 0);
    let (mut machine, device, mut port) = Machine::with_port(config, Sizes::default());
    let frame = frames::ipv4(TCP, 1514, 3);
    machine.inject(&frame);
    machine.inject(&tagged(&frame, VLAN));
    machine.inject(&tagged(&frame, VLAN + 1));
    machine.inject(&tagged(&frame, 0));
    machine.run();
    assert_eq!(port.receive().len(), 1, "{}", machine.counters());
    assert_eq!(port.pair.statistics().rx_wrong_vlan, 1);
    let mut whole = PortStatistics::default();
    whole.update(device.registers());
    assert_eq!(whole.rx_filtered, 2);
}
