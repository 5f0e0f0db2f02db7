//! The way to the control plane: the control page in the shared memory of QEMU's `ivshmem-doorbell`
//! device, and an interrupt vector for each thread, which ends its halt (QEMU, `ivshmem-spec`).

use core::sync::atomic::AtomicU64;

use kernel_dp::boot_info::Range;
use kernel_dp::pci::{self, Address, PciError};
use thiserror::Error;

use super::memory::{Memory, MemoryError};
use super::pci::{Configuration, RouteError, route_interrupts};
use super::traps::CONTROL_VECTOR;

const VENDOR: u16 = 0x1af4;
const DEVICE: u16 = 0x1110;
/// The shared memory.
const MEMORY_BAR: u8 = 2;
const BYTES: u64 = ix_abi::control::BYTES as u64;

/// Why a device that is there cannot be used.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// Its configuration space makes no sense.
    #[error("control channel: {0}")]
    Pci(#[from] PciError),
    /// The shared memory is no control page.
    #[error("control channel {0}: {1} bytes of shared memory are less than a control page has")]
    Short(Address, u64),
    /// Fewer doorbells than threads.
    #[error("control channel {0}: {1} interrupt vectors for {2} threads")]
    Vectors(Address, u16, usize),
    /// Its interrupts cannot be pointed at the CPUs.
    #[error("control channel: {0}")]
    Route(#[from] RouteError),
    /// No mapping for it.
    #[error("control channel: {0}")]
    Memory(#[from] MemoryError),
}

/// The control page, with interrupt `n` of its device pointed at the CPU at place `n` of `apics`.
/// `None` where there is no such device.
pub fn open(
    memory: &mut Memory,
    config: &mut Configuration,
    apics: &[u32],
) -> Result<Option<&'static [AtomicU64]>, ChannelError> {
    let Some(found) = pci::find(config, |vendor, device| {
        (vendor, device) == (VENDOR, DEVICE)
    }) else {
        return Ok(None);
    };
    let address = found.address;
    pci::disable(config, address);
    let shared = pci::memory_bar(config, address, MEMORY_BAR)?;
    let msix = pci::msix(config, address)?;
    let table = pci::memory_bar(config, address, msix.table_bar)?;
    if shared.bytes < BYTES {
        return Err(ChannelError::Short(address, shared.bytes));
    }
    if usize::from(msix.vectors) < apics.len() {
        let threads = apics.len();
        return Err(ChannelError::Vectors(address, msix.vectors, threads));
    }
    for bridge in found.bridges.iter().rev() {
        pci::enable(config, *bridge);
    }
    pci::enable(config, address);
    route_interrupts(memory, address, &msix, table, CONTROL_VECTOR, apics)?;
    pci::enable_msix(config, address, &msix);
    let page = memory.map_shared(Range::of(shared.address, BYTES))?;
    log::info!("control channel at {address}");
    Ok(Some(page))
}
