//! Finds the NIC, gives its driver registers and memory, and points the interrupt of each queue pair at
//! the CPU that serves it.
//!
//! The kernel has a driver for each of four devices, and runs one of them: which it is turns out once,
//! at boot ([`find`]), and everything above is compiled for each ([`Driver`]). [`NullNic`] stands in
//! where there is to be none.

mod intel;
mod null;
mod virtio;

use alloc::vec::Vec;

use ix_hal::{MbufGeometry, Nic};
use ix_nic::Redirect;
use kernel_dp::command_line::{NicChoice, Options};
use kernel_dp::pci::{self, Address, Found, PciError};
use thiserror::Error;

use super::heap::Arena;
use super::memory::{Memory, MemoryError};
use super::pci::{Configuration, RouteError, route_interrupts};
use super::time::Clock;
use super::traps::NIC_VECTOR;

pub use intel::{Registers, VirtualRegisters};
pub use null::NullNic;
pub use virtio::{Delay, Mapped};

/// How long the link may take to come up after reset, in microseconds.
const LINK_PATIENCE_US: u32 = 5_000_000;

/// Why there is no NIC.
#[derive(Debug, Error)]
pub enum NicError {
    /// Nothing found.
    #[error(
        "no {0} on the PCI bus; give the machine one, name another with nic=, or go without \
         (nic=none)"
    )]
    NotFound(NicChoice),
    /// Found, but its configuration space makes no sense.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// BAR too short to hold the registers.
    #[error("{0}: the BAR of the registers has {1} bytes, they take {2}")]
    Registers(Address, u64, u64),
    /// Its interrupts cannot be pointed at the CPUs.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// No memory or mapping for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A device that no driver answers for.
    #[error("{0}: device {1:#06x} is listed, but its driver does not know it")]
    Unknown(Address, u16),
    /// The driver of one of Intel's gave up.
    #[error("{0}: {1}")]
    Intel(&'static str, ix_nic::Error),
    /// That of VIRTIO gave up.
    #[error(transparent)]
    Virtio(#[from] virtio_net::Error),
    /// A VLAN on a device that does not handle tags.
    #[error("{0}: VIRTIO devices put no VLAN tags on: leave vlan= out, or use another NIC")]
    NoTags(Address),
}

/// A driver, and the device that it drives.
pub trait Driver: Redirect + Send + Sized + 'static {
    /// Its queue pairs.
    type Pair: Nic + Send + 'static;

    /// Brings the device up with a queue pair for each of the site's pools, spreads all flows over
    /// those that are granted, and waits for the link. What a pair allocates comes from the arena at
    /// the same place. Gives the queue pairs, and the device that they are of.
    fn open(site: Site<'_, '_>) -> Result<(Vec<Self::Pair>, Self), NicError>;
}

/// What a driver is given to work with.
pub struct Site<'a, 'o> {
    /// Where rings and mappings come from.
    pub memory: &'a mut Memory,
    /// Of all of PCI.
    pub config: &'a mut Configuration,
    /// What it waits by.
    pub clock: &'a Clock,
    /// What the command line says.
    pub options: &'a Options<'o>,
    /// The pool of each queue pair.
    pub pools: &'a [MbufGeometry],
    /// The arena of each queue pair's thread.
    pub arenas: &'a mut [Arena],
    /// The local APIC of the CPU that serves each queue pair.
    pub apics: &'a [u32],
    /// The device.
    pub found: Found,
}

impl Site<'_, '_> {
    /// Lets the device answer and do DMA, and points a vector at each CPU.
    fn enable(&mut self) -> Result<(), NicError> {
        let address = self.found.address;
        let msix = pci::msix(self.config, address)?;
        let table = pci::memory_bar(self.config, address, msix.table_bar)?;
        for bridge in self.found.bridges.iter().rev() {
            pci::enable(self.config, *bridge);
        }
        pci::enable(self.config, address);
        let (memory, apics) = (&mut *self.memory, self.apics);
        route_interrupts(memory, address, &msix, table, NIC_VECTOR, apics)?;
        pci::enable_msix(self.config, address, &msix);
        Ok(())
    }

    /// Queue pairs that serve at first.
    fn granted(&self) -> u32 {
        let queues = self.pools.len() as u32;
        self.options.granted.unwrap_or(queues).min(queues)
    }
}

/// The first device on the PCI bus that `choice` allows, and which it is. Nothing that is found decodes
/// or does DMA.
pub fn find(config: &mut Configuration, choice: NicChoice) -> Result<(NicChoice, Found), NicError> {
    let found = choice.kinds().find_map(|kind| {
        let found = pci::find(config, |vendor, device| kind.drives(vendor, device))?;
        Some((kind, found))
    });
    let (kind, found) = found.ok_or(NicError::NotFound(choice))?;
    pci::disable(config, found.address);
    Ok((kind, found))
}
