//! The link: set-up by what the EEPROM says, and its state.

use crate::{Card, Link};
use ix_hal::Mmio;
use ix_nic::registers::{clear, set};
use ixgbe_spec::register::*;

/// 4.6.4: the link mode comes from the EEPROM; negotiation starts over with it. SDP3 keeps the laser of
/// an SFP+ module off while it is high, as another driver may have left it. Copper negotiates by
/// itself: the PHY of an X540 or X550 follows the NVM, and the MAC follows the PHY.
pub(crate) fn set_up(card: Card, registers: &impl Mmio) {
    match card {
        Card::I82599Sfp => {
            clear(registers, ESDP, Esdp::SDP3_DATA.bits());
            set(registers, AUTOC, Autoc::RESTART_AN.bits());
        }
        Card::I82599 => set(registers, AUTOC, Autoc::RESTART_AN.bits()),
        Card::X540 | Card::X550 => {}
    }
}

/// Its Link_Status bit would also tell of a link that was lost since the last read, which is not what is
/// asked here (8.2.3.22.20).
pub(crate) fn is_up(registers: &impl Mmio) -> bool {
    links(registers).contains(Links::LINK_UP)
}

/// Whether it is up, and how fast.
pub(crate) fn read(card: Card, registers: &impl Mmio) -> Link {
    let links = links(registers);
    let megabits = match card {
        Card::X550 => links.megabits_x550(),
        Card::I82599Sfp | Card::I82599 | Card::X540 => links.megabits(),
    };
    Link::new(links.contains(Links::LINK_UP), megabits)
}

fn links(registers: &impl Mmio) -> Links {
    Links::from_bits_retain(registers.read32(LINKS))
}
