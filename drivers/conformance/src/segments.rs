//! Large frames: what a NIC that cuts them makes of one, byte by byte. One that offers no cutting
//! must refuse.

use ix_hal::{Fragment, MAX_FRAGMENTS, Transmit, TxChecksum};

use crate::frames::{self, TCP, UDP};
use crate::{Bed, Setup, Station};

/// Bytes of a buffer that are filled.
const PIECE: usize = 2000;
const SEQ: u32 = 0xffff_f000;
const ACK: u8 = 0x10;
/// FIN and PSH, which only the last segment has.
const ENDING: u8 = 0x09;
/// Which only the first segment has (RFC 3168 6.1.2).
const CWR: u8 = 0x80;

/// Headers of one IP version, before the device has filled anything in.
struct Headers {
    bytes: Vec<u8>,
    tcp: usize,
    checksum: TxChecksum,
}

impl Headers {
    /// With every control bit that not all segments have, and 12 bytes of options.
    fn new<B: Bed>(checksum: TxChecksum) -> Self {
        let tcp = match checksum {
            TxChecksum::Ipv6Tcp => 54,
            _ => 34,
        };
        let mut bytes = match checksum {
            TxChecksum::Ipv6Tcp => frames::ipv6_for_offload(TCP, tcp + 20, 5),
            _ => frames::ipv4_for_offload(TCP, tcp + 20, 5),
        };
        // The sum of the pseudo header is to leave the length out, and so is the IP header.
        let pseudo = u16::from_be_bytes([bytes[tcp + 16], bytes[tcp + 17]]);
        bytes[tcp + 16..tcp + 18].copy_from_slice(&frames::add(pseudo, !20).to_be_bytes());
        let length = if tcp == 54 { 18 } else { 16 };
        bytes[length..length + 2].fill(0);
        bytes[tcp + 4..tcp + 8].copy_from_slice(&SEQ.to_be_bytes());
        bytes[tcp + 12] = 0x80;
        bytes[tcp + 13] = ACK | CWR;
        if B::ENDS_SEGMENTS {
            bytes[tcp + 13] |= ENDING;
        }
        bytes.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        Self {
            bytes,
            tcp,
            checksum,
        }
    }

    /// Segment `number` of those that `payload` becomes.
    fn segment(&self, payload: &[u8], size: usize, number: usize) -> Vec<u8> {
        let at = number * size;
        let end = payload.len().min(at + size);
        let mut frame = [&self.bytes, &payload[at..end]].concat();
        let tcp = self.tcp;
        let seq = SEQ.wrapping_add(at as u32);
        frame[tcp + 4..tcp + 8].copy_from_slice(&seq.to_be_bytes());
        if number != 0 {
            frame[tcp + 13] &= !CWR;
        }
        if end != payload.len() {
            frame[tcp + 13] &= !ENDING;
        }
        let upper = (frame.len() - tcp) as u16;
        if tcp == 34 {
            frame[16..18].copy_from_slice(&(upper + 20).to_be_bytes());
            let id = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(number as u16);
            frame[18..20].copy_from_slice(&id.to_be_bytes());
            let sum = !frames::sum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            frame[18..20].copy_from_slice(&upper.to_be_bytes());
        }
        let pseudo = u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]);
        frame[tcp + 16..tcp + 18].copy_from_slice(&frames::add(pseudo, upper).to_be_bytes());
        let sum = !frames::sum(&frame[tcp..]);
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// All of them.
    fn segments(&self, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        (0..payload.len().div_ceil(size))
            .map(|number| self.segment(payload, size, number))
            .collect()
    }
}

/// A payload in a few buffers, and the pieces that it has there.
fn payload<B: Bed>(station: &mut Station<B>, count: usize) -> (Vec<u8>, Vec<Fragment>) {
    let mut payload = Vec::new();
    let pieces = (0..count).map(|piece| {
        let mbuf = station.mbuf();
        let bytes: Vec<u8> = (0..PIECE).map(|at| (at * 7 + piece * 31) as u8).collect();
        payload.extend(&bytes);
        Fragment {
            bus: station.bed.fill(mbuf, &bytes),
            len: PIECE as u32,
        }
    });
    let pieces = pieces.collect();
    (payload, pieces)
}

fn queue<B: Bed>(station: &mut Station<B>, headers: &Headers, pieces: &[Fragment], size: u16) {
    let queued = station.queue(&headers.bytes, pieces, headers.checksum, size, None);
    assert!(queued, "no room for a large frame");
}

/// Of either IP version, in sizes that divide the payload and that do not.
pub fn a_large_frame_becomes_segments<B: Bed>() {
    let mut station = Station::<B>::usual();
    if station.nic().segmentation() == 0 {
        return;
    }
    let (payload, pieces) = payload(&mut station, MAX_FRAGMENTS);
    for checksum in [TxChecksum::Ipv4Tcp, TxChecksum::Ipv6Tcp] {
        let headers = Headers::new::<B>(checksum);
        for size in [1428, 536, 1000] {
            queue(&mut station, &headers, &pieces, size);
            let arrived = station.flush();
            let expected = headers.segments(&payload, usize::from(size));
            assert!(arrived == expected, "{checksum:?}, {size} bytes a segment");
            station.reclaim();
        }
    }
    assert_eq!(station.statistics().tx_drops, 0);
}

/// What is said of one frame is not taken for the next.
pub fn small_frames_between_large_ones_are_as_ever<B: Bed>() {
    let mut station = Station::<B>::usual();
    if station.nic().segmentation() == 0 {
        return;
    }
    let (payload, pieces) = payload(&mut station, 2);
    let headers = Headers::new::<B>(TxChecksum::Ipv4Tcp);
    for seed in 0..20 {
        queue(&mut station, &headers, &pieces, 1448);
        for (protocol, checksum) in [(TCP, TxChecksum::Ipv4Tcp), (UDP, TxChecksum::Ipv4Udp)] {
            let frame = frames::ipv4_for_offload(protocol, 100, seed);
            assert!(station.queue(&frame, &[], checksum, 0, None));
        }
        let small = [TCP, UDP].map(|protocol| frames::ipv4(protocol, 100, seed));
        let expected = headers.segments(&payload, 1448).into_iter().chain(small);
        assert!(station.flush().into_iter().eq(expected), "round {seed}");
        station.reclaim();
    }
}

/// Too much payload, none at all, segments longer than a frame, and what is not TCP; everything, if
/// the device cuts nothing.
pub fn what_cannot_be_cut_is_dropped_and_counted<B: Bed>() {
    let mut station = Station::<B>::usual();
    let most = station.nic().segmentation();
    let bus = station.bed.port().1.geometry().bus;
    let piece = |len| Fragment { bus, len };
    let headers = Headers::new::<B>(TxChecksum::Ipv4Tcp);
    queue(&mut station, &headers, &[piece(most + 1)], 1448);
    queue(&mut station, &headers, &[], 1448);
    queue(&mut station, &headers, &[piece(4000)], 1449);
    let not_tcp = Headers {
        checksum: TxChecksum::Ipv4Udp,
        ..headers
    };
    queue(&mut station, &not_tcp, &[piece(4000)], 1448);
    assert_eq!(station.flush(), Vec::<Vec<u8>>::new());
    assert_eq!(station.statistics().tx_drops, 4);
}

/// In a VLAN, of which every segment has the tag.
pub(crate) fn jumbo_segments_in_a_vlan<B: Bed>(vlan: (u16, u8), control: [u8; 2]) {
    let mut station = Station::<B>::new(&Setup {
        vlan: Some(vlan),
        ..Setup::jumbo()
    });
    if station.nic().segmentation() == 0 {
        return;
    }
    let (payload, pieces) = payload(&mut station, MAX_FRAGMENTS);
    for checksum in [TxChecksum::Ipv4Tcp, TxChecksum::Ipv6Tcp] {
        let headers = Headers::new::<B>(checksum);
        queue(&mut station, &headers, &pieces, 8928);
        let mut expected = headers.segments(&payload, 8928);
        for frame in &mut expected {
            let [high, low] = control;
            frame.splice(12..12, [0x81, 0, high, low]);
        }
        assert!(station.flush() == expected, "{checksum:?}");
        station.reclaim();
    }
}
