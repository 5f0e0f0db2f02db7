//! Interrupts by MSI-X (7.3, 4.6.6): one vector for the receive cause of each queue, masked until
//! its queue pair arms it. The link and other causes stay off: the caller asks.

use crate::QueueConfig;
use ix_hal::Mmio;
use ix_nic::VectorMask;
use ixgbe_spec::register::*;

/// Masks every cause and forgets what was pending (4.6.3.1).
pub(crate) fn mask_all<R: Mmio>(registers: &R) {
    registers.write32(EIMC, u32::MAX >> 1);
    for n in 0..2 {
        registers.write32(eimc_ex(n), u32::MAX);
    }
    registers.write32(EICR, u32::MAX);
}

/// 4.6.6, what all vectors share.
pub(crate) fn set_up<R: Mmio>(registers: &R) {
    let gpie = Gpie::MULTIPLE_MSIX | Gpie::PBA_SUPPORT | Gpie::OCD | Gpie::EIAME;
    registers.write32(GPIE, gpie.bits());
    for n in 0..64 {
        registers.write32(ivar(n), 0);
    }
    registers.write32(IVAR_MISC, 0);
    // A cause clears itself when its message goes out, so that no handler has to read EICR, and
    // stays enabled until it is disarmed.
    registers.write32(EIAC, Eicr::RTXQ.bits());
    registers.write32(EIAM, 0);
    for n in 0..2 {
        registers.write32(eiam_ex(n), 0);
    }
}

/// 4.6.6, one queue: its receive cause goes to its vector, its transmit cause nowhere, since
/// completions are found by polling.
pub(crate) fn set_up_queue<R: Mmio>(registers: &R, queue: u32, config: &QueueConfig) {
    let (rx_register, rx_entry) = IvarEntry::place_of_rx(queue);
    let (tx_register, tx_entry) = IvarEntry::place_of_tx(queue);
    let rx = IvarEntry::to_vector(config.vector).put(registers.read32(ivar(rx_register)), rx_entry);
    registers.write32(ivar(rx_register), rx);
    let tx = IvarEntry(0).put(registers.read32(ivar(tx_register)), tx_entry);
    registers.write32(ivar(tx_register), tx);

    let moderation = Eitr::of_interval_us(config.interrupt_interval_us);
    registers.write32(eitr(u32::from(config.vector)), moderation.bits());
}

/// The mask bit of a vector, in the extended set (8.2.3.5.11).
pub(crate) fn mask_of(vector: u8) -> VectorMask {
    let n = u32::from(vector) / 32;
    VectorMask {
        enable: eims_ex(n),
        disable: eimc_ex(n),
        bit: 1 << (vector % 32),
    }
}
