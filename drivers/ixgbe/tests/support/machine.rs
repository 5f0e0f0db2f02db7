//! A driver, of a physical or a virtual function, and a device model in one process: the driver's registers are the
//! model's, both see the same memory, and the model's port is plugged into a cable whose far end the test holds.

use std::cell::RefCell;
use std::rc::Rc;

use ix_hal::{
    DmaSlice, HEADER_ROOM, MbufGeometry, MbufPool, Mmio, Nic, RxFrame, TxChecksum, TxFrame,
};
use ix_nic::{QueueConfig, QueueMemory};
use ix82599::memory::SharedMemory;
use ix82599::model::{InterruptSink, Model, ModelConfig};
use ix82599::wire::{Cable, Wire};

/// Where the memory lies for the device: above 4 GiB, so that no half of an address goes missing.
const BUS: u64 = 0x3_4000_0000;
/// Frames that the cable holds in each direction.
const CABLE_FRAMES: usize = 16_384;

/// Counts interrupts by vector.
#[derive(Debug)]
pub struct Vectors(pub [u32; 64]);

impl InterruptSink for Vectors {
    fn interrupt(&mut self, vector: u16) {
        self.0[usize::from(vector)] += 1;
    }
}

/// The model's registers.
#[derive(Clone, Debug)]
pub struct Registers(Rc<RefCell<Model<Cable, Vectors>>>);

impl Registers {
    /// Lets the model's time pass.
    pub fn advance(&self, now_ns: u64) {
        self.0.borrow_mut().advance(now_ns);
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        self.0.borrow_mut().bar0_read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.borrow_mut().bar0_write32(offset, value);
    }
}

/// Sizes of a test machine.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub rx_descriptors: usize,
    pub tx_descriptors: usize,
    pub buffers: u32,
    /// log2 of the size of a buffer.
    pub buffer_shift: u32,
    /// Least time between two interrupts.
    pub interrupt_interval_us: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            rx_descriptors: 256,
            tx_descriptors: 256,
            buffers: 1024,
            buffer_shift: 11,
            interrupt_interval_us: 0,
        }
    }
}

/// The model, its memory, and the far end of its cable.
pub struct Machine {
    /// What the device is.
    pub config: ModelConfig,
    pub registers: Registers,
    pub far: Cable,
    memory: SharedMemory,
    /// First byte of `memory` not given out yet.
    free: usize,
    now_us: u64,
}

/// A queue pair with its pool.
pub struct Port<P> {
    pub pair: P,
    pub pool: MbufPool,
    /// Byte offset of the pool in the machine's memory.
    buffers: usize,
}

impl Machine {
    /// A machine with that device and so much memory.
    pub fn with_device(config: ModelConfig, memory_bytes: usize) -> Self {
        let memory = SharedMemory::new(memory_bytes, BUS);
        let (near, far) = Cable::pair(CABLE_FRAMES);
        let mut model = Model::new(config, memory.memory(), near, Vectors([0; 64]));
        model.set_bus_master(true);
        Self {
            config,
            registers: Registers(Rc::new(RefCell::new(model))),
            far,
            memory,
            free: 0,
            now_us: 0,
        }
    }

    /// A queue pair on fresh memory, with the vector of the same number, which `open` opens.
    pub fn open_with<P: Nic>(
        &mut self,
        queue: u32,
        sizes: Sizes,
        open: impl FnOnce(QueueConfig, QueueMemory, &mut dyn FnMut(u32)) -> P,
    ) -> Port<P> {
        let memory = self.queue_memory(sizes);
        let buffers = self.allocate((sizes.buffers as usize) << sizes.buffer_shift);
        let geometry = MbufGeometry {
            count: sizes.buffers,
            size_shift: sizes.buffer_shift,
            bus: BUS + buffers as u64,
            user: 0x1000_0000,
        };
        let mut pool = MbufPool::new(geometry);
        let config = QueueConfig {
            vector: queue as u8,
            interrupt_interval_us: sizes.interrupt_interval_us,
            pool: geometry,
        };
        let mut pair = open(config, memory, &mut self.delay());
        pair.refill(&mut pool);
        Port {
            pair,
            pool,
            buffers,
        }
    }

    /// Memory for a queue pair.
    pub fn queue_memory(&mut self, sizes: Sizes) -> QueueMemory {
        let rx_ring = self.ring(sizes.rx_descriptors);
        let tx_ring = self.ring(sizes.tx_descriptors);
        let arena = self.allocate(sizes.tx_descriptors * HEADER_ROOM);
        let words = self.memory.words(arena, sizes.tx_descriptors * HEADER_ROOM);
        // SAFETY: `allocate` gives each range out once and the words are leaked, so that nothing
        // in this program makes another reference to them. The model, which runs on this thread
        // and only while no method of the driver does, reads them through a raw pointer, and they
        // may be written through this one because they are atomics.
        let headers = unsafe {
            std::slice::from_raw_parts_mut(
                words.as_ptr().cast_mut().cast::<[u8; HEADER_ROOM]>(),
                sizes.tx_descriptors,
            )
        };
        QueueMemory {
            rx_ring,
            tx_ring,
            headers,
            headers_bus: BUS + arena as u64,
        }
    }

    fn ring(&mut self, descriptors: usize) -> DmaSlice {
        let offset = self.allocate(16 * descriptors);
        DmaSlice::new(
            self.memory.words(offset, 16 * descriptors),
            BUS + offset as u64,
        )
    }

    /// A byte offset in the memory, page aligned.
    fn allocate(&mut self, bytes: usize) -> usize {
        let offset = self.free;
        self.free = (offset + bytes).next_multiple_of(4096);
        assert!(self.free <= self.memory.bytes(), "test machine too small");
        offset
    }

    /// A delay that lets the model's time pass.
    pub fn delay(&self) -> impl FnMut(u32) + use<> {
        let registers = self.registers.clone();
        let mut now_us = self.now_us;
        move |us| {
            now_us += u64::from(us);
            registers.0.borrow_mut().advance(now_us * 1000);
        }
    }

    /// Lets the model move frames, with time enough for whatever it waits for.
    pub fn run(&mut self) {
        self.run_for(10_000_000);
    }

    /// Lets the model move frames after `us` microseconds have passed.
    pub fn run_for(&mut self, us: u64) {
        self.now_us += us;
        let mut model = self.registers.0.borrow_mut();
        model.advance(self.now_us * 1000);
        while model.poll().more {}
    }

    /// Frames that came to the far end.
    pub fn arrived(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.far.take()).collect()
    }

    /// Puts a frame on the cable at the far end.
    pub fn inject(&mut self, frame: &[u8]) {
        self.far.send(frame).expect("room on the cable");
    }

    /// Interrupts so far of a vector.
    pub fn interrupts(&self, vector: usize) -> u32 {
        self.registers.0.borrow().interrupt_sink().0[vector]
    }

    /// What the model counted, for messages of failed tests.
    pub fn counters(&self) -> String {
        self.registers.0.borrow().counters().to_string()
    }

    /// A received frame's bytes.
    pub fn bytes(&self, port: &Port<impl Nic>, frame: &RxFrame) -> Vec<u8> {
        let start = port.buffers + ((frame.mbuf.0 as usize) << port.pool.geometry().size_shift);
        let mut bytes = vec![0; usize::from(frame.len)];
        self.memory.read(start, &mut bytes);
        bytes
    }

    /// Writes payload to an mbuf of the port; its bus address.
    pub fn fill(&self, port: &Port<impl Nic>, mbuf: ix_hal::MbufId, bytes: &[u8]) -> u64 {
        let start = port.buffers + ((mbuf.0 as usize) << port.pool.geometry().size_shift);
        self.memory.write(start, bytes);
        port.pool.geometry().bus_of(mbuf)
    }
}

impl<P: Nic> Port<P> {
    /// Takes up to 64 frames.
    pub fn receive(&mut self) -> Vec<RxFrame> {
        let mut frames = [RxFrame::default(); 64];
        let count = self.pair.receive(&mut frames, &mut self.pool);
        frames[..count].to_vec()
    }

    /// Gives the buffers of frames back.
    pub fn give_back(&mut self, frames: &[RxFrame]) {
        for frame in frames {
            self.pool.give(frame.mbuf);
        }
    }

    /// Queues a frame that fits a header room, if the ring takes it.
    pub fn send_short(&mut self, frame: &[u8]) -> bool {
        let Some(room) = self.pair.header() else {
            return false;
        };
        room[..frame.len()].copy_from_slice(frame);
        self.pair.send(&TxFrame {
            header_len: frame.len() as u16,
            fragments: &[],
            checksum: TxChecksum::None,
            segment_size: 0,
            release: None,
        });
        true
    }
}
