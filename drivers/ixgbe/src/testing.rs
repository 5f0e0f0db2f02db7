//! The device side of rings for unit tests, played by hand: memory that lives as long as the test
//! program, and completions written descriptor by descriptor.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use ix_hal::{DmaSlice, HEADER_ROOM, MbufGeometry, MbufPool};
use ixgbe_spec::{TxDescriptor, TxWriteBack};

/// Bus address of rings made by [`ring`].
pub(crate) const RING_BUS: u64 = 0x10_0000;
/// Bus address of header rooms.
pub(crate) const HEADERS_BUS: u64 = 0x20_0000;

/// A ring of that many descriptors, with stale contents.
pub(crate) fn ring(descriptors: usize) -> DmaSlice {
    let words: Vec<AtomicU64> = (0..2 * descriptors)
        .map(|_| AtomicU64::new(u64::MAX))
        .collect();
    DmaSlice::new(Box::leak(words.into_boxed_slice()), RING_BUS)
}

/// Header rooms.
pub(crate) fn headers(rooms: usize) -> &'static mut [[u8; HEADER_ROOM]] {
    Box::leak(alloc::vec![[0; HEADER_ROOM]; rooms].into_boxed_slice())
}

/// A pool of `count` buffers of 2 KiB.
pub(crate) fn pool(count: u32) -> MbufPool {
    MbufPool::new(MbufGeometry {
        count,
        size_shift: 11,
        bus: 0x4000_0000,
        user: 0x7000_0000,
    })
}

/// The device's end of a transmit ring: decodes what it is given and completes what asks for it.
pub(crate) struct TransmitDevice {
    ring: DmaSlice,
    head: u32,
}

impl TransmitDevice {
    pub(crate) fn new(ring: DmaSlice) -> Self {
        Self { ring, head: 0 }
    }

    /// Processes descriptors up to `tail`, and reports those that ask for it.
    pub(crate) fn run(&mut self, tail: u32) -> Vec<TxDescriptor> {
        let mut seen = Vec::new();
        while self.head != tail {
            let index = self.head as usize;
            let words = [self.ring.load(2 * index), self.ring.load(2 * index + 1)];
            let descriptor = TxDescriptor::decode(words).expect("a descriptor the device knows");
            if descriptor.segment().is_some_and(|it| it.report_status) {
                self.ring.store(2 * index + 1, words[1] | TxWriteBack::DD);
            }
            seen.push(descriptor);
            self.head = (self.head + 1) % (self.ring.words() as u32 / 2);
        }
        seen
    }
}
