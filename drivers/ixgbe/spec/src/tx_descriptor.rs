//! Transmit descriptors (7.2.3.2): legacy, advanced context, and advanced data. [`TxData`] and
//! [`TxContext`] build the two words; [`TxDescriptor::decode`] tells the three kinds apart.

use bitflags::bitflags;

bitflags! {
    /// DCMD of advanced data descriptors, bits 24 to 31 of the second word (7.2.3.2.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TxCommand: u32 {
        /// End of packet.
        const EOP = 1 << 24;
        /// Insert FCS; on every frame whose FCS the MAC is to append.
        const IFCS = 1 << 25;
        /// Report status: write DD back; only together with EOP.
        const RS = 1 << 27;
        /// Descriptor extension: advanced format.
        const DEXT = 1 << 29;
        /// Insert the VLAN tag of the context.
        const VLE = 1 << 30;
        /// TCP segmentation.
        const TSE = 1 << 31;
        const _ = 0xff00_0000;
    }
}

bitflags! {
    /// POPTS of advanced data descriptors (7.2.3.2.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TxOptions: u32 {
        /// Insert the IPv4 header checksum.
        const IXSM = 1 << 0;
        /// Insert the TCP, UDP or SCTP checksum.
        const TXSM = 1 << 1;
        /// Encrypt.
        const IPSEC = 1 << 2;
        const _ = 0x3f;
    }
}

bitflags! {
    /// CMD of legacy descriptors, bits 24 to 31 of the second word (7.2.3.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LegacyCommand: u32 {
        /// End of packet.
        const EOP = 1 << 24;
        /// Insert FCS.
        const IFCS = 1 << 25;
        /// Insert a checksum, from CSS to the end, at CSO.
        const IC = 1 << 26;
        /// Report status.
        const RS = 1 << 27;
        /// Zero in this format.
        const DEXT = 1 << 29;
        /// Insert the VLAN tag.
        const VLE = 1 << 30;
        const _ = 0xff00_0000;
    }
}

/// L4T: protocol above IP whose checksum a context describes (7.2.3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum L4Type {
    /// UDP: checksum at byte 6 of the header.
    Udp = 0,
    /// TCP: checksum at byte 16 of the header.
    Tcp = 1,
    /// SCTP: CRC32c at byte 8 of the header.
    Sctp = 2,
}

/// DTYP of an advanced context descriptor (7.2.3.2.3).
const DTYP_CONTEXT: u64 = 0b0010;
/// DTYP of an advanced data descriptor (7.2.3.2.4).
const DTYP_DATA: u64 = 0b0011;
const DTYP_SHIFT: u32 = 20;
const DEXT: u64 = TxCommand::DEXT.bits() as u64;
const COMMAND_MASK: u64 = 0xff00_0000;
/// TUCMD.IPV4 at its place in the second word.
const TUCMD_IPV4: u64 = 1 << 10;
const TUCMD_L4T_SHIFT: u32 = 11;

/// Advanced data descriptor (7.2.3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxData {
    /// Bus address of the data.
    pub address: u64,
    /// DTALEN: bytes at that address.
    pub length: u16,
    /// DCMD, [`TxCommand::DEXT`] included.
    pub command: TxCommand,
    /// POPTS; of the frame's first descriptor.
    pub options: TxOptions,
    /// IDX: which of the queue's two contexts applies.
    pub context: u8,
    /// CC: the context is to be checked even where no offload asks for it.
    pub check_context: bool,
    /// PAYLEN: bytes of the whole frame without FCS (of the payload with TSO), 18 bits.
    pub payload_length: u32,
}

impl TxData {
    /// The two words. [`TxCommand::DEXT`] is always set.
    #[inline]
    pub const fn encode(self) -> [u64; 2] {
        [
            self.address,
            self.length as u64
                | DTYP_DATA << DTYP_SHIFT
                | self.command.bits() as u64
                | DEXT
                | (self.context as u64 & 7) << 36
                | (self.check_context as u64) << 39
                | (self.options.bits() as u64) << 40
                | (self.payload_length as u64) << 46,
        ]
    }
}

/// Advanced context descriptor (7.2.3.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxContext {
    /// MACLEN: bytes before the IP header, 7 bits.
    pub mac_length: u8,
    /// IPLEN: bytes of the IP header, 9 bits.
    pub ip_length: u16,
    /// VLAN tag to insert.
    pub vlan: u16,
    /// TUCMD.IPV4: the IP header is of version 4.
    pub ipv4: bool,
    /// L4T; `None` for the reserved value.
    pub l4_type: Option<L4Type>,
    /// IDX: which of the queue's two contexts this is, 0 or 1.
    pub index: u8,
    /// L4LEN: bytes of the TCP header, for TSO.
    pub l4_length: u8,
    /// MSS, for TSO.
    pub mss: u16,
}

impl TxContext {
    /// The two words.
    pub const fn encode(self) -> [u64; 2] {
        let l4_type = match self.l4_type {
            Some(l4_type) => l4_type as u64,
            None => 3,
        };
        [
            self.ip_length as u64 & 0x1ff
                | (self.mac_length as u64 & 0x7f) << 9
                | (self.vlan as u64) << 16,
            DTYP_CONTEXT << DTYP_SHIFT
                | if self.ipv4 { TUCMD_IPV4 } else { 0 }
                | l4_type << TUCMD_L4T_SHIFT
                | DEXT
                | (self.index as u64 & 1) << 36
                | (self.l4_length as u64) << 40
                | (self.mss as u64) << 48,
        ]
    }
}

/// Legacy descriptor (7.2.3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxLegacy {
    /// Bus address of the data.
    pub address: u64,
    /// LENGTH: bytes at that address.
    pub length: u16,
    /// CMD.
    pub command: LegacyCommand,
    /// CSO: where to put the checksum.
    pub checksum_offset: u8,
    /// CSS: where to start it.
    pub checksum_start: u8,
    /// VLAN tag to insert.
    pub vlan: u16,
}

impl TxLegacy {
    /// The two words.
    pub const fn encode(self) -> [u64; 2] {
        [
            self.address,
            self.length as u64
                | (self.checksum_offset as u64) << 16
                | self.command.bits() as u64 & !DEXT
                | (self.checksum_start as u64) << 40
                | (self.vlan as u64) << 48,
        ]
    }
}

/// A transmit descriptor of whichever kind the two words say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxDescriptor {
    /// Legacy format.
    Legacy(TxLegacy),
    /// Advanced context: nothing is sent, a context is stored.
    Context(TxContext),
    /// Advanced data.
    Data(TxData),
}

/// Why two words are no transmit descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxDescriptorError {
    /// The advanced format with a DTYP that is neither context nor data.
    ReservedType(u8),
}

impl core::fmt::Display for TxDescriptorError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::ReservedType(dtyp) => {
                write!(f, "advanced transmit descriptor of reserved type {dtyp:#x}")
            }
        }
    }
}

impl core::error::Error for TxDescriptorError {}

/// What the words of a data descriptor name: a piece of memory, and whether a frame ends there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxSegment {
    /// Bus address.
    pub address: u64,
    /// Length in bytes.
    pub length: u16,
    /// The frame ends here.
    pub end_of_packet: bool,
    /// DD is to be written back.
    pub report_status: bool,
}

impl TxDescriptor {
    /// Tells what the two words are.
    pub const fn decode(words: [u64; 2]) -> Result<Self, TxDescriptorError> {
        let [first, second] = words;
        if second & DEXT == 0 {
            return Ok(Self::Legacy(TxLegacy {
                address: first,
                length: second as u16,
                command: LegacyCommand::from_bits_retain((second & COMMAND_MASK) as u32),
                checksum_offset: (second >> 16) as u8,
                checksum_start: (second >> 40) as u8,
                vlan: (second >> 48) as u16,
            }));
        }
        match (second >> DTYP_SHIFT) & 0xf {
            DTYP_CONTEXT => Ok(Self::Context(TxContext {
                mac_length: (first >> 9) as u8 & 0x7f,
                ip_length: first as u16 & 0x1ff,
                vlan: (first >> 16) as u16,
                ipv4: second & TUCMD_IPV4 != 0,
                l4_type: match (second >> TUCMD_L4T_SHIFT) & 3 {
                    0 => Some(L4Type::Udp),
                    1 => Some(L4Type::Tcp),
                    2 => Some(L4Type::Sctp),
                    _ => None,
                },
                index: (second >> 36) as u8 & 1,
                l4_length: (second >> 40) as u8,
                mss: (second >> 48) as u16,
            })),
            DTYP_DATA => Ok(Self::Data(TxData {
                address: first,
                length: second as u16,
                command: TxCommand::from_bits_retain((second & COMMAND_MASK) as u32),
                options: TxOptions::from_bits_retain((second >> 40) as u32 & 0x3f),
                context: (second >> 36) as u8 & 7,
                check_context: second >> 39 & 1 != 0,
                payload_length: (second >> 46) as u32,
            })),
            dtyp => Err(TxDescriptorError::ReservedType(dtyp as u8)),
        }
    }

    /// The piece of memory the descriptor names; `None` for a context.
    pub const fn segment(self) -> Option<TxSegment> {
        match self {
            Self::Context(_) => None,
            Self::Data(data) => Some(TxSegment {
                address: data.address,
                length: data.length,
                end_of_packet: data.command.contains(TxCommand::EOP),
                report_status: data.command.contains(TxCommand::RS),
            }),
            Self::Legacy(legacy) => Some(TxSegment {
                address: legacy.address,
                length: legacy.length,
                end_of_packet: legacy.command.contains(LegacyCommand::EOP),
                report_status: legacy.command.contains(LegacyCommand::RS),
            }),
        }
    }
}

/// Write-back of a transmit descriptor: the device writes the second word (7.2.3.2.4).
pub struct TxWriteBack;

impl TxWriteBack {
    /// DD in the second word.
    pub const DD: u64 = 1 << 32;

    /// Whether the device is done with the descriptor, of any kind, and all before it.
    #[inline]
    pub const fn is_done(second_word: u64) -> bool {
        second_word & Self::DD != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_fields_lie_where_the_datasheet_draws_them() {
        let data = TxData {
            address: 0x1_0000_0080,
            length: 54,
            command: TxCommand::EOP | TxCommand::IFCS | TxCommand::RS,
            options: TxOptions::IXSM | TxOptions::TXSM,
            context: 1,
            check_context: true,
            payload_length: 54,
        };
        // PAYLEN 54 << 46, POPTS 3 << 40, CC, IDX 1 << 36, DCMD 0x2b << 24, DTYP 3 << 20.
        assert_eq!(data.encode(), [0x1_0000_0080, 0x000d_8390_2b30_0036]);
    }

    #[test]
    fn context_fields_lie_where_the_datasheet_draws_them() {
        let context = TxContext {
            mac_length: 14,
            ip_length: 20,
            vlan: 0x2064,
            ipv4: true,
            l4_type: Some(L4Type::Tcp),
            index: 1,
            l4_length: 32,
            mss: 1460,
        };
        // MSS 0x5b4 << 48, L4LEN 32 << 40, IDX 1 << 36, DEXT, DTYP 2 << 20, L4T 1 << 11, IPV4.
        assert_eq!(context.encode(), [0x2064_1c14, 0x05b4_2010_2020_0c00]);
    }

    #[test]
    fn each_kind_is_decoded_to_what_was_encoded() {
        let data = TxData {
            address: 0xffff_f000,
            length: 0xffff,
            command: TxCommand::DEXT | TxCommand::EOP | TxCommand::TSE,
            options: TxOptions::TXSM,
            context: 5,
            check_context: false,
            payload_length: 0x3_ffff,
        };
        assert_eq!(
            TxDescriptor::decode(data.encode()),
            Ok(TxDescriptor::Data(data))
        );
        for l4_type in [
            Some(L4Type::Udp),
            Some(L4Type::Tcp),
            Some(L4Type::Sctp),
            None,
        ] {
            let context = TxContext {
                mac_length: 127,
                ip_length: 511,
                vlan: 0xffff,
                ipv4: l4_type.is_some(),
                l4_type,
                index: 0,
                l4_length: 255,
                mss: 0xffff,
            };
            assert_eq!(
                TxDescriptor::decode(context.encode()),
                Ok(TxDescriptor::Context(context))
            );
        }
        let legacy = TxLegacy {
            address: 1,
            length: 2,
            command: LegacyCommand::EOP | LegacyCommand::IC | LegacyCommand::RS,
            checksum_offset: 3,
            checksum_start: 4,
            vlan: 5,
        };
        assert_eq!(
            TxDescriptor::decode(legacy.encode()),
            Ok(TxDescriptor::Legacy(legacy))
        );
    }

    #[test]
    fn reserved_types_are_refused() {
        for dtyp in (0..16).filter(|dtyp| ![2, 3].contains(dtyp)) {
            assert_eq!(
                TxDescriptor::decode([0, DEXT | dtyp << 20]),
                Err(TxDescriptorError::ReservedType(dtyp as u8))
            );
        }
    }

    #[test]
    fn a_context_names_no_memory() {
        let decoded = TxDescriptor::decode([0, DEXT | DTYP_CONTEXT << 20]).unwrap();
        assert_eq!(decoded.segment(), None);
    }
}
