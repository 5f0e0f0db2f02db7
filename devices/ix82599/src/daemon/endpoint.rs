//! The device as a vfio-user client sees it: regions, interrupts and guest memory of a [`Model`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ixgbe_spec::MSIX_VECTORS;
use rustix::fs::SealFlags;
use rustix::io::Errno;

use super::interrupts::EventFds;
use crate::memory::{GuestMemory, HostMemory, MapError, Protection};
use crate::model::{CONFIG_BYTES, MSIX_BAR_BYTES, MSIX_PBA, MSIX_TABLE, Model, ModelConfig};
use crate::vfio_user::message::{DmaMap, RegionAccess, SetIrqs};
use crate::vfio_user::{CONFIG_REGION, Device, ERROR_INDEX, MSI_INDEX, MSIX_INDEX, Region};
use crate::wire::Wire;

const BAR0: u32 = 0;
/// An entry of the MSI-X table: address, data, vector control.
const MSIX_ENTRY_BYTES: usize = 16;
const MSIX_TABLE_BYTES: usize = MSIX_VECTORS as usize * MSIX_ENTRY_BYTES;

/// A model with everything that a client needs to use it.
#[derive(Debug)]
pub struct Endpoint<W> {
    model: Model<W, EventFds>,
    /// Clients emulate the MSI-X table themselves; one that does not finds what it wrote.
    msix_table: Box<[u8; MSIX_TABLE_BYTES]>,
    doorbell_file: Option<OwnedFd>,
    /// Memory that the client could take away while it is mapped is refused.
    must_be_sealed: bool,
    /// Kept since the client wants to be told of fatal errors, of which the model has none.
    error_event: Option<OwnedFd>,
}

impl<W: Wire> Endpoint<W> {
    /// A device without guest memory, whose doorbells are trapped.
    pub fn new(config: ModelConfig, wire: W) -> Self {
        Self {
            model: Model::new(config, GuestMemory::new(), wire, EventFds::new()),
            msix_table: Box::new([0; MSIX_TABLE_BYTES]),
            doorbell_file: None,
            must_be_sealed: false,
            error_event: None,
        }
    }

    /// Lets the client map the doorbell pages. Before a client connects.
    ///
    /// # Errors
    /// The operating system's, if it gives no memory for them.
    pub fn map_doorbells(&mut self) -> Result<(), Errno> {
        let file = rustix::fs::memfd_create("ix82599-bar0", rustix::fs::MemfdFlags::CLOEXEC)?;
        let bytes = u64::from(self.model.bar0_bytes());
        rustix::fs::ftruncate(&file, bytes)?;
        let pages = HostMemory::map_file(&file, 0, bytes, Protection::READ_WRITE)?;
        self.model.map_doorbells(pages);
        self.doorbell_file = Some(file);
        Ok(())
    }

    /// Refuses guest memory whose file can shrink: an access to what is gone would end this process,
    /// which others may need. QEMU's `memory-backend-memfd` seals its files unless told otherwise.
    pub fn require_sealed_memory(&mut self) {
        self.must_be_sealed = true;
    }

    /// The client is gone: its memory and its events are let go, and the device is as after power-up.
    pub fn release(&mut self) {
        self.model.memory_mut().unmap_all();
        *self.model.interrupt_sink_mut() = EventFds::new();
        self.error_event = None;
        self.reset();
    }

    /// The device.
    pub fn model(&self) -> &Model<W, EventFds> {
        &self.model
    }

    /// The device.
    pub fn model_mut(&mut self) -> &mut Model<W, EventFds> {
        &mut self.model
    }

    /// Only whole registers can be written (8.1).
    fn write_bar0(&mut self, offset: u32, from: &[u8]) -> Result<(), Errno> {
        let (words, rest) = from.as_chunks();
        if !offset.is_multiple_of(4) || !rest.is_empty() {
            return Err(Errno::INVAL);
        }
        self.model.bar0_write(offset, words);
        Ok(())
    }

    fn read_msix(&self, offset: usize, into: &mut [u8]) {
        let pending = self.model.interrupt_sink().pending().to_le_bytes();
        for (place, byte) in (offset..).zip(into) {
            let table = place.wrapping_sub(MSIX_TABLE as usize);
            let pba = place.wrapping_sub(MSIX_PBA as usize);
            *byte = match (self.msix_table.get(table), pending.get(pba)) {
                (Some(entry), _) => *entry,
                (None, Some(bits)) => *bits,
                (None, None) => 0,
            };
        }
    }

    fn write_msix(&mut self, offset: usize, from: &[u8]) {
        let table = offset.wrapping_sub(MSIX_TABLE as usize);
        for (place, byte) in (table..).zip(from) {
            if let Some(entry) = self.msix_table.get_mut(place) {
                *entry = *byte;
            }
        }
    }
}

impl<W: Wire> Device for Endpoint<W> {
    fn region(&self, index: u32) -> Region<'_> {
        let mappable: &[(u64, u64)] = match (index, &self.doorbell_file) {
            (BAR0, Some(_)) => self.model.doorbell_pages(),
            _ => &[],
        };
        let size = match index {
            BAR0 => u64::from(self.model.bar0_bytes()),
            _ if index == self.model.msix_bar() => u64::from(MSIX_BAR_BYTES),
            CONFIG_REGION => CONFIG_BYTES as u64,
            _ => 0,
        };
        Region { size, mappable }
    }

    fn region_file(&self, index: u32) -> Option<BorrowedFd<'_>> {
        let file = self.doorbell_file.as_ref().filter(|_| index == BAR0);
        file.map(AsFd::as_fd)
    }

    fn irqs(&self, index: u32) -> u32 {
        match index {
            MSI_INDEX => self.model.msi_vectors(),
            MSIX_INDEX => self.model.msix_vectors(),
            ERROR_INDEX => 1,
            _ => 0,
        }
    }

    fn read(&mut self, access: RegionAccess, into: &mut [u8]) -> Result<(), Errno> {
        // Within a region, so the offset is small.
        let offset = access.offset as u32;
        match access.region {
            BAR0 => self.model.bar0_read(offset, into),
            bar if bar == self.model.msix_bar() => self.read_msix(offset as usize, into),
            CONFIG_REGION => self.model.config_read(offset as usize, into),
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn write(&mut self, access: RegionAccess, from: &[u8]) -> Result<(), Errno> {
        let offset = access.offset as u32;
        match access.region {
            BAR0 => return self.write_bar0(offset, from),
            bar if bar == self.model.msix_bar() => self.write_msix(offset as usize, from),
            CONFIG_REGION => self.model.config_write(offset as usize, from),
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn map(&mut self, map: DmaMap, file: Option<OwnedFd>) -> Result<(), Errno> {
        let protection = Protection {
            readable: map.readable,
            writable: map.writable,
        };
        if let Some(file) = file.as_ref().filter(|_| self.must_be_sealed) {
            let seals = rustix::fs::fcntl_get_seals(file).unwrap_or(SealFlags::empty());
            if !seals.contains(SealFlags::SHRINK) {
                log::warn!(
                    "refused: guest memory that can shrink; use memory-backend-memfd with seal=on"
                );
                return Err(Errno::PERM);
            }
        }
        let host = file
            .map(|file| HostMemory::map_file(file, map.offset, map.size, protection))
            .transpose()?;
        log::debug!(
            "guest memory {:#x}+{:#x} from {:#x}, reachable: {}",
            map.address,
            map.size,
            map.offset,
            host.is_some()
        );
        self.model
            .memory_mut()
            .map(map.address, map.size, protection, host)
            .map_err(|error| refused(&error))
    }

    fn unmap(&mut self, range: Option<(u64, u64)>) -> Result<(), Errno> {
        let memory = self.model.memory_mut();
        match range {
            None => memory.unmap_all(),
            Some((address, size)) => memory
                .unmap(address, size)
                .map_err(|error| refused(&error))?,
        }
        Ok(())
    }

    fn set_irqs(&mut self, request: SetIrqs<'_>, fds: Vec<OwnedFd>) -> Result<(), Errno> {
        match request.index {
            MSI_INDEX | MSIX_INDEX => self.model.interrupt_sink_mut().set(request, fds),
            ERROR_INDEX => {
                self.error_event = fds.into_iter().next();
                Ok(())
            }
            // Kinds of which there are none: only taking nothing away is possible.
            _ => Ok(()),
        }
    }

    fn reset(&mut self) {
        self.model.power_on_reset();
        self.msix_table.fill(0);
    }
}

fn refused(error: &MapError) -> Errno {
    log::warn!("refused: {error}");
    match error {
        MapError::BadRange { .. } => Errno::INVAL,
        MapError::Overlap { .. } => Errno::EXIST,
        MapError::TooMany => Errno::NOSPC,
        MapError::NotFound { .. } => Errno::NOENT,
    }
}
