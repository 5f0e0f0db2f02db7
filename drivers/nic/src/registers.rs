//! Register access with flags, and waiting for a register with a bound.

use crate::Error;
use ix_hal::Mmio;

/// Waits that many microseconds, at least.
pub type Delay<'a> = &'a mut dyn FnMut(u32);

/// How often a register is looked at while waiting for it.
const POLL_INTERVAL_US: u32 = 10;

/// Sets bits of a register and keeps the others.
pub fn set<R: Mmio>(registers: &R, offset: u32, bits: u32) {
    registers.write32(offset, registers.read32(offset) | bits);
}

/// Clears bits of a register and keeps the others.
pub fn clear<R: Mmio>(registers: &R, offset: u32, bits: u32) {
    registers.write32(offset, registers.read32(offset) & !bits);
}

/// What a register is to become, for [`wait`].
pub struct Expected {
    /// Its name.
    pub register: &'static str,
    /// Where it is.
    pub offset: u32,
    /// The bits looked at.
    pub mask: u32,
    /// What they are to be.
    pub value: u32,
    /// The same in words, for the message: "expected ...".
    pub words: &'static str,
    /// How long to wait at most.
    pub timeout_us: u32,
}

/// Waits for a register, and fails with what it held at last.
pub fn wait<R: Mmio>(registers: &R, expected: &Expected, delay: Delay<'_>) -> Result<(), Error> {
    let mut waited_us = 0;
    loop {
        let value = registers.read32(expected.offset);
        if value & expected.mask == expected.value {
            return Ok(());
        }
        if waited_us >= expected.timeout_us {
            return Err(Error::Timeout {
                register: expected.register,
                expected: expected.words,
                value,
                waited_us,
            });
        }
        delay(POLL_INTERVAL_US);
        waited_us += POLL_INTERVAL_US;
    }
}
