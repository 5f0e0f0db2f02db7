//! The virtual functions of the 82599, X540 and X550 (7.10, 8.3): registers in their BAR 0, and what their
//! driver and the physical function's tell each other by the mailbox ([`mailbox`]).
//!
//! Receive queues have the registers of the physical function at the same offsets ([`crate::register::rdbal`] and so
//! on), transmit queues have them 0x4000 lower. Flags are those of the physical function's registers of like names.

pub mod mailbox;

use crate::register as physical;
use bitflags::bitflags;

/// PCI device numbers of the virtual functions of the 82599, X540 and X550.
pub const PCI_DEVICES: [u16; 3] = [0x10ed, 0x1515, 0x1565];
/// Bytes of BAR 0 (9.4).
pub const BAR0_BYTES: u32 = 0x4000;
/// Interrupt vectors: three with MSI-X, and no other kind (7.3.1).
pub const MSIX_VECTORS: u32 = 3;
/// Bits of all vectors in [`VTEICR`] and its neighbours.
pub const ALL_VECTORS: u32 = (1 << MSIX_VECTORS) - 1;
/// Queues of each kind that the registers have room for; how many a function has, its mailbox tells.
pub const QUEUES: u32 = 8;

/// Control: of the physical function's bits only RST (8.3).
pub const VFCTRL: u32 = 0x00000;
/// Status.
pub const VFSTATUS: u32 = 0x00008;
/// State of the link, as [`physical::LINKS`].
pub const VFLINKS: u32 = 0x00010;
/// Free running timer, in microseconds.
pub const VFFRTIMER: u32 = 0x00048;
/// Interrupt causes, a bit for each vector, cleared by reading and by writing ones.
pub const VTEICR: u32 = 0x00100;
/// Sets causes from software.
pub const VTEICS: u32 = 0x00104;
/// Enables vectors; reads as the mask.
pub const VTEIMS: u32 = 0x00108;
/// Disables vectors, write only.
pub const VTEIMC: u32 = 0x0010c;
/// Causes that clear themselves when their message is sent.
pub const VTEIAC: u32 = 0x00110;
/// Vectors that are masked when they interrupt.
pub const VTEIAM: u32 = 0x00114;
/// Vector of the mailbox, in entry 0; entries as in [`vtivar`].
pub const VTIVAR_MISC: u32 = 0x00140;
/// First word of the mailbox's memory.
pub const VFMBMEM: u32 = 0x00200;
/// Words of the mailbox's memory.
pub const VFMBMEM_WORDS: u32 = 16;
/// The mailbox, see [`Vfmailbox`].
pub const VFMAILBOX: u32 = 0x002fc;
/// Header split, and over how many queues flows are spread, as [`physical::psrtype`].
pub const VFPSRTYPE: u32 = 0x00300;
/// Good frames received, wrapping around; the counters are not cleared by reading.
pub const VFGPRC: u32 = 0x0101c;
/// Good bytes received, low 32 of 36 bits.
pub const VFGORC_LSB: u32 = 0x01020;
/// Good bytes received, high four bits.
pub const VFGORC_MSB: u32 = 0x01024;
/// Multicast frames received.
pub const VFMPRC: u32 = 0x01034;
/// Good frames sent.
pub const VFGPTC: u32 = 0x0201c;
/// Good bytes sent, low 32 of 36 bits.
pub const VFGOTC_LSB: u32 = 0x02020;
/// Good bytes sent, high four bits.
pub const VFGOTC_MSB: u32 = 0x02024;
/// Packet buffers that wrapped around.
pub const VFRXMEMWRAP: u32 = 0x03190;

/// Moderation of a vector, 0 to 2.
pub const fn vteitr(vector: u32) -> u32 {
    0x00820 + 4 * vector
}

/// Vectors of queues 2n and 2n + 1, `n` 0 to 3: entries as in [`physical::ivar`], of which two bits are the vector.
pub const fn vtivar(n: u32) -> u32 {
    0x00120 + 4 * n
}

/// Interrupts of coalesced frames, of queue `n`.
pub const fn vtrscint(n: u32) -> u32 {
    0x00180 + 4 * n
}

/// Word `n` of the mailbox's memory, 0 to 15.
pub const fn vfmbmem(n: u32) -> u32 {
    VFMBMEM + 4 * n
}

/// Base of a transmit ring, low half.
pub const fn vftdbal(queue: u32) -> u32 {
    physical::tdbal(queue) - TRANSMIT_DISTANCE
}

/// Base of a transmit ring, high half.
pub const fn vftdbah(queue: u32) -> u32 {
    physical::tdbah(queue) - TRANSMIT_DISTANCE
}

/// Bytes of a transmit ring.
pub const fn vftdlen(queue: u32) -> u32 {
    physical::tdlen(queue) - TRANSMIT_DISTANCE
}

/// DCA control of a transmit queue.
pub const fn vfdca_txctrl(queue: u32) -> u32 {
    physical::dca_txctrl(queue) - TRANSMIT_DISTANCE
}

/// Head of a transmit ring.
pub const fn vftdh(queue: u32) -> u32 {
    physical::tdh(queue) - TRANSMIT_DISTANCE
}

/// Tail of a transmit ring.
pub const fn vftdt(queue: u32) -> u32 {
    physical::tdt(queue) - TRANSMIT_DISTANCE
}

/// Control of a transmit queue.
pub const fn vftxdctl(queue: u32) -> u32 {
    physical::txdctl(queue) - TRANSMIT_DISTANCE
}

/// Where the head is written back to, low half.
pub const fn vftdwbal(queue: u32) -> u32 {
    physical::tdwbal(queue) - TRANSMIT_DISTANCE
}

/// Where the head is written back to, high half.
pub const fn vftdwbah(queue: u32) -> u32 {
    physical::tdwbah(queue) - TRANSMIT_DISTANCE
}

/// How much lower than in the physical function the registers of transmit queues lie.
pub const TRANSMIT_DISTANCE: u32 = 0x4000;

bitflags! {
    /// Bits of [`VFMAILBOX`] (7.10.2.9, 8.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Vfmailbox: u32 {
        /// Tells the physical function of a message; write only.
        const REQ = 1 << 0;
        /// Tells it that its message was read; write only.
        const ACK = 1 << 1;
        /// The memory is the virtual function's; can be set while PFU is clear.
        const VFU = 1 << 2;
        /// The memory is the physical function's.
        const PFU = 1 << 3;
        /// There is a message; cleared by reading.
        const PFSTS = 1 << 4;
        /// The message was taken; cleared by reading.
        const PFACK = 1 << 5;
        /// The physical function resets itself.
        const RSTI = 1 << 6;
        /// It is done with that; cleared by reading.
        const RSTD = 1 << 7;
        const _ = !0;
    }
}

/// RQPL of [`VFPSRTYPE`]: logarithm of the number of queues that flows are spread over (8.2.3.7.4).
pub const fn rqpl(vfpsrtype: u32) -> u32 {
    vfpsrtype >> 29
}

/// A [`VFPSRTYPE`] that spreads flows over 2^`queues_log2` queues.
pub const fn with_rqpl(vfpsrtype: u32, queues_log2: u32) -> u32 {
    vfpsrtype & !(0x7 << 29) | queues_log2 << 29
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Typed from the datasheet's list of registers (8.3), apart from the table above.
    #[test]
    fn transmit_queues_lie_where_the_datasheet_lists_them() {
        let of_queue_1 = [
            (vftdbal(1), 0x2040),
            (vftdbah(1), 0x2044),
            (vftdlen(1), 0x2048),
            (vfdca_txctrl(1), 0x204c),
            (vftdh(1), 0x2050),
            (vftdt(1), 0x2058),
            (vftxdctl(1), 0x2068),
            (vftdwbal(1), 0x2078),
            (vftdwbah(1), 0x207c),
        ];
        for (offset, listed) in of_queue_1 {
            assert_eq!(offset, listed);
        }
        assert_eq!(vfmbmem(15), 0x23c);
        assert_eq!((vtivar(3), vteitr(2)), (0x12c, 0x828));
    }

    #[test]
    fn the_number_of_queues_is_in_the_top_bits() {
        assert_eq!(with_rqpl(0xffff_ffff, 1), 0x3fff_ffff);
        assert_eq!(rqpl(with_rqpl(0x30, 1)), 1);
    }
}
