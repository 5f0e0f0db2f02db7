//! ICMP for IPv4 (RFC 792): echo, and errors to those whose packets cannot be delivered. Errors that
//! come in are in `icmp_error`.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::packet::Packet;
use crate::wire::{ETHERNET, IPV4, PROTOCOL_ICMP, be16, emit_ip, fold, put16, put32, sum};
use ix_hal::{Fragment, HEADER_ROOM, MbufId, Release, Transmit, TxChecksum, TxFrame};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet};

/// Bytes of an ICMP header.
const ICMP: usize = 8;
/// Where an ICMP message that we send begins.
const MESSAGE: usize = ETHERNET + IPV4;
/// Type of a destination unreachable message.
const DESTINATION_UNREACHABLE: u8 = 3;
/// Bytes of the offending packet's payload that an error quotes (RFC 792).
const QUOTED: usize = 8;

/// Header with all options, quoted from the header room without any other memory.
const _: () = assert!(MESSAGE + ICMP + 60 + QUOTED <= HEADER_ROOM);

/// What is not there: the code of a destination unreachable message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    Protocol = 2,
    Port = 3,
}

impl Engine {
    /// Answers an echo request by sending its own bytes back, and believes errors as far as they
    /// deserve it. Returns whether the mbuf was kept.
    pub(crate) fn icmp_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        self.counters.icmp_in_messages += 1;
        let message = &bytes[packet.payload..packet.end];
        let Ok(icmp) = Icmpv4Packet::new_checked(message) else {
            self.counters.icmp_in_errors += 1;
            return false;
        };
        if message.len() < ICMP || fold(sum(message)) != 0xffff {
            self.counters.icmp_in_errors += 1;
            return false;
        }
        if self.icmp_error_arrives(cx, message) {
            return false;
        }
        // What came in fragments may not fit into one packet.
        let is_echo = icmp.msg_type() == Icmpv4Message::EchoRequest
            && message.len() + IPV4 <= usize::from(self.local.mtu);
        if !is_echo || !self.is_host(packet.source) {
            self.counters.icmp_ignored += 1;
            return false;
        }
        self.send_echo_reply(cx, mbuf, bytes, packet)
    }

    fn send_echo_reply<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        let message = &bytes[packet.payload..packet.end];
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return false;
        };
        emit_reply(room, bytes, packet, message.len());
        room[MESSAGE..MESSAGE + ICMP].copy_from_slice(&message[..ICMP]);
        // Type 8 becomes 0, and the checksum follows (RFC 1624).
        room[MESSAGE] = 0;
        let checksum = !be16(message, 2);
        put16(
            room,
            MESSAGE + 2,
            !fold(u64::from(checksum) + u64::from(!0x0800u16)),
        );
        let payload = Fragment {
            bus: cx.pool.geometry().bus_of(mbuf) + (packet.payload + ICMP) as u64,
            len: (message.len() - ICMP) as u32,
        };
        let has_payload = payload.len != 0;
        cx.tx.send(&TxFrame {
            header_len: (MESSAGE + ICMP) as u16,
            fragments: if has_payload {
                core::slice::from_ref(&payload)
            } else {
                &[]
            },
            checksum: TxChecksum::Ipv4,
            segment_size: 0,
            release: has_payload.then_some(Release::Mbuf(mbuf)),
        });
        self.counters.icmp_echo_replies += 1;
        has_payload
    }

    /// Tells the sender of a packet to us that there is nobody to take it (RFC 1122 3.2.2.1), with
    /// its header and the first bytes after it. The caller has made sure that the packet came to
    /// this station alone and is not a later fragment.
    pub(crate) fn send_unreachable<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        what: Unreachable,
        bytes: &[u8],
        packet: &Packet,
    ) {
        if !self.is_host(packet.source) {
            return;
        }
        if !self.icmp_limit.allows(cx.now) {
            self.counters.icmp_limited += 1;
            return;
        }
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return;
        };
        let quote = &bytes[ETHERNET..packet.end.min(packet.payload + QUOTED)];
        let len = ICMP + quote.len();
        emit_reply(room, bytes, packet, len);
        let message = &mut room[MESSAGE..MESSAGE + len];
        put32(
            message,
            0,
            u32::from_be_bytes([DESTINATION_UNREACHABLE, what as u8, 0, 0]),
        );
        put32(message, 4, 0);
        message[ICMP..].copy_from_slice(quote);
        let checksum = !fold(sum(message));
        put16(message, 2, checksum);
        cx.tx.send(&TxFrame {
            header_len: (MESSAGE + len) as u16,
            fragments: &[],
            checksum: TxChecksum::Ipv4,
            segment_size: 0,
            release: None,
        });
        self.counters.icmp_out_unreachables += 1;
    }
}

/// Writes Ethernet and IPv4 headers of an ICMP message that goes back to the sender of a packet.
fn emit_reply(room: &mut [u8], frame: &[u8], packet: &Packet, len: usize) {
    room[0..6].copy_from_slice(&frame[6..12]);
    room[6..12].copy_from_slice(&frame[0..6]);
    let (source, destination) = (packet.destination, packet.source);
    emit_ip(room, source, destination, PROTOCOL_ICMP, len as u16);
}
