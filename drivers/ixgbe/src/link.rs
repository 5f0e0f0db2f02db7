//! The link: set-up by what the EEPROM says, and its state.

use crate::{Error, Ixgbe};
use ix_hal::Mmio;
use ix_nic::registers::{Delay, Expected, set, wait};
use ixgbe_spec::register::*;

/// State of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Its speed in Mb/s while up.
    pub megabits: u32,
}

/// 4.6.4: the link mode comes from the EEPROM; negotiation starts over with it.
pub(crate) fn set_up<R: Mmio>(registers: &R) {
    set(registers, AUTOC, Autoc::RESTART_AN.bits());
}

/// Reads LINKS. Its Link_Status bit would also tell of a link that was lost since the last read,
/// which is not what is asked here (8.2.3.22.20).
pub(crate) fn read<R: Mmio>(registers: &R) -> Link {
    let links = Links::from_bits_retain(registers.read32(LINKS));
    let up = links.contains(Links::LINK_UP);
    Link {
        up,
        megabits: if up { links.megabits() } else { 0 },
    }
}

impl<R: Mmio + Clone> Ixgbe<R> {
    /// State of the link now.
    pub fn link(&self) -> Link {
        read(self.registers())
    }

    /// Waits until the link is up, at most `timeout_us`. `delay` waits that many microseconds.
    pub fn wait_for_link(
        &mut self,
        timeout_us: u32,
        delay: &mut dyn FnMut(u32),
    ) -> Result<Link, Error> {
        let up = Expected {
            register: "LINKS",
            offset: LINKS,
            mask: Links::LINK_UP.bits(),
            value: Links::LINK_UP.bits(),
            words: "expected the link to come up",
            timeout_us,
        };
        let delay: Delay<'_> = delay;
        wait(self.registers(), &up, delay)?;
        Ok(self.link())
    }
}
