//! Driver and model in one process, on one memory, with a wire that gives frames and swallows them.

use std::cell::RefCell;
use std::rc::Rc;

use ix_hal::{
    DmaSlice, Fragment, HEADER_ROOM, MbufGeometry, MbufPool, Mmio, Nic, RxFrame, Transmit,
    TxChecksum, TxFrame,
};
use ix82599::memory::SharedMemory;
use ix82599::model::{Counters, DOORBELL_PAGES, InterruptCounts, Model, ModelConfig};
use ix82599::testing::Source;
use ixgbe::{Card, Config, Ixgbe, QueueConfig, QueueMemory, QueuePair};
use serde::Serialize;

/// Frames between two doorbells.
pub const BATCH: usize = 64;

const BUS: u64 = 0x3_4000_0000;
const MEMORY_BYTES: usize = 16 << 20;
const DESCRIPTORS: usize = 512;
const MBUFS: u32 = 2048;
const MBUF_SHIFT: u32 = 11;
/// Bytes of the part of a large frame that is written for each anew: Ethernet, IPv4, TCP.
const HEADER_BYTES: usize = 54;
const FCS_BYTES: usize = 4;
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x82, 0x59, 0x99];

/// How tails reach the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Doorbells {
    /// By a call, in place of a message.
    Trapped,
    /// By a store into pages that the model looks at.
    Mapped,
}

/// The model's registers, and the pages of them that may be shared.
#[derive(Clone)]
struct Registers {
    model: Rc<RefCell<Model<Source, InterruptCounts>>>,
    pages: Option<SharedMemory>,
}

impl Registers {
    /// The shared pages, if the register is there.
    fn page_of(&self, offset: u32) -> Option<&SharedMemory> {
        let is_in = |(start, length): (u64, u64)| (start..start + length).contains(&offset.into());
        self.pages
            .as_ref()
            .filter(|_| DOORBELL_PAGES.into_iter().any(is_in))
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        match self.page_of(offset) {
            Some(pages) => pages.host().load32(offset as usize),
            None => self.model.borrow_mut().bar0_read32(offset),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        match self.page_of(offset) {
            Some(pages) => pages.host().store32(offset as usize, value),
            None => self.model.borrow_mut().bar0_write32(offset, value),
        }
    }
}

/// Everything that a frame meets.
pub struct Machine {
    registers: Registers,
    pair: QueuePair<Registers>,
    pool: MbufPool,
    frames: [RxFrame; BATCH],
    /// What is behind the header of a frame that is sent.
    payload: Option<Fragment>,
    header_len: u16,
}

impl Machine {
    /// A started device with one queue pair, for frames of `frame_bytes` with FCS.
    pub fn new(doorbells: Doorbells, frame_bytes: usize) -> Self {
        let mut memory = Memory {
            shared: SharedMemory::new(MEMORY_BYTES, BUS),
            free: 0,
        };
        let source = Source::new(frame(frame_bytes - FCS_BYTES));
        let config = ModelConfig {
            mac: MAC,
            ..ModelConfig::default()
        };
        let interrupts = InterruptCounts::new();
        let mut model = Model::new(config, memory.shared.memory(), source, interrupts);
        model.set_bus_master(true);
        let pages = (doorbells == Doorbells::Mapped).then(|| SharedMemory::new(32 << 10, 0));
        if let Some(pages) = &pages {
            model.map_doorbells(pages.host());
        }
        let registers = Registers {
            model: Rc::new(RefCell::new(model)),
            pages,
        };
        let (clock, mut now_us) = (Rc::clone(&registers.model), 0);
        let mut delay = move |us: u32| {
            now_us += u64::from(us);
            let mut model = clock.borrow_mut();
            model.advance(now_us * 1_000);
            model.poll();
        };
        let config = Config::new(1);
        let mut device = Ixgbe::new(Card::I82599Sfp, registers.clone(), config, &mut delay)
            .expect("the NIC comes up");
        let geometry = memory.mbufs();
        let queue = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: geometry,
        };
        let mut pair = device
            .open(0, queue, memory.queue(), &mut delay)
            .expect("the queue pair opens");
        let mut pool = MbufPool::new(geometry);
        pair.refill(&mut pool);
        device.start(&mut delay).expect("the receive path starts");
        let whole = frame_bytes - FCS_BYTES;
        let header_len = if whole <= HEADER_ROOM {
            whole
        } else {
            HEADER_BYTES
        };
        let rest = (whole - header_len) as u32;
        let (_, bus) = memory.allocate(2048);
        Self {
            registers,
            pair,
            pool,
            frames: [RxFrame::default(); BATCH],
            payload: (rest > 0).then_some(Fragment { bus, len: rest }),
            header_len: header_len as u16,
        }
    }

    /// A batch comes from the wire, and the driver takes it and gives the buffers back.
    pub fn receive_batch(&mut self) {
        {
            let mut model = self.registers.model.borrow_mut();
            model.wire_mut().give(BATCH);
            model.step();
        }
        let count = self.pair.receive(&mut self.frames, &mut self.pool);
        for frame in &self.frames[..count] {
            self.pool.give(frame.mbuf);
        }
        self.pair.refill(&mut self.pool);
    }

    /// The driver sends a batch, and takes back what has left.
    pub fn send_batch(&mut self) {
        let fragments = self.payload.as_slice();
        for _ in 0..BATCH {
            // The ring has room: the batch before has left.
            let Some(room) = self.pair.header() else {
                return;
            };
            room[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
            room[6..12].copy_from_slice(&MAC);
            room[12..14].copy_from_slice(&[0x88, 0xb5]);
            self.pair.send(&TxFrame {
                header_len: self.header_len,
                fragments,
                checksum: TxChecksum::None,
                segment_size: 0,
                release: None,
            });
        }
        self.pair.flush();
        self.registers.model.borrow_mut().step();
        self.pair.reclaim(&mut self.pool);
    }

    /// Frames that the driver has received, and that the model has sent.
    pub fn counts(&self) -> (u64, u64) {
        let sent = self.registers.model.borrow().counters().tx_frames;
        (self.pair.counts().rx_frames, sent)
    }

    /// What the model has counted.
    pub fn model_counters(&self) -> Counters {
        *self.registers.model.borrow().counters()
    }
}

/// A frame to the device, of no protocol that it knows.
fn frame(bytes: usize) -> Vec<u8> {
    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(bytes, 0x5a);
    frame
}

/// Memory that is given out once, page by page.
struct Memory {
    shared: SharedMemory,
    free: usize,
}

impl Memory {
    fn allocate(&mut self, bytes: usize) -> (&'static [std::sync::atomic::AtomicU64], u64) {
        let offset = self.free;
        self.free = (offset + bytes).next_multiple_of(4096);
        (self.shared.words(offset, bytes), BUS + offset as u64)
    }

    fn ring(&mut self) -> DmaSlice {
        let (words, bus) = self.allocate(16 * DESCRIPTORS);
        DmaSlice::new(words, bus)
    }

    fn mbufs(&mut self) -> MbufGeometry {
        let (_, bus) = self.allocate((MBUFS as usize) << MBUF_SHIFT);
        MbufGeometry {
            count: MBUFS,
            size_shift: MBUF_SHIFT,
            bus,
            user: bus,
        }
    }

    fn queue(&mut self) -> QueueMemory {
        let (rx_ring, tx_ring) = (self.ring(), self.ring());
        let (words, headers_bus) = self.allocate(DESCRIPTORS * HEADER_ROOM);
        // SAFETY: `allocate` gives each range out once, the memory is never freed, and the words are
        // atomics, hence writable through a shared reference. The model reads the rooms on this thread,
        // while no method of the driver runs.
        let headers = unsafe {
            std::slice::from_raw_parts_mut(words.as_ptr().cast_mut().cast(), DESCRIPTORS)
        };
        QueueMemory {
            rx_ring,
            tx_ring,
            headers,
            headers_bus,
        }
    }
}
