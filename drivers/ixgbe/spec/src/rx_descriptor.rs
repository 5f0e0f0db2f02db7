//! Advanced receive descriptors (7.1.6): what software writes ([`RxRead`]) and what the device
//! writes over it ([`RxWriteBack`]). Both are two 64-bit little-endian words.

use bitflags::bitflags;

/// Read format (7.1.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxRead {
    /// Bus address of the packet buffer, even.
    pub packet: u64,
    /// Bus address of the header buffer; 0 without header split. Bit 0 is DD and stays clear.
    pub header: u64,
}

impl RxRead {
    /// The words to write for a descriptor with one buffer.
    #[inline]
    pub const fn one_buffer(packet: u64) -> [u64; 2] {
        [packet, 0]
    }

    /// Reads the two words. The lowest bit of each address is not part of it.
    #[inline]
    pub const fn decode(words: [u64; 2]) -> Self {
        Self {
            packet: words[0] & !1,
            header: words[1] & !1,
        }
    }
}

bitflags! {
    /// Extended status of a write-back (7.1.6.2, bits 0 to 19 of the second word).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RxStatus: u32 {
        /// Descriptor done: the device is finished with it.
        const DD = 1 << 0;
        /// End of packet: the last descriptor of its frame; only here are the other fields valid.
        const EOP = 1 << 1;
        /// Flow director match.
        const FLM = 1 << 2;
        /// VLAN tag was stripped and is in the VLAN field.
        const VP = 1 << 3;
        /// UDP checksum was computed over a fragment.
        const UDPCS = 1 << 4;
        /// TCP, UDP or SCTP checksum was checked; see [`RxError::TCPE`].
        const L4I = 1 << 5;
        /// IPv4 header checksum was checked; see [`RxError::IPE`].
        const IPCS = 1 << 6;
        /// Destination address passed an inexact filter only.
        const PIF = 1 << 7;
        /// Frame has an outer VLAN tag.
        const VEXT = 1 << 9;
        /// UDP checksum field was not zero.
        const UDPV = 1 << 10;
        /// Frame caused a low latency interrupt.
        const LLINT = 1 << 11;
        /// Frame was time stamped.
        const TS = 1 << 16;
        /// Frame passed the security engine.
        const SECP = 1 << 17;
        /// Frame came from another virtual machine of this port.
        const LB = 1 << 18;
    }
}

bitflags! {
    /// Extended errors of a write-back (7.1.6.2, bits 20 to 31 of the second word).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RxError: u32 {
        /// Header buffer overflow.
        const HBO = 1 << 3;
        /// Security error, low bit.
        const SECERR_LOW = 1 << 7;
        /// Security error, high bit.
        const SECERR_HIGH = 1 << 8;
        /// Receive error of any kind found by the MAC: FCS, symbol, length.
        const RXE = 1 << 9;
        /// TCP, UDP or SCTP checksum is wrong.
        const TCPE = 1 << 10;
        /// IPv4 header checksum is wrong.
        const IPE = 1 << 11;
        const _ = 0xfff;
    }
}

bitflags! {
    /// Packet type of a write-back (7.1.6.2), with [`PacketType::L2`] clear.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PacketType: u32 {
        /// IPv4 header.
        const IPV4 = 1 << 0;
        /// IPv4 header with options.
        const IPV4E = 1 << 1;
        /// IPv6 header.
        const IPV6 = 1 << 2;
        /// IPv6 header with extensions.
        const IPV6E = 1 << 3;
        /// TCP header.
        const TCP = 1 << 4;
        /// UDP header.
        const UDP = 1 << 5;
        /// SCTP header.
        const SCTP = 1 << 6;
        /// NFS header.
        const NFS = 1 << 7;
        /// IPsec ESP.
        const ESP = 1 << 8;
        /// IPsec AH.
        const AH = 1 << 9;
        /// MACsec.
        const LINKSEC = 1 << 10;
        /// No protocol above layer 2 was found; the low bits are the number of the matching ETQF.
        const L2 = 1 << 11;
        const _ = 0x1fff;
    }
}

/// RSS type of a write-back: what the hash was computed over (7.1.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RssType {
    /// No hash.
    None = 0,
    /// IPv4 addresses and TCP ports.
    TcpIpv4 = 1,
    /// IPv4 addresses.
    Ipv4 = 2,
    /// IPv6 addresses and TCP ports.
    TcpIpv6 = 3,
    /// IPv6 addresses.
    Ipv6 = 5,
    /// IPv4 addresses and UDP ports.
    UdpIpv4 = 7,
    /// IPv6 addresses and UDP ports.
    UdpIpv6 = 8,
    /// No hash, but the identity of the flow director's filter that matched.
    FlowDirector = 15,
}

impl RssType {
    /// The type of that number, if there is one.
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            0 => Self::None,
            1 => Self::TcpIpv4,
            2 => Self::Ipv4,
            3 => Self::TcpIpv6,
            5 => Self::Ipv6,
            7 => Self::UdpIpv4,
            8 => Self::UdpIpv6,
            15 => Self::FlowDirector,
            _ => return None,
        })
    }
}

/// Write-back format (7.1.6.2), as the two words in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxWriteBack(pub [u64; 2]);

impl RxWriteBack {
    /// What the device writes to the last descriptor of a frame.
    pub const fn new(
        rss_type: RssType,
        rss_hash: u32,
        packet_type: PacketType,
        length: u16,
        status: RxStatus,
        error: RxError,
    ) -> Self {
        Self([
            rss_type as u64 | (packet_type.bits() as u64 & 0x1fff) << 4 | (rss_hash as u64) << 32,
            status.bits() as u64 | (error.bits() as u64) << 20 | (length as u64) << 32,
        ])
    }

    /// The same with a stripped VLAN tag.
    pub const fn with_vlan(self, tag: u16) -> Self {
        let [first, second] = self.0;
        Self([
            first,
            second & 0x0000_ffff_ffff_ffff | (tag as u64) << 48 | RxStatus::VP.bits() as u64,
        ])
    }

    /// The same with what is said of the header buffer: HDR_LEN and SPH, which tells that the frame was
    /// split behind its headers.
    pub const fn with_header(self, length: u16, split: bool) -> Self {
        let [first, second] = self.0;
        let first = first & !0xffe0_0000;
        Self([
            first | (length as u64 & 0x3ff) << 21 | (split as u64) << 31,
            second,
        ])
    }

    /// HDR_LEN: bytes of the headers, or of what the header buffer holds.
    pub const fn header_length(self) -> u16 {
        (self.0[0] >> 21) as u16 & 0x3ff
    }

    /// SPH: the frame was split behind its headers.
    pub const fn is_split(self) -> bool {
        self.0[0] & 1 << 31 != 0
    }

    /// DD of a second word, before the first is read.
    #[inline]
    pub const fn is_done(second_word: u64) -> bool {
        second_word & RxStatus::DD.bits() as u64 != 0
    }

    /// RSS type, `None` for one that is reserved.
    #[inline]
    pub const fn rss_type(self) -> Option<RssType> {
        RssType::from_raw(self.0[0] & 0xf)
    }

    /// RSS hash; meaningful if the type is that of one, neither reserved nor [`RssType::None`] nor
    /// [`RssType::FlowDirector`].
    #[inline]
    pub const fn rss_hash(self) -> u32 {
        (self.0[0] >> 32) as u32
    }

    /// Packet type.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        PacketType::from_bits_retain((self.0[0] >> 4) as u32 & 0x1fff)
    }

    /// Extended status.
    #[inline]
    pub const fn status(self) -> RxStatus {
        RxStatus::from_bits_retain(self.0[1] as u32 & 0xf_ffff)
    }

    /// Extended errors.
    #[inline]
    pub const fn error(self) -> RxError {
        RxError::from_bits_retain((self.0[1] >> 20) as u32 & 0xfff)
    }

    /// PKT_LEN: bytes that this descriptor's buffer holds.
    #[inline]
    pub const fn length(self) -> u16 {
        (self.0[1] >> 32) as u16
    }

    /// VLAN tag; meaningful with [`RxStatus::VP`].
    #[inline]
    pub const fn vlan(self) -> u16 {
        (self.0[1] >> 48) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_back_fields_lie_where_the_datasheet_draws_them() {
        let write_back = RxWriteBack::new(
            RssType::TcpIpv4,
            0xdead_beef,
            PacketType::IPV4 | PacketType::TCP,
            0x05ea,
            RxStatus::DD | RxStatus::EOP | RxStatus::L4I | RxStatus::IPCS,
            RxError::IPE,
        );
        assert_eq!(write_back.0, [0xdead_beef_0000_0111, 0x0000_05ea_8000_0063]);
        assert_eq!(
            write_back.with_vlan(0x2064).0[1],
            0x2064_05ea_8000_006b,
            "VLAN tag in bits 48 to 63, VP in bit 3"
        );
    }

    #[test]
    fn write_back_reads_back_what_was_put_in() {
        let status = RxStatus::DD | RxStatus::EOP | RxStatus::LB;
        let write_back = RxWriteBack::new(
            RssType::UdpIpv6,
            7,
            PacketType::IPV6 | PacketType::UDP,
            60,
            status,
            RxError::TCPE,
        );
        assert_eq!(write_back.rss_type(), Some(RssType::UdpIpv6));
        assert_eq!(write_back.rss_hash(), 7);
        assert_eq!(write_back.packet_type(), PacketType::IPV6 | PacketType::UDP);
        assert_eq!(write_back.length(), 60);
        assert_eq!(write_back.status(), status);
        assert_eq!(write_back.error(), RxError::TCPE);
        assert!(RxWriteBack::is_done(write_back.0[1]));
        let split = write_back.with_header(66, true);
        assert_eq!((split.header_length(), split.is_split()), (66, true));
        assert_eq!(split.0[0] ^ write_back.0[0], 1 << 31 | 66 << 21);
        assert_eq!(split.packet_type(), write_back.packet_type());
        assert_eq!(RxWriteBack([4, 0]).rss_type(), None);
    }

    #[test]
    fn read_format_keeps_the_flag_bits_out_of_the_addresses() {
        assert_eq!(RxRead::one_buffer(0x1_2345_6800), [0x1_2345_6800, 0]);
        let read = RxRead::decode([0x1_2345_6801, 0x801]);
        assert_eq!((read.packet, read.header), (0x1_2345_6800, 0x800));
    }
}
