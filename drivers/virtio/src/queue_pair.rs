//! A queue pair: a receive and a transmit queue of a device.

use ix_hal::{DmaSlice, HEADER_ROOM, MbufPool, Nic, NicStatistics, RxFrame, Transmit, TxFrame};

use crate::device::link_is_up;
use crate::ring::Ring;
use crate::rx::RxQueue;
use crate::transport::{Transport, Window};
use crate::tx::{LARGEST_PAYLOAD, Room, TxQueue};

/// Memory of a queue pair, which the caller keeps for nothing else as long as the device may reach it.
#[derive(Debug)]
pub struct QueueMemory {
    /// The receive queue, [`Ring::words`] of `rx_size`.
    pub rx_ring: DmaSlice,
    /// Most descriptors of it, a power of two; a frame takes two.
    pub rx_size: u16,
    /// Rooms for the headers of received frames, [`QueueMemory::rx_header_words`].
    pub rx_headers: DmaSlice,
    /// The transmit queue.
    pub tx_ring: DmaSlice,
    /// Most descriptors of it.
    pub tx_size: u16,
    /// A room for the headers of a frame for each descriptor of the transmit queue.
    pub rooms: &'static mut [Room],
    /// Bus address of the first.
    pub rooms_bus: u64,
}

impl QueueMemory {
    /// Words that the headers of received frames take.
    pub const fn rx_header_words(rx_size: u16) -> usize {
        RxQueue::header_words(rx_size)
    }

    /// Words that a queue takes.
    pub const fn ring_words(size: u16) -> usize {
        Ring::words(size)
    }
}

/// One receive and one transmit queue of a [`VirtioNet`](crate::VirtioNet), with an interrupt of their
/// own. Shares nothing that it writes with other queue pairs.
#[derive(Debug)]
pub struct QueuePair<W> {
    pub(crate) transport: Transport<W>,
    pub(crate) rx: RxQueue,
    pub(crate) tx: TxQueue,
    /// Where the device is told of each.
    pub(crate) rx_notify: u32,
    pub(crate) tx_notify: u32,
    pub(crate) number: u32,
    pub(crate) mac: [u8; 6],
}

impl<W: Window> QueuePair<W> {
    /// The queue pair's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Takes all buffers back from a queue pair whose device was reset; its rooms go to the caller.
    pub fn into_rooms(mut self, pool: &mut MbufPool) -> (&'static mut [Room], u64) {
        self.rx.drain(pool);
        self.tx.drain(pool);
        self.tx.into_rooms()
    }

    fn notify(&self, offset: u32, queue: u32) {
        self.transport.notify.write16(offset, queue as u16);
    }
}

impl<W: Window> Transmit for QueuePair<W> {
    #[inline(always)]
    fn segmentation(&self) -> u32 {
        if self.tx.segments { LARGEST_PAYLOAD } else { 0 }
    }

    #[inline]
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        self.tx.header()
    }

    #[inline]
    fn send(&mut self, frame: &TxFrame<'_>) {
        self.tx.send(frame);
    }
}

impl<W: Window> Nic for QueuePair<W> {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn link_up(&mut self) -> bool {
        link_is_up(&self.transport)
    }

    #[inline]
    fn receive(&mut self, frames: &mut [RxFrame], pool: &mut MbufPool) -> usize {
        self.rx.receive(frames, pool)
    }

    #[inline]
    fn refill(&mut self, pool: &mut MbufPool) {
        if self.rx.refill(pool) {
            self.notify(self.rx_notify, 2 * self.number);
        }
    }

    #[inline]
    fn reclaim(&mut self, pool: &mut MbufPool) -> u32 {
        if self.tx.is_worth_a_look() {
            self.tx.reclaim(pool)
        } else {
            0
        }
    }

    #[inline]
    fn flush(&mut self) {
        if self.tx.flush() {
            self.notify(self.tx_notify, 2 * self.number + 1);
        }
    }

    fn queued(&self) -> u32 {
        self.tx.tail()
    }

    fn has_sent(&mut self, mark: u32) -> bool {
        self.tx.has_sent(mark)
    }

    fn arm_interrupt(&mut self) {
        self.rx.ring.set_interrupts(true);
    }

    fn disarm_interrupt(&mut self) {
        self.rx.ring.set_interrupts(false);
    }

    fn statistics(&mut self) -> NicStatistics {
        self.counts()
    }

    fn counts(&self) -> NicStatistics {
        NicStatistics {
            rx_frames: self.rx.frames(),
            rx_bytes: self.rx.bytes(),
            rx_errors: self.rx.errors(),
            rx_wrong_vlan: 0,
            // The device keeps frames or drops them uncounted.
            rx_missed: 0,
            tx_frames: self.tx.frames(),
            tx_bytes: self.tx.bytes(),
            tx_drops: self.tx.drops(),
        }
    }

    fn waiting(&self) -> u32 {
        u32::from(self.rx.ring.waiting())
    }
}
