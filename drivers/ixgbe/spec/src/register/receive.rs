//! Receive: filters, RSS, checksum, queues and packet buffer (8.2.3.7, 8.2.3.8), and the
//! virtualisation switch that receive filtering depends on (8.2.3.27).

use super::{field, rx_queue, with_field};
use bitflags::bitflags;

/// Filter control (8.2.3.7.1).
pub const FCTRL: u32 = 0x05080;
/// VLAN control (8.2.3.7.2).
pub const VLNCTRL: u32 = 0x05088;
/// Multicast control (8.2.3.7.3).
pub const MCSTCTRL: u32 = 0x05090;
/// Receive checksum control (8.2.3.7.5).
pub const RXCSUM: u32 = 0x05000;
/// Receive filter control (8.2.3.7.6).
pub const RFCTL: u32 = 0x05008;
/// Multiple receive queues command (8.2.3.7.12).
pub const MRQC: u32 = 0x0ec80;
/// Address of [`MRQC`] kept for the 82598 (8.2.3.7.12).
pub const MRQC_ALIAS: u32 = 0x05818;
/// SYN packet queue filter (8.2.3.7.20).
pub const SYNQF: u32 = 0x0ec30;

/// Packet split receive type of a pool, `n` 0 to 63 (8.2.3.7.4).
pub const fn psrtype(n: u32) -> u32 {
    0x0ea00 + 4 * n
}

/// Multicast table array, `n` 0 to 127 (8.2.3.7.7).
pub const fn mta(n: u32) -> u32 {
    0x05200 + 4 * n
}

/// Receive address low: first four bytes of a station address, `n` 0 to 127 (8.2.3.7.8).
pub const fn ral(n: u32) -> u32 {
    0x0a200 + 8 * n
}

/// Receive address high: last two bytes, and whether it is valid, `n` 0 to 127 (8.2.3.7.9).
pub const fn rah(n: u32) -> u32 {
    0x0a204 + 8 * n
}

/// Address of [`ral`] kept for the 82598, `n` 0 to 15; RAH four bytes on (8.2.3.7.8).
pub const fn ral_alias(n: u32) -> u32 {
    0x05400 + 8 * n
}

/// MAC pool select array, two for an address, `n` 0 to 255 (8.2.3.7.10).
pub const fn mpsar(n: u32) -> u32 {
    0x0a600 + 4 * n
}

/// VLAN filter table array, `n` 0 to 127 (8.2.3.7.11).
pub const fn vfta(n: u32) -> u32 {
    0x0a000 + 4 * n
}

/// RSS random key, `n` 0 to 9; key byte 4n in the low byte (8.2.3.7.14).
pub const fn rssrk(n: u32) -> u32 {
    0x0eb80 + 4 * n
}

/// Address of [`rssrk`] kept for the 82598 (8.2.3.7.14).
pub const fn rssrk_alias(n: u32) -> u32 {
    0x05c80 + 4 * n
}

/// Redirection table, `n` 0 to 31; entry 4n in the low byte (8.2.3.7.15).
pub const fn reta(n: u32) -> u32 {
    0x0eb00 + 4 * n
}

/// Address of [`reta`] kept for the 82598 (8.2.3.7.15).
pub const fn reta_alias(n: u32) -> u32 {
    0x05c00 + 4 * n
}

/// Five-tuple queue filter, `n` 0 to 127 (8.2.3.7.19).
pub const fn ftqf(n: u32) -> u32 {
    0x0e600 + 4 * n
}

/// EtherType queue filter, `n` 0 to 7 (8.2.3.7.21).
pub const fn etqf(n: u32) -> u32 {
    0x05128 + 4 * n
}

/// EtherType queue select, `n` 0 to 7 (8.2.3.7.22).
pub const fn etqs(n: u32) -> u32 {
    0x0ec00 + 4 * n
}

/// Receive descriptor base address low, 128-byte aligned (8.2.3.8.1).
pub const fn rdbal(queue: u32) -> u32 {
    rx_queue(0x01000, queue)
}

/// Receive descriptor base address high (8.2.3.8.2).
pub const fn rdbah(queue: u32) -> u32 {
    rx_queue(0x01004, queue)
}

/// Receive descriptor length in bytes, a multiple of 128 (8.2.3.8.3).
pub const fn rdlen(queue: u32) -> u32 {
    rx_queue(0x01008, queue)
}

/// Receive descriptor head: the device's next (8.2.3.8.4).
pub const fn rdh(queue: u32) -> u32 {
    rx_queue(0x01010, queue)
}

/// Receive descriptor tail: one beyond the last that the device may use (8.2.3.8.5).
pub const fn rdt(queue: u32) -> u32 {
    rx_queue(0x01018, queue)
}

/// Receive descriptor control (8.2.3.8.6).
pub const fn rxdctl(queue: u32) -> u32 {
    rx_queue(0x01028, queue)
}

/// Split receive control (8.2.3.8.7).
pub const fn srrctl(queue: u32) -> u32 {
    rx_queue(0x01014, queue)
}

/// Address of [`srrctl`] kept for the 82598, queues 0 to 15 (8.2.3.8.7).
pub const fn srrctl_alias(queue: u32) -> u32 {
    0x02100 + 4 * queue
}

/// Receive coalescing control (8.2.3.8.13).
pub const fn rscctl(queue: u32) -> u32 {
    rx_queue(0x0102c, queue)
}

/// Receive DMA control (8.2.3.8.8).
pub const RDRXCTL: u32 = 0x02f00;

/// Receive packet buffer size of a traffic class, `n` 0 to 7 (8.2.3.8.9).
pub const fn rxpbsize(n: u32) -> u32 {
    0x03c00 + 4 * n
}

/// Receive control: the switch of the whole receive path (8.2.3.8.10).
pub const RXCTRL: u32 = 0x03000;
/// Receive memory wrap, read only: whether the packet buffers are empty (8.2.3.8.11).
pub const RXMEMWRAP: u32 = 0x03190;
/// Receive coalescing data buffer control (8.2.3.8.12).
pub const RSCDBU: u32 = 0x03028;
/// User priority to traffic class map (8.2.3.10.4).
pub const RTRUP2TC: u32 = 0x03020;

/// PF virtual control (8.2.3.27.1).
pub const PFVTCTL: u32 = 0x051b0;

/// PF VLAN pool filter, `n` 0 to 63 (8.2.3.27.15).
pub const fn pfvlvf(n: u32) -> u32 {
    0x0f100 + 4 * n
}

/// PF VLAN pool filter bitmap, `n` 0 to 127 (8.2.3.27.16).
pub const fn pfvlvfb(n: u32) -> u32 {
    0x0f200 + 4 * n
}

/// PF unicast table array, `n` 0 to 127 (8.2.3.27.17).
pub const fn pfuta(n: u32) -> u32 {
    0x0f400 + 4 * n
}

bitflags! {
    /// Bits of [`FCTRL`] (8.2.3.7.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Fctrl: u32 {
        /// Store bad packets.
        const SBP = 1 << 1;
        /// Multicast promiscuous enable.
        const MPE = 1 << 8;
        /// Unicast promiscuous enable.
        const UPE = 1 << 9;
        /// Broadcast accept mode.
        const BAM = 1 << 10;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`VLNCTRL`] (8.2.3.7.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Vlnctrl: u32 {
        /// Value that the canonical form bit is compared with.
        const CFI = 1 << 28;
        /// The canonical form bit is compared.
        const CFIEN = 1 << 29;
        /// VLAN filter enable.
        const VFE = 1 << 30;
        const _ = !0;
    }
}

impl Vlnctrl {
    /// VET: EtherType of a VLAN tag.
    pub const fn vet(self) -> u16 {
        field(self.bits(), 0, 16) as u16
    }
}

bitflags! {
    /// Bits of [`MCSTCTRL`] (8.2.3.7.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mcstctrl: u32 {
        /// Multicast filter enable: MTA is consulted.
        const MFE = 1 << 2;
        const _ = !0;
    }
}

impl Mcstctrl {
    /// MO: which twelve bits of an address index the table: 0 is 47 to 36, 1 is 46 to 35, 2 is 45 to
    /// 34, 3 is 43 to 32, where the first byte of the address has bits 7 to 0.
    pub const fn offset(self) -> u32 {
        field(self.bits(), 0, 2)
    }

    /// Index of `mac` in the 4096-bit table for this offset.
    pub const fn table_bit(self, mac: [u8; 6]) -> u32 {
        let last = (mac[5] as u32) << 8 | mac[4] as u32;
        let shift = match self.offset() {
            0 => 4,
            1 => 3,
            2 => 2,
            _ => 0,
        };
        (last >> shift) & 0xfff
    }
}

/// RAH.AV: the address is valid (8.2.3.7.9).
pub const RAH_AV: u32 = 1 << 31;

bitflags! {
    /// Bits of [`RXCSUM`] (8.2.3.7.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rxcsum: u32 {
        /// Fragment payload checksum enable.
        const IPPCSE = 1 << 12;
        /// Packet checksum disable: the descriptor carries the RSS hash instead.
        const PCSD = 1 << 13;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`RFCTL`] (8.2.3.7.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rfctl: u32 {
        /// Receive coalescing is off.
        const RSC_DIS = 1 << 5;
        /// NFS write parsing is off.
        const NFSW_DIS = 1 << 6;
        /// NFS read parsing is off.
        const NFSR_DIS = 1 << 7;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`MRQC`] (8.2.3.7.12).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mrqc: u32 {
        /// Hash ports and addresses of TCP over IPv4.
        const TCP_IPV4 = 1 << 16;
        /// Hash addresses of IPv4.
        const IPV4 = 1 << 17;
        /// Hash addresses of IPv6.
        const IPV6 = 1 << 20;
        /// Hash ports and addresses of TCP over IPv6.
        const TCP_IPV6 = 1 << 21;
        /// Hash ports and addresses of UDP over IPv4.
        const UDP_IPV4 = 1 << 22;
        /// Hash ports and addresses of UDP over IPv6.
        const UDP_IPV6 = 1 << 23;
        const _ = !0;
    }
}

impl Mrqc {
    /// MRQE value for one queue without RSS.
    pub const MRQE_NONE: u32 = 0;
    /// MRQE value for RSS over up to 16 queues without virtualisation or traffic classes.
    pub const MRQE_RSS: u32 = 1;

    /// MRQE: how frames are spread over queues.
    pub const fn mrqe(self) -> u32 {
        field(self.bits(), 0, 4)
    }

    /// Replaces MRQE.
    pub const fn with_mrqe(self, mrqe: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 0, 4, mrqe))
    }
}

bitflags! {
    /// Bits of [`rxdctl`] (8.2.3.8.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rxdctl: u32 {
        /// The queue is enabled; reads as the queue's true state.
        const ENABLE = 1 << 25;
        /// VLAN tags are stripped.
        const VME = 1 << 30;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`psrtype`]: behind which headers frames are split (8.2.3.7.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Psrtype: u32 {
        /// Behind the TCP header.
        const TCP = 1 << 4;
        /// Behind the UDP header.
        const UDP = 1 << 5;
        /// Behind the IPv4 header.
        const IPV4 = 1 << 8;
        /// Behind the IPv6 header.
        const IPV6 = 1 << 9;
        /// Behind the Ethernet header.
        const L2 = 1 << 12;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`srrctl`] (8.2.3.8.7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Srrctl: u32 {
        /// Frames for a queue without descriptors are dropped, instead of blocking the others.
        const DROP_EN = 1 << 28;
        const _ = !0;
    }
}

impl Srrctl {
    /// DESCTYPE value: legacy descriptors.
    pub const DESCTYPE_LEGACY: u32 = 0;
    /// DESCTYPE value: advanced descriptors with one buffer.
    pub const DESCTYPE_ADVANCED: u32 = 1;
    /// DESCTYPE value: advanced descriptors, headers in a buffer of their own where they are split off.
    pub const DESCTYPE_HEADER_SPLIT: u32 = 2;
    /// DESCTYPE value: the same, and the beginning of other frames goes there too.
    pub const DESCTYPE_HEADER_ALWAYS: u32 = 5;

    /// BSIZEPACKET: size of a packet buffer in KB, 1 to 16.
    pub const fn bsizepacket(self) -> u32 {
        field(self.bits(), 0, 5)
    }

    /// Replaces BSIZEPACKET.
    pub const fn with_bsizepacket(self, kilobytes: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 0, 5, kilobytes))
    }

    /// BSIZEHEADER: size of a header buffer in units of 64 bytes.
    pub const fn bsizeheader(self) -> u32 {
        field(self.bits(), 8, 6)
    }

    /// Replaces BSIZEHEADER.
    pub const fn with_bsizeheader(self, units: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 8, 6, units))
    }

    /// DESCTYPE: kind of descriptors.
    pub const fn desctype(self) -> u32 {
        field(self.bits(), 25, 3)
    }

    /// Replaces DESCTYPE.
    pub const fn with_desctype(self, desctype: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 25, 3, desctype))
    }
}

bitflags! {
    /// Bits of [`RDRXCTL`] (8.2.3.8.8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rdrxctl: u32 {
        /// CRCStrip: the FCS is not written to memory; must agree with HLREG0.RXCRCSTRP.
        const CRC_STRIP = 1 << 1;
        /// DMA initialisation done, read only.
        const DMAIDONE = 1 << 3;
        /// RSCACKC: to be set by software.
        const RSCACKC = 1 << 25;
        /// FCOE_WRFIX: to be set by software.
        const FCOE_WRFIX = 1 << 26;
        const _ = !0;
    }
}

impl Rdrxctl {
    /// RSCFRSTSIZE: 8 after reset, to be cleared by software.
    pub const fn rscfrstsize(self) -> u32 {
        field(self.bits(), 17, 5)
    }

    /// Replaces RSCFRSTSIZE.
    pub const fn with_rscfrstsize(self, size: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 17, 5, size))
    }
}

/// RXPBSIZE.SIZE: size of a packet buffer in KB (8.2.3.8.9).
pub const fn rxpbsize_kilobytes(register: u32) -> u32 {
    field(register, 10, 10)
}

/// An RXPBSIZE register for a size in KB (8.2.3.8.9).
pub const fn rxpbsize_of(kilobytes: u32) -> u32 {
    with_field(0, 10, 10, kilobytes)
}

bitflags! {
    /// Bits of [`RXCTRL`] (8.2.3.8.10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rxctrl: u32 {
        /// Receive enable.
        const RXEN = 1 << 0;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`PFVTCTL`] (8.2.3.27.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pfvtctl: u32 {
        /// Virtualisation: frames are spread over pools.
        const VT_ENA = 1 << 0;
        const _ = !0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_multicast_table_is_indexed_by_the_end_of_the_address() {
        // 01:00:5e:00:00:fb: bits 47:36 of the address as a number with its first byte lowest.
        let mac = [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb];
        let offset = Mcstctrl::from_bits_retain;
        assert_eq!(offset(0).table_bit(mac), 0xfb0);
        assert_eq!(offset(1).table_bit(mac), 0xf60);
        assert_eq!(offset(2).table_bit(mac), 0xec0);
        assert_eq!(offset(3).table_bit(mac), 0xb00);
    }
}
