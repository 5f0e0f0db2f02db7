//! A queue pair: a receive ring, a transmit ring, and the few registers they need once they run.

use crate::config::{QueueConfig, QueueMemory, VlanTag};
use crate::interrupt::{self, VectorMask};
use crate::registers::{Delay, Expected, clear, set, wait};
use crate::{Error, LARGEST_PAYLOAD, RxRing, TxRing, link};
use core::sync::atomic::{Ordering, fence};
use ix_hal::{
    DmaSlice, HEADER_ROOM, MbufPool, Mmio, Nic, NicStatistics, RxFrame, Transmit, TxFrame,
};
use ixgbe_spec::register::*;

/// The datasheet names no bound; both ways take microseconds.
const QUEUE_TIMEOUT_US: u32 = 100_000;

/// One receive and one transmit queue of an [`Ixgbe`](crate::Ixgbe), with an interrupt of their
/// own. Shares nothing that it writes with other queue pairs.
#[derive(Debug)]
pub struct QueuePair<R> {
    registers: R,
    rx: RxRing,
    tx: TxRing,
    /// Offsets of this queue's tail registers, for the packet path.
    rdt: u32,
    tdt: u32,
    vector: VectorMask,
    queue: u32,
    mac: [u8; 6],
    rx_missed: u64,
}

/// What a queue pair is made of.
pub(crate) struct Parts<R> {
    pub registers: R,
    pub queue: u32,
    pub mac: [u8; 6],
    /// Longest frame without FCS and tag.
    pub max_frame: u32,
    pub vlan: Option<VlanTag>,
    pub config: QueueConfig,
    pub memory: QueueMemory,
}

impl<R: Mmio> QueuePair<R> {
    /// Sets up and enables the queues. `parts` were checked.
    pub(crate) fn new(parts: Parts<R>, delay: Delay<'_>) -> Result<Self, Error> {
        let Parts {
            registers,
            queue,
            mac,
            max_frame,
            vlan,
            config,
            memory,
        } = parts;
        let tx = TxRing::new(
            memory.tx_ring,
            memory.headers,
            memory.headers_bus,
            max_frame,
        )
        .tagging(vlan.map(VlanTag::control));
        let rx = RxRing::new(memory.rx_ring, &config.pool).untagging(vlan.map(VlanTag::id));
        interrupt::set_up_queue(&registers, queue, &config);
        enable_receive_queue(&registers, queue, &rx.memory(), config.pool.size(), delay)?;
        enable_transmit_queue(&registers, queue, &memory.tx_ring, delay)?;
        // A counter that clears on read: what was missed before is not ours.
        registers.read32(qprdc(queue));
        Ok(Self {
            registers,
            rx,
            tx,
            rdt: rdt(queue),
            tdt: tdt(queue),
            vector: VectorMask::new(config.vector),
            queue,
            mac,
            rx_missed: 0,
        })
    }

    /// The queue's number.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Buffers in the receive ring: empty ones, and frames not yet taken.
    pub fn rx_buffers(&self) -> u32 {
        self.rx.held()
    }

    /// See [`Ixgbe::close`](crate::Ixgbe::close).
    pub(crate) fn close(
        mut self,
        pool: &mut MbufPool,
        delay: Delay<'_>,
    ) -> Result<QueueMemory, Error> {
        self.vector.disarm(&self.registers);
        disable_receive_queue(&self.registers, self.queue, delay)?;
        disable_transmit_queue(&self.registers, self.queue, delay)?;
        self.rx.drain(pool);
        self.tx.drain(pool);
        let rx_ring = self.rx.memory();
        let (tx_ring, headers, headers_bus) = self.tx.into_memory();
        Ok(QueueMemory {
            rx_ring,
            tx_ring,
            headers,
            headers_bus,
        })
    }

    /// Tells the device of descriptors. They must be in memory before the doorbell is seen; x86
    /// keeps the order of stores, and the compiler is held to it here.
    #[inline]
    fn ring_doorbell(&self, offset: u32, tail: u32) {
        fence(Ordering::Release);
        self.registers.write32(offset, tail);
    }
}

impl<R: Mmio> Transmit for QueuePair<R> {
    #[inline(always)]
    fn segmentation(&self) -> u32 {
        LARGEST_PAYLOAD
    }

    #[inline(always)]
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        self.tx.header()
    }

    #[inline(always)]
    fn send(&mut self, frame: &TxFrame<'_>) {
        self.tx.send(frame);
    }
}

impl<R: Mmio> Nic for QueuePair<R> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn link_up(&mut self) -> bool {
        link::read(&self.registers).up
    }

    #[inline]
    fn receive(&mut self, frames: &mut [RxFrame], pool: &mut MbufPool) -> usize {
        self.rx.receive(frames, pool)
    }

    #[inline]
    fn refill(&mut self, pool: &mut MbufPool) {
        if let Some(tail) = self.rx.refill(pool) {
            self.ring_doorbell(self.rdt, tail);
        }
    }

    /// Descriptors that nobody needs yet can stay: looking for a report that the device has not
    /// written would be work in every empty poll.
    #[inline]
    fn reclaim(&mut self, pool: &mut MbufPool) -> u32 {
        if self.tx.is_half_used() || self.tx.holds_memory() {
            self.tx.reclaim(pool)
        } else {
            0
        }
    }

    #[inline]
    fn flush(&mut self) {
        if let Some(tail) = self.tx.flush() {
            self.ring_doorbell(self.tdt, tail);
        }
    }

    fn queued(&self) -> u32 {
        self.tx.tail()
    }

    fn has_sent(&mut self, mark: u32) -> bool {
        self.tx.has_sent(mark)
    }

    fn arm_interrupt(&mut self) {
        self.vector.arm(&self.registers);
    }

    fn disarm_interrupt(&mut self) {
        self.vector.disarm(&self.registers);
    }

    fn statistics(&mut self) -> NicStatistics {
        self.rx_missed += u64::from(self.registers.read32(qprdc(self.queue)));
        self.counts()
    }

    fn counts(&self) -> NicStatistics {
        NicStatistics {
            rx_frames: self.rx.frames(),
            rx_bytes: self.rx.bytes(),
            rx_errors: self.rx.errors(),
            rx_wrong_vlan: self.rx.wrong_vlan(),
            rx_missed: self.rx_missed,
            tx_frames: self.tx.frames(),
            tx_bytes: self.tx.bytes(),
            tx_drops: self.tx.drops(),
        }
    }

    fn waiting(&self) -> u32 {
        self.rx.waiting()
    }
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
