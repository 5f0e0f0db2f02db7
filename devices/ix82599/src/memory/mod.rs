//! Guest memory as the device sees it: a table of DMA regions, and checked copies in and out.
//!
//! [`GuestMemory`] translates bus addresses; `host` holds the mappings and the only code that
//! touches raw memory; [`SharedMemory`] is guest memory for tests that run driver and model in one
//! process. The model above uses copies alone: nothing here hands out a reference to memory that a
//! guest can write.
//!
//! Access is revocable: while bus mastering is off ([`GuestMemory::set_bus_master`]), every copy
//! fails, as every DMA request of a real device would.

mod host;
mod shared;

pub use host::HostMemory;
pub use shared::SharedMemory;

use std::cell::Cell;

/// Most regions a guest may map at once; QEMU uses a few dozen.
pub const MAX_REGIONS: usize = 1024;

/// DMA regions are whole pages of this size, on both sides.
pub const PAGE_BYTES: u64 = 4096;

/// Why a DMA access did not happen. The caller counts it; nothing was accessed, or, where the
/// range spans regions, only the part before the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DmaError {
    /// The bus-master enable bit is clear.
    #[error("DMA to {address:#x} while bus mastering is off")]
    BusMasterOff {
        /// First byte of the access.
        address: u64,
    },
    /// No region covers the address, or its memory was not handed over.
    #[error("DMA to {address:#x}, which is not mapped")]
    NotMapped {
        /// First byte that is not mapped.
        address: u64,
    },
    /// The region does not allow access in this direction.
    #[error("DMA to {address:#x} is not allowed in this direction")]
    Protected {
        /// First byte of the refused access.
        address: u64,
    },
}

/// Why a region was not mapped or unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Empty, not made of whole pages, or beyond the end of the address space.
    #[error("region {address:#x}+{length:#x} is empty, unaligned or wraps around")]
    BadRange {
        /// Start of the region.
        address: u64,
        /// Its length.
        length: u64,
    },
    /// Some of it is mapped already.
    #[error("region {address:#x}+{length:#x} overlaps a mapped one")]
    Overlap {
        /// Start of the region.
        address: u64,
        /// Its length.
        length: u64,
    },
    /// [`MAX_REGIONS`] are mapped.
    #[error("more than {MAX_REGIONS} regions")]
    TooMany,
    /// No such region to unmap.
    #[error("no region {address:#x}+{length:#x} is mapped")]
    NotFound {
        /// Start of the range.
        address: u64,
        /// Its length.
        length: u64,
    },
}

/// What the device may do in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// The device may read.
    pub readable: bool,
    /// The device may write.
    pub writable: bool,
}

impl Protection {
    /// Reading and writing.
    pub const READ_WRITE: Self = Self {
        readable: true,
        writable: true,
    };
}

#[derive(Debug)]
struct Region {
    address: u64,
    length: u64,
    protection: Protection,
    /// `None`: the guest has memory there, but did not hand over a file descriptor.
    host: Option<HostMemory>,
}

impl Region {
    fn contains(&self, address: u64) -> bool {
        address
            .checked_sub(self.address)
            .is_some_and(|offset| offset < self.length)
    }

    /// The region's last byte; the region is not empty and does not wrap.
    fn last(&self) -> u64 {
        self.address + (self.length - 1)
    }
}

/// The guest's memory. Cheap to look up for the region used last.
#[derive(Debug, Default)]
pub struct GuestMemory {
    /// Sorted by address, disjoint.
    regions: Vec<Region>,
    last_used: Cell<usize>,
    bus_master: bool,
}

impl GuestMemory {
    /// An empty address space, bus mastering off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows the bus-master enable bit of the PCI command register.
    pub fn set_bus_master(&mut self, enabled: bool) {
        self.bus_master = enabled;
    }

    /// Number of mapped regions.
    pub fn regions(&self) -> usize {
        self.regions.len()
    }

    /// Maps `length` bytes at bus address `address`. Without `host` the region is known but not
    /// accessible.
    ///
    /// # Errors
    /// [`MapError`] where the range is malformed or taken, or `host` has another length.
    pub fn map(
        &mut self,
        address: u64,
        length: u64,
        protection: Protection,
        host: Option<HostMemory>,
    ) -> Result<(), MapError> {
        let aligned = address.is_multiple_of(PAGE_BYTES) && length.is_multiple_of(PAGE_BYTES);
        let fits = length > 0 && address.checked_add(length - 1).is_some();
        let backed = host.as_ref().is_none_or(|host| host.len() as u64 == length);
        if !(aligned && fits && backed) {
            return Err(MapError::BadRange { address, length });
        }
        if self.regions.len() >= MAX_REGIONS {
            return Err(MapError::TooMany);
        }
        let last = address + (length - 1);
        let index = self
            .regions
            .partition_point(|region| region.last() < address);
        if self
            .regions
            .get(index)
            .is_some_and(|region| region.address <= last)
        {
            return Err(MapError::Overlap { address, length });
        }
        let region = Region {
            address,
            length,
            protection,
            host,
        };
        self.regions.insert(index, region);
        Ok(())
    }

    /// Unmaps every region that lies within the range.
    ///
    /// # Errors
    /// [`MapError`] if there is none, or one lies only partly within; then nothing changes.
    pub fn unmap(&mut self, address: u64, length: u64) -> Result<(), MapError> {
        let Some(last) = length
            .checked_sub(1)
            .and_then(|span| address.checked_add(span))
        else {
            return Err(MapError::BadRange { address, length });
        };
        let start = self
            .regions
            .partition_point(|region| region.last() < address);
        let end = self
            .regions
            .partition_point(|region| region.address <= last);
        let whole = self.regions[start..end]
            .iter()
            .all(|region| region.address >= address && region.last() <= last);
        if start == end || !whole {
            return Err(MapError::NotFound { address, length });
        }
        self.regions.drain(start..end);
        self.last_used.set(0);
        Ok(())
    }

    /// Unmaps everything.
    pub fn unmap_all(&mut self) {
        self.regions.clear();
        self.last_used.set(0);
    }

    /// Copies from guest memory.
    ///
    /// # Errors
    /// [`DmaError`]; `into` is then filled up to the fault.
    #[inline]
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let (mut address, mut rest) = (address, into);
        while !rest.is_empty() {
            let (host, offset, run) = self.translate(address, rest.len(), Direction::Read)?;
            let (now, later) = rest.split_at_mut(run);
            host.read(offset, now);
            (address, rest) = (address.wrapping_add(run as u64), later);
        }
        Ok(())
    }

    /// Copies to guest memory.
    ///
    /// # Errors
    /// [`DmaError`]; everything before the fault is then written.
    #[inline]
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let (mut address, mut rest) = (address, from);
        while !rest.is_empty() {
            let (host, offset, run) = self.translate(address, rest.len(), Direction::Write)?;
            let (now, later) = rest.split_at(run);
            host.write(offset, now);
            (address, rest) = (address.wrapping_add(run as u64), later);
        }
        Ok(())
    }

    /// Loads a 16-byte descriptor: its low word after its high word, so that a descriptor whose
    /// high word carries a flag is never seen half written.
    ///
    /// # Errors
    /// [`DmaError`], also if `address` is not a multiple of 16.
    #[inline]
    pub fn load_descriptor(&self, address: u64) -> Result<[u64; 2], DmaError> {
        let (host, offset) = self.descriptor(address, Direction::Read)?;
        let high = host.load(offset + 8);
        Ok([host.load(offset), high])
    }

    /// Stores a 16-byte descriptor, the high word last: it carries the done bit.
    ///
    /// # Errors
    /// [`DmaError`], also if `address` is not a multiple of 16.
    #[inline]
    pub fn store_descriptor(&self, address: u64, words: [u64; 2]) -> Result<(), DmaError> {
        let (host, offset) = self.descriptor(address, Direction::Write)?;
        host.store(offset, words[0]);
        host.store(offset + 8, words[1]);
        Ok(())
    }

    fn descriptor(
        &self,
        address: u64,
        direction: Direction,
    ) -> Result<(&HostMemory, usize), DmaError> {
        if !address.is_multiple_of(16) {
            return Err(DmaError::NotMapped { address });
        }
        // Regions are whole pages, so an aligned descriptor never spans two.
        let (host, offset, _) = self.translate(address, 16, direction)?;
        Ok((host, offset))
    }

    /// Memory behind `address`, the offset in it, and how much of `wanted` bytes lies there.
    #[inline]
    fn translate(
        &self,
        address: u64,
        wanted: usize,
        direction: Direction,
    ) -> Result<(&HostMemory, usize, usize), DmaError> {
        if !self.bus_master {
            return Err(DmaError::BusMasterOff { address });
        }
        let region = self.find(address).ok_or(DmaError::NotMapped { address })?;
        let allowed = match direction {
            Direction::Read => region.protection.readable,
            Direction::Write => region.protection.writable,
        };
        if !allowed {
            return Err(DmaError::Protected { address });
        }
        let host = region
            .host
            .as_ref()
            .ok_or(DmaError::NotMapped { address })?;
        // The region's length is that of `host`, so both fit a usize.
        let offset = (address - region.address) as usize;
        Ok((host, offset, wanted.min(host.len() - offset)))
    }

    #[inline]
    fn find(&self, address: u64) -> Option<&Region> {
        if let Some(region) = self.regions.get(self.last_used.get())
            && region.contains(address)
        {
            return Some(region);
        }
        let index = self
            .regions
            .partition_point(|region| region.last() < address);
        let region = self.regions.get(index)?;
        self.last_used.set(index);
        region.contains(address).then_some(region)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Read,
    Write,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_BYTES;

    fn memory(pages: &[u64]) -> GuestMemory {
        let mut memory = GuestMemory::new();
        memory.set_bus_master(true);
        for &page in pages {
            let shared = SharedMemory::new(PAGE as usize, page * PAGE);
            let host = shared.host();
            memory
                .map(page * PAGE, PAGE, Protection::READ_WRITE, Some(host))
                .unwrap();
        }
        memory
    }

    #[test]
    fn copies_span_adjacent_regions() {
        let memory = memory(&[4, 5]);
        let sent: Vec<u8> = (0..100).collect();
        memory.write(5 * PAGE - 37, &sent).unwrap();
        let mut got = [0; 100];
        memory.read(5 * PAGE - 37, &mut got).unwrap();
        assert_eq!(got[..], sent[..]);
    }

    #[test]
    fn a_copy_that_leaves_mapped_memory_fails_where_it_leaves() {
        let memory = memory(&[4]);
        assert_eq!(
            memory.write(5 * PAGE - 10, &[1; 11]),
            Err(DmaError::NotMapped { address: 5 * PAGE })
        );
        assert_eq!(
            memory.read(u64::MAX - 3, &mut [0; 8]),
            Err(DmaError::NotMapped {
                address: u64::MAX - 3
            })
        );
    }

    #[test]
    fn nothing_is_reachable_without_bus_mastering() {
        let mut memory = memory(&[4]);
        memory.set_bus_master(false);
        let address = 4 * PAGE;
        assert_eq!(
            memory.read(address, &mut [0]),
            Err(DmaError::BusMasterOff { address })
        );
        assert_eq!(
            memory.store_descriptor(address, [0, 0]),
            Err(DmaError::BusMasterOff { address })
        );
    }

    #[test]
    fn directions_and_missing_descriptors_are_respected() {
        let mut memory = memory(&[]);
        let shared = SharedMemory::new(PAGE as usize, 0);
        let read_only = Protection {
            readable: true,
            writable: false,
        };
        memory.map(0, PAGE, read_only, Some(shared.host())).unwrap();
        memory.map(PAGE, PAGE, read_only, None).unwrap();
        assert_eq!(memory.read(8, &mut [0; 4]), Ok(()));
        assert_eq!(
            memory.write(8, &[0]),
            Err(DmaError::Protected { address: 8 })
        );
        assert_eq!(
            memory.read(PAGE, &mut [0]),
            Err(DmaError::NotMapped { address: PAGE })
        );
    }

    #[test]
    fn malformed_and_overlapping_maps_are_refused() {
        let mut memory = memory(&[4]);
        for (address, length) in [(0, 0), (1, PAGE), (0, 1), (u64::MAX - PAGE + 1, 2 * PAGE)] {
            assert_eq!(
                memory.map(address, length, Protection::READ_WRITE, None),
                Err(MapError::BadRange { address, length })
            );
        }
        for (address, length) in [(4 * PAGE, PAGE), (3 * PAGE, 3 * PAGE), (0, 16 * PAGE)] {
            assert_eq!(
                memory.map(address, length, Protection::READ_WRITE, None),
                Err(MapError::Overlap { address, length })
            );
        }
        memory
            .map(u64::MAX - PAGE + 1, PAGE, Protection::READ_WRITE, None)
            .unwrap();
    }

    #[test]
    fn unmap_takes_whole_regions_only() {
        let mut memory = memory(&[4, 5, 7]);
        assert!(memory.unmap(4 * PAGE, PAGE - 1).is_err());
        assert!(memory.unmap(6 * PAGE, PAGE).is_err());
        memory.unmap(4 * PAGE, 2 * PAGE).unwrap();
        assert_eq!(memory.regions(), 1);
        assert!(memory.read(4 * PAGE, &mut [0]).is_err());
        assert!(memory.read(7 * PAGE, &mut [0]).is_ok());
    }

    #[test]
    fn descriptors_are_sixteen_bytes_and_aligned() {
        let memory = memory(&[4]);
        memory.store_descriptor(4 * PAGE + 16, [1, 2]).unwrap();
        assert_eq!(memory.load_descriptor(4 * PAGE + 16), Ok([1, 2]));
        assert!(memory.load_descriptor(4 * PAGE + 8).is_err());
    }
}
