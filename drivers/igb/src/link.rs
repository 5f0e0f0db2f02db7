//! The link: negotiated by the internal PHY, which is reached through MDIC.

use ix_hal::Mmio;
use ix_nic::registers::{Delay, Expected, clear, set, wait};
use ix_nic::{Error, Link};

use crate::register::*;

/// The PHY's control register (IEEE 802.3-2022 22.2.4.1), and its bits for full duplex at 1000 Mb/s,
/// negotiation, and that it starts over.
const BMCR: u32 = 0;
const BMCR_NEGOTIATE: u32 = 1 << 12 | 1 << 9 | 1 << 8 | 1 << 6;
/// An access to the PHY takes about 64 us.
const MDIC_TIMEOUT_US: u32 = 10_000;

/// The MAC follows the PHY, neither pauses nor lets itself be paused, and the PHY negotiates anew.
/// Where the link does not run over the internal PHY, the EEPROM has set it up.
pub(crate) fn set_up<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    let forced = Ctrl::FRCSPD | Ctrl::FRCDPLX | Ctrl::RFCE | Ctrl::TFCE;
    clear(registers, CTRL, forced.bits());
    set(registers, CTRL, Ctrl::SLU.bits());
    if registers.read32(CTRL_EXT) & CtrlExt::LINK_MODE.bits() != 0 {
        return Ok(());
    }
    let command = Mdic::OP_WRITE | Mdic::PHY;
    registers.write32(MDIC, command.bits() | BMCR << 16 | BMCR_NEGOTIATE);
    let written = Expected {
        register: "MDIC",
        offset: MDIC,
        mask: (Mdic::READY | Mdic::ERROR).bits(),
        value: Mdic::READY.bits(),
        words: "expected the PHY to take a write",
        timeout_us: MDIC_TIMEOUT_US,
    };
    wait(registers, &written, delay)
}

/// Whether it is up.
pub(crate) fn is_up(registers: &impl Mmio) -> bool {
    registers.read32(STATUS) & Status::LU.bits() != 0
}

/// Whether it is up, and how fast.
pub(crate) fn read(registers: &impl Mmio) -> Link {
    let status = registers.read32(STATUS);
    let megabits = match status >> 6 & 3 {
        0 => 10,
        1 => 100,
        _ => 1000,
    };
    Link::new(status & Status::LU.bits() != 0, megabits)
}
