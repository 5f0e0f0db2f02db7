//! PCI as this machine has it: access to configuration space, and interrupts by MSI-X.

use core::ptr::NonNull;

use kernel_dp::acpi::Ecam;
use kernel_dp::boot_info::Range;
use kernel_dp::pci::{Address, Bar, ConfigSpace, Msix};
use thiserror::Error;

use super::cpu::{inl, outl};
use super::memory::{Memory, MemoryError};

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

/// Bytes of an entry of the MSI-X table.
const MSIX_ENTRY: u64 = 16;

/// Why a device's interrupts cannot be pointed at CPUs.
#[derive(Debug, Error)]
pub enum RouteError {
    /// The table lies outside of its BAR.
    #[error("{0}: the MSI-X table lies outside of its BAR")]
    MsixTable(Address),
    /// A CPU that cannot be the target of a message without interrupt remapping.
    #[error("local APIC {0} is beyond the 255 that an interrupt message can name")]
    ApicId(u32),
    /// No mapping for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// PCI configuration space: in memory where the firmware says so, else by ports 0xcf8 and 0xcfc.
pub enum Configuration {
    /// All of it from bus 0 to the given last one.
    Memory(NonNull<u32>, u8),
    /// The first 256 bytes of each function.
    Ports,
}

impl Configuration {
    /// The way that the firmware offers.
    pub fn new(memory: &mut Memory, ecam: Option<Ecam>) -> Result<Self, MemoryError> {
        let Some(ecam) = ecam.filter(|ecam| ecam.first_bus == 0) else {
            return Ok(Self::Ports);
        };
        let bytes = (u64::from(ecam.last_bus) + 1) << 20;
        let base = memory.map_device(Range::of(ecam.base, bytes))?;
        Ok(Self::Memory(base.cast(), ecam.last_bus))
    }

    /// Where a word lies in memory, or `None` if it does not.
    fn word(
        base: NonNull<u32>,
        last_bus: u8,
        address: Address,
        offset: u16,
    ) -> Option<NonNull<u32>> {
        if address.bus > last_bus || address.device > 31 || address.function > 7 {
            return None;
        }
        let function = usize::from(address.device) << 3 | usize::from(address.function);
        let byte = usize::from(address.bus) << 20 | function << 12 | usize::from(offset & 0xffc);
        // SAFETY: the mapping holds 1 MiB for each bus up to the last one.
        Some(unsafe { base.add(byte / 4) })
    }

    /// What the address port takes: enable bit, function, offset.
    fn port_address(address: Address, offset: u16) -> u32 {
        let function = u32::from(address.device) << 3 | u32::from(address.function);
        1 << 31 | u32::from(address.bus) << 16 | function << 8 | u32::from(offset & 0xfc)
    }
}

impl ConfigSpace for Configuration {
    fn read(&self, address: Address, offset: u16) -> u32 {
        match self {
            Self::Memory(base, last_bus) => Self::word(*base, *last_bus, address, offset)
                // SAFETY: `word` gives only words of the mapping.
                .map_or(u32::MAX, |word| unsafe { word.read_volatile() }),
            // SAFETY: the two ports are those of configuration space, used by this CPU alone.
            Self::Ports => unsafe {
                outl(CONFIG_ADDRESS, Self::port_address(address, offset));
                inl(CONFIG_DATA)
            },
        }
    }

    fn write(&mut self, address: Address, offset: u16, value: u32) {
        match self {
            Self::Memory(base, last_bus) => {
                if let Some(word) = Self::word(*base, *last_bus, address, offset) {
                    // SAFETY: `word` gives only words of the mapping; what the value does to the
                    // device is the caller's business, who maps its memory only afterwards.
                    unsafe { word.write_volatile(value) };
                }
            }
            // SAFETY: as above.
            Self::Ports => unsafe {
                outl(CONFIG_ADDRESS, Self::port_address(address, offset));
                outl(CONFIG_DATA, value);
            },
        }
    }
}

/// The first entries of the MSI-X table: each a write of the vector to one of the local APICs (Intel SDM volume 3, 12.11; PCI Local Bus Specification 3.0,
/// 6.8.2).
pub fn route_interrupts(
    memory: &mut Memory,
    address: Address,
    msix: &Msix,
    table: Bar,
    vector: u8,
    apics: &[u32],
) -> Result<(), RouteError> {
    let offset = u64::from(msix.table_offset);
    let bytes = MSIX_ENTRY * apics.len() as u64;
    if offset + bytes > table.bytes {
        return Err(RouteError::MsixTable(address));
    }
    let range = Range::of(table.address + offset, bytes);
    let entries = memory.map_device(range)?.cast::<[u32; 4]>();
    for (index, &apic) in apics.iter().enumerate() {
        let target = u8::try_from(apic).map_err(|_| RouteError::ApicId(apic))?;
        let words = [
            0xfee0_0000 | u32::from(target) << 12,
            0,
            u32::from(vector),
            0,
        ];
        for (place, word) in words.into_iter().enumerate() {
            // SAFETY: four words of an entry among those just mapped.
            unsafe {
                entries
                    .add(index)
                    .cast::<u32>()
                    .add(place)
                    .write_volatile(word)
            };
        }
    }
    Ok(())
}
