//! The device side for unit tests, played by hand: memory that lives as long as the test program,
//! completions written descriptor by descriptor, and registers that note what is written to them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::sync::atomic::AtomicU64;
use ix_hal::{DmaSlice, HEADER_ROOM, MbufGeometry, MbufPool, Mmio};
use ixgbe_spec::{TxDescriptor, TxWriteBack};

use crate::{Family, RxErrors};

/// A family with its error bits where the 82599 has them, and no registers.
#[derive(Debug)]
pub enum Tested {}

impl Family for Tested {
    const RX_ERRORS: RxErrors = RxErrors { rxe: 29, l4e: 30 };

    fn missed(_registers: &impl Mmio, _queue: u32) -> u32 {
        0
    }

    fn link_up(_registers: &impl Mmio) -> bool {
        true
    }
}

/// Bus address of rings made by [`ring`].
pub const RING_BUS: u64 = 0x10_0000;
/// Bus address of header rooms.
pub const HEADERS_BUS: u64 = 0x20_0000;

/// A ring of that many descriptors, with stale contents.
pub fn ring(descriptors: usize) -> DmaSlice {
    let words: Vec<AtomicU64> = (0..2 * descriptors)
        .map(|_| AtomicU64::new(u64::MAX))
        .collect();
    DmaSlice::new(Box::leak(words.into_boxed_slice()), RING_BUS)
}

/// Header rooms.
pub fn headers(rooms: usize) -> &'static mut [[u8; HEADER_ROOM]] {
    Box::leak(alloc::vec![[0; HEADER_ROOM]; rooms].into_boxed_slice())
}

/// A pool of `count` buffers of 2 KiB.
pub fn pool(count: u32) -> MbufPool {
    MbufPool::new(MbufGeometry {
        count,
        size_shift: 11,
        bus: 0x4000_0000,
        user: 0x7000_0000,
    })
}

/// The device's end of a transmit ring: decodes what it is given and completes what asks for it.
pub struct TransmitDevice {
    ring: DmaSlice,
    head: u32,
}

impl TransmitDevice {
    /// The end of that ring, from its first descriptor on.
    pub fn new(ring: DmaSlice) -> Self {
        Self { ring, head: 0 }
    }

    /// Processes descriptors up to `tail`, and reports those that ask for it.
    pub fn run(&mut self, tail: u32) -> Vec<TxDescriptor> {
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

/// Registers that keep what is written, apart from bits that are forced on reading, and write all
/// down. Clones are the same registers.
#[derive(Clone, Debug)]
pub struct FakeRegisters {
    values: Rc<RefCell<BTreeMap<u32, u32>>>,
    /// Bits kept and bits set in what is read.
    forced: BTreeMap<u32, (u32, u32)>,
    /// Offset and value of each write.
    pub log: Rc<RefCell<Vec<(u32, u32)>>>,
}

impl FakeRegisters {
    /// With these values, offset and value each; the others hold 0.
    pub fn new(values: &[(u32, u32)]) -> Self {
        Self {
            values: Rc::new(RefCell::new(values.iter().copied().collect())),
            forced: BTreeMap::new(),
            log: Rc::default(),
        }
    }

    /// Forces bits of a register: of what was written, those in `kept` remain, those in `set` are
    /// added.
    pub fn force(mut self, offset: u32, kept: u32, set: u32) -> Self {
        self.forced.insert(offset, (kept, set));
        self
    }

    /// Whether a register was ever written to.
    pub fn touched(&self, offset: u32) -> bool {
        self.log.borrow().iter().any(|&(at, _)| at == offset)
    }

    /// Position in the log of the first write to a register, from `from` on, with these bits.
    pub fn written(&self, from: usize, offset: u32, bits: u32) -> usize {
        let log = self.log.borrow();
        let found = log[from..]
            .iter()
            .position(|&(at, value)| at == offset && value & bits == bits);
        from + found.unwrap_or_else(|| panic!("{offset:#x} not written with {bits:#x}"))
    }

    /// Position in the log of the first write to a register, from `from` on, without these bits.
    pub fn cleared(&self, from: usize, offset: u32, bits: u32) -> usize {
        let log = self.log.borrow();
        let found = log[from..]
            .iter()
            .position(|&(at, value)| at == offset && value & bits == 0);
        from + found.unwrap_or_else(|| panic!("{offset:#x} not written without {bits:#x}"))
    }
}

impl Mmio for FakeRegisters {
    fn read32(&self, offset: u32) -> u32 {
        let value = self.values.borrow().get(&offset).copied().unwrap_or(0);
        let (kept, set) = self.forced.get(&offset).copied().unwrap_or((!0, 0));
        value & kept | set
    }

    fn write32(&self, offset: u32, value: u32) {
        self.values.borrow_mut().insert(offset, value);
        self.log.borrow_mut().push((offset, value));
    }
}
