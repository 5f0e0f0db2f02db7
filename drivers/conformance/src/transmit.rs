//! Frames that go out: every length and shape, with the checksums that the NIC is asked for, and what
//! comes back when they have left.

use ix_hal::{Fragment, MAX_FRAGMENTS, MbufId, Nic, Release, Transmit, TxChecksum, TxFrame};

use crate::frames::{self, TCP, UDP};
use crate::{Bed, Setup, Station};

/// Bytes of all headers of such a frame.
fn header_len(checksum: TxChecksum) -> usize {
    match checksum {
        TxChecksum::Ipv4Udp => 42,
        TxChecksum::Ipv6Tcp => 74,
        TxChecksum::Ipv6Udp => 62,
        _ => 54,
    }
}

/// Parts `payload`, which lies at a bus address, into that many pieces of odd and even lengths.
fn pieces(bus: u64, payload: usize, count: usize) -> Vec<Fragment> {
    let cut = |piece: usize| payload * piece / count;
    (0..count)
        .map(|piece| Fragment {
            bus: bus + cut(piece) as u64,
            len: (cut(piece + 1) - cut(piece)) as u32,
        })
        .collect()
}

/// Sends what `frame` is for offload, with its payload in pieces of one buffer.
fn send<B: Bed>(
    station: &mut Station<B>,
    mbuf: MbufId,
    frame: &[u8],
    checksum: TxChecksum,
    count: usize,
) -> Vec<Vec<u8>> {
    let (header, payload) = frame.split_at(header_len(checksum));
    let bus = station.bed.fill(mbuf, payload);
    let count = count.min(payload.len());
    let fragments = pieces(bus, payload.len(), count);
    assert!(station.queue(header, &fragments, checksum, 0, None));
    let arrived = station.flush();
    station.reclaim();
    arrived
}

/// From one fragment to as many as there may be.
pub fn every_length_leaves_with_its_checksums<B: Bed>() {
    let mut station = Station::<B>::usual();
    let mbuf = station.mbuf();
    for length in 60..=1514 {
        let seed = length as u32;
        let (protocol, checksum) = match length % 2 {
            0 => (TCP, TxChecksum::Ipv4Tcp),
            _ => (UDP, TxChecksum::Ipv4Udp),
        };
        let frame = frames::ipv4_for_offload(protocol, length, seed);
        let count = 1 + length % MAX_FRAGMENTS;
        let arrived = send(&mut station, mbuf, &frame, checksum, count);
        assert_eq!(arrived.len(), 1, "{length}: {}", station.bed.story());
        assert!(frames::checksums_hold(&arrived[0]), "length {length}");
        assert_eq!(arrived[0], frames::ipv4(protocol, length, seed));
    }
    let statistics = station.statistics();
    assert_eq!((statistics.tx_frames, statistics.tx_drops), (1514 - 59, 0));
}

/// No frame leaves with what was meant for the one before.
pub fn both_families_in_turn_leave_with_their_checksums<B: Bed>() {
    let mut station = Station::<B>::usual();
    let mbuf = station.mbuf();
    for length in (80..=400).step_by(7) {
        let seed = length as u32;
        let v4 = |protocol| {
            let frame = frames::ipv4_for_offload(protocol, length, seed);
            (frame, frames::ipv4(protocol, length, seed))
        };
        let v6 = |protocol| {
            let frame = frames::ipv6_for_offload(protocol, length, seed);
            (frame, frames::ipv6(protocol, length, seed))
        };
        for ((frame, whole), checksum) in [
            (v6(TCP), TxChecksum::Ipv6Tcp),
            (v4(TCP), TxChecksum::Ipv4Tcp),
            (v6(UDP), TxChecksum::Ipv6Udp),
            (v4(UDP), TxChecksum::Ipv4Udp),
        ] {
            let arrived = send(&mut station, mbuf, &frame, checksum, 2);
            assert_eq!(arrived, [whole], "{checksum:?} {length}");
        }
    }
    assert_eq!(station.statistics().tx_drops, 0);
}

/// The rest is left as it is.
pub fn an_ipv4_header_checksum_alone_is_inserted<B: Bed>() {
    let mut station = Station::<B>::usual();
    let whole = frames::ipv4(UDP, 90, 7);
    let mut frame = whole.clone();
    frame[24..26].fill(0);
    assert!(station.queue(&frame, &[], TxChecksum::Ipv4, 0, None));
    assert_eq!(station.flush(), [whole]);
}

/// A device may pad it to the least length of Ethernet, with zeroes.
pub fn a_short_frame_leaves_whole<B: Bed>() {
    let mut station = Station::<B>::usual();
    let mut arp = vec![0xff; 42];
    arp[6..12].copy_from_slice(&crate::MAC);
    assert!(station.queue_short(&arp));
    let mut arrived = station.flush();
    assert_eq!(arrived.len(), 1);
    let frame = arrived.remove(0);
    assert_eq!(frame[..42], arp);
    assert!(frame.len() <= 60 && frame[42..].iter().all(|&byte| byte == 0));
}

/// With both checksums, from several fragments.
pub fn jumbo_frames_leave_whole<B: Bed>() {
    let mut station = Station::<B>::new(&Setup::jumbo());
    let mbuf = station.mbuf();
    let frame = frames::ipv4_for_offload(TCP, 9014, 3);
    let arrived = send(&mut station, mbuf, &frame, TxChecksum::Ipv4Tcp, 3);
    assert!(arrived == [frames::ipv4(TCP, 9014, 3)]);
}

/// It is the device that reads it, and only then is the buffer free.
pub fn payload_in_an_mbuf_is_sent_in_place_and_given_back<B: Bed>() {
    let mut station = Station::<B>::usual();
    let request = frames::ipv4(UDP, 200, 5);
    let received = station.take(&request);
    let mbuf = received[0].mbuf;
    let available = station.available();
    let payload = Fragment {
        bus: station.bed.port().1.geometry().bus_of(mbuf) + 42,
        len: 158,
    };
    let release = Some(Release::Mbuf(mbuf));
    assert!(station.queue(&request[..42], &[payload], TxChecksum::None, 0, release));
    station.reclaim();
    assert_eq!(station.available(), available, "not before it is sent");
    assert_eq!(station.flush(), [request]);
    station.reclaim();
    assert_eq!(station.available(), available + 1);
}

/// Memory of the application is counted, once each, and none before its turn.
pub fn releases_come_in_the_order_of_their_frames<B: Bed>() {
    let mut station = Station::<B>::usual();
    let frame = frames::ipv4(TCP, 64, 1);
    let mut due = 0;
    for round in 0..200 {
        for number in 0..=round % 5 {
            let release = (number % 2 == 0).then_some(Release::User);
            due += u32::from(release.is_some());
            assert!(station.queue(&frame, &[], TxChecksum::None, 0, release));
        }
        assert_eq!(station.reclaim(), 0, "nothing has left in round {round}");
        station.flush();
        assert_eq!(station.reclaim(), due, "round {round}");
        due = 0;
    }
    // One that is refused goes back as well, in its turn.
    let nic = station.nic();
    assert!(nic.header().is_some());
    nic.send(&TxFrame {
        header_len: 54,
        fragments: &[Fragment { bus: 0, len: 0 }],
        checksum: TxChecksum::None,
        segment_size: 0,
        release: Some(Release::User),
    });
    assert!(station.queue(&frame, &[], TxChecksum::None, 0, Some(Release::User)));
    station.flush();
    assert_eq!(station.reclaim(), 2);
}

/// Marks answer what moving connections ask: whether their last frames are out.
pub fn a_mark_is_reached_when_what_is_before_it_has_left<B: Bed>() {
    let mut station = Station::<B>::usual();
    let start = station.nic().queued();
    assert!(station.nic().has_sent(start));
    assert!(station.queue_short(&frames::ipv4(TCP, 64, 1)));
    let mark = station.nic().queued();
    station.nic().flush();
    station.bed.run();
    assert!(station.nic().has_sent(mark));
    assert!(station.queue_short(&frames::ipv4(TCP, 64, 2)));
    let later = station.nic().queued();
    assert!(!station.nic().has_sent(later));
    assert!(station.nic().has_sent(mark));
    station.flush();
    assert!(station.nic().has_sent(later));
}

/// No room taken, no bytes, too many pieces, an empty one, one beyond the MTU.
pub fn what_cannot_be_sent_is_dropped_and_counted<B: Bed>() {
    let mut station = Station::<B>::usual();
    let bus = station.bed.port().1.geometry().bus;
    let piece = |len| Fragment { bus, len };
    let shapes: [(u16, &[Fragment]); 6] = [
        (0, &[]),
        (13, &[piece(100)]),
        (129, &[piece(100)]),
        (54, &[piece(100); MAX_FRAGMENTS + 1]),
        (54, &[piece(10), piece(0)]),
        (54, &[piece(1500)]),
    ];
    for (header_len, fragments) in shapes {
        let frame = TxFrame {
            header_len,
            fragments,
            checksum: TxChecksum::None,
            segment_size: 0,
            release: None,
        };
        let nic = station.nic();
        assert!(nic.header().is_some());
        nic.send(&frame);
    }
    // The room is used up.
    station.nic().send(&TxFrame {
        header_len: 60,
        fragments: &[],
        checksum: TxChecksum::None,
        segment_size: 0,
        release: None,
    });
    assert_eq!(station.flush(), Vec::<Vec<u8>>::new());
    assert_eq!(station.statistics().tx_drops, 7);
    let frame = frames::ipv4(TCP, 60, 3);
    assert!(station.queue_short(&frame));
    assert_eq!(station.flush(), [frame]);
}
