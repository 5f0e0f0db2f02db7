//! Intel's controllers with advanced descriptors: the 82599 and the 82576.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use alloc::vec::Vec;

use igb::Igb;
use ix_hal::{DmaSlice, HEADER_ROOM, MbufGeometry, Mmio};
use ix_nic::{Config, Error, Family, QueueConfig, QueueMemory, QueuePair, Redirect, Rss};
use ixgbe::Ixgbe;
use kernel_dp::boot_info::Range;
use kernel_dp::pci::{self, Address, Bar};

use super::{Driver, LINK_PATIENCE_US, NicError, Site};
use crate::bare::console::say;
use crate::bare::heap;
use crate::bare::memory::{Memory, Region};
use crate::bare::privacy;

/// BAR 0 of all of them.
const REGISTERS_BYTES: u32 = 128 << 10;
/// Descriptors of each ring, unless the pool is too small for a receive ring of that length.
const RING: usize = 2048;
const RING_LEAST: usize = 64;
/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;

/// What the drivers have in common.
trait Controller: Redirect + Send + Sized + 'static {
    type Family: Family;
    const NAME: &'static str;

    fn new(registers: Registers, config: Config, delay: Delay<'_>) -> Result<Self, Error>;
    fn mac(&self) -> [u8; 6];
    fn join_multicast(&mut self, group: [u8; 6]) -> Result<(), Error>;
    fn open(
        &mut self,
        queue: u32,
        config: QueueConfig,
        memory: QueueMemory,
        delay: Delay<'_>,
    ) -> Result<QueuePair<Registers, Self::Family>, Error>;
    /// Receives from now on, and waits for the link; its speed in Mb/s.
    fn start(&mut self, delay: Delay<'_>) -> Result<u32, Error>;
}

type Delay<'a> = &'a mut dyn FnMut(u32);

/// Implements [`Controller`] by the driver's own methods of the same names.
macro_rules! controller {
    ($driver:ident, $family:ty, $name:literal, $start:expr) => {
        impl Controller for $driver<Registers> {
            type Family = $family;
            const NAME: &'static str = $name;

            fn new(registers: Registers, config: Config, delay: Delay<'_>) -> Result<Self, Error> {
                $driver::new(registers, config, delay)
            }

            fn mac(&self) -> [u8; 6] {
                $driver::mac(self)
            }

            fn join_multicast(&mut self, group: [u8; 6]) -> Result<(), Error> {
                $driver::join_multicast(self, group)
            }

            fn open(
                &mut self,
                queue: u32,
                config: QueueConfig,
                memory: QueueMemory,
                delay: Delay<'_>,
            ) -> Result<QueuePair<Registers, Self::Family>, Error> {
                $driver::open(self, queue, config, memory, delay)
            }

            fn start(&mut self, delay: Delay<'_>) -> Result<u32, Error> {
                $start(self, &mut *delay)?;
                Ok(self.wait_for_link(LINK_PATIENCE_US, delay)?.megabits)
            }
        }

        impl Driver for $driver<Registers> {
            type Pair = QueuePair<Registers, $family>;

            fn open(site: Site<'_, '_>) -> Result<(Vec<Self::Pair>, Self), NicError> {
                open(site)
            }
        }
    };
}

controller!(Ixgbe, ixgbe::I82599, "82599", Ixgbe::start);
controller!(Igb, igb::I82576, "82576", |nic: &mut Self, _| {
    nic.start();
    Ok::<(), Error>(())
});

/// A device's queue pairs, and the device.
type Opened<C> = (Vec<QueuePair<Registers, <C as Controller>::Family>>, C);

fn open<C: Controller>(mut site: Site<'_, '_>) -> Result<Opened<C>, NicError> {
    let address = site.found.address;
    let bar = pci::memory_bar(site.config, address, 0)?;
    let registers = Registers::map(site.memory, address, bar)?;
    site.enable()?;
    let failed = |error| NicError::Intel(C::NAME, error);
    let delay = &mut |micros| site.clock.wait_micros(micros);
    let mut config = Config::new(site.pools.len() as u32);
    config.mtu = u32::from(site.options.mtu);
    config.vlan = site.options.vlan;
    config.rss = Rss::even(site.granted());
    let mut nic = C::new(registers, config, delay).map_err(failed)?;
    if let Some(ipv6) = site.options.ipv6() {
        for group in ipv6.multicast_macs(nic.mac()) {
            nic.join_multicast(group).map_err(failed)?;
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
    let megabits = nic.start(delay).map_err(failed)?;
    let [a, b, c, d, e, f] = nic.mac();
    say!(
        "nic {} at {address} mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} link up, \
         {megabits} Mb/s",
        C::NAME
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

/// Registers of a controller: its BAR 0.
#[derive(Clone, Debug)]
pub struct Registers {
    base: NonNull<u32>,
}

// SAFETY: the mapping is there for ever and on all CPUs, and only ever accessed word by word.
unsafe impl Send for Registers {}

impl Registers {
    fn map(memory: &mut Memory, address: Address, bar: Bar) -> Result<Self, NicError> {
        let bytes = u64::from(REGISTERS_BYTES);
        if bar.bytes < bytes {
            return Err(NicError::Registers(address, bar.bytes, bytes));
        }
        let base = memory.map_device(Range::of(bar.address, bytes))?;
        Ok(Self { base: base.cast() })
    }

    /// The register's address; whatever `offset` is, it lies in BAR 0.
    #[inline]
    fn register(&self, offset: u32) -> NonNull<u32> {
        let index = (offset & (REGISTERS_BYTES - 1)) as usize / 4;
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
