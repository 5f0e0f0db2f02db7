//! IPv6 frames for the fuzz targets: headers and checksums that are right, around bytes that are not.

use crate::address::IpAddress;
use crate::packet::pseudo_sum;
use crate::wire::{self, PROTOCOL_ICMPV6, PROTOCOL_TCP, fold, put16, sum};
use alloc::vec;
use alloc::vec::Vec;

/// MAC address of the engine, and of all its peers.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// The engine.
pub const ENGINE6: IpAddress = IpAddress::from_words(0xfd00 << 48, 2);
/// The peer.
pub const PEER6: IpAddress = IpAddress::from_words(0xfd00 << 48, 9);
/// A router.
const ROUTER: IpAddress = IpAddress::from_words(0xfe80 << 48, 9);
const HEADERS: usize = 54;

/// A packet with these bytes behind the header. `choice` says from whom to whom, and what follows the
/// header; a checksum of ICMP in it is right.
pub fn packet(choice: u8, bytes: &[u8]) -> Vec<u8> {
    let nobody = IpAddress::UNSPECIFIED;
    let source = [PEER6, ROUTER, nobody, ENGINE6][usize::from(choice & 3)];
    let group = ENGINE6.solicited_node();
    let destination = [ENGINE6, ENGINE6, IpAddress::ALL_NODES, group][usize::from(choice >> 2 & 3)];
    let next_headers = [PROTOCOL_ICMPV6, 44, 0, 60, 43, 17, PROTOCOL_TCP, choice];
    let next_header = next_headers[usize::from(choice >> 5)];
    let mut payload = bytes.to_vec();
    if next_header == PROTOCOL_ICMPV6 && payload.len() >= 4 {
        put16(&mut payload, 2, 0);
        let pseudo = pseudo_sum(PROTOCOL_ICMPV6, source, destination);
        let total = sum(&payload) + u64::from(pseudo) + payload.len() as u64;
        put16(&mut payload, 2, !fold(total));
    }
    let hop_limit = if choice & 16 == 0 { 255 } else { 64 };
    frame(source, destination, (next_header, hop_limit), &payload)
}

/// A question of the peer for the engine's MAC address, so that the engine knows its.
pub fn introduction() -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ENGINE6.bits().to_be_bytes());
    message.extend([1, 1]);
    message.extend(PEER_MAC);
    packet(0, &message)
}

fn frame(
    source: IpAddress,
    destination: IpAddress,
    (next_header, hop_limit): (u8, u8),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![0; HEADERS];
    frame[..6].copy_from_slice(&match destination.is_multicast() {
        true => destination.multicast_mac(),
        false => MAC,
    });
    frame[6..12].copy_from_slice(&PEER_MAC);
    let len = payload.len() as u16;
    wire::emit_ipv6(&mut frame, source, destination, next_header, len);
    frame[21] = hop_limit;
    frame.extend_from_slice(payload);
    frame
}
