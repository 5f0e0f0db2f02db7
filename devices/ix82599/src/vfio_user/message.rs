//! The messages of vfio-user 0.1 (QEMU, docs/interop/vfio-user.rst): a header of 16 bytes, then what
//! the command says, all in the byte order of the host. Parsing and emitting only, no I/O.

use rustix::io::Errno;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 16;
/// Most data bytes of one region access that this server takes (capability `max_data_xfer_size`).
pub const MAX_DATA_BYTES: usize = 1 << 16;
/// Longest message that this server takes: an access with its fixed part, with some room.
pub const MAX_MESSAGE_BYTES: usize = MAX_DATA_BYTES + 256;
/// Most writes in one [`Request::RegionWriteMulti`].
pub const MAX_MULTI_WRITES: usize = 200;

const FLAG_TYPE: u32 = 0xf;
const FLAG_TYPE_COMMAND: u32 = 0;
const FLAG_REPLY: u32 = 1;
const FLAG_NO_REPLY: u32 = 1 << 4;
const FLAG_ERROR: u32 = 1 << 5;

/// Bytes of one entry of a [`Request::RegionWriteMulti`].
const MULTI_WRITE_BYTES: usize = 24;
/// Most data bytes of one of them.
const MULTI_DATA_BYTES: usize = 8;

/// The header of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number that the reply repeats.
    pub id: u16,
    /// Command, see [`Request::decode`].
    pub command: u16,
    /// Bytes of the whole message.
    pub size: u32,
    /// Kind of message and whether a reply is wanted.
    pub flags: u32,
    /// Error of a reply.
    pub error: u32,
}

/// A header from which the end of the message cannot be told: the connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message of {size} bytes: it must have {HEADER_BYTES} to {MAX_MESSAGE_BYTES}")]
pub struct BadSize {
    /// The size in the header.
    pub size: u32,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`BadSize`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, BadSize> {
        let mut fields = Fields(bytes);
        // A header has bytes for all of its fields.
        let (id, command) = (fields.u16(), fields.u16());
        let header = Self {
            id: id.unwrap_or_default(),
            command: command.unwrap_or_default(),
            size: fields.u32().unwrap_or_default(),
            flags: fields.u32().unwrap_or_default(),
            error: fields.u32().unwrap_or_default(),
        };
        if (HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&(header.size as usize)) {
            Ok(header)
        } else {
            Err(BadSize { size: header.size })
        }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..2].copy_from_slice(&self.id.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.error.to_ne_bytes());
        bytes
    }

    /// Whether this is a command, and not a reply or something unknown.
    pub fn is_command(&self) -> bool {
        self.flags & FLAG_TYPE == FLAG_TYPE_COMMAND
    }

    /// Whether the sender waits for a reply.
    pub fn wants_reply(&self) -> bool {
        self.flags & FLAG_NO_REPLY == 0
    }
}

/// Appends a successful reply to `to`.
pub fn emit_reply(to: &mut Vec<u8>, request: &Header, payload: &[u8]) {
    let header = Header {
        size: (HEADER_BYTES + payload.len()) as u32,
        flags: FLAG_REPLY,
        error: 0,
        ..*request
    };
    to.extend_from_slice(&header.encode());
    to.extend_from_slice(payload);
}

/// Appends a reply that says what went wrong to `to`.
pub fn emit_error(to: &mut Vec<u8>, request: &Header, error: Errno) {
    let header = Header {
        size: HEADER_BYTES as u32,
        flags: FLAG_REPLY | FLAG_ERROR,
        error: error.raw_os_error().unsigned_abs(),
        ..*request
    };
    to.extend_from_slice(&header.encode());
}

/// A command with its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Opens the conversation.
    Version {
        /// Major version, 0.
        major: u16,
        /// Minor version.
        minor: u16,
        /// JSON text, without its terminating zero; may be empty.
        capabilities: &'a [u8],
    },
    /// Hands over guest memory.
    DmaMap(DmaMap),
    /// Takes guest memory back.
    DmaUnmap(DmaUnmap),
    /// Asks what the device is.
    DeviceGetInfo {
        /// Room for the reply.
        argsz: u32,
    },
    /// Asks about a region.
    DeviceGetRegionInfo {
        /// Room for the reply.
        argsz: u32,
        /// Number of the region.
        index: u32,
    },
    /// Asks about a kind of interrupts.
    DeviceGetIrqInfo {
        /// Room for the reply.
        argsz: u32,
        /// Number of the kind.
        index: u32,
    },
    /// Configures or triggers interrupts.
    DeviceSetIrqs(SetIrqs<'a>),
    /// Reads from a region.
    RegionRead(RegionAccess),
    /// Writes to a region.
    RegionWrite(RegionAccess, &'a [u8]),
    /// Writes to regions several times.
    RegionWriteMulti(MultiWrites<'a>),
    /// Resets the device.
    DeviceReset,
}

/// Payload of DMA_MAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaMap {
    /// The device may read.
    pub readable: bool,
    /// The device may write.
    pub writable: bool,
    /// Where the memory begins in its file.
    pub offset: u64,
    /// Its bus address.
    pub address: u64,
    /// Its length.
    pub size: u64,
}

/// Payload of DMA_UNMAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaUnmap {
    /// Room for the reply.
    pub argsz: u32,
    /// Dirty bitmap wanted (bit 0), everything (bit 1).
    pub flags: u32,
    /// Bus address.
    pub address: u64,
    /// Length.
    pub size: u64,
}

impl DmaUnmap {
    /// A bitmap of what was written is asked for.
    pub const FLAG_GET_DIRTY: u32 = 1;
    /// All memory is taken back.
    pub const FLAG_ALL: u32 = 2;
}

/// Payload of DEVICE_SET_IRQS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetIrqs<'a> {
    /// Data and action, see the constants.
    pub flags: u32,
    /// Kind of interrupts.
    pub index: u32,
    /// First of them.
    pub start: u32,
    /// How many.
    pub count: u32,
    /// A byte each with [`SetIrqs::DATA_BOOL`].
    pub data: &'a [u8],
}

impl SetIrqs<'_> {
    /// The action applies to all.
    pub const DATA_NONE: u32 = 1 << 0;
    /// The action applies where a byte of the data is not zero.
    pub const DATA_BOOL: u32 = 1 << 1;
    /// Descriptors come with the message.
    pub const DATA_EVENTFD: u32 = 1 << 2;
    /// Mask.
    pub const ACTION_MASK: u32 = 1 << 3;
    /// Unmask.
    pub const ACTION_UNMASK: u32 = 1 << 4;
    /// Trigger, or with descriptors or a count of zero assign.
    pub const ACTION_TRIGGER: u32 = 1 << 5;
    /// The data bits.
    pub const DATA: u32 = 0b00_0111;
    /// The action bits.
    pub const ACTION: u32 = 0b11_1000;
}

/// Where a region is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionAccess {
    /// Offset in the region.
    pub offset: u64,
    /// Number of the region.
    pub region: u32,
    /// Bytes.
    pub count: u32,
}

/// Payload of REGION_WRITE_MULTI: whole entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MultiWrites<'a>(&'a [u8]);

impl<'a> MultiWrites<'a> {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len() / MULTI_WRITE_BYTES
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The writes in order; those that claim more than 8 bytes are errors.
    pub fn iter(&self) -> impl Iterator<Item = Result<(RegionAccess, &'a [u8]), Errno>> {
        self.0.chunks_exact(MULTI_WRITE_BYTES).map(|entry| {
            let mut fields = Fields(entry);
            let access = fields.region_access()?;
            let count = access.count as usize;
            let data = fields.0.get(..count).ok_or(Errno::INVAL)?;
            Ok((access, data))
        })
    }
}

const _: () = assert!(MULTI_WRITE_BYTES == 16 + MULTI_DATA_BYTES);

impl<'a> Request<'a> {
    /// Reads a command and its payload.
    ///
    /// # Errors
    /// What to answer: `ENOSYS` for a command that is not known or not supported, `EINVAL` for a
    /// payload that does not fit its command.
    pub fn decode(command: u16, payload: &'a [u8]) -> Result<Self, Errno> {
        let mut fields = Fields(payload);
        Ok(match command {
            1 => Self::Version {
                major: fields.u16()?,
                minor: fields.u16()?,
                capabilities: fields.text()?,
            },
            2 => Self::DmaMap(fields.dma_map()?),
            3 => Self::DmaUnmap(fields.dma_unmap()?),
            4 => Self::DeviceGetInfo {
                argsz: fields.u32()?,
            },
            5 => {
                let (argsz, index) = fields.info()?;
                Self::DeviceGetRegionInfo { argsz, index }
            }
            7 => {
                let (argsz, index) = fields.info()?;
                Self::DeviceGetIrqInfo { argsz, index }
            }
            8 => Self::DeviceSetIrqs(fields.set_irqs()?),
            9 => Self::RegionRead(fields.region_access()?),
            10 => {
                let access = fields.region_access()?;
                let data = fields.0.get(..access.count as usize).ok_or(Errno::INVAL)?;
                Self::RegionWrite(access, data)
            }
            13 => Self::DeviceReset,
            15 => {
                let count = usize::try_from(fields.u64()?).map_err(|_| Errno::INVAL)?;
                if count > MAX_MULTI_WRITES {
                    return Err(Errno::INVAL);
                }
                let entries = fields.0.get(..count * MULTI_WRITE_BYTES);
                Self::RegionWriteMulti(MultiWrites(entries.ok_or(Errno::INVAL)?))
            }
            // 6 GET_REGION_IO_FDS, 11 and 12 (server to client), 14, 16 to 18 (migration), others.
            _ => return Err(Errno::NOSYS),
        })
    }
}

/// What is left to read of a payload.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Errno> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, Errno> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_ne_bytes)
    }

    /// The rest as text that ends with a zero byte; nothing is an empty text.
    fn text(&mut self) -> Result<&'a [u8], Errno> {
        match self.0.split_last() {
            None => Ok(&[]),
            Some((0, text)) => Ok(text),
            Some(_) => Err(Errno::INVAL),
        }
    }

    fn dma_map(&mut self) -> Result<DmaMap, Errno> {
        let (_argsz, flags) = (self.u32()?, self.u32()?);
        Ok(DmaMap {
            readable: flags & 1 != 0,
            writable: flags & 2 != 0,
            offset: self.u64()?,
            address: self.u64()?,
            size: self.u64()?,
        })
    }

    fn dma_unmap(&mut self) -> Result<DmaUnmap, Errno> {
        Ok(DmaUnmap {
            argsz: self.u32()?,
            flags: self.u32()?,
            address: self.u64()?,
            size: self.u64()?,
        })
    }

    /// argsz and index of a question about a region or interrupts.
    fn info(&mut self) -> Result<(u32, u32), Errno> {
        let (argsz, _flags, index) = (self.u32()?, self.u32()?, self.u32()?);
        Ok((argsz, index))
    }

    fn set_irqs(&mut self) -> Result<SetIrqs<'a>, Errno> {
        let _argsz = self.u32()?;
        Ok(SetIrqs {
            flags: self.u32()?,
            index: self.u32()?,
            start: self.u32()?,
            count: self.u32()?,
            data: self.0,
        })
    }

    fn region_access(&mut self) -> Result<RegionAccess, Errno> {
        Ok(RegionAccess {
            offset: self.u64()?,
            region: self.u32()?,
            count: self.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_sixteen_bytes_in_host_order() {
        let header = Header {
            id: 0x0102,
            command: 10,
            size: 36,
            flags: FLAG_NO_REPLY,
            error: 0,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        assert_eq!(bytes[4..8], 36u32.to_ne_bytes());
        assert!(header.is_command() && !header.wants_reply());
    }

    #[test]
    fn sizes_that_cannot_be_are_told() {
        for size in [0, 15, MAX_MESSAGE_BYTES as u32 + 1, u32::MAX] {
            let header = Header {
                id: 0,
                command: 1,
                size,
                flags: 0,
                error: 0,
            };
            assert_eq!(Header::decode(&header.encode()), Err(BadSize { size }));
        }
    }

    #[test]
    fn unknown_commands_are_answered_with_enosys() {
        for command in [0, 6, 11, 12, 14, 16, 17, 18, 19, u16::MAX] {
            assert_eq!(Request::decode(command, &[0; 64]), Err(Errno::NOSYS));
        }
    }

    #[test]
    fn payloads_cut_short_are_answered_with_einval() {
        for (command, bytes) in [(1, 3), (2, 31), (3, 23), (4, 3), (5, 11), (8, 19), (9, 15)] {
            assert_eq!(
                Request::decode(command, &vec![0; bytes]),
                Err(Errno::INVAL),
                "command {command}"
            );
            assert!(Request::decode(command, &vec![0; bytes + 1]).is_ok());
        }
    }

    #[test]
    fn a_write_that_claims_more_than_it_has_is_refused() {
        let mut payload = [0; 20];
        payload[12..16].copy_from_slice(&5u32.to_ne_bytes());
        assert_eq!(Request::decode(10, &payload), Err(Errno::INVAL));
        payload[12..16].copy_from_slice(&4u32.to_ne_bytes());
        assert!(matches!(
            Request::decode(10, &payload),
            Ok(Request::RegionWrite(_, &[0, 0, 0, 0]))
        ));
    }

    #[test]
    fn several_writes_come_one_by_one() {
        let mut payload = 2u64.to_ne_bytes().to_vec();
        for (offset, count) in [(0x1018u64, 4u32), (0x6018, 9)] {
            payload.extend(offset.to_ne_bytes());
            payload.extend(0u32.to_ne_bytes());
            payload.extend(count.to_ne_bytes());
            payload.extend([7; 8]);
        }
        let Ok(Request::RegionWriteMulti(writes)) = Request::decode(15, &payload) else {
            panic!("not recognised");
        };
        let writes: Vec<_> = writes.iter().collect();
        assert_eq!(writes[0].unwrap().0.offset, 0x1018);
        assert_eq!(writes[0].unwrap().1, [7; 4]);
        assert_eq!(writes[1], Err(Errno::INVAL));
        assert_eq!(
            Request::decode(15, &payload[..payload.len() - 1]),
            Err(Errno::INVAL)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            command in 0..20u16,
            payload in proptest::collection::vec(any::<u8>(), 0..128),
        ) {
            if let Ok(Request::RegionWriteMulti(writes)) = Request::decode(command, &payload) {
                prop_assert_eq!(writes.iter().count(), writes.len());
            }
        }
    }
}
