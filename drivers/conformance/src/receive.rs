//! Frames that come in: every length, and what is said of their checksums.

use ix_hal::{Fragment, Release, RxChecksum, RxFrame, TxChecksum};

use crate::frames::{self, TCP, UDP};
use crate::{Bed, Setup, Station};

/// Whether the verdict on a frame whose checksums are right can stand.
fn accepts<B: Bed>(frame: &RxFrame) -> bool {
    match B::OFFERS.verifies {
        true => frame.checksum == RxChecksum::Good,
        false => frame.checksum != RxChecksum::Bad,
    }
}

/// Sends a good frame and one with a flipped bit, and checks both verdicts.
fn check<B: Bed>(station: &mut Station<B>, good: &[u8], flipped: usize, is_tcp: bool) {
    let mut bad = good.to_vec();
    bad[flipped] ^= 0x10;
    station.bed.inject(good);
    station.bed.inject(&bad);
    station.bed.run();
    let received = station.receive();
    let length = good.len();
    assert_eq!(received.len(), 2, "{length}: {}", station.bed.story());
    assert_eq!(station.bed.bytes(&received[0]), good);
    assert!(accepts::<B>(&received[0]), "{length}: {:?}", received[0]);
    assert_eq!(station.bed.bytes(&received[1]), bad);
    let verdict = received[1].checksum;
    // A flipped bit may make a UDP checksum zero or its length wrong, and is not checked then.
    match B::OFFERS.verifies && is_tcp {
        true => assert_eq!(verdict, RxChecksum::Bad, "length {length}"),
        false => assert_ne!(verdict, RxChecksum::Good, "length {length}"),
    }
    station.give_back(&received);
}

/// Every length over IPv4, TCP and UDP in turn.
pub fn every_length_arrives_with_an_honest_verdict<B: Bed>() {
    let mut station = Station::<B>::usual();
    for length in 60..=1514 {
        let protocol = if length % 2 == 0 { TCP } else { UDP };
        let good = frames::ipv4(protocol, length, length as u32);
        let flipped = 26 + length % (length - 26);
        check(&mut station, &good, flipped, protocol == TCP);
    }
    assert_eq!(station.statistics().rx_frames, 2 * (1514 - 59));
}

/// Over IPv6, where only addresses are flipped: those any checksum covers.
pub fn ipv6_arrives_with_an_honest_verdict<B: Bed>() {
    let mut station = Station::<B>::usual();
    for length in 75..=300 {
        let protocol = if length % 2 == 0 { TCP } else { UDP };
        let good = frames::ipv6(protocol, length, length as u32);
        check(&mut station, &good, 22 + length % 32, true);
    }
}

/// What is no IP has nothing to be checked.
pub fn a_frame_without_ip_has_no_verdict<B: Bed>() {
    let mut station = Station::<B>::usual();
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let received = station.take(&arp);
    assert_eq!(received.len(), 1, "{}", station.bed.story());
    assert_eq!(received[0].checksum, RxChecksum::Unchecked);
    assert_eq!(received[0].rss_hash, 0);
    assert_eq!(station.bed.bytes(&received[0]), arp);
}

/// A frame never takes two buffers, and leaves again from the one that it came in.
pub fn jumbo_frames_take_one_buffer<B: Bed>() {
    let mut station = Station::<B>::new(&Setup::jumbo());
    let frame = frames::ipv4(TCP, 9014, 1);
    let received = station.take(&frame);
    assert_eq!(received.len(), 1, "{}", station.bed.story());
    assert_eq!(station.bed.bytes(&received[0]), frame);
    let mbuf = received[0].mbuf;
    let payload = Fragment {
        bus: station.bed.port().1.geometry().bus_of(mbuf) + 54,
        len: 8960,
    };
    let release = Some(Release::Mbuf(mbuf));
    assert!(station.queue(&frame[..54], &[payload], TxChecksum::None, 0, release));
    assert_eq!(station.flush(), [frame]);
}

/// Not in a buffer too small for them, nor in two; the next frame does.
pub fn frames_longer_than_the_mtu_do_not_come_in<B: Bed>() {
    let mut station = Station::<B>::usual();
    station.bed.inject(&frames::ipv4(TCP, 3000, 1));
    let frame = frames::ipv4(TCP, 1514, 2);
    let received = station.take(&frame);
    assert_eq!(received.len(), 1, "{}", station.bed.story());
    assert_eq!(station.bed.bytes(&received[0]), frame);
}
