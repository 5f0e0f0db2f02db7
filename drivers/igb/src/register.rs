//! Registers in BAR 0: offsets in bytes, and those bits that the driver uses.

use bitflags::bitflags;

/// Device control.
pub(crate) const CTRL: u32 = 0x0000;
/// Device status.
pub(crate) const STATUS: u32 = 0x0008;
/// EEPROM control.
pub(crate) const EECD: u32 = 0x0010;
/// Extended device control.
pub(crate) const CTRL_EXT: u32 = 0x0018;
/// MDI control: the way to the PHY's registers.
pub(crate) const MDIC: u32 = 0x0020;
/// Interrupt causes of old, which clear on reading.
pub(crate) const ICR: u32 = 0x00c0;
/// Masks them.
pub(crate) const IMC: u32 = 0x00d8;
/// Receive control.
pub(crate) const RCTL: u32 = 0x0100;
/// Transmit control.
pub(crate) const TCTL: u32 = 0x0400;
/// General purpose interrupt enable.
pub(crate) const GPIE: u32 = 0x1514;
/// Enables vectors, a bit each.
pub(crate) const EIMS: u32 = 0x1524;
/// Masks them.
pub(crate) const EIMC: u32 = 0x1528;
/// Vectors whose cause clears itself when the message goes out.
pub(crate) const EIAC: u32 = 0x152c;
/// Causes of vectors.
pub(crate) const EICR: u32 = 0x1580;
/// Which vector other causes have.
pub(crate) const IVAR_MISC: u32 = 0x1740;
/// TCP flags of the first and the middle segments of a large frame.
pub(crate) const DTXTCPFLGL: u32 = 0x359c;
/// Those of the last.
pub(crate) const DTXTCPFLGH: u32 = 0x35a0;
/// Receive checksum control.
pub(crate) const RXCSUM: u32 = 0x5000;
/// Longest frame received, FCS and tag included, where RCTL.LPE is set.
pub(crate) const RLPML: u32 = 0x5004;
/// Receive filter control.
pub(crate) const RFCTL: u32 = 0x5008;
/// Multiple receive queues command.
pub(crate) const MRQC: u32 = 0x5818;
/// Virtualisation control.
pub(crate) const VT_CTL: u32 = 0x581c;

/// Station addresses of the device.
pub(crate) const RECEIVE_ADDRESSES: u32 = 24;
/// Queues of either direction, with and without virtualisation.
pub(crate) const QUEUES: u32 = 16;
/// Vectors of MSI-X in the registers of causes and masks.
pub(crate) const ALL_VECTORS: u32 = (1 << 25) - 1;
/// Receive address valid, in RAH.
pub(crate) const RAH_AV: u32 = 1 << 31;
/// An entry of IVAR that names a vector.
pub(crate) const IVAR_VALID: u32 = 1 << 7;
/// In EITR: the counter of the interval starts anew with this write, or not.
pub(crate) const EITR_CNT_IGNR: u32 = 1 << 31;

bitflags! {
    /// Bits of [`CTRL`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Ctrl: u32 {
        /// No new requests on PCIe.
        const GIO_MASTER_DISABLE = 1 << 2;
        /// Set link up: the MAC takes the PHY's word for it.
        const SLU = 1 << 6;
        /// Force speed.
        const FRCSPD = 1 << 11;
        /// Force duplex.
        const FRCDPLX = 1 << 12;
        /// Reset; clears itself.
        const RST = 1 << 26;
        /// Receive flow control.
        const RFCE = 1 << 27;
        /// Transmit flow control.
        const TFCE = 1 << 28;
        /// Take tags off, and say so.
        const VME = 1 << 30;
    }

    /// Bits of [`STATUS`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Status: u32 {
        /// Link up.
        const LU = 1 << 1;
        /// Requests on PCIe are under way or allowed.
        const GIO_MASTER_ENABLE = 1 << 19;
    }

    /// Bits of [`EECD`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Eecd: u32 {
        /// The device has configured itself from its EEPROM.
        const AUTO_RD = 1 << 9;
    }

    /// Bits of [`CTRL_EXT`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct CtrlExt: u32 {
        /// What the link runs over: 0 for the internal PHY.
        const LINK_MODE = 3 << 22;
        /// A driver is in charge.
        const DRV_LOAD = 1 << 28;
    }

    /// Bits of [`MDIC`]; data are the low 16, the register is above them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Mdic: u32 {
        /// The internal PHY.
        const PHY = 1 << 21;
        /// Write.
        const OP_WRITE = 1 << 26;
        /// Done.
        const READY = 1 << 28;
        /// It did not work.
        const ERROR = 1 << 30;
    }

    /// Bits of [`RCTL`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Rctl: u32 {
        /// Receive.
        const EN = 1 << 1;
        /// Frames longer than 1518 bytes, up to RLPML.
        const LPE = 1 << 5;
        /// Broadcast.
        const BAM = 1 << 15;
        /// Filter VLANs.
        const VFE = 1 << 18;
        /// Strip the FCS.
        const SECRC = 1 << 26;
    }

    /// Bits of [`TCTL`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Tctl: u32 {
        /// Transmit.
        const EN = 1 << 1;
        /// Pad short frames.
        const PSP = 1 << 3;
    }

    /// Bits of [`GPIE`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Gpie: u32 {
        /// Reading ICR clears it whatever is masked.
        const NSICR = 1 << 0;
        /// A vector for each cause.
        const MULTIPLE_MSIX = 1 << 4;
        /// Pending bits as MSI-X has them.
        const PBA_SUPPORT = 1 << 31;
    }

    /// Bits of [`RXCSUM`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Rxcsum: u32 {
        /// Verify the IPv4 header checksum.
        const IPOFLD = 1 << 8;
        /// Verify those of TCP and UDP.
        const TUOFLD = 1 << 9;
        /// The hash takes the place of the fragment checksum.
        const PCSD = 1 << 13;
    }

    /// Bits of [`RFCTL`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Rfctl: u32 {
        /// Do not hash what has IPv6 extension headers.
        const IPV6_EX_DIS = 1 << 16;
    }

    /// Bits of [`MRQC`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Mrqc: u32 {
        /// Queues by RSS.
        const RSS = 2;
        /// Hash TCP over IPv4.
        const TCP_IPV4 = 1 << 16;
        /// Hash TCP over IPv6 by the addresses of extension headers where there are any.
        const TCP_IPV6_EX = 1 << 18;
        /// Hash TCP over IPv6.
        const TCP_IPV6 = 1 << 21;
        /// Hash UDP over IPv4.
        const UDP_IPV4 = 1 << 22;
        /// Hash UDP over IPv6.
        const UDP_IPV6 = 1 << 23;
    }

    /// Bits of [`srrctl`]; the size of a buffer in KiB is in the low seven.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Srrctl: u32 {
        /// Advanced descriptors with one buffer.
        const DESCTYPE_ADVANCED = 1 << 25;
        /// A queue without descriptors drops its frames.
        const DROP_EN = 1 << 31;
    }

    /// Bits of [`rxdctl`] and [`txdctl`]; thresholds are below.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Xdctl: u32 {
        /// The queue runs.
        const ENABLE = 1 << 25;
    }

    /// Bits of [`rxctl`] and [`txctl`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Dca: u32 {
        /// Relaxed ordering of the write-back.
        const DESCRIPTOR_WB_RO = 1 << 11;
    }
}

/// Interval of a vector.
pub(crate) const fn eitr(vector: u32) -> u32 {
    0x1680 + 4 * vector
}

/// Vectors of receive queue `n`, in the low byte, and of transmit queue `n`, in the second; of queues
/// `n + 8` above. `n` 0 to 7.
pub(crate) const fn ivar(n: u32) -> u32 {
    0x1700 + 4 * n
}

/// Multicast table, `n` 0 to 127.
pub(crate) const fn mta(n: u32) -> u32 {
    0x5200 + 4 * n
}

/// Receive address low; RAH is four bytes on. `n` 0 to 23.
pub(crate) const fn ral(n: u32) -> u32 {
    match n {
        0..16 => 0x5400 + 8 * n,
        _ => 0x54e0 + 8 * (n - 16),
    }
}

/// VLAN filter table, `n` 0 to 127.
pub(crate) const fn vfta(n: u32) -> u32 {
    0x5600 + 4 * n
}

/// Redirection table, `n` 0 to 31.
pub(crate) const fn reta(n: u32) -> u32 {
    0x5c00 + 4 * n
}

/// Key of the hash, `n` 0 to 9.
pub(crate) const fn rssrk(n: u32) -> u32 {
    0x5c80 + 4 * n
}

/// A register of a receive queue.
const fn rx(queue: u32, register: u32) -> u32 {
    0xc000 + 0x40 * queue + register
}

/// A register of a transmit queue.
const fn tx(queue: u32, register: u32) -> u32 {
    0xe000 + 0x40 * queue + register
}

/// Receive descriptor base low; high four bytes on, length eight.
pub(crate) const fn rdbal(queue: u32) -> u32 {
    rx(queue, 0x00)
}

/// Split and replication receive control.
pub(crate) const fn srrctl(queue: u32) -> u32 {
    rx(queue, 0x0c)
}

/// DCA receive control.
pub(crate) const fn rxctl(queue: u32) -> u32 {
    rx(queue, 0x14)
}

/// Receive descriptor control.
pub(crate) const fn rxdctl(queue: u32) -> u32 {
    rx(queue, 0x28)
}

/// Frames dropped for want of a descriptor.
pub(crate) const fn rqdpc(queue: u32) -> u32 {
    rx(queue, 0x30)
}

/// Transmit descriptor base low; high four bytes on, length eight.
pub(crate) const fn tdbal(queue: u32) -> u32 {
    tx(queue, 0x00)
}

/// DCA transmit control.
pub(crate) const fn txctl(queue: u32) -> u32 {
    tx(queue, 0x14)
}

/// Transmit descriptor control.
pub(crate) const fn txdctl(queue: u32) -> u32 {
    tx(queue, 0x28)
}
