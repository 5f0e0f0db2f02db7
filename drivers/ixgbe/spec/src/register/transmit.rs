//! Transmit: DMA, queues, packet buffer and arbiter (8.2.3.9, 8.2.3.10).

use super::{field, with_field};
use bitflags::bitflags;

/// DMA transmit TCP maximum request size (8.2.3.9.1).
pub const DTXMXSZRQ: u32 = 0x08100;
/// DMA transmit control: the switch of the whole transmit path (8.2.3.9.2).
pub const DMATXCTL: u32 = 0x04a80;
/// TCP flags of the first and middle segments of a TSO frame (8.2.3.9.3).
pub const DTXTCPFLGL: u32 = 0x04a88;
/// TCP flags of the last segment of a TSO frame (8.2.3.9.4).
pub const DTXTCPFLGH: u32 = 0x04a8c;
/// Multiple transmit queues command (8.2.3.9.15).
pub const MTQC: u32 = 0x08120;
/// Transmit descriptor plane control and status: the arbiter (8.2.3.10.2).
pub const RTTDCS: u32 = 0x04900;
/// Transmit descriptor plane queue select (8.2.3.10.13).
pub const RTTDQSEL: u32 = 0x04904;
/// Transmit descriptor plane T1 config of the selected queue (8.2.3.10.14).
pub const RTTDT1C: u32 = 0x04908;
/// Transmit rate scheduler of the selected queue (8.2.3.10.16).
pub const RTTBCNRC: u32 = 0x04984;

/// Transmit descriptor base address low, 128-byte aligned (8.2.3.9.5).
pub const fn tdbal(queue: u32) -> u32 {
    0x06000 + 0x40 * queue
}

/// Transmit descriptor base address high (8.2.3.9.6).
pub const fn tdbah(queue: u32) -> u32 {
    0x06004 + 0x40 * queue
}

/// Transmit descriptor length in bytes, a multiple of 128 (8.2.3.9.7).
pub const fn tdlen(queue: u32) -> u32 {
    0x06008 + 0x40 * queue
}

/// Transmit descriptor head: the device's next (8.2.3.9.8).
pub const fn tdh(queue: u32) -> u32 {
    0x06010 + 0x40 * queue
}

/// Transmit descriptor tail: one beyond the last that is ready (8.2.3.9.9).
pub const fn tdt(queue: u32) -> u32 {
    0x06018 + 0x40 * queue
}

/// Transmit descriptor control (8.2.3.9.10).
pub const fn txdctl(queue: u32) -> u32 {
    0x06028 + 0x40 * queue
}

/// Head write-back address low, bit 0 enables it (8.2.3.9.11).
pub const fn tdwbal(queue: u32) -> u32 {
    0x06038 + 0x40 * queue
}

/// Head write-back address high (8.2.3.9.12).
pub const fn tdwbah(queue: u32) -> u32 {
    0x0603c + 0x40 * queue
}

/// Transmit packet buffer size of a traffic class, `n` 0 to 7 (8.2.3.9.13).
pub const fn txpbsize(n: u32) -> u32 {
    0x0cc00 + 4 * n
}

/// Transmit packet buffer threshold in KB, `n` 0 to 7 (8.2.3.9.16).
pub const fn txpbthresh(n: u32) -> u32 {
    0x04950 + 4 * n
}

/// A [`DTXTCPFLGL`] register: the TCP flags that the first segment of a TSO frame keeps, and those
/// that the segments in the middle keep (8.2.3.9.3).
pub const fn dtxtcpflgl_of(first: u32, middle: u32) -> u32 {
    with_field(with_field(0, 0, 12, first), 16, 12, middle)
}

/// A [`DTXTCPFLGH`] register: the TCP flags that the last segment keeps (8.2.3.9.4).
pub const fn dtxtcpflgh_of(last: u32) -> u32 {
    with_field(0, 0, 12, last)
}

bitflags! {
    /// Bits of [`DMATXCTL`] (8.2.3.9.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Dmatxctl: u32 {
        /// Transmit enable; also enables queue 0.
        const TE = 1 << 0;
        /// Global double VLAN mode.
        const GDV = 1 << 3;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`txdctl`] (8.2.3.9.10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Txdctl: u32 {
        /// The queue is enabled; reads as the queue's true state.
        const ENABLE = 1 << 25;
        /// Writes back completed descriptors now. Clears itself.
        const SWFLSH = 1 << 26;
        const _ = !0;
    }
}

impl Txdctl {
    /// PTHRESH: fetch more when the device holds fewer descriptors than this.
    pub const fn pthresh(self) -> u32 {
        field(self.bits(), 0, 7)
    }

    /// Replaces PTHRESH.
    pub const fn with_pthresh(self, descriptors: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 0, 7, descriptors))
    }

    /// HTHRESH: ... and at least this many are ready; non-zero whenever PTHRESH is.
    pub const fn hthresh(self) -> u32 {
        field(self.bits(), 8, 7)
    }

    /// Replaces HTHRESH.
    pub const fn with_hthresh(self, descriptors: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 8, 7, descriptors))
    }

    /// WTHRESH: write back in groups of this many; zero wherever software sets RS.
    pub const fn wthresh(self) -> u32 {
        field(self.bits(), 16, 7)
    }

    /// Replaces WTHRESH.
    pub const fn with_wthresh(self, descriptors: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 16, 7, descriptors))
    }
}

/// TXPBSIZE.SIZE: size of a packet buffer in KB (8.2.3.9.13).
pub const fn txpbsize_kilobytes(register: u32) -> u32 {
    field(register, 10, 10)
}

/// A TXPBSIZE register for a size in KB (8.2.3.9.13).
pub const fn txpbsize_of(kilobytes: u32) -> u32 {
    with_field(0, 10, 10, kilobytes)
}

bitflags! {
    /// Bits of [`RTTDCS`] (8.2.3.10.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rttdcs: u32 {
        /// Arbitration among traffic classes by credits.
        const TDPAC = 1 << 0;
        /// Arbitration among pools by credits.
        const VMPAC = 1 << 1;
        /// Arbiter restarts after its parameters changed.
        const TDRM = 1 << 4;
        /// Arbiter disable, needed while MTQC and the like are changed.
        const ARBDIS = 1 << 6;
        /// Bypass data pipe monitor.
        const BDPM = 1 << 22;
        /// Bypass packet buffer free space monitor.
        const BPBFSM = 1 << 23;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`MTQC`] (8.2.3.9.15).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mtqc: u32 {
        /// Traffic classes are enabled.
        const RT_ENA = 1 << 0;
        /// Virtualisation is enabled; as PFVTCTL.VT_Ena.
        const VT_ENA = 1 << 1;
        const _ = !0;
    }
}

impl Mtqc {
    /// NUM_TC_OR_Q: 0 stands for 64 queues without classes and pools.
    pub const fn num_tc_or_q(self) -> u32 {
        field(self.bits(), 2, 2)
    }
}
