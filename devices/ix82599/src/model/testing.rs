//! Frames for the tests of this module and its neighbours.

use super::checksum;

/// An IPv4 frame with a TCP (6) or UDP (17) header and `payload` bytes, all checksums right.
pub(super) fn ipv4_frame(protocol: u8, payload: usize) -> Vec<u8> {
    let transport = transport(protocol, payload);
    let mut frame = vec![
        0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
    ];
    let total = (20 + transport.len()) as u16;
    let [high, low] = total.to_be_bytes();
    frame.extend([0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([10, 9, 0, 1, 10, 9, 0, 2]);
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    finish(frame, transport, protocol, 26..34)
}

/// The same over IPv6.
pub(super) fn ipv6_frame(protocol: u8, payload: usize) -> Vec<u8> {
    let transport = transport(protocol, payload);
    let mut frame = vec![
        0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x86, 0xdd,
    ];
    let [high, low] = (transport.len() as u16).to_be_bytes();
    frame.extend([0x60, 0, 0, 0, high, low, protocol, 64]);
    frame.extend((0..32).map(|n| 0x20 + n));
    finish(frame, transport, protocol, 22..54)
}

fn transport(protocol: u8, payload: usize) -> Vec<u8> {
    let mut bytes = vec![0x30, 0x39, 0x00, 0x50];
    if protocol == 6 {
        bytes.extend([0, 0, 0x10, 0, 0, 0, 0x20, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    } else {
        bytes.extend(((8 + payload) as u16).to_be_bytes());
        bytes.extend([0, 0]);
    }
    bytes.extend((0..payload).map(|n| n as u8));
    bytes
}

/// Appends the transport part and completes its checksum.
fn finish(
    mut frame: Vec<u8>,
    mut transport: Vec<u8>,
    protocol: u8,
    addresses: std::ops::Range<usize>,
) -> Vec<u8> {
    let at = if protocol == 6 { 16 } else { 6 };
    let pseudo = checksum::add(
        checksum::sum(&frame[addresses]),
        u16::from(protocol) + transport.len() as u16,
    );
    let sum = !checksum::add(pseudo, checksum::sum(&transport));
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame.extend(transport);
    frame
}
