//! One receive and one transmit queue: their set-up.

use ix_hal::{DmaSlice, Mmio};
use ix_nic::registers::{Delay, Expected, clear, set, wait};
use ix_nic::{Error, Family, Parts, QueueConfig, RxErrors};

use crate::register::*;
use crate::{I82576, QueuePair, interrupt, link};

/// The datasheet names no bound; it takes microseconds.
const QUEUE_TIMEOUT_US: u32 = 100_000;
/// PTHRESH, HTHRESH and WTHRESH: descriptors are fetched a few cache lines at a time, and each frame
/// received is written back at once.
const RX_THRESHOLDS: u32 = 8 | 8 << 8 | 1 << 16;
/// WTHRESH is zero because descriptors report by RS.
const TX_THRESHOLDS: u32 = 8 | 1 << 8;

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
        link::read(registers).up
    }
}

/// Sets up and enables the queues of `parts`, which were checked.
pub(crate) fn open<R: Mmio + Clone>(
    parts: Parts<R>,
    config: &QueueConfig,
    delay: Delay<'_>,
) -> Result<QueuePair<R>, Error> {
    let (registers, queue) = (parts.registers.clone(), parts.queue);
    let (rx_ring, tx_ring) = (parts.memory.rx_ring, parts.memory.tx_ring);
    // This clears the rings.
    let pair = QueuePair::new(parts);
    interrupt::set_up_queue(&registers, queue, config);
    enable_receive_queue(&registers, queue, &rx_ring, config.pool.size(), delay)?;
    enable_transmit_queue(&registers, queue, &tx_ring, delay)?;
    // What was missed before is not ours.
    I82576::missed(&registers, queue);
    Ok(pair)
}

/// Descriptors come with the first refill.
fn enable_receive_queue<R: Mmio>(
    registers: &R,
    queue: u32,
    ring: &DmaSlice,
    buffer_bytes: usize,
    delay: Delay<'_>,
) -> Result<(), Error> {
    write_ring(registers, rdbal(queue), ring);
    let kilobytes = buffer_bytes as u32 / 1024;
    let control = Srrctl::DESCTYPE_ADVANCED | Srrctl::DROP_EN;
    registers.write32(srrctl(queue), control.bits() | kilobytes);
    registers.write32(rdh(queue), 0);
    registers.write32(rdt(queue), 0);
    // No relaxed ordering of a write-back before its data.
    clear(registers, rxctl(queue), Dca::DESCRIPTOR_WB_RO.bits());
    registers.write32(rxdctl(queue), RX_THRESHOLDS);
    enable(registers, "RXDCTL", rxdctl(queue), delay)
}

fn enable_transmit_queue<R: Mmio>(
    registers: &R,
    queue: u32,
    ring: &DmaSlice,
    delay: Delay<'_>,
) -> Result<(), Error> {
    write_ring(registers, tdbal(queue), ring);
    registers.write32(tdh(queue), 0);
    registers.write32(tdt(queue), 0);
    // No head write-back: completions are found in the descriptors.
    registers.write32(tdwbal(queue), 0);
    registers.write32(tdwbal(queue) + 4, 0);
    clear(registers, txctl(queue), Dca::DESCRIPTOR_WB_RO.bits());
    registers.write32(txdctl(queue), TX_THRESHOLDS);
    enable(registers, "TXDCTL", txdctl(queue), delay)
}

/// Base and length, which lie in a row.
fn write_ring<R: Mmio>(registers: &R, base: u32, ring: &DmaSlice) {
    registers.write32(base, ring.bus() as u32);
    registers.write32(base + 4, (ring.bus() >> 32) as u32);
    registers.write32(base + 8, ring.words() as u32 * 8);
}

/// Switches a queue on; its tail may not move before.
fn enable<R: Mmio>(
    registers: &R,
    register: &'static str,
    offset: u32,
    delay: Delay<'_>,
) -> Result<(), Error> {
    set(registers, offset, Xdctl::ENABLE.bits());
    let enabled = Expected {
        register,
        offset,
        mask: Xdctl::ENABLE.bits(),
        value: Xdctl::ENABLE.bits(),
        words: "expected ENABLE to be set",
        timeout_us: QUEUE_TIMEOUT_US,
    };
    wait(registers, &enabled, delay)
}
