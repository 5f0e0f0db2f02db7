//! Finds the 82599, gives the driver its registers and memory, and points the interrupt of each
//! queue pair at the CPU that serves it. [`NullNic`] stands in where there is to be none.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use alloc::vec::Vec;

use ix_hal::{
    DmaSlice, HEADER_ROOM, MbufGeometry, MbufPool, Mmio, Nic, NicStatistics, RxFrame, Transmit,
    TxFrame,
};
use ixgbe::{Config, Ixgbe, QueueConfig, QueueMemory, QueuePair, Rss};
use kernel_dp::boot_info::Range;
use kernel_dp::command_line::Options;
use kernel_dp::pci::{self, Address, Bar, PciError};
use thiserror::Error;

use super::console::say;
use super::heap::{self, Arena};
use super::memory::{Memory, MemoryError, Region};
use super::pci::{Configuration, RouteError, route_interrupts};
use super::privacy;
use super::time::Clock;
use super::traps::NIC_VECTOR;

const VENDOR: u16 = 0x8086;
const DEVICE: u16 = 0x10fb;
/// BAR 0 of the 82599 (datasheet 9.3.6.1).
const REGISTERS_BYTES: u64 = 128 << 10;
/// Descriptors of each ring, unless the pool is too small for a receive ring of that length.
const RING: usize = 2048;
const RING_LEAST: usize = 64;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;
/// How long the link may take to come up after reset, in microseconds.
const LINK_PATIENCE_US: u32 = 5_000_000;

/// Why there is no NIC.
#[derive(Debug, Error)]
pub enum NicError {
    /// Nothing found.
    #[error("no Intel 82599 ({VENDOR:04x}:{DEVICE:04x}) on the PCI bus; nic=none goes without")]
    NotFound,
    /// Found, but its configuration space makes no sense.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// BAR 0 is too short to be that of an 82599.
    #[error("{0}: BAR 0 has {1} bytes, an 82599 has {REGISTERS_BYTES}")]
    Registers(Address, u64),
    /// Its interrupts cannot be pointed at the CPUs.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// No memory or mapping for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The driver gave up.
    #[error(transparent)]
    Driver(#[from] ixgbe::Error),
}

/// Brings the first 82599 up with a queue pair for each of `pools`, served by the CPU at the same
/// place of `apics`, spreads all flows over those that are granted, and waits for the link. What a
/// pair allocates comes from the arena at the same place. Gives the queue pairs, and the device that
/// they are of.
pub fn open(
    memory: &mut Memory,
    config: &mut Configuration,
    clock: &Clock,
    options: &Options<'_>,
    pools: &[MbufGeometry],
    arenas: &mut [Arena],
    apics: &[u32],
) -> Result<(Vec<QueuePair<Registers>>, Ixgbe<Registers>), NicError> {
    let found = pci::find(config, VENDOR, DEVICE).ok_or(NicError::NotFound)?;
    let address = found.address;
    pci::disable(config, address);
    let bar = pci::memory_bar(config, address, 0)?;
    let msix = pci::msix(config, address)?;
    let table = pci::memory_bar(config, address, msix.table_bar)?;
    log::debug!(
        "{address}: BAR 0 at {:#x}, MSI-X table at {:#x}",
        bar.address,
        table.address
    );
    let registers = Registers::map(memory, address, bar)?;
    for bridge in found.bridges.iter().rev() {
        pci::enable(config, *bridge);
    }
    pci::enable(config, address);
    route_interrupts(memory, address, &msix, table, NIC_VECTOR, apics)?;
    pci::enable_msix(config, address, &msix);

    let delay = &mut |micros| clock.wait_micros(micros);
    let mut configuration = Config::new(pools.len() as u32);
    configuration.mtu = u32::from(options.mtu);
    configuration.vlan = options.vlan;
    let queues = pools.len() as u32;
    configuration.rss = Rss::even(options.granted.unwrap_or(queues).min(queues));
    let mut nic = Ixgbe::new(registers, configuration, delay)?;
    if let Some(ipv6) = options.ipv6() {
        for group in ipv6.multicast_macs(nic.mac()) {
            nic.join_multicast(group)?;
        }
    }
    let mut pairs = Vec::with_capacity(pools.len());
    for ((number, &pool), arena) in pools.iter().enumerate().zip(arenas) {
        let queue = QueueConfig {
            vector: number as u8,
            interrupt_interval_us: 0,
            pool,
        };
        let rings = memory.allocate(RINGS_BYTES as u64, "the NIC's rings")?;
        privacy::keep(number, rings.addresses(), "rings");
        let rings = queue_memory(rings, rx_descriptors(&pool));
        let open = || nic.open(number as u32, queue, rings, delay);
        pairs.push(heap::within(arena, open)?);
    }
    nic.start(delay)?;
    let link = nic.wait_for_link(LINK_PATIENCE_US, delay)?;
    let [a, b, c, d, e, f] = nic.mac();
    say!(
        "nic 82599 at {address} mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} link up, \
         {} Mb/s",
        link.megabits
    );
    Ok((pairs, nic))
}

const RINGS_BYTES: usize = RING * (2 * DESCRIPTOR + HEADER_ROOM);

/// Descriptors of a receive ring that leaves half of the pool to the frames on their way.
fn rx_descriptors(pool: &MbufGeometry) -> usize {
    let half = (pool.count / 2).max(RING_LEAST as u32);
    RING.min(1 << half.ilog2())
}

fn queue_memory(region: Region, rx_descriptors: usize) -> QueueMemory {
    let ring = (RING * DESCRIPTOR) as u64;
    let (rx_ring, rest) = region.split(ring);
    let (tx_ring, headers) = rest.split(ring);
    let ring = |region: Region, descriptors: usize| {
        let bus = region.bus();
        DmaSlice::new(&region.into_words()[..descriptors * DESCRIPTOR / 8], bus)
    };
    QueueMemory {
        rx_ring: ring(rx_ring, rx_descriptors),
        tx_ring: ring(tx_ring, RING),
        headers_bus: headers.bus(),
        headers: headers.into_bytes().as_chunks_mut().0,
    }
}

/// The 82599's registers.
#[derive(Clone, Debug)]
pub struct Registers {
    base: NonNull<u32>,
}

// SAFETY: the mapping is there for ever and on all CPUs, and only ever accessed word by word.
unsafe impl Send for Registers {}

impl Registers {
    fn map(memory: &mut Memory, address: Address, bar: Bar) -> Result<Self, NicError> {
        if bar.bytes < REGISTERS_BYTES {
            return Err(NicError::Registers(address, bar.bytes));
        }
        let base = memory.map_device(Range::of(bar.address, REGISTERS_BYTES))?;
        Ok(Self { base: base.cast() })
    }

    /// The register's address; whatever `offset` is, it lies in BAR 0.
    #[inline]
    fn register(&self, offset: u32) -> NonNull<u32> {
        let index = (offset as usize & (REGISTERS_BYTES as usize - 1)) / 4;
        // SAFETY: the mapping is `REGISTERS_BYTES` long.
        unsafe { self.base.add(index) }
    }
}

impl Mmio for Registers {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        // SAFETY: a register of the device, mapped for good.
        let value = unsafe { self.register(offset).read_volatile() };
        // What the device wrote to memory before is read after. No instruction on x86.
        fence(Ordering::Acquire);
        value
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        // What is written to memory before is there when the device looks. No instruction on x86.
        fence(Ordering::Release);
        // SAFETY: a register of the device, mapped for good.
        unsafe { self.register(offset).write_volatile(value) };
    }
}

/// No network: nothing comes in, and what goes out is dropped and counted.
pub struct NullNic {
    room: [u8; HEADER_ROOM],
    statistics: NicStatistics,
}

impl NullNic {
    /// A NIC without a wire.
    pub fn new() -> Self {
        Self {
            room: [0; HEADER_ROOM],
            statistics: NicStatistics::default(),
        }
    }
}

impl Transmit for NullNic {
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        Some(&mut self.room)
    }

    /// No mbuf can be in the frame: none ever left the pool.
    fn send(&mut self, _frame: &TxFrame<'_>) {
        self.statistics.tx_drops += 1;
    }
}

impl Nic for NullNic {
    fn mac(&self) -> [u8; 6] {
        [0x02, 0, 0, 0, 0, 1]
    }

    fn link_up(&mut self) -> bool {
        false
    }

    fn receive(&mut self, _frames: &mut [RxFrame], _pool: &mut MbufPool) -> usize {
        0
    }

    fn refill(&mut self, _pool: &mut MbufPool) {}

    fn reclaim(&mut self, _pool: &mut MbufPool) -> u32 {
        0
    }

    fn flush(&mut self) {}

    fn queued(&self) -> u32 {
        0
    }

    fn has_sent(&mut self, _mark: u32) -> bool {
        true
    }

    fn arm_interrupt(&mut self) {}

    fn disarm_interrupt(&mut self) {}

    fn statistics(&mut self) -> NicStatistics {
        self.statistics
    }

    fn counts(&self) -> NicStatistics {
        self.statistics
    }

    fn waiting(&self) -> u32 {
        0
    }
}
