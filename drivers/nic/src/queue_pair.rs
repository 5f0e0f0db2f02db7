//! A queue pair: a receive ring, a transmit ring, and the few registers they need once they run.

use crate::config::{QueueMemory, VlanTag};
use crate::rx_ring::RxErrors;
use crate::{LARGEST_PAYLOAD, RxRing, TxRing};
use core::fmt::Debug;
use core::sync::atomic::{Ordering, fence};
use ix_hal::{
    HEADER_ROOM, MbufGeometry, MbufPool, Mmio, Nic, NicStatistics, RxFrame, Transmit, TxFrame,
};

/// What sets the queue pairs of one family of controllers apart from another's.
pub trait Family: Debug + Send + 'static {
    /// Where its write-back has its error bits.
    const RX_ERRORS: RxErrors;

    /// Every frame has to name a context, whether it asks for an offload or not.
    const NAMES_CONTEXTS: bool = false;

    /// Frames that a queue missed for want of a descriptor since it was asked last.
    fn missed(registers: &impl Mmio, queue: u32) -> u32;

    /// Whether the link is up.
    fn link_up(registers: &impl Mmio) -> bool;
}

/// One receive and one transmit queue of a controller, with an interrupt of their own. Shares nothing
/// that it writes with other queue pairs.
#[derive(Debug)]
pub struct QueuePair<R, F> {
    registers: R,
    rx: RxRing<F>,
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
#[derive(Debug)]
pub struct Parts<R> {
    /// The controller's.
    pub registers: R,
    /// Number of the queues.
    pub queue: u32,
    /// The station address.
    pub mac: [u8; 6],
    /// Longest frame without FCS and tag.
    pub max_frame: u32,
    /// The VLAN of all frames.
    pub vlan: Option<VlanTag>,
    /// The pool that receive buffers come from.
    pub pool: MbufGeometry,
    /// Rings and header rooms, which were checked.
    pub memory: QueueMemory,
    /// Where the tail register of the receive queue is.
    pub rdt: u32,
    /// And that of the transmit queue.
    pub tdt: u32,
    /// The receive interrupt.
    pub vector: VectorMask,
}

impl<R: Mmio, F: Family> QueuePair<R, F> {
    /// Rings in that memory, which the device does not know yet.
    pub fn new(parts: Parts<R>) -> Self {
        let Parts { memory, vlan, .. } = parts;
        let tx = TxRing::new(
            memory.tx_ring,
            memory.headers,
            memory.headers_bus,
            parts.max_frame,
        );
        Self {
            rx: RxRing::new(memory.rx_ring, &parts.pool).untagging(vlan.map(VlanTag::id)),
            tx: tx.tagging(vlan.map(VlanTag::control), F::NAMES_CONTEXTS),
            registers: parts.registers,
            rdt: parts.rdt,
            tdt: parts.tdt,
            vector: parts.vector,
            queue: parts.queue,
            mac: parts.mac,
            rx_missed: 0,
        }
    }

    /// The queue's number.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Buffers in the receive ring: empty ones, and frames not yet taken.
    pub fn rx_buffers(&self) -> u32 {
        self.rx.held()
    }

    /// Takes the queue pair apart once the device uses neither of its queues: all buffers go back to
    /// the pool, the memory to the caller.
    pub fn into_memory(mut self, pool: &mut MbufPool) -> QueueMemory {
        self.rx.drain(pool);
        self.tx.drain(pool);
        let rx_ring = self.rx.memory();
        let (tx_ring, headers, headers_bus) = self.tx.into_memory();
        QueueMemory {
            rx_ring,
            tx_ring,
            headers,
            headers_bus,
        }
    }

    /// Tells the device of descriptors. They must be in memory before the doorbell is seen; x86
    /// keeps the order of stores, and the compiler is held to it here.
    #[inline]
    fn ring_doorbell(&self, offset: u32, tail: u32) {
        fence(Ordering::Release);
        self.registers.write32(offset, tail);
    }
}

impl<R: Mmio, F: Family> Transmit for QueuePair<R, F> {
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

impl<R: Mmio, F: Family> Nic for QueuePair<R, F> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn link_up(&mut self) -> bool {
        F::link_up(&self.registers)
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
        self.rx_missed += u64::from(F::missed(&self.registers, self.queue));
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

/// The mask bit of a vector: which registers set and clear it, and which bit it is.
#[derive(Clone, Copy, Debug)]
pub struct VectorMask {
    /// The register that enables.
    pub enable: u32,
    /// The register that disables.
    pub disable: u32,
    /// The bit in both.
    pub bit: u32,
}

impl VectorMask {
    /// Lets the interrupt through.
    pub fn arm(&self, registers: &impl Mmio) {
        registers.write32(self.enable, self.bit);
    }

    /// Stops it.
    pub fn disarm(&self, registers: &impl Mmio) {
        registers.write32(self.disable, self.bit);
    }
}
