//! Answers requests: the conversation apart from the socket and from the device, which is behind
//! [`Device`].

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde_json::json;

use super::framing::Message;
use super::message::{
    DmaMap, DmaUnmap, Header, MAX_DATA_BYTES, MultiWrites, RegionAccess, Request, SetIrqs,
    emit_error, emit_reply,
};
use crate::memory::MAX_REGIONS;

/// Version of the protocol.
const MAJOR: u16 = 0;
const MINOR: u16 = 1;
/// Descriptors that a message to this server may carry at most.
pub const MAX_FDS: usize = 16;

/// Number of regions of a PCI device (linux/vfio.h): six BARs, ROM, configuration space, VGA.
pub const REGIONS: u32 = 9;
/// Region number of the configuration space.
pub const CONFIG_REGION: u32 = 7;
/// Number of kinds of interrupts of a PCI device: INTx, MSI, MSI-X, errors, requests.
pub const IRQ_INDEXES: u32 = 5;
/// Kind of interrupts: MSI.
pub const MSI_INDEX: u32 = 1;
/// Kind of interrupts: MSI-X.
pub const MSIX_INDEX: u32 = 2;
/// Kind of interrupts: a fatal error of the device.
pub const ERROR_INDEX: u32 = 3;

const DEVICE_FLAGS_RESET: u32 = 1 << 0;
const DEVICE_FLAGS_PCI: u32 = 1 << 1;
const REGION_READ: u32 = 1 << 0;
const REGION_WRITE: u32 = 1 << 1;
const REGION_MMAP: u32 = 1 << 2;
const REGION_CAPS: u32 = 1 << 3;
const REGION_INFO_BYTES: u32 = 32;
const CAPABILITY_SPARSE_MMAP: u16 = 1;
const IRQ_EVENTFD: u32 = 1 << 0;
const IRQ_NORESIZE: u32 = 1 << 3;

/// A region of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    /// Length in bytes; 0 if there is no such region.
    pub size: u64,
    /// Parts that the client may map, offset and length, from the file of [`Device::region_file`].
    pub mappable: &'a [(u64, u64)],
}

/// What is behind the protocol.
pub trait Device {
    /// Describes region `index` below [`REGIONS`].
    fn region(&self, index: u32) -> Region<'_>;

    /// The file from which parts of a region can be mapped, at the same offsets as in the region.
    fn region_file(&self, index: u32) -> Option<BorrowedFd<'_>>;

    /// How many interrupts there are of a kind below [`IRQ_INDEXES`].
    fn irqs(&self, index: u32) -> u32;

    /// Reads from a region; the range lies within it.
    ///
    /// # Errors
    /// What to answer.
    fn read(&mut self, access: RegionAccess, into: &mut [u8]) -> Result<(), Errno>;

    /// Writes to a region; the range lies within it.
    ///
    /// # Errors
    /// What to answer.
    fn write(&mut self, access: RegionAccess, from: &[u8]) -> Result<(), Errno>;

    /// Maps guest memory; without a file, the memory is there but cannot be reached.
    ///
    /// # Errors
    /// What to answer.
    fn map(&mut self, map: DmaMap, file: Option<OwnedFd>) -> Result<(), Errno>;

    /// Unmaps a range of guest memory, or with `None` all of it. No access to it happens once this
    /// has returned.
    ///
    /// # Errors
    /// What to answer.
    fn unmap(&mut self, range: Option<(u64, u64)>) -> Result<(), Errno>;

    /// Configures or triggers interrupts. `start` and `count` lie within those there are.
    ///
    /// # Errors
    /// What to answer.
    fn set_irqs(&mut self, request: SetIrqs<'_>, fds: Vec<OwnedFd>) -> Result<(), Errno>;

    /// Resets the device.
    fn reset(&mut self);
}

/// What goes back to the client: bytes, and a descriptor that rides on their first one.
#[derive(Debug, Default)]
pub struct Replies {
    /// Whole messages.
    pub bytes: Vec<u8>,
    /// Where in `bytes` the message begins that a descriptor belongs to.
    pub fds: Vec<(usize, OwnedFd)>,
}

/// One conversation.
#[derive(Debug, Default)]
pub struct Server {
    negotiated: bool,
    payload: Vec<u8>,
}

impl Server {
    /// A conversation that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Does what a message says and appends the reply, if one is wanted.
    pub fn handle(&mut self, message: Message<'_>, device: &mut impl Device, to: &mut Replies) {
        let header = message.header;
        if !header.is_command() {
            log::debug!("ignored: message {} is no command", header.id);
            return;
        }
        self.payload.clear();
        let reply_at = to.bytes.len();
        let result = Request::decode(header.command, message.payload)
            .and_then(|request| self.execute(request, message.fds, device));
        match result {
            Ok(fd) if header.wants_reply() => {
                emit_reply(&mut to.bytes, &header, &self.payload);
                to.fds.extend(fd.map(|fd| (reply_at, fd)));
            }
            Ok(_) => {}
            Err(error) => refuse(&header, error, to),
        }
    }

    /// Executes a request; the payload of the reply is in `self.payload`. A descriptor returned is
    /// sent with the reply.
    fn execute(
        &mut self,
        request: Request<'_>,
        fds: Vec<OwnedFd>,
        device: &mut impl Device,
    ) -> Result<Option<OwnedFd>, Errno> {
        let begins = matches!(request, Request::Version { .. });
        if begins == self.negotiated {
            // Either a second greeting or none.
            return Err(Errno::INVAL);
        }
        match request {
            Request::Version {
                major,
                minor,
                capabilities,
            } => self.version(major, minor, capabilities)?,
            Request::DmaMap(map) => {
                let mut fds = fds.into_iter();
                let file = fds.next();
                if fds.next().is_some() {
                    return Err(Errno::INVAL);
                }
                device.map(map, file)?;
            }
            Request::DmaUnmap(unmap) => self.unmap(unmap, device)?,
            Request::DeviceGetInfo { argsz } => {
                self.put(&[
                    argsz,
                    DEVICE_FLAGS_RESET | DEVICE_FLAGS_PCI,
                    REGIONS,
                    IRQ_INDEXES,
                ]);
            }
            Request::DeviceGetRegionInfo { argsz, index } => {
                return self.region_info(argsz, index, device);
            }
            Request::DeviceGetIrqInfo { argsz, index } => {
                if index >= IRQ_INDEXES {
                    return Err(Errno::INVAL);
                }
                let count = device.irqs(index);
                self.put(&[argsz, IRQ_EVENTFD | IRQ_NORESIZE, index, count]);
            }
            Request::DeviceSetIrqs(set) => set_irqs(set, fds, device)?,
            Request::RegionRead(access) => {
                check_access(access, device)?;
                self.put_access(access);
                let data = self.payload.len();
                self.payload.resize(data + access.count as usize, 0);
                device.read(access, &mut self.payload[data..])?;
            }
            Request::RegionWrite(access, data) => {
                check_access(access, device)?;
                device.write(access, data)?;
                self.put_access(access);
            }
            Request::RegionWriteMulti(writes) => self.write_multi(writes, device)?,
            Request::DeviceReset => device.reset(),
        }
        Ok(None)
    }

    fn version(&mut self, major: u16, minor: u16, capabilities: &[u8]) -> Result<(), Errno> {
        if major != MAJOR {
            log::warn!("the client speaks version {major}.{minor}, not {MAJOR}.{MINOR}");
            return Err(Errno::NOTSUP);
        }
        if !capabilities.is_empty() {
            let capabilities: serde_json::Value =
                serde_json::from_slice(capabilities).map_err(|_| Errno::INVAL)?;
            log::debug!("the client says {capabilities}");
        }
        let ours = json!({
            "capabilities": {
                "max_msg_fds": MAX_FDS,
                "max_data_xfer_size": MAX_DATA_BYTES,
                "max_dma_maps": MAX_REGIONS,
                "write_multiple": true,
            }
        });
        self.payload.extend(MAJOR.to_ne_bytes());
        self.payload.extend(minor.min(MINOR).to_ne_bytes());
        self.payload.extend(ours.to_string().bytes());
        self.payload.push(0);
        self.negotiated = true;
        Ok(())
    }

    fn unmap(&mut self, unmap: DmaUnmap, device: &mut impl Device) -> Result<(), Errno> {
        if unmap.flags & DmaUnmap::FLAG_GET_DIRTY != 0 {
            return Err(Errno::NOTSUP);
        }
        if unmap.flags & DmaUnmap::FLAG_ALL != 0 {
            device.unmap(None)?;
        } else {
            device.unmap(Some((unmap.address, unmap.size)))?;
        }
        self.put(&[unmap.argsz, unmap.flags]);
        self.payload.extend(unmap.address.to_ne_bytes());
        self.payload.extend(unmap.size.to_ne_bytes());
        Ok(())
    }

    /// Region information, with the capability that lists what can be mapped if the client has
    /// room for it, and the file to map from.
    fn region_info(
        &mut self,
        argsz: u32,
        index: u32,
        device: &impl Device,
    ) -> Result<Option<OwnedFd>, Errno> {
        if index >= REGIONS {
            return Err(Errno::INVAL);
        }
        let Region { size, mappable } = device.region(index);
        let mut flags = if size > 0 {
            REGION_READ | REGION_WRITE
        } else {
            0
        };
        let mut needed = REGION_INFO_BYTES;
        if !mappable.is_empty() {
            flags |= REGION_MMAP | REGION_CAPS;
            needed += 16 + 16 * mappable.len() as u32;
        }
        let with_capability = needed > REGION_INFO_BYTES && argsz >= needed;
        // Where the capability is, or would be if the client had room for it: QEMU refuses a zero.
        let capability_at = if needed > REGION_INFO_BYTES {
            REGION_INFO_BYTES
        } else {
            0
        };
        self.put(&[needed, flags, index, capability_at]);
        // Size, and offset in the file: the file is laid out as the region is.
        self.payload.extend(size.to_ne_bytes());
        self.payload.extend(0u64.to_ne_bytes());
        if !with_capability {
            return Ok(None);
        }
        self.payload.extend(CAPABILITY_SPARSE_MMAP.to_ne_bytes());
        self.payload.extend(1u16.to_ne_bytes());
        self.put(&[0, mappable.len() as u32, 0]);
        for (offset, length) in mappable {
            self.payload.extend(offset.to_ne_bytes());
            self.payload.extend(length.to_ne_bytes());
        }
        let file = device.region_file(index).ok_or(Errno::IO)?;
        Ok(Some(file.try_clone_to_owned().map_err(|_| Errno::MFILE)?))
    }

    /// Does the writes in order, up to the first that fails.
    fn write_multi(
        &mut self,
        writes: MultiWrites<'_>,
        device: &mut impl Device,
    ) -> Result<(), Errno> {
        for write in writes.iter() {
            let (access, data) = write?;
            check_access(access, device)?;
            device.write(access, data)?;
        }
        self.payload.extend((writes.len() as u64).to_ne_bytes());
        Ok(())
    }

    fn put(&mut self, words: &[u32]) {
        self.payload
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn put_access(&mut self, access: RegionAccess) {
        self.payload.extend(access.offset.to_ne_bytes());
        self.put(&[access.region, access.count]);
    }
}

fn refuse(header: &Header, error: Errno, to: &mut Replies) {
    log::debug!("command {} is answered with {error}", header.command);
    if header.wants_reply() {
        emit_error(&mut to.bytes, header, error);
    }
}

fn check_access(access: RegionAccess, device: &impl Device) -> Result<(), Errno> {
    let count = u64::from(access.count);
    let end = access.offset.checked_add(count).ok_or(Errno::INVAL)?;
    let fits = access.region < REGIONS
        && count <= MAX_DATA_BYTES as u64
        && end <= device.region(access.region).size;
    if fits { Ok(()) } else { Err(Errno::INVAL) }
}

fn set_irqs(set: SetIrqs<'_>, fds: Vec<OwnedFd>, device: &mut impl Device) -> Result<(), Errno> {
    let one_each = (set.flags & SetIrqs::DATA).count_ones() == 1
        && (set.flags & SetIrqs::ACTION).count_ones() == 1;
    let end = set.start.checked_add(set.count).ok_or(Errno::INVAL)?;
    if !one_each || set.index >= IRQ_INDEXES || end > device.irqs(set.index) {
        return Err(Errno::INVAL);
    }
    if set.flags & SetIrqs::DATA_BOOL != 0 && set.data.len() < set.count as usize {
        return Err(Errno::INVAL);
    }
    device.set_irqs(set, fds)
}
