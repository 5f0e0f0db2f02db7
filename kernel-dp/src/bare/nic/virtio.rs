//! VIRTIO network devices.

use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use alloc::vec::Vec;

use ix_hal::DmaSlice;
use ix_nic::Rss;
use kernel_dp::boot_info::Range;
use kernel_dp::pci::{self, Structure, VirtioStructures};
use kernel_dp::{PAGE, pci::PciError};
use virtio_net::{Config, QueueConfig, QueueMemory, QueuePair, Room, Transport, VirtioNet, Window};

use super::{Driver, LINK_PATIENCE_US, NicError, Site};
use crate::bare::console::say;
use crate::bare::heap;
use crate::bare::memory::Region;
use crate::bare::privacy;

/// Most descriptors of a queue; devices may have fewer.
const RING: u16 = 1024;
const RING_BYTES: u64 = pages(8 * QueueMemory::ring_words(RING));
const HEADERS_BYTES: u64 = pages(8 * QueueMemory::rx_header_words(RING));
const ROOMS_BYTES: u64 = pages(RING as usize * size_of::<Room>());

const fn pages(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(PAGE)
}

/// How a driver waits.
pub type Delay = alloc::boxed::Box<dyn FnMut(u32) + Send>;

impl Driver for VirtioNet<Mapped, Delay> {
    type Pair = QueuePair<Mapped>;

    fn open(mut site: Site<'_, '_>) -> Result<(Vec<Self::Pair>, Self), NicError> {
        let address = site.found.address;
        if site.options.vlan.is_some() {
            return Err(NicError::NoTags(address));
        }
        let transport = transport(&mut site)?;
        site.enable()?;
        let mut config = Config::new(site.pools.len() as u32);
        config.mtu = u32::from(site.options.mtu);
        config.rss = Rss::even(site.granted());
        let control = words(
            site.memory
                .allocate(8 * Self::CONTROL_WORDS as u64, "control queue")?,
        );
        let clock = *site.clock;
        let delay: Delay = alloc::boxed::Box::new(move |micros| clock.wait_micros(micros));
        let mut nic = VirtioNet::new(transport, config, control, delay)?;
        let mut pairs = Vec::with_capacity(site.pools.len());
        for ((number, &pool), arena) in site.pools.iter().enumerate().zip(site.arenas) {
            let bytes = 2 * RING_BYTES + HEADERS_BYTES + ROOMS_BYTES;
            let rings = site.memory.allocate(bytes, "the NIC's rings")?;
            privacy::keep(number, rings.addresses(), "rings");
            let config = QueueConfig {
                vector: number as u16,
                pool,
            };
            let open = || nic.open(number as u32, config, queue_memory(rings));
            pairs.push(heap::within(arena, open)?);
        }
        nic.start()?;
        nic.wait_for_link(LINK_PATIENCE_US)?;
        let [a, b, c, d, e, f] = nic.mac();
        say!("nic virtio at {address} mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} link up");
        Ok((pairs, nic))
    }
}

fn words(region: Region) -> DmaSlice {
    let bus = region.bus();
    DmaSlice::new(region.into_words(), bus)
}

fn queue_memory(region: Region) -> QueueMemory {
    let (rx_ring, rest) = region.split(RING_BYTES);
    let (tx_ring, rest) = rest.split(RING_BYTES);
    let (rx_headers, rooms) = rest.split(HEADERS_BYTES);
    QueueMemory {
        rx_ring: words(rx_ring),
        rx_size: RING,
        rx_headers: words(rx_headers),
        tx_ring: words(tx_ring),
        tx_size: RING,
        rooms_bus: rooms.bus(),
        rooms: rooms.into_bytes().as_chunks_mut().0,
    }
}

/// Maps the structures that the driver needs.
fn transport(site: &mut Site<'_, '_>) -> Result<Transport<Mapped>, NicError> {
    let structures = VirtioStructures::find(site.config, site.found.address)?;
    Ok(Transport {
        common: map(site, structures.common, "common")?,
        device: map(site, structures.device, "device")?,
        notify: map(site, structures.notify, "notification")?,
        notify_off_multiplier: structures.notify_off_multiplier,
    })
}

fn map(
    site: &mut Site<'_, '_>,
    structure: Structure,
    name: &'static str,
) -> Result<Mapped, NicError> {
    let address = site.found.address;
    let bar = pci::memory_bar(site.config, address, structure.bar)?;
    let (offset, bytes) = (u64::from(structure.offset), u64::from(structure.bytes));
    if offset + bytes > bar.bytes || !offset.is_multiple_of(4) {
        return Err(PciError::NoStructure(address, name).into());
    }
    let base = site
        .memory
        .map_device(Range::of(bar.address + offset, bytes))?;
    Ok(Mapped {
        base,
        bytes: structure.bytes,
    })
}

/// A structure of the device.
#[derive(Clone, Debug)]
pub struct Mapped {
    base: NonNull<u8>,
    bytes: u32,
}

// SAFETY: the mapping is there for ever and on all CPUs, and only ever accessed field by field.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Where a field of type `T` is; `None` if it lies outside of the structure, wherever the device
    /// says that it is, or across its natural alignment.
    #[inline]
    fn field<T>(&self, offset: u32) -> Option<NonNull<T>> {
        let width = size_of::<T>() as u32;
        let end = offset.checked_add(width)?;
        let is_inside = end <= self.bytes && offset.is_multiple_of(width);
        // SAFETY: the mapping is `bytes` long.
        is_inside.then(|| unsafe { self.base.add(offset as usize) }.cast())
    }

    #[inline]
    fn read<T: Default>(&self, offset: u32) -> T {
        let value = self.field::<T>(offset).map_or_else(T::default, |field| {
            // SAFETY: a field of the device, mapped for good.
            unsafe { field.read_volatile() }
        });
        // What the device wrote to memory before is read after. No instruction on x86.
        fence(Ordering::Acquire);
        value
    }

    #[inline]
    fn write<T>(&self, offset: u32, value: T) {
        // What is written to memory before is there when the device looks. No instruction on x86.
        fence(Ordering::Release);
        if let Some(field) = self.field::<T>(offset) {
            // SAFETY: a field of the device, mapped for good.
            unsafe { field.write_volatile(value) };
        }
    }
}

impl Window for Mapped {
    fn read8(&self, offset: u32) -> u8 {
        self.read(offset)
    }

    fn read16(&self, offset: u32) -> u16 {
        self.read(offset)
    }

    fn read32(&self, offset: u32) -> u32 {
        self.read(offset)
    }

    fn write8(&self, offset: u32, value: u8) {
        self.write(offset, value);
    }

    #[inline]
    fn write16(&self, offset: u32, value: u16) {
        self.write(offset, value);
    }

    fn write32(&self, offset: u32, value: u32) {
        self.write(offset, value);
    }
}
