//! Where a VIRTIO device has its structures: vendor-specific capabilities, each of which names a place in
//! a BAR (VIRTIO 1.2, 4.1.4).

use super::{Address, ConfigSpace, PciError, capabilities};

const CAPABILITY_VENDOR: u8 = 0x09;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const DEVICE: u8 = 4;

/// A structure in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Which BAR.
    pub bar: u8,
    /// Where in it.
    pub offset: u32,
    /// How long.
    pub bytes: u32,
}

/// The structures that a driver needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioStructures {
    /// The common configuration.
    pub common: Structure,
    /// Notifications.
    pub notify: Structure,
    /// Bytes between the notification registers of two queues.
    pub notify_off_multiplier: u32,
    /// The configuration of this kind of device.
    pub device: Structure,
}

impl VirtioStructures {
    /// The first of each kind, as the device likes best (4.1.4.1).
    pub fn find(config: &impl ConfigSpace, address: Address) -> Result<Self, PciError> {
        let first = |kind: u8, name| {
            let place = capabilities(config, address)
                .filter(|it| it.0 == CAPABILITY_VENDOR)
                .map(|it| it.1)
                .find(|at| config.read(address, *at) >> 24 == u32::from(kind));
            let at = place.ok_or(PciError::NoStructure(address, name))?;
            let structure = Structure {
                bar: config.read(address, at + 4) as u8,
                offset: config.read(address, at + 8),
                bytes: config.read(address, at + 12),
            };
            match structure.offset.checked_add(structure.bytes) {
                Some(_) if structure.bytes != 0 => Ok((structure, at)),
                _ => Err(PciError::NoStructure(address, name)),
            }
        };
        let (notify, at) = first(NOTIFY, "notification")?;
        Ok(Self {
            common: first(COMMON, "common")?.0,
            notify,
            notify_off_multiplier: config.read(address, at + 16),
            device: first(DEVICE, "device")?.0,
        })
    }
}
