//! Interrupts by MSI-X: one vector for the receive cause of each queue, masked until its queue pair
//! arms it. The link and other causes stay off.

use ix_hal::Mmio;
use ix_nic::{QueueConfig, VectorMask};

use crate::register::*;

/// Nanoseconds that EITR counts in.
const INTERVAL_UNIT_NS: u64 = 1024;
/// The longest interval, in units.
const INTERVAL_MAX: u64 = 0x1fff;

/// Masks every cause and forgets what was pending.
pub(crate) fn mask_all<R: Mmio>(registers: &R) {
    registers.write32(IMC, u32::MAX);
    registers.write32(EIMC, ALL_VECTORS);
    registers.read32(ICR);
    registers.write32(EICR, ALL_VECTORS);
}

/// What all vectors share. The mode comes first: what the other registers hold depends on it.
pub(crate) fn set_up<R: Mmio>(registers: &R) {
    let gpie = Gpie::MULTIPLE_MSIX | Gpie::PBA_SUPPORT | Gpie::NSICR;
    registers.write32(GPIE, gpie.bits());
    for n in 0..8 {
        registers.write32(ivar(n), 0);
    }
    registers.write32(IVAR_MISC, 0);
    registers.write32(EIAC, ALL_VECTORS);
}

/// The queue's receive cause goes to its vector, its transmit cause nowhere, since completions are
/// found by polling.
pub(crate) fn set_up_queue<R: Mmio>(registers: &R, queue: u32, config: &QueueConfig) {
    let entry = IVAR_VALID | u32::from(config.vector);
    let others = registers.read32(ivar(queue)) & !0xffff;
    registers.write32(ivar(queue), others | entry);
    let interval_ns = u64::from(config.interrupt_interval_us) * 1000;
    let units = interval_ns.div_ceil(INTERVAL_UNIT_NS).min(INTERVAL_MAX);
    let moderation = EITR_CNT_IGNR | (units as u32) << 2;
    registers.write32(eitr(u32::from(config.vector)), moderation);
}

/// The mask bit of a vector.
pub(crate) fn mask_of(vector: u8) -> VectorMask {
    VectorMask {
        enable: EIMS,
        disable: EIMC,
        bit: 1 << (vector % 32),
    }
}
