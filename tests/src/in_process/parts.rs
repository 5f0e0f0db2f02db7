//! What a dataplane in this process is made of: the NIC's registers, and memory that the NIC, the driver
//! and the application see.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ix_core::UserRange;
use ix_hal::{DmaSlice, HEADER_ROOM, LentMbuf, MbufGeometry, MbufId, MbufMemory, Mmio};
use ix82599::memory::SharedMemory;
use ix82599::model::{InterruptCounts, Model, ModelConfig};
use ix82599::wire::{Cable, Impaired};
use ixgbe::QueueMemory;

use super::world::GUEST_MAC;

const BUS: u64 = 0x2_0000_0000;
const MEMORY_BYTES: usize = 32 << 20;
const MBUF_SHIFT: u32 = 11;
const DESCRIPTORS: usize = 512;
/// Bytes that the application may send from, beside the frame buffers.
const PAYLOAD_BYTES: usize = 64 << 10;

type Nic = Model<Impaired<Cable>, InterruptCounts>;

/// A NIC at the end of a wire, and memory that it reaches.
pub fn plugged_into(wire: Impaired<Cable>) -> (Registers, Memory) {
    let memory = Memory {
        shared: SharedMemory::new(MEMORY_BYTES, BUS),
        free: 0,
    };
    let config = ModelConfig {
        mac: GUEST_MAC,
        ..ModelConfig::default()
    };
    let mut model = Model::new(config, memory.shared.memory(), wire, InterruptCounts::new());
    model.set_bus_master(true);
    (Registers(Arc::new(Mutex::new(model))), memory)
}

/// The model's registers.
#[derive(Clone)]
pub struct Registers(Arc<Mutex<Nic>>);

impl Registers {
    /// The model behind them.
    pub fn model(&self) -> MutexGuard<'_, Nic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        self.model().bar0_read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.model().bar0_write32(offset, value);
    }
}

/// Memory that is given out once, page by page.
pub struct Memory {
    shared: SharedMemory,
    free: usize,
}

impl Memory {
    fn allocate(&mut self, bytes: usize) -> (&'static [AtomicU64], u64) {
        let offset = self.free;
        self.free = (offset + bytes).next_multiple_of(4096);
        (self.shared.words(offset, bytes), BUS + offset as u64)
    }

    /// Pools of so many buffers each, one behind the other, whose user addresses are the real ones, so
    /// that libix can read what it is given.
    pub fn mbufs(&mut self, pools: usize, count: u32) -> Vec<MbufGeometry> {
        let pool_bytes = u64::from(count) << MBUF_SHIFT;
        let (words, bus) = self.allocate(pools * pool_bytes as usize);
        let pool = |offset| MbufGeometry {
            count,
            size_shift: MBUF_SHIFT,
            bus: bus + offset,
            user: words.as_ptr() as u64 + offset,
        };
        (0..pools as u64)
            .map(|index| pool(index * pool_bytes))
            .collect()
    }

    /// Memory to send from, for good: nobody writes to it.
    pub fn payload(&mut self) -> (&'static [u8], UserRange) {
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

    /// The rings of a queue pair.
    pub fn queue(&mut self) -> QueueMemory {
        let (rx_ring, tx_ring) = (self.ring(), self.ring());
        let (words, headers_bus) = self.allocate(DESCRIPTORS * HEADER_ROOM);
        // SAFETY: `allocate` gives each range out once, the memory is never freed, and the words
        // are atomics, hence writable through a shared reference. The model reads the rooms while no
        // method of the driver runs.
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

/// Read access to the buffers of a pool, and to those that other pools lend.
pub struct Buffers {
    own: usize,
    pools: Arc<[MbufGeometry]>,
}

impl Buffers {
    /// Those of pool `own`; all others may lend.
    pub fn new(own: usize, pools: Arc<[MbufGeometry]>) -> Self {
        Self { own, pools }
    }

    fn bytes(&self, pool: usize, mbuf: MbufId, len: usize) -> &[u8] {
        let geometry = &self.pools[pool];
        assert!(mbuf.0 < geometry.count);
        let len = len.min(geometry.size());
        // SAFETY: the buffer lies within the pool, which is never freed. The model writes to it only
        // while it is in a RX ring, when nobody asks for its bytes, and another thread only when it has
        // got it back.
        unsafe { std::slice::from_raw_parts(geometry.user_of(mbuf) as *const u8, len) }
    }

    fn write(&mut self, to: (MbufId, usize), bytes: &[u8]) {
        let geometry = &self.pools[self.own];
        assert!(to.0.0 < geometry.count && to.1 + bytes.len() <= geometry.size());
        let address = geometry.user_of(to.0) as usize + to.1;
        // SAFETY: the range lies within a buffer of the pool, which is never freed; the caller owns
        // the buffer, so nobody else looks at it, and the source is a copy.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
    }
}

impl MbufMemory for Buffers {
    fn frame(&self, mbuf: MbufId, len: usize) -> &[u8] {
        self.bytes(self.own, mbuf, len)
    }

    fn copy(&mut self, from: (MbufId, usize), to: (MbufId, usize), len: usize) {
        let bytes = self.frame(from.0, from.1 + len)[from.1..].to_vec();
        self.write(to, &bytes);
    }

    fn fetch(&mut self, from: LentMbuf, to: MbufId, len: usize) {
        let bytes = self.bytes(from.owner as usize, from.mbuf, len).to_vec();
        self.write((to, 0), &bytes);
    }
}
