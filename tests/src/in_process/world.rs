//! The dataplane's end of the cable.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use ix_core::{ElasticThread, Statistics, Step, ThreadConfig, ThreadParts, UserRange};
use ix_hal::{
    DmaSlice, HEADER_ROOM, Instant, LentMbuf, MbufGeometry, MbufId, MbufMemory, MbufPool, Mmio,
};
use ix82599::memory::SharedMemory;
use ix82599::model::{InterruptCounts, Model, ModelConfig};
use ix82599::wire::{Cable, Impaired, Impairment};
use ixgbe::{Config, Ixgbe, QueueConfig, QueueMemory, QueuePair};

/// The dataplane's address.
pub const GUEST: [u8; 4] = [10, 9, 0, 2];
/// The dataplane's station address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

const BUS: u64 = 0x2_0000_0000;
const MEMORY_BYTES: usize = 32 << 20;
const MBUF_SHIFT: u32 = 11;
const DESCRIPTORS: usize = 512;
/// Bytes that the application may send from, beside the frame buffers.
const PAYLOAD_BYTES: usize = 64 << 10;
/// What one look at the wire costs, so that time passes.
const STEP_NS: u64 = 20_000;

type Thread = ElasticThread<QueuePair<Registers>, Buffers>;

/// Machine and dataplane kernel, one elastic thread.
pub struct World {
    thread: Thread,
    registers: Registers,
    area: &'static [AtomicU64],
    payload: &'static [u8],
    now_ns: u64,
    mbufs: u32,
}

impl World {
    /// A dataplane whose NIC is plugged into `cable`, which does `impairment` to frames.
    pub fn new(cable: Cable, impairment: Impairment, net: ix_net::Config) -> Self {
        let memory = Memory {
            shared: SharedMemory::new(MEMORY_BYTES, BUS),
            free: 0,
        };
        let config = ModelConfig {
            mac: GUEST_MAC,
            ..ModelConfig::default()
        };
        let wire = Impaired::new(cable, impairment);
        let mut model = Model::new(config, memory.shared.memory(), wire, InterruptCounts::new());
        model.set_bus_master(true);
        let registers = Registers(Rc::new(RefCell::new(model)));
        Self::boot(registers, memory, net)
    }

    fn boot(registers: Registers, mut memory: Memory, net: ix_net::Config) -> Self {
        let geometry = memory.mbufs(net.mbufs);
        let sendable = UserRange {
            user: geometry.user,
            bus: geometry.bus,
            bytes: geometry.bytes(),
        };
        let (payload, payload_range) = memory.payload();
        let mut now_us = 0;
        let clock = registers.clone();
        let mut delay = move |us: u32| {
            now_us += u64::from(us);
            clock.0.borrow_mut().advance(now_us * 1_000);
        };
        let mut device =
            Ixgbe::new(registers.clone(), Config::new(1), &mut delay).expect("the NIC comes up");
        let queue = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: geometry,
        };
        let nic = device
            .open(0, queue, memory.queue(), &mut delay)
            .expect("the queue pair opens");
        device.start(&mut delay).expect("the receive path starts");

        let area: &'static [AtomicU64] = Vec::leak(
            (0..ix_abi::area::WORDS)
                .map(|_| AtomicU64::new(0))
                .collect(),
        );
        let parts = ThreadParts {
            nic,
            memory: Buffers {
                base: geometry.user,
                geometry,
            },
            pool: MbufPool::new(geometry),
            area,
            sendable: [sendable, payload_range, UserRange::default()],
            crew: None,
            luggage: ix_net::Luggage::new(&net),
        };
        let mbufs = net.mbufs;
        let config = ThreadConfig {
            net,
            batch_bound: 64,
        };
        let thread = ElasticThread::new(config, parts, Instant(0));
        Self {
            thread,
            registers,
            area,
            payload,
            now_ns: 0,
            mbufs,
        }
    }

    /// Now, in nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Lets `ns` pass, and the NIC move frames.
    pub fn advance(&mut self, ns: u64) {
        self.now_ns += ns;
        let mut model = self.registers.0.borrow_mut();
        model.advance(self.now_ns);
        model.poll();
    }

    /// From now on the application stays in user mode: the kernel attends to the network alone.
    pub fn begin_absence(&mut self) {
        self.thread.begin_absence();
    }

    /// What a tick does meanwhile, after so many nanoseconds.
    pub fn attend(&mut self, ns: u64) {
        self.advance(ns);
        self.thread.attend(Instant(self.now_ns));
        self.advance(0);
    }

    /// The application goes on, and may end its round.
    pub fn end_absence(&mut self) {
        self.thread.end_absence();
    }

    /// Apart, so that its instructions can be counted.
    #[inline(never)]
    fn kernel_cycle(&mut self) -> Step {
        self.thread.cycle(Instant(self.now_ns))
    }

    /// Memory that the application may send from, beside the frame buffers.
    pub fn payload(&self) -> &'static [u8] {
        self.payload
    }

    /// What the elastic thread has done so far.
    pub fn statistics(&mut self) -> Statistics {
        self.thread.statistics()
    }

    /// The protocol counters.
    pub fn counters(&self) -> ix_net::Counters {
        self.thread.engine().counters().clone()
    }

    /// Mbufs that are neither free nor in the RX ring.
    pub fn mbufs_held(&mut self) -> i64 {
        let free = self.thread.statistics().mbufs_free as i64;
        i64::from(self.mbufs) - free - i64::from(self.thread.nic().rx_buffers())
    }
}

/// The kernel below a [`libix::Runtime`] in this process. A round without anything to do returns
/// without events, so that the test can let the peer and the time go on.
pub struct WorldKernel(pub Rc<RefCell<World>>);

// SAFETY: `ElasticThread` keeps the ABI's contract, which is what these tests are about: buffers of
// recv events stay as they are until recv_done, since the driver owns no buffer that a connection
// holds; memory passed to sendv is read by the model only, while the engine has a record of it. All
// addresses given out are real ones of this process, in memory that is never freed.
unsafe impl libix::Kernel for WorldKernel {
    fn area(&self) -> libix::Area {
        libix::Area::new(self.0.borrow().area).expect("a good thread area")
    }

    fn run_io(&mut self) {
        let world = &mut *self.0.borrow_mut();
        world.advance(STEP_NS);
        let step = world.kernel_cycle();
        if step != Step::User {
            let count = &world.area[ix_abi::area::EVENT_COUNT];
            count.store(0, std::sync::atomic::Ordering::Relaxed);
        }
        world.advance(0);
    }
}

/// The model's registers.
#[derive(Clone)]
struct Registers(Rc<RefCell<Model<Impaired<Cable>, InterruptCounts>>>);

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        self.0.borrow_mut().bar0_read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.0.borrow_mut().bar0_write32(offset, value);
    }
}

/// Memory that is given out once, page by page.
struct Memory {
    shared: SharedMemory,
    free: usize,
}

impl Memory {
    fn allocate(&mut self, bytes: usize) -> (&'static [AtomicU64], u64) {
        let offset = self.free;
        self.free = (offset + bytes).next_multiple_of(4096);
        (self.shared.words(offset, bytes), BUS + offset as u64)
    }

    /// A pool whose user addresses are the real ones, so that libix can read what it is given.
    fn mbufs(&mut self, count: u32) -> MbufGeometry {
        let (words, bus) = self.allocate((count as usize) << MBUF_SHIFT);
        MbufGeometry {
            count,
            size_shift: MBUF_SHIFT,
            bus,
            user: words.as_ptr() as u64,
        }
    }

    /// Memory to send from, for good: nobody writes to it.
    fn payload(&mut self) -> (&'static [u8], UserRange) {
        let (words, bus) = self.allocate(PAYLOAD_BYTES);
        let range = UserRange {
            user: words.as_ptr() as u64,
            bus,
            bytes: PAYLOAD_BYTES as u64,
        };
        // SAFETY: `allocate` gives each range out once, the memory is never freed, and this one is
        // only ever read.
        let bytes = unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), PAYLOAD_BYTES) };
        (bytes, range)
    }

    fn ring(&mut self) -> DmaSlice {
        let (words, bus) = self.allocate(16 * DESCRIPTORS);
        DmaSlice::new(words, bus)
    }

    fn queue(&mut self) -> QueueMemory {
        let (rx_ring, tx_ring) = (self.ring(), self.ring());
        let (words, headers_bus) = self.allocate(DESCRIPTORS * HEADER_ROOM);
        // SAFETY: `allocate` gives each range out once, the memory is never freed, and the words
        // are atomics, hence writable through a shared reference. The model reads the rooms on this
        // thread, while no method of the driver runs.
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

/// Read access to the pool's buffers.
struct Buffers {
    base: u64,
    geometry: MbufGeometry,
}

impl MbufMemory for Buffers {
    fn frame(&self, mbuf: MbufId, len: usize) -> &[u8] {
        assert!(mbuf.0 < self.geometry.count);
        let address = self.base + (u64::from(mbuf.0) << self.geometry.size_shift);
        let len = len.min(self.geometry.size());
        // SAFETY: the buffer lies within the pool, which is never freed, and the model writes to
        // it, on this thread, only while it is in the RX ring, when nobody asks for its bytes.
        unsafe { std::slice::from_raw_parts(address as *const u8, len) }
    }

    fn copy(&mut self, from: (MbufId, usize), to: (MbufId, usize), len: usize) {
        let size = self.geometry.size();
        assert!(from.1 + len <= size && to.1 + len <= size && from.0 != to.0);
        let address = |(mbuf, at): (MbufId, usize)| self.geometry.user_of(mbuf) as usize + at;
        let bytes = self.frame(from.0, from.1 + len)[from.1..].to_vec();
        // SAFETY: the range lies within a buffer of the pool, which is never freed; the caller owns
        // the buffer, so nobody else looks at it, and the source is a copy.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address(to) as *mut u8, len) };
    }

    fn fetch(&mut self, from: LentMbuf, _: MbufId, _: usize) {
        panic!("thread {} lent a buffer to the only one", from.owner);
    }
}
