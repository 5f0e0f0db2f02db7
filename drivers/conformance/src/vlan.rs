//! A port that belongs to a VLAN, and one that belongs to none: what leaves has the tag, what arrives
//! has lost it, and what belongs elsewhere does not get in. Only of devices that handle tags.

use ix_hal::{Fragment, RxChecksum, TxChecksum};

use crate::frames::{self, TCP, UDP};
use crate::{Bed, Setup, Station, segments};

const VLAN: u16 = 100;
const PRIORITY: u8 = 5;

/// Tag control information of what the port sends.
fn control() -> u16 {
    u16::from(PRIORITY) << 13 | VLAN
}

fn member<B: Bed>() -> Station<B> {
    Station::new(&Setup {
        vlan: Some((VLAN, PRIORITY)),
        ..Setup::jumbo()
    })
}

fn tagged(frame: &[u8], control: u16) -> Vec<u8> {
    let [high, low] = control.to_be_bytes();
    let mut frame = frame.to_vec();
    frame.splice(12..12, [0x81, 0x00, high, low]);
    frame
}

/// With its checksums right, whatever is asked for.
pub fn every_frame_sent_has_the_tag<B: Bed>() {
    if !B::OFFERS.tags {
        return;
    }
    let mut station = member::<B>();
    let mbuf = station.mbuf();
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
        let payload = Fragment {
            bus: station.bed.fill(mbuf, &frame[header_len..]),
            len: (length - header_len) as u32,
        };
        assert!(station.queue(&frame[..header_len], &[payload], checksum, 0, None));
        let arrived = station.flush();
        assert!(
            arrived == [tagged(&whole, control())],
            "{checksum:?} {length}"
        );
    }
}

/// Their priority is the sender's business. Of the others the driver counts those that the device let
/// through.
pub fn only_frames_of_the_vlan_come_in<B: Bed>() {
    if !B::OFFERS.tags {
        return;
    }
    let mut station = member::<B>();
    let frame = frames::ipv4(TCP, 9014, 3);
    station.bed.inject(&frame);
    station.bed.inject(&tagged(&frame, VLAN + 1));
    station.bed.inject(&tagged(&frame, 0));
    let received = station.take(&tagged(&frame, 7 << 13 | VLAN));
    assert_eq!(received.len(), 1, "{}", station.bed.story());
    assert_eq!(station.bed.bytes(&received[0]), frame);
    assert_eq!(received[0].checksum, RxChecksum::Good);
    let statistics = station.statistics();
    assert_eq!((statistics.rx_frames, statistics.rx_errors), (1, 0));
    assert!((1..=3).contains(&statistics.rx_wrong_vlan));
}

/// Whatever the tag says.
pub fn without_a_vlan_nothing_tagged_comes_in<B: Bed>() {
    if !B::OFFERS.tags {
        return;
    }
    let mut station = Station::<B>::usual();
    let frame = frames::ipv4(TCP, 1514, 3);
    for control in [VLAN, 0, 3 << 13] {
        station.bed.inject(&tagged(&frame, control));
    }
    let received = station.take(&frame);
    assert_eq!(received.len(), 1, "{}", station.bed.story());
    assert_eq!(station.bed.bytes(&received[0]), frame);
    // Priority tags pass any filter.
    let least = if B::OFFERS.filters_vlans { 2 } else { 3 };
    assert!((least..=3).contains(&station.statistics().rx_wrong_vlan));
}

/// The tag does not count towards the MTU.
pub fn jumbo_segments_have_the_tag<B: Bed>() {
    if B::OFFERS.tags {
        segments::jumbo_segments_in_a_vlan::<B>((VLAN, PRIORITY), control().to_be_bytes());
    }
}
