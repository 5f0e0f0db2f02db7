//! PCI: finding a function, and decoding its base addresses and MSI-X capability (PCI Local Bus
//! Specification 3.0, chapter 6; PCI Express Base Specification 7.7.2).
//!
//! The kernel assigns no addresses: it takes what the firmware chose, wherever that is, and
//! refuses clearly where the firmware chose nothing.

use core::fmt;

use thiserror::Error;

use crate::list::List;

mod virtio;

pub use virtio::{Structure, VirtioStructures};

/// Vendor and device in one word, as configuration space has them.
const ID: u16 = 0x00;
const COMMAND: u16 = 0x04;
const HEADER_TYPE: u16 = 0x0c;
const BAR0: u16 = 0x10;
const BUS_NUMBERS: u16 = 0x18;
const CAPABILITIES: u16 = 0x34;
const STATUS_CAPABILITIES: u32 = 1 << 20;

const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MEMORY: u32 = 1 << 1;
const COMMAND_BUS_MASTER: u32 = 1 << 2;
const COMMAND_INTX_DISABLE: u32 = 1 << 10;
/// The status half of the command register is cleared by writing ones: write zeroes.
const COMMAND_MASK: u32 = 0xffff;

/// Most bridges between bus 0 and a function.
pub const BRIDGES_MAX: usize = 16;

const CAPABILITY_MSIX: u8 = 0x11;
const MSIX_ENABLE: u32 = 1 << 31;
const MSIX_FUNCTION_MASK: u32 = 1 << 30;

/// A function's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Bus.
    pub bus: u8,
    /// Device, below 32.
    pub device: u8,
    /// Function, below 8.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "0000:{:02x}:{:02x}.{}",
            self.bus, self.device, self.function
        )
    }
}

/// Configuration space. Reads of what is not there give all ones.
pub trait ConfigSpace {
    /// Reads the word at a byte offset that is a multiple of 4.
    fn read(&self, address: Address, offset: u16) -> u32;
    /// Writes the word at a byte offset that is a multiple of 4.
    fn write(&mut self, address: Address, offset: u16, value: u32);
}

/// A base address register that holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Physical address.
    pub address: u64,
    /// Length in bytes, a power of two.
    pub bytes: u64,
}

/// The MSI-X capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// Where in configuration space.
    offset: u16,
    /// Number of vectors.
    pub vectors: u16,
    /// Which BAR holds the table.
    pub table_bar: u8,
    /// Where in that BAR.
    pub table_offset: u32,
}

/// Why a function cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PciError {
    /// The BAR is an I/O BAR, unimplemented, or the upper half of another one.
    #[error("{0}: BAR {1} is no memory BAR")]
    NotMemory(Address, u8),
    /// The firmware gave the BAR no address.
    #[error("{0}: the firmware assigned no address to BAR {1} ({2} bytes)")]
    Unassigned(Address, u8, u64),
    /// The BAR's range does not fit the address space.
    #[error("{0}: BAR {1} at {2:#x} cannot be right")]
    Implausible(Address, u8, u64),
    /// No MSI-X capability.
    #[error("{0}: no MSI-X capability")]
    NoMsix(Address),
    /// A VIRTIO device without one of the structures of the modern interface, or with a crooked one.
    #[error("{0}: no {1} structure of VIRTIO; in QEMU, leave out disable-modern")]
    NoStructure(Address, &'static str),
}

/// A function and the way to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The function.
    pub address: Address,
    /// Its device number.
    pub device: u16,
    /// The bridges that lead to it, nearest first.
    pub bridges: List<Address, BRIDGES_MAX>,
}

/// The first function whose vendor and device are `wanted`, buses in the order in which bridges lead to
/// them.
pub fn find(config: &impl ConfigSpace, wanted: impl Fn(u16, u16) -> bool) -> Option<Found> {
    let mut buses = Buses::new();
    let mut next = 0;
    while let Some(&bus) = buses.order.get(next) {
        next += 1;
        for address in functions(config, bus) {
            let id = config.read(address, ID);
            let (vendor, device) = (id as u16, (id >> 16) as u16);
            if wanted(vendor, device) {
                return Some(Found {
                    address,
                    device,
                    bridges: buses.way_to(bus),
                });
            }
            if let Some(secondary) = secondary_bus(config, address, id) {
                buses.add(secondary, address);
            }
        }
    }
    None
}

/// The functions of a bus that are worth a look.
fn functions(config: &impl ConfigSpace, bus: u8) -> impl Iterator<Item = Address> {
    (0..32).flat_map(move |device| {
        let at = move |function| Address {
            bus,
            device,
            function,
        };
        let last = if is_multi_function(config, at(0)) {
            7
        } else {
            0
        };
        (0..=last).map(at)
    })
}

/// The buses found so far, and the bridge that leads to each.
struct Buses {
    order: List<u8, 256>,
    bridges: [Option<Address>; 256],
}

impl Buses {
    fn new() -> Self {
        let mut order = List::new();
        // It has room for every bus.
        let _ = order.push(0);
        Self {
            order,
            bridges: [None; 256],
        }
    }

    /// Bridges that lead where another one does already are not followed: each bus is looked at
    /// once.
    fn add(&mut self, bus: u8, bridge: Address) {
        let known = &mut self.bridges[usize::from(bus)];
        if bus != 0 && known.is_none() {
            *known = Some(bridge);
            let _ = self.order.push(bus);
        }
    }

    fn way_to(&self, mut bus: u8) -> List<Address, BRIDGES_MAX> {
        let mut way = List::new();
        while let Some(bridge) = self.bridges[usize::from(bus)] {
            if way.push(bridge).is_err() {
                break;
            }
            bus = bridge.bus;
        }
        way
    }
}

/// Address and length of a memory BAR. Decoding must be off ([`disable`]): while the length is
/// probed, the BAR holds a wrong address.
pub fn memory_bar(
    config: &mut impl ConfigSpace,
    address: Address,
    index: u8,
) -> Result<Bar, PciError> {
    let offset = BAR0 + 4 * u16::from(index);
    let low = config.read(address, offset);
    let is_64_bit = low & 0b110 == 0b100;
    if index > 5 || low & 1 != 0 || low & 0b010 != 0 || (is_64_bit && index == 5) {
        return Err(PciError::NotMemory(address, index));
    }
    let mut probe = |offset| {
        let value = config.read(address, offset);
        config.write(address, offset, u32::MAX);
        let mask = config.read(address, offset);
        config.write(address, offset, value);
        (u64::from(value), u64::from(mask))
    };
    let (value, mask) = probe(offset);
    let (mut base, mut mask) = (value & !0xf, mask & !0xf);
    if is_64_bit {
        let (value, upper_mask) = probe(offset + 4);
        base |= value << 32;
        mask |= upper_mask << 32;
    } else if mask != 0 {
        mask |= 0xffff_ffff << 32;
    }
    let bytes = (!mask).wrapping_add(1);
    if mask == 0 || !bytes.is_power_of_two() {
        return Err(PciError::NotMemory(address, index));
    }
    match base {
        0 => Err(PciError::Unassigned(address, index, bytes)),
        _ if base % bytes != 0 || base.checked_add(bytes).is_none_or(|end| end > 1 << 52) => {
            Err(PciError::Implausible(address, index, base))
        }
        _ => Ok(Bar {
            address: base,
            bytes,
        }),
    }
}

/// The MSI-X capability.
pub fn msix(config: &impl ConfigSpace, address: Address) -> Result<Msix, PciError> {
    let missing = PciError::NoMsix(address);
    let msix = capabilities(config, address).find(|it| it.0 == CAPABILITY_MSIX);
    let (_, offset) = msix.ok_or(missing)?;
    let table = config.read(address, offset + 4);
    Ok(Msix {
        offset,
        vectors: (config.read(address, offset) >> 16 & 0x7ff) as u16 + 1,
        table_bar: (table & 7) as u8,
        table_offset: table & !7,
    })
}

/// Turns MSI-X on; the table must be set up.
pub fn enable_msix(config: &mut impl ConfigSpace, address: Address, msix: &Msix) {
    let control = config.read(address, msix.offset);
    config.write(
        address,
        msix.offset,
        (control | MSIX_ENABLE) & !MSIX_FUNCTION_MASK,
    );
}

/// Stops the function: no decoding, no DMA.
pub fn disable(config: &mut impl ConfigSpace, address: Address) {
    let command = config.read(address, COMMAND) & COMMAND_MASK;
    let off = COMMAND_IO | COMMAND_MEMORY | COMMAND_BUS_MASTER;
    config.write(address, COMMAND, command & !off);
}

/// Lets the function decode memory and do DMA; its interrupt line stays quiet. For a bridge: lets
/// it pass both on.
pub fn enable(config: &mut impl ConfigSpace, address: Address) {
    let command = config.read(address, COMMAND) & COMMAND_MASK;
    let on = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
    config.write(address, COMMAND, command | on);
}

fn is_multi_function(config: &impl ConfigSpace, address: Address) -> bool {
    config.read(address, ID) != u32::MAX && config.read(address, HEADER_TYPE) & 0x80_0000 != 0
}

/// The bus behind a bridge, if the function is one that the firmware set up.
fn secondary_bus(config: &impl ConfigSpace, address: Address, id: u32) -> Option<u8> {
    let is_bridge = id != u32::MAX && config.read(address, HEADER_TYPE) >> 16 & 0x7f == 1;
    is_bridge.then(|| (config.read(address, BUS_NUMBERS) >> 8) as u8)
}

/// The capability list: what each is, and where. At most 48 fit into the 192 bytes behind the header,
/// so a list that is longer runs in a circle.
fn capabilities(
    config: &impl ConfigSpace,
    address: Address,
) -> impl Iterator<Item = (u8, u16)> + '_ {
    let has_list = config.read(address, COMMAND) & STATUS_CAPABILITIES != 0;
    let first = has_list.then(|| config.read(address, CAPABILITIES) as u16 & 0xfc);
    let is_there = |offset: &u16| *offset >= 0x40;
    let next = move |offset: &u16| Some((config.read(address, *offset) >> 8) as u16 & 0xfc);
    core::iter::successors(first.filter(is_there), move |at| next(at).filter(is_there))
        .take(48)
        .map(move |offset| (config.read(address, offset) as u8, offset))
}

#[cfg(test)]
mod tests;
