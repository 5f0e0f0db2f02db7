//! One receive and one transmit queue: set up in the order of 4.6.7 and 4.6.8, and let go of again.

use crate::{Error, I82599, QueueConfig, QueueMemory, QueuePair, interrupt};
use ix_hal::{DmaSlice, MbufPool, Mmio, Nic};
use ix_nic::registers::{Delay, Expected, clear, set, wait};
use ix_nic::{Family, Parts, RxErrors};
use ixgbe_spec::RxError;
use ixgbe_spec::register::*;

/// The datasheet names no bound; both ways take microseconds.
const QUEUE_TIMEOUT_US: u32 = 100_000;

impl Family for I82599 {
    /// 7.1.6.2.
    const RX_ERRORS: RxErrors = RxErrors {
        rxe: 20 + RxError::RXE.bits().trailing_zeros(),
        l4e: 20 + RxError::TCPE.bits().trailing_zeros(),
    };

    /// A counter that clears when it is read.
    fn missed(registers: &impl Mmio, queue: u32) -> u32 {
        registers.read32(qprdc(queue))
    }

    fn link_up(registers: &impl Mmio) -> bool {
        crate::link::read(registers).up
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
    I82599::missed(&registers, queue);
    Ok(pair)
}

/// See [`Ixgbe::close`](crate::Ixgbe::close).
pub(crate) fn close<R: Mmio>(
    registers: &R,
    mut pair: QueuePair<R>,
    pool: &mut MbufPool,
    delay: Delay<'_>,
) -> Result<QueueMemory, Error> {
    pair.disarm_interrupt();
    disable_receive_queue(registers, pair.queue(), delay)?;
    disable_transmit_queue(registers, pair.queue(), delay)?;
    Ok(pair.into_memory(pool))
}

/// 4.6.7, once for each receive queue. Descriptors come with the first refill.
fn enable_receive_queue<R: Mmio>(
    registers: &R,
    queue: u32,
    ring: &DmaSlice,
    buffer_bytes: usize,
    delay: Delay<'_>,
) -> Result<(), Error> {
    registers.write32(rdbal(queue), ring.bus() as u32);
    registers.write32(rdbah(queue), (ring.bus() >> 32) as u32);
    registers.write32(rdlen(queue), ring.words() as u32 * 8);
    // With Drop_En a queue without descriptors drops its own frames, instead of blocking the packet
    // buffer that all queues share.
    let srrctl_value = Srrctl::from_bits_retain(registers.read32(srrctl(queue)))
        .with_bsizepacket(buffer_bytes as u32 / 1024)
        .with_desctype(Srrctl::DESCTYPE_ADVANCED)
        | Srrctl::DROP_EN;
    registers.write32(srrctl(queue), srrctl_value.bits());
    registers.write32(rscctl(queue), 0);
    registers.write32(rdh(queue), 0);
    registers.write32(rdt(queue), 0);
    // Last words of 4.6.7; and no relaxed ordering of a write-back before its data.
    let rxctrl = DcaRxctrl::RESERVED_CLEAR | DcaRxctrl::DESCRIPTOR_WB_RO;
    clear(registers, dca_rxctrl(queue), rxctrl.bits());
    // Tags are stripped whether or not one is configured, since the write-back says that there was
    // one only if it is (7.1.6.2).
    set(registers, rxdctl(queue), Rxdctl::VME.bits());
    set(registers, rxdctl(queue), Rxdctl::ENABLE.bits());
    // The tail may not move before this (4.6.7).
    let enabled = Expected {
        register: "RXDCTL",
        offset: rxdctl(queue),
        mask: Rxdctl::ENABLE.bits(),
        value: Rxdctl::ENABLE.bits(),
        words: "expected ENABLE to be set",
        timeout_us: QUEUE_TIMEOUT_US,
    };
    wait(registers, &enabled, delay)
}

/// 4.6.8, once for each transmit queue.
fn enable_transmit_queue<R: Mmio>(
    registers: &R,
    queue: u32,
    ring: &DmaSlice,
    delay: Delay<'_>,
) -> Result<(), Error> {
    registers.write32(tdbal(queue), ring.bus() as u32);
    registers.write32(tdbah(queue), (ring.bus() >> 32) as u32);
    registers.write32(tdlen(queue), ring.words() as u32 * 8);
    registers.write32(tdh(queue), 0);
    registers.write32(tdt(queue), 0);
    // No head write-back: completions are found in the descriptors.
    registers.write32(tdwbal(queue), 0);
    registers.write32(tdwbah(queue), 0);
    let relaxed = DcaTxctrl::DESCRIPTOR_WB_RO.bits();
    clear(registers, dca_txctrl(queue), relaxed);
    // WTHRESH is zero because descriptors report by RS (8.2.3.9.10); the other two let the device
    // fetch a few cache lines of descriptors at a time.
    let thresholds = Txdctl::empty().with_pthresh(36).with_hthresh(8);
    registers.write32(txdctl(queue), thresholds.bits());
    // TE comes before any queue is enabled. It also enables queue 0, which does no harm while its
    // head and tail are equal (8.2.3.9.10).
    set(registers, DMATXCTL, Dmatxctl::TE.bits());
    set(registers, txdctl(queue), Txdctl::ENABLE.bits());
    let enabled = Expected {
        register: "TXDCTL",
        offset: txdctl(queue),
        mask: Txdctl::ENABLE.bits(),
        value: Txdctl::ENABLE.bits(),
        words: "expected ENABLE to be set",
        timeout_us: QUEUE_TIMEOUT_US,
    };
    wait(registers, &enabled, delay)
}

/// 4.6.7.1: frames under way may take another 100 us after ENABLE has cleared.
fn disable_receive_queue<R: Mmio>(
    registers: &R,
    queue: u32,
    delay: Delay<'_>,
) -> Result<(), Error> {
    clear(registers, rxdctl(queue), Rxdctl::ENABLE.bits());
    let disabled = Expected {
        register: "RXDCTL",
        offset: rxdctl(queue),
        mask: Rxdctl::ENABLE.bits(),
        value: 0,
        words: "expected ENABLE to clear",
        timeout_us: QUEUE_TIMEOUT_US,
    };
    wait(registers, &disabled, delay)?;
    delay(100);
    Ok(())
}

/// 4.6.8.1: what was queued is given time to leave; a link that is down never lets it.
fn disable_transmit_queue<R: Mmio>(
    registers: &R,
    queue: u32,
    delay: Delay<'_>,
) -> Result<(), Error> {
    let tail = registers.read32(tdt(queue));
    let sent = Expected {
        register: "TDH",
        offset: tdh(queue),
        mask: 0xffff,
        value: tail & 0xffff,
        words: "expected the queue to empty",
        timeout_us: QUEUE_TIMEOUT_US,
    };
    // Not an error: the queue is disabled either way, and what it held is not sent.
    let _ = wait(registers, &sent, delay);
    clear(registers, txdctl(queue), Txdctl::ENABLE.bits());
    let disabled = Expected {
        register: "TXDCTL",
        offset: txdctl(queue),
        mask: Txdctl::ENABLE.bits(),
        value: 0,
        words: "expected ENABLE to clear",
        timeout_us: QUEUE_TIMEOUT_US,
    };
    wait(registers, &disabled, delay)
}
