//! Queues of a controller: how their registers lie, and how they are enabled and let go of, which is
//! the same for all of them (8.2.3.8, 8.2.3.9; 4.6.7, 4.6.8).

use ix_hal::{DmaSlice, Mmio};

use crate::Error;
use crate::registers::{Delay, Expected, clear, set, wait};

/// Distances from a queue's first register.
const HEAD: u32 = 0x10;
const TAIL: u32 = 0x18;
const CONTROL: u32 = 0x28;
const HEAD_WRITE_BACK: u32 = 0x38;

/// ENABLE of RXDCTL and TXDCTL (8.2.3.8.6, 8.2.3.9.10).
const ENABLE: u32 = 1 << 25;
/// The datasheet names no bound; all of it takes microseconds.
const TIMEOUT_US: u32 = 100_000;
/// Frames under way may take so long after ENABLE has cleared (4.6.7.1).
const DRAIN_US: u32 = 100;

/// Offsets of a receive queue's registers.
#[derive(Clone, Copy, Debug)]
pub struct RxQueue {
    /// Base low; base high and length follow it.
    pub(crate) rdbal: u32,
    /// Head.
    pub(crate) rdh: u32,
    /// Tail.
    pub rdt: u32,
    /// Descriptor control.
    pub rxdctl: u32,
    /// Split and replication control.
    pub srrctl: u32,
}

impl RxQueue {
    /// The queue whose first register is `rdbal`. The others are as far from it everywhere, but for SRRCTL.
    pub const fn at(rdbal: u32, srrctl: u32) -> Self {
        Self {
            rdbal,
            rdh: rdbal + HEAD,
            rdt: rdbal + TAIL,
            rxdctl: rdbal + CONTROL,
            srrctl,
        }
    }

    /// Gives the device an empty ring, with SRRCTL as it is to be. Descriptors come with the first
    /// refill.
    pub fn set_up(&self, registers: &impl Mmio, ring: &DmaSlice, srrctl: u32) {
        write_ring(registers, self.rdbal, ring);
        registers.write32(self.srrctl, srrctl);
        registers.write32(self.rdh, 0);
        registers.write32(self.rdt, 0);
    }

    /// Enables the queue, with RXDCTL as it is to be otherwise. The tail may not move before.
    pub fn enable(
        &self,
        registers: &impl Mmio,
        rxdctl: u32,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        registers.write32(self.rxdctl, rxdctl);
        enable(registers, "RXDCTL", self.rxdctl, delay)
    }

    /// 4.6.7.1: the device uses neither ring nor buffers any more.
    pub fn disable(&self, registers: &impl Mmio, delay: Delay<'_>) -> Result<(), Error> {
        disable(registers, "RXDCTL", self.rxdctl, delay)?;
        delay(DRAIN_US);
        Ok(())
    }
}

/// Offsets of a transmit queue's registers.
#[derive(Clone, Copy, Debug)]
pub struct TxQueue {
    /// Base low; base high and length follow it.
    pub(crate) tdbal: u32,
    /// Head.
    pub(crate) tdh: u32,
    /// Tail.
    pub(crate) tdt: u32,
    /// Descriptor control.
    pub(crate) txdctl: u32,
    /// Where the head would be written back, low; high follows it.
    pub(crate) tdwbal: u32,
}

impl TxQueue {
    /// The queue whose first register is `tdbal`. The others are as far from it everywhere.
    pub const fn at(tdbal: u32) -> Self {
        Self {
            tdbal,
            tdh: tdbal + HEAD,
            tdt: tdbal + TAIL,
            txdctl: tdbal + CONTROL,
            tdwbal: tdbal + HEAD_WRITE_BACK,
        }
    }

    /// Gives the device an empty ring. The head is not written back: completions are found in the
    /// descriptors.
    pub fn set_up(&self, registers: &impl Mmio, ring: &DmaSlice) {
        write_ring(registers, self.tdbal, ring);
        registers.write32(self.tdh, 0);
        registers.write32(self.tdt, 0);
        registers.write32(self.tdwbal, 0);
        registers.write32(self.tdwbal + 4, 0);
    }

    /// Enables the queue, with TXDCTL as it is to be otherwise.
    pub fn enable(
        &self,
        registers: &impl Mmio,
        txdctl: u32,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        registers.write32(self.txdctl, txdctl);
        enable(registers, "TXDCTL", self.txdctl, delay)
    }

    /// 4.6.8.1: what was queued is given time to leave; a link that is down never lets it.
    pub fn disable(&self, registers: &impl Mmio, delay: Delay<'_>) -> Result<(), Error> {
        let tail = registers.read32(self.tdt);
        let sent = Expected {
            register: "TDH",
            offset: self.tdh,
            mask: 0xffff,
            value: tail & 0xffff,
            words: "expected the queue to empty",
            timeout_us: TIMEOUT_US,
        };
        // Not an error: the queue is disabled either way, and what it held is not sent.
        let _ = wait(registers, &sent, delay);
        disable(registers, "TXDCTL", self.txdctl, delay)
    }
}

/// Base and length, which lie in a row.
fn write_ring(registers: &impl Mmio, base: u32, ring: &DmaSlice) {
    registers.write32(base, ring.bus() as u32);
    registers.write32(base + 4, (ring.bus() >> 32) as u32);
    registers.write32(base + 8, ring.words() as u32 * 8);
}

fn enable(
    registers: &impl Mmio,
    register: &'static str,
    offset: u32,
    delay: Delay<'_>,
) -> Result<(), Error> {
    set(registers, offset, ENABLE);
    let enabled = Expected {
        register,
        offset,
        mask: ENABLE,
        value: ENABLE,
        words: "expected ENABLE to be set",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &enabled, delay)
}

fn disable(
    registers: &impl Mmio,
    register: &'static str,
    offset: u32,
    delay: Delay<'_>,
) -> Result<(), Error> {
    clear(registers, offset, ENABLE);
    let disabled = Expected {
        register,
        offset,
        mask: ENABLE,
        value: 0,
        words: "expected ENABLE to clear",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &disabled, delay)
}
