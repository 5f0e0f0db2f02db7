//! Frames as bytes: where the fields are, how a TCP segment is read from a frame, checksums.
//!
//! The packet path reads IPv4 and TCP headers here, by hand and with few checks; the rare
//! protocols (ARP, ICMP) go through `smoltcp::wire`. IPv6 headers are in `ipv6`.

use crate::address::IpAddress;
use crate::flow::FlowKey;
use crate::ipv6::header::IPV6;
use crate::packet::{Packet, pseudo_sum};
use crate::seq::Seq;
use ix_hal::TxChecksum;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
pub(crate) const IPV4: usize = 20;
/// Bytes of a TCP header without options.
pub(crate) const TCP: usize = 20;
/// Bytes of a UDP header.
pub(crate) const UDP: usize = 8;
/// EtherType of IPv4.
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IP protocol number of ICMP.
pub(crate) const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub(crate) const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of UDP.
pub(crate) const PROTOCOL_UDP: u8 = 17;
/// IP protocol number of ICMP for IPv6.
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;
/// First word of the timestamps option as everybody sends it: two NOPs, kind 8, length 10
/// (RFC 7323 appendix A).
pub(crate) const TIMESTAMPS_PADDED: u32 = 0x0101_080a;

/// Control bits of a TCP header.
pub(crate) mod control {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// The big-endian 16-bit word at a position.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The big-endian 32-bit word at a position.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The big-endian 64-bit word at a position.
#[inline]
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

/// The little-endian 16-bit word at a position: what to compare without turning it round.
#[inline(always)]
pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    let mut word = [0; 2];
    word.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(word)
}

/// The little-endian 32-bit word at a position.
#[inline(always)]
pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

/// Stores a big-endian 16-bit word.
#[inline]
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Stores a big-endian 32-bit word.
#[inline]
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// An IPv4 packet in a frame, its header checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv4Packet {
    /// Where the payload starts in the frame.
    pub payload: usize,
    /// Where it ends.
    pub end: usize,
    /// Protocol number.
    pub protocol: u8,
    /// Sender.
    pub source: u32,
    /// Receiver.
    pub destination: u32,
    /// Whether this is a fragment of a packet.
    pub is_fragment: bool,
}

/// What the header of a fragment says beyond [`Ipv4Packet`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv4Fragment {
    /// Identification.
    pub identification: u16,
    /// Where in the datagram's payload it belongs, in bytes.
    pub at: u32,
    /// Whether no fragment follows it.
    pub is_last: bool,
}

impl Ipv4Fragment {
    /// Reads the header of a frame that [`Ipv4Packet::parse`] has found good.
    pub fn parse(frame: &[u8]) -> Self {
        let word = be16(frame, ETHERNET + 6);
        Self {
            identification: be16(frame, ETHERNET + 4),
            at: u32::from(word & 0x1fff) * 8,
            is_last: word & 0x2000 == 0,
        }
    }
}

impl Ipv4Packet {
    /// Reads the header (RFC 791); `None` if it is malformed. Options are stepped over.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let header = frame.get(ETHERNET..)?.first_chunk::<IPV4>()?;
        let header_len = usize::from(header[0] & 15) * 4;
        let total_len = usize::from(be16(header, 2));
        if header[0] >> 4 != 4
            || header_len < IPV4
            || total_len < header_len
            || ETHERNET + total_len > frame.len()
        {
            return None;
        }
        Some(Self {
            payload: ETHERNET + header_len,
            end: ETHERNET + total_len,
            protocol: header[9],
            source: be32(header, 12),
            destination: be32(header, 16),
            is_fragment: be16(header, 6) & 0x3fff != 0,
        })
    }
}

/// A TCP segment in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// The whole frame.
    pub frame: &'a [u8],
    /// Flow that it belongs to.
    pub key: FlowKey,
    /// SEG.SEQ
    pub seq: Seq,
    /// SEG.ACK
    pub ack: Seq,
    /// Control bits, see [`control`].
    pub control: u8,
    /// SEG.WND as it stands, unscaled.
    pub window: u16,
    /// The options.
    pub options: &'a [u8],
    /// Where in the frame the payload starts.
    pub payload: u16,
    /// Bytes of payload.
    pub len: u16,
}

impl<'a> Segment<'a> {
    /// Reads the TCP header of a packet; `None` if it is malformed.
    #[inline]
    pub fn parse(frame: &'a [u8], packet: &Packet) -> Option<Self> {
        let bytes = &frame.get(packet.payload..packet.end)?;
        let header = bytes.first_chunk::<TCP>()?;
        let header_len = usize::from(header[12] >> 4) * 4;
        let options = bytes.get(TCP..header_len)?;
        Some(Self {
            frame,
            key: FlowKey::from_wire(packet.source, packet.own, le32(header, 0)),
            seq: Seq(be32(header, 4)),
            ack: Seq(be32(header, 8)),
            control: header[13],
            window: be16(header, 14),
            options,
            payload: (packet.payload + header_len) as u16,
            len: (bytes.len() - header_len) as u16,
        })
    }

    /// Whether all of these control bits are set.
    #[inline]
    pub fn has(&self, control: u8) -> bool {
        self.control & control == control
    }

    /// Which of our addresses it was sent to.
    pub fn destination(&self) -> IpAddress {
        match be16(self.frame, 12) {
            ETHERTYPE_IPV6 => IpAddress::from_words(be64(self.frame, 38), be64(self.frame, 46)),
            _ => IpAddress::from_ipv4(be32(self.frame, 30)),
        }
    }

    /// Whether the network has marked it as having met congestion (RFC 3168 5), over IPv4 or IPv6.
    pub fn is_marked(&self) -> bool {
        let word = be16(self.frame, ETHERNET);
        let codepoint = if word >> 12 == 6 { word >> 4 } else { word };
        codepoint & 3 == 3
    }

    /// SEG.LEN: payload, SYN and FIN.
    #[inline]
    pub fn sequence_len(&self) -> u32 {
        u32::from(self.len) + u32::from(self.has(control::SYN)) + u32::from(self.has(control::FIN))
    }
}

/// Ones' complement sum of some bytes, not folded (RFC 1071). Position-independent only at even
/// offsets.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0u64;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let mut tail = [0; 4];
    tail[..rest.len()].copy_from_slice(rest);
    total + u64::from(u32::from_be_bytes(tail))
}

/// Folds a sum to 16 bits.
#[inline]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

/// Writes EtherType and IPv4 header of a packet with `payload_len` bytes after its header. The
/// checksum is left to the NIC.
#[inline]
pub(crate) fn emit_ipv4(
    room: &mut [u8],
    source: u32,
    destination: u32,
    protocol: u8,
    payload_len: u16,
) {
    put16(room, 12, ETHERTYPE_IPV4);
    // Version 4, five words; no traffic class.
    put16(room, 14, 0x4500);
    put16(room, 16, IPV4 as u16 + payload_len);
    // Identification 0 is fine with DF (RFC 6864 4.1).
    put32(room, 18, 0x4000);
    // TTL 64.
    put16(room, 22, 0x4000 | u16::from(protocol));
    put16(room, 24, 0);
    put32(room, 26, source);
    put32(room, 30, destination);
}

/// Whether the header checksum of an IPv4 packet is right.
pub(crate) fn ipv4_checksum_is_good(frame: &[u8], packet: &Ipv4Packet) -> bool {
    fold(sum(&frame[ETHERNET..packet.payload])) == 0xffff
}

/// Writes EtherType and header of an IPv6 packet with `payload_len` bytes after its header.
#[inline]
pub(crate) fn emit_ipv6(
    room: &mut [u8],
    source: IpAddress,
    destination: IpAddress,
    next_header: u8,
    payload_len: u16,
) {
    put16(room, 12, ETHERTYPE_IPV6);
    // Version 6; no traffic class, no flow label.
    put32(room, 14, 0x6000_0000);
    put16(room, 18, payload_len);
    // Hop limit 64.
    put16(room, 20, u16::from(next_header) << 8 | 64);
    put_address(room, 22, source);
    put_address(room, 38, destination);
}

/// Stores an IPv6 address.
#[inline]
pub(crate) fn put_address(room: &mut [u8], at: usize, address: IpAddress) {
    room[at..at + 8].copy_from_slice(&address.high.to_be_bytes());
    room[at + 8..at + 16].copy_from_slice(&address.low.to_be_bytes());
}

/// Writes EtherType and IP header of a packet with `payload_len` bytes after its header; returns
/// where in the frame the header ends.
#[inline]
pub(crate) fn emit_ip(
    room: &mut [u8],
    source: IpAddress,
    destination: IpAddress,
    protocol: u8,
    payload_len: u16,
) -> usize {
    match (source.ipv4(), destination.ipv4()) {
        (Some(source), Some(destination)) => {
            emit_ipv4(room, source, destination, protocol, payload_len);
            ETHERNET + IPV4
        }
        _ => {
            emit_ipv6(room, source, destination, protocol, payload_len);
            ETHERNET + IPV6
        }
    }
}

/// What an Ethernet, IP and TCP header without options has in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpHeader {
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: IpAddress,
    pub destination: IpAddress,
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: Seq,
    pub ack: Seq,
    pub control: u8,
    pub window: u16,
}

/// Bytes of Ethernet, IPv4 and TCP header without options.
pub(crate) const TCP_HEADERS: usize = ETHERNET + IPV4 + TCP;

impl TcpHeader {
    /// Writes the headers for a segment with `options_len` bytes of options (a multiple of 4, which
    /// the caller writes behind the headers) and `payload_len` bytes of payload; returns where they
    /// end. Checksums are as [`TcpHeader::checksum`] wants them.
    pub fn emit(&self, room: &mut [u8], options_len: usize, payload_len: usize) -> usize {
        room[0..6].copy_from_slice(&self.destination_mac);
        room[6..12].copy_from_slice(&self.source_mac);
        let tcp_len = (TCP + options_len + payload_len) as u16;
        let at = emit_ip(room, self.source, self.destination, PROTOCOL_TCP, tcp_len);
        let header = &mut room[at..at + TCP];
        put16(header, 0, self.source_port);
        put16(header, 2, self.destination_port);
        put32(header, 4, self.seq.0);
        put32(header, 8, self.ack.0);
        header[12] = ((TCP + options_len) as u8 / 4) << 4;
        header[13] = self.control;
        put16(header, 14, self.window);
        let pseudo = pseudo_sum(PROTOCOL_TCP, self.source, self.destination);
        put16(header, 16, fold(u64::from(pseudo) + u64::from(tcp_len)));
        put16(header, 18, 0);
        at + TCP
    }

    /// Which checksums are left to the NIC.
    pub fn checksum(&self) -> TxChecksum {
        match self.destination.ipv4() {
            Some(_) => TxChecksum::Ipv4Tcp,
            None => TxChecksum::Ipv6Tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire;

    fn header() -> TcpHeader {
        TcpHeader {
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 0, 2],
            source: IpAddress::from_ipv4(0x0a00_0001),
            destination: IpAddress::from_ipv4(0x0a00_0002),
            source_port: 40_000,
            destination_port: 80,
            seq: Seq(0x0102_0304),
            ack: Seq(0x0506_0708),
            control: control::ACK | control::PSH,
            window: 0x1234,
        }
    }

    /// A frame as the NIC would send it, with both checksums filled in by another implementation.
    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = alloc::vec![0; TCP_HEADERS];
        header().emit(&mut frame, 0, payload.len());
        frame.extend_from_slice(payload);
        let mut ip = wire::Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
        ip.fill_checksum();
        let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
        wire::TcpPacket::new_unchecked(&mut frame[34..]).fill_checksum(&source, &destination);
        frame
    }

    #[test]
    fn emitted_headers_are_read_alike_by_another_implementation() {
        let frame = frame(b"hello");
        let ip = wire::Ipv4Packet::new_checked(&frame[ETHERNET..]).unwrap();
        let tcp = wire::TcpPacket::new_checked(ip.payload()).unwrap();
        let capabilities = ChecksumCapabilities::default();
        let repr = wire::TcpRepr::parse(
            &tcp,
            &ip.src_addr().into(),
            &ip.dst_addr().into(),
            &capabilities,
        )
        .unwrap();
        assert_eq!((repr.src_port, repr.dst_port), (40_000, 80));
        assert_eq!(repr.seq_number.0 as u32, 0x0102_0304);
        assert_eq!(repr.ack_number.unwrap().0 as u32, 0x0506_0708);
        assert_eq!(repr.window_len, 0x1234);
        assert_eq!(repr.payload, b"hello");
    }

    #[test]
    fn parse_gives_back_what_was_emitted() {
        let frame = frame(b"hello");
        let packet = Ipv4Packet::parse(&frame).unwrap();
        assert!(ipv4_checksum_is_good(&frame, &packet));
        let packet = Packet::of_ipv4(&packet);
        assert!(packet.tcp_checksum_is_good(&frame));
        let segment = Segment::parse(&frame, &packet).unwrap();
        assert_eq!(segment.key.remote.ipv4(), Some(0x0a00_0001));
        assert_eq!(
            (segment.key.remote_port(), segment.key.local_port()),
            (40_000, 80)
        );
        assert_eq!(
            (segment.seq, segment.ack),
            (Seq(0x0102_0304), Seq(0x0506_0708))
        );
        assert_eq!(
            (segment.payload, segment.len, segment.window),
            (54, 5, 0x1234)
        );
    }

    #[test]
    fn any_flipped_bit_is_caught_by_a_checksum_or_the_parser() {
        let good = frame(b"odd");
        for bit in (ETHERNET * 8)..(good.len() * 8) {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let caught = match Ipv4Packet::parse(&bad) {
                None => true,
                Some(packet) => {
                    !ipv4_checksum_is_good(&bad, &packet)
                        || !Packet::of_ipv4(&packet).tcp_checksum_is_good(&bad)
                }
            };
            assert!(caught, "bit {bit}");
        }
    }

    #[test]
    fn truncated_frames_are_refused() {
        let good = frame(b"");
        for len in 0..good.len() {
            assert!(
                Ipv4Packet::parse(&good[..len])
                    .and_then(|packet| Segment::parse(&good[..len], &Packet::of_ipv4(&packet)))
                    .is_none()
            );
        }
    }
}
