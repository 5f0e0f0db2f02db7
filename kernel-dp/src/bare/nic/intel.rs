//! Intel's controllers with advanced descriptors: the 82599 with its kind, their virtual functions, and the 82576.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use alloc::vec::Vec;

use ix_hal::{DmaSlice, HEADER_ROOM, MbufGeometry, Mmio};
use ix_nic::{Config, Controller, Device, QueueConfig, QueueMemory, QueuePair, Rss};
use kernel_dp::boot_info::Range;
use kernel_dp::pci::{self, Address, Bar};

use super::{Driver, LINK_PATIENCE_US, NicError, Site};
use crate::bare::console::say;
use crate::bare::heap;
use crate::bare::memory::{Memory, Region};
use crate::bare::privacy;

/// BAR 0 of physical functions, and of virtual ones.
const REGISTERS_BYTES: u32 = 128 << 10;
const VIRTUAL_BYTES: u32 = ixgbe_spec::virtual_function::BAR0_BYTES;
/// Descriptors of each ring, unless the pool is too small for a receive ring of that length.
const RING: usize = 2048;
const RING_LEAST: usize = 64;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;

/// A controller that the kernel knows by its PCI device number.
pub trait Known: Controller {
    /// What its registers are mapped as.
    type Registers: Window;

    /// The controller of that number.
    fn of(device: u16) -> Option<Self>;
}

impl Known for ixgbe::Card {
    type Registers = Registers;

    fn of(device: u16) -> Option<Self> {
        Self::of(device)
    }
}

impl Known for ixgbevf::Function {
    type Registers = VirtualRegisters;

    fn of(device: u16) -> Option<Self> {
        Self::of(device)
    }
}

impl Known for igb::I82576 {
    type Registers = Registers;

    fn of(device: u16) -> Option<Self> {
        (device == igb::PCI_DEVICE).then_some(Self)
    }
}

impl<C: Known> Driver for Device<C::Registers, C> {
    type Pair = QueuePair<C::Registers, C::Family>;

    fn open(mut site: Site<'_, '_>) -> Result<(Vec<Self::Pair>, Self), NicError> {
        let (address, device) = (site.found.address, site.found.device);
        let controller = C::of(device).ok_or(NicError::Unknown(address, device))?;
        let bar = pci::memory_bar(site.config, address, 0)?;
        let registers = C::Registers::map(site.memory, address, bar)?;
        site.enable()?;
        let failed = |error| NicError::Intel(controller.name(), error);
        let delay = &mut |micros| site.clock.wait_micros(micros);
        let mut config = Config::new(site.pools.len() as u32);
        config.mtu = u32::from(site.options.mtu);
        config.vlan = site.options.vlan;
        config.rss = Rss::even(site.granted());
        let mut nic = Self::new(controller, registers, config, delay).map_err(failed)?;
        if let Some(ipv6) = site.options.ipv6() {
            for group in ipv6.multicast_macs(nic.mac()) {
                nic.join_multicast(group, delay).map_err(failed)?;
            }
        }
        let mut pairs = Vec::with_capacity(site.pools.len());
        for ((number, &pool), arena) in site.pools.iter().enumerate().zip(site.arenas) {
            let queue = QueueConfig {
                vector: number as u8,
                interrupt_interval_us: 0,
                pool,
            };
            let rings = site
                .memory
                .allocate(RINGS_BYTES as u64, "the NIC's rings")?;
            privacy::keep(number, rings.addresses(), "rings");
            let rings = queue_memory(rings, rx_descriptors(&pool));
            let open = || nic.open(number as u32, queue, rings, delay);
            pairs.push(heap::within(arena, open).map_err(failed)?);
        }
        nic.start(delay).map_err(failed)?;
        let link = nic.wait_for_link(LINK_PATIENCE_US, delay).map_err(failed)?;
        let [a, b, c, d, e, f] = nic.mac();
        say!(
            "nic {} at {address} mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} link up, \
             {} Mb/s",
            controller.name(),
            link.megabits
        );
        Ok((pairs, nic))
    }
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

/// Registers that a driver can be given.
pub trait Window: Mmio + Clone + Send + core::fmt::Debug + 'static {
    /// Maps them.
    fn map(memory: &mut Memory, address: Address, bar: Bar) -> Result<Self, NicError>;
}

/// Registers of a physical function.
pub type Registers = Bar0<REGISTERS_BYTES>;
/// Registers of a virtual function.
pub type VirtualRegisters = Bar0<VIRTUAL_BYTES>;

/// A BAR 0 of so many bytes, a power of two.
#[derive(Clone, Debug)]
pub struct Bar0<const BYTES: u32> {
    base: NonNull<u32>,
}

// SAFETY: the mapping is there for ever and on all CPUs, and only ever accessed word by word.
unsafe impl<const BYTES: u32> Send for Bar0<BYTES> {}

impl<const BYTES: u32> Window for Bar0<BYTES> {
    fn map(memory: &mut Memory, address: Address, bar: Bar) -> Result<Self, NicError> {
        const { assert!(BYTES.is_power_of_two()) };
        let bytes = u64::from(BYTES);
        if bar.bytes < bytes {
            return Err(NicError::Registers(address, bar.bytes, bytes));
        }
        let base = memory.map_device(Range::of(bar.address, bytes))?;
        Ok(Self { base: base.cast() })
    }
}

impl<const BYTES: u32> Bar0<BYTES> {
    /// The register's address; whatever `offset` is, it lies in BAR 0.
    #[inline]
    fn register(&self, offset: u32) -> NonNull<u32> {
        let index = (offset & (BYTES - 1)) as usize / 4;
        // SAFETY: the mapping is `BYTES` long, a power of two.
        unsafe { self.base.add(index) }
    }
}

impl<const BYTES: u32> Mmio for Bar0<BYTES> {
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
