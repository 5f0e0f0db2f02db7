//! Interrupt causes, masks, moderation and vector allocation (8.2.3.5).

use super::{field, with_field};
use bitflags::bitflags;

/// Extended interrupt cause, cleared by writing ones (8.2.3.5.1).
pub const EICR: u32 = 0x00800;
/// Sets causes from software (8.2.3.5.2).
pub const EICS: u32 = 0x00808;
/// Enables causes; reads as the mask (8.2.3.5.3).
pub const EIMS: u32 = 0x00880;
/// Disables causes, write only (8.2.3.5.4).
pub const EIMC: u32 = 0x00888;
/// Causes that clear themselves when their MSI-X message is sent (8.2.3.5.5).
pub const EIAC: u32 = 0x00810;
/// Causes that are masked when they interrupt or EICR is read (8.2.3.5.6).
pub const EIAM: u32 = 0x00890;
/// Chooses whether vectors 1 to 31 use the EITR of their virtual function (8.2.3.5.11).
pub const EITRSEL: u32 = 0x00894;
/// Allocation of the TCP timer and other causes (8.2.3.5.14).
pub const IVAR_MISC: u32 = 0x00a00;
/// General purpose interrupt enable: how interrupts work at all (8.2.3.5.15).
pub const GPIE: u32 = 0x00898;
/// MSI-X pending bits, cleared by writing ones; `n` 0 to 7 (8.2.3.6).
pub const fn pbacl(n: u32) -> u32 {
    0x110c0 + 4 * n
}

/// Sets the causes of vectors 32n to 32n + 31, `n` 0 to 1 (8.2.3.5.7).
pub const fn eics_ex(n: u32) -> u32 {
    0x00a90 + 4 * n
}

/// Enables the vectors 32n to 32n + 31, `n` 0 to 1 (8.2.3.5.8).
pub const fn eims_ex(n: u32) -> u32 {
    0x00aa0 + 4 * n
}

/// Disables the vectors 32n to 32n + 31, `n` 0 to 1 (8.2.3.5.9).
pub const fn eimc_ex(n: u32) -> u32 {
    0x00ab0 + 4 * n
}

/// Auto-mask of the vectors 32n to 32n + 31, `n` 0 to 1 (8.2.3.5.10).
pub const fn eiam_ex(n: u32) -> u32 {
    0x00ad0 + 4 * n
}

/// Moderation of a vector, 0 to 128 (8.2.3.5.12).
pub const fn eitr(vector: u32) -> u32 {
    if vector < 24 {
        0x00820 + 4 * vector
    } else {
        0x12300 + 4 * (vector - 24)
    }
}

/// Allocation of the causes of queues 2n and 2n + 1, `n` 0 to 63 (8.2.3.5.13).
pub const fn ivar(n: u32) -> u32 {
    0x00900 + 4 * n
}

bitflags! {
    /// Bits of EICR, EICS, EIMS, EIMC, EIAC and EIAM (8.2.3.5.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Eicr: u32 {
        /// RTxQ: queue causes 0 to 15, or MSI-X vectors 0 to 15.
        const RTXQ = 0xffff;
        /// A flow director filter was hit or the table ran full.
        const FLOW_DIRECTOR = 1 << 16;
        /// A frame was missed for want of packet buffer.
        const RX_MISS = 1 << 17;
        /// A PCI error.
        const PCI_EXCEPTION = 1 << 18;
        /// A virtual function sent a message.
        const MAILBOX = 1 << 19;
        /// Link status change.
        const LSC = 1 << 20;
        /// A MACsec packet counter is about to run out.
        const LINKSEC = 1 << 21;
        /// Manageability event.
        const MNG = 1 << 22;
        /// Software-definable pin 0.
        const GPI_SDP0 = 1 << 24;
        /// Software-definable pin 1.
        const GPI_SDP1 = 1 << 25;
        /// Software-definable pin 2.
        const GPI_SDP2 = 1 << 26;
        /// Software-definable pin 3.
        const GPI_SDP3 = 1 << 27;
        /// An uncorrectable memory error: the device needs a reset.
        const ECC = 1 << 28;
        /// TCP timer expired.
        const TCP_TIMER = 1 << 30;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`GPIE`] (8.2.3.5.15).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Gpie: u32 {
        /// MSI-X with more than one vector.
        const MULTIPLE_MSIX = 1 << 4;
        /// Other causes are cleared on read only for those read.
        const OCD = 1 << 5;
        /// A low latency interrupt does not wait for moderation.
        const EIMEN = 1 << 6;
        /// Auto-mask also applies with MSI-X.
        const EIAME = 1 << 30;
        /// Pending bits are supported: set with MSI-X, clear otherwise.
        const PBA_SUPPORT = 1 << 31;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`eitr`] (8.2.3.5.12).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Eitr: u32 {
        /// Low latency interrupts are moderated by credits.
        const LLI_EN = 1 << 15;
        /// The counters are not touched by this write.
        const CNT_WDIS = 1 << 31;
        const _ = !0;
    }
}

impl Eitr {
    /// Unit of the interval at 1 and 10 Gb/s, in nanoseconds (8.2.3.5.12).
    pub const INTERVAL_UNIT_NS: u32 = 2048;

    /// A moderation that keeps at least that time between two interrupts, as far as there are bits for it, and
    /// leaves the counters as they are.
    pub const fn of_interval_us(interval_us: u32) -> Self {
        let interval_ns = interval_us as u64 * 1000;
        let units = interval_ns.div_ceil(Self::INTERVAL_UNIT_NS as u64);
        let most = 0x1ff;
        Self::CNT_WDIS.with_itr_interval(if units < most { units } else { most } as u32)
    }

    /// ITR interval: the least time between two interrupts, in units of 2.048 us.
    pub const fn itr_interval(self) -> u32 {
        field(self.bits(), 3, 9)
    }

    /// Replaces the ITR interval.
    pub const fn with_itr_interval(self, interval: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 3, 9, interval))
    }
}

/// An entry of an IVAR register: the vector that a cause is sent to. Four in a register
/// (8.2.3.5.13): receive queue 2n, transmit queue 2n, receive queue 2n + 1, transmit queue 2n + 1.
/// In [`IVAR_MISC`] entry 0 is the TCP timer and entry 1 all other causes (8.2.3.5.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IvarEntry(pub u8);

impl IvarEntry {
    /// The entry is valid.
    pub const VALID: u8 = 0x80;

    /// A valid entry for a vector.
    pub const fn to_vector(vector: u8) -> Self {
        Self(vector & 0x3f | Self::VALID)
    }

    /// The vector, if the entry is valid.
    pub const fn vector(self) -> Option<u8> {
        if self.0 & Self::VALID != 0 {
            Some(self.0 & 0x3f)
        } else {
            None
        }
    }

    /// Entry `index` (0 to 3) of a register.
    pub const fn of(register: u32, index: u32) -> Self {
        Self(field(register, 8 * index, 8) as u8)
    }

    /// `register` with entry `index` (0 to 3) replaced.
    pub const fn put(self, register: u32, index: u32) -> u32 {
        with_field(register, 8 * index, 8, self.0 as u32)
    }

    /// Where the entry of a receive queue is: register number and entry.
    pub const fn place_of_rx(queue: u32) -> (u32, u32) {
        (queue / 2, queue % 2 * 2)
    }

    /// Where the entry of a transmit queue is: register number and entry.
    pub const fn place_of_tx(queue: u32) -> (u32, u32) {
        (queue / 2, queue % 2 * 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ivar_entries_lie_where_the_datasheet_draws_them() {
        assert_eq!(IvarEntry::place_of_rx(5), (2, 2));
        assert_eq!(IvarEntry::place_of_tx(4), (2, 1));
        let register = IvarEntry::to_vector(9).put(0xffff_ffff, 2);
        assert_eq!(register, 0xff89_ffff);
        assert_eq!(IvarEntry::of(register, 2).vector(), Some(9));
        assert_eq!(IvarEntry::of(0, 2).vector(), None);
    }

    #[test]
    fn the_moderation_interval_spans_bits_3_to_11() {
        let eitr = Eitr::CNT_WDIS.with_itr_interval(0x1ff);
        assert_eq!(eitr.bits(), 0x8000_0ff8);
        assert_eq!(eitr.itr_interval(), 0x1ff);
    }
}
