//! Large frames: what the device makes of one, byte by byte.

use super::machine;
use super::support::frames::{self, TCP};
use super::support::{Machine, Port, Sizes};
use ix_hal::{Fragment, MAX_FRAGMENTS, MbufId, Nic, Transmit, TxChecksum, TxFrame};
use ixgbe::{Config, LARGEST_PAYLOAD, VlanTag};

/// Bytes of a buffer that are filled.
const PIECE: usize = 2000;
const SEQ: u32 = 0xffff_f000;
const ACK: u8 = 0x10;
const ENDING: u8 = 0x09;
const CWR: u8 = 0x80;

/// Headers of one IP version, before the device has filled anything in.
struct Headers {
    bytes: Vec<u8>,
    tcp: usize,
    checksum: TxChecksum,
}

impl Headers {
    /// With every control bit that not all segments have, and 12 bytes of options.
    fn new(checksum: TxChecksum) -> Self {
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
        bytes[tcp + 13] = ACK | ENDING | CWR;
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
}

/// A payload in a few buffers, and the pieces that it has there.
fn payload(machine: &Machine, port: &mut Port, pieces: usize) -> (Vec<u8>, Vec<Fragment>) {
    let mut payload = Vec::new();
    let fragments = (0..pieces).map(|piece| {
        let mbuf: MbufId = port.pool.take().expect("a buffer");
        let bytes: Vec<u8> = (0..PIECE).map(|at| (at * 7 + piece * 31) as u8).collect();
        payload.extend(&bytes);
        Fragment {
            bus: machine.fill(port, mbuf, &bytes),
            len: PIECE as u32,
        }
    });
    let fragments = fragments.collect();
    (payload, fragments)
}

fn send(port: &mut Port, headers: &Headers, fragments: &[Fragment], segment_size: u16) {
    let room = port.pair.header().expect("room for a frame");
    room[..headers.bytes.len()].copy_from_slice(&headers.bytes);
    port.pair.send(&TxFrame {
        header_len: headers.bytes.len() as u16,
        fragments,
        checksum: headers.checksum,
        segment_size,
        release: None,
    });
    port.pair.flush();
}

#[test]
fn a_large_frame_becomes_segments() {
    let (mut machine, mut port) = machine();
    let (payload, fragments) = payload(&machine, &mut port, MAX_FRAGMENTS);
    for checksum in [TxChecksum::Ipv4Tcp, TxChecksum::Ipv6Tcp] {
        let headers = Headers::new(checksum);
        for size in [1428, 536, 1000] {
            send(&mut port, &headers, &fragments, size);
            machine.run();
            let size = usize::from(size);
            let count = payload.len().div_ceil(size);
            let expected: Vec<_> = (0..count)
                .map(|number| headers.segment(&payload, size, number))
                .collect();
            let arrived = machine.arrived();
            assert!(arrived == expected, "{checksum:?}, {size} bytes a segment");
            port.pair.reclaim(&mut port.pool);
        }
    }
    assert_eq!(port.pair.statistics().tx_drops, 0);
}

#[test]
fn small_frames_between_large_ones_keep_their_context() {
    let (mut machine, mut port) = machine();
    let (payload, fragments) = payload(&machine, &mut port, 2);
    let headers = Headers::new(TxChecksum::Ipv4Tcp);
    for seed in 0..20 {
        send(&mut port, &headers, &fragments, 1448);
        for protocol in [TCP, frames::UDP] {
            let frame = frames::ipv4_for_offload(protocol, 100, seed);
            let room = port.pair.header().expect("room for a frame");
            room[..100].copy_from_slice(&frame);
            port.pair.send(&TxFrame {
                header_len: 100,
                fragments: &[],
                checksum: match protocol {
                    TCP => TxChecksum::Ipv4Tcp,
                    _ => TxChecksum::Ipv4Udp,
                },
                segment_size: 0,
                release: None,
            });
        }
        port.pair.flush();
        machine.run();
        let arrived = machine.arrived();
        let segments = (0..3).map(|number| headers.segment(&payload, 1448, number));
        let small = [TCP, frames::UDP].map(|protocol| frames::ipv4(protocol, 100, seed));
        assert!(
            arrived.into_iter().eq(segments.chain(small)),
            "round {seed}"
        );
        port.pair.reclaim(&mut port.pool);
    }
}

#[test]
fn jumbo_segments_in_a_vlan_have_its_tag() {
    let mut config = Config::new(1);
    config.vlan = VlanTag::new(100, 5);
    config.mtu = 9000;
    let sizes = Sizes {
        buffers: 512,
        buffer_shift: 14,
        ..Sizes::default()
    };
    let (mut machine, _, mut port) = Machine::with_port(config, sizes);
    let (payload, fragments) = payload(&machine, &mut port, MAX_FRAGMENTS);
    for checksum in [TxChecksum::Ipv4Tcp, TxChecksum::Ipv6Tcp] {
        let headers = Headers::new(checksum);
        send(&mut port, &headers, &fragments, 8928);
        machine.run();
        let expected = [0, 1].map(|number| {
            let mut frame = headers.segment(&payload, 8928, number);
            frame.splice(12..12, [0x81, 0, 0xa0, 100]);
            frame
        });
        assert!(machine.arrived() == expected, "{checksum:?}");
        port.pair.reclaim(&mut port.pool);
    }
}

#[test]
fn what_the_device_cannot_cut_is_dropped_and_counted() {
    let (mut machine, mut port) = machine();
    let headers = Headers::new(TxChecksum::Ipv4Tcp);
    assert_eq!(port.pair.segmentation(), LARGEST_PAYLOAD);
    let (bus, len) = (port.pool.geometry().bus, LARGEST_PAYLOAD);
    let piece = |len| Fragment { bus, len };
    // Too much payload, none at all, and segments longer than a frame.
    send(&mut port, &headers, &[piece(len), piece(1)], 1448);
    send(&mut port, &headers, &[], 1448);
    send(&mut port, &headers, &[piece(4000)], 1449);
    let not_tcp = Headers {
        checksum: TxChecksum::Ipv4Udp,
        ..headers
    };
    send(&mut port, &not_tcp, &[piece(4000)], 1448);
    machine.run();
    assert_eq!(machine.arrived(), Vec::<Vec<u8>>::new());
    assert_eq!(port.pair.statistics().tx_drops, 4);
}
