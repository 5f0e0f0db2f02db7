//! What `ix_nic` asks of a driver, answered for the 82576; and its queues as far as they are not alike
//! everywhere.

use ix_hal::Mmio;
use ix_nic::registers::{Delay, clear, set};
use ix_nic::{
    Config, Controller, Error, Family, Limits, Link, Rss, RxErrors, RxQueue, Setup, TxQueue,
    VectorMask,
};

use crate::register::*;
use crate::{LIMITS, init, interrupt, link};

/// PTHRESH, HTHRESH and WTHRESH: descriptors are fetched a few cache lines at a time, and each frame
/// received is written back at once.
const RX_THRESHOLDS: u32 = 8 | 8 << 8 | 1 << 16;
/// WTHRESH is zero because descriptors report by RS.
const TX_THRESHOLDS: u32 = 8 | 1 << 8;

/// The 82576.
#[derive(Clone, Copy, Debug)]
pub struct I82576;

impl Family for I82576 {
    /// RXE, IPE and L4E of the Extended Error field, from the highest bit down.
    const RX_ERRORS: RxErrors = RxErrors { rxe: 31, l4e: 29 };

    /// A counter that is written to zero.
    fn missed(registers: &impl Mmio, queue: u32) -> u32 {
        let count = registers.read32(rqdpc(queue));
        registers.write32(rqdpc(queue), 0);
        count
    }

    fn link_up(registers: &impl Mmio) -> bool {
        link::is_up(registers)
    }
}

impl Controller for I82576 {
    type Family = Self;

    fn name(self) -> &'static str {
        "82576"
    }

    fn limits(self) -> Limits {
        LIMITS
    }

    fn queues(self, queue: u32) -> (RxQueue, TxQueue) {
        let rx = RxQueue::at(rdbal(queue), srrctl(queue));
        (rx, TxQueue::at(tdbal(queue)))
    }

    fn vector(self, vector: u8) -> VectorMask {
        interrupt::mask_of(vector)
    }

    fn reset(self, registers: &impl Mmio, delay: Delay<'_>) -> Result<(), Error> {
        init::reset(registers, delay)
    }

    fn initialise(
        self,
        registers: &impl Mmio,
        config: &Config,
        delay: Delay<'_>,
    ) -> Result<[u8; 6], Error> {
        init::initialise(registers, config, delay)
    }

    fn enable(
        self,
        registers: &impl Mmio,
        queue: u32,
        setup: &Setup<'_>,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        let (rx, tx) = self.queues(queue);
        interrupt::set_up_queue(registers, queue, setup.config);
        let control = Srrctl::DESCTYPE_ADVANCED | Srrctl::DROP_EN;
        rx.set_up(
            registers,
            &setup.rx_ring,
            control.bits() | setup.buffer_kilobytes(),
        );
        // No relaxed ordering of a write-back before its data.
        let relaxed = Dca::DESCRIPTOR_WB_RO.bits();
        clear(registers, rxctl(queue), relaxed);
        rx.enable(registers, RX_THRESHOLDS, delay)?;
        tx.set_up(registers, &setup.tx_ring);
        clear(registers, txctl(queue), relaxed);
        tx.enable(registers, TX_THRESHOLDS, delay)
    }

    fn start(self, registers: &impl Mmio, config: &Config, _: Delay<'_>) -> Result<(), Error> {
        init::enable_receive(registers, config);
        Ok(())
    }

    /// The hardware's copy is what is read.
    fn redirect(self, registers: &impl Mmio, rss: &Rss) {
        init::write_reta(registers, &rss.reta);
        registers.read32(reta(0));
    }

    /// The table holds 12 bits of an address.
    fn join(self, registers: &impl Mmio, groups: &[[u8; 6]], _: Delay<'_>) -> Result<(), Error> {
        if let Some(group) = groups.last() {
            let bit = u32::from(u16::from_le_bytes([group[4], group[5]])) >> 4;
            set(registers, mta(bit / 32), 1 << (bit % 32));
        }
        Ok(())
    }

    fn link(self, registers: &impl Mmio) -> Link {
        link::read(registers)
    }
}

#[cfg(test)]
mod tests;
