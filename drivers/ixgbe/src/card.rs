//! The cards of the family, and what sets them apart: the port, the PHY, and the packet buffer.

use crate::MAX_QUEUES;
use ix_nic::Limits;

/// A kind of card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// An 82599 with SFP+ cages, whose lasers the driver switches on.
    I82599Sfp,
    /// An 82599 whose port the EEPROM has set up: backplane, XAUI to a PHY of its own, QSFP+.
    I82599,
    /// An X540: copper, with a PHY that firmware looks after.
    X540,
    /// An X550: the same, and speeds between 1 and 10 Gb/s.
    X550,
}

/// PCI device numbers, the most frequent one first.
pub const CARDS: [(u16, Card); 19] = [
    // SFI/SFP+, and the same for mezzanines, with FCoE, as 82599EN, and as four ports.
    (0x10fb, Card::I82599Sfp),
    (0x1507, Card::I82599Sfp),
    (0x1529, Card::I82599Sfp),
    (0x154a, Card::I82599Sfp),
    (0x154d, Card::I82599Sfp),
    (0x1557, Card::I82599Sfp),
    // QSFP+.
    (0x1558, Card::I82599),
    // KX4, and on mezzanines; KR; combined backplane, and with FCoE; CX4.
    (0x10f7, Card::I82599),
    (0x1514, Card::I82599),
    (0x1517, Card::I82599),
    (0x10f8, Card::I82599),
    (0x152a, Card::I82599),
    (0x10f9, Card::I82599),
    // XAUI on the main board, and 10GBASE-T behind it.
    (0x10fc, Card::I82599),
    (0x151c, Card::I82599),
    // Two ports, and one.
    (0x1528, Card::X540),
    (0x1560, Card::X540),
    (0x1563, Card::X550),
    (0x15d1, Card::X550),
];

impl Card {
    /// The card of a PCI device number.
    pub fn of(device: u16) -> Option<Self> {
        let known = CARDS.into_iter().find(|&(number, _)| number == device);
        known.map(|(_, card)| card)
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::I82599Sfp | Self::I82599 => "82599",
            Self::X540 => "X540",
            Self::X550 => "X550",
        }
    }

    /// Receive packet buffer in KB, all of which is for frames as long as there are no traffic classes
    /// (82599 4.6.11.3.4).
    pub(crate) const fn rx_packet_buffer_kb(self) -> u32 {
        match self {
            Self::I82599Sfp | Self::I82599 => 512,
            Self::X540 | Self::X550 => 384,
        }
    }

    /// Whether firmware shares the PHY, and has to be asked before what could disturb it.
    pub(crate) const fn shares_phy(self) -> bool {
        matches!(self, Self::X540 | Self::X550)
    }

    pub(crate) const fn limits(self) -> Limits {
        Limits {
            queues: MAX_QUEUES,
            vectors: ixgbe_spec::MSIX_VECTORS,
            max_frame: ixgbe_spec::MAX_FRAME_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart() {
        assert_eq!(Card::of(0x10fb), Some(Card::I82599Sfp));
        assert_eq!(Card::of(0x1517), Some(Card::I82599));
        assert_eq!(Card::of(0x1528), Some(Card::X540));
        assert_eq!(Card::of(0x1563), Some(Card::X550));
        // A virtual function is another thing, and so is an 82598.
        assert_eq!(Card::of(0x10ed), None);
        assert_eq!(Card::of(0x10c6), None);
        for (n, (number, _)) in CARDS.iter().enumerate() {
            assert!(CARDS[..n].iter().all(|(other, _)| other != number));
        }
    }
}
