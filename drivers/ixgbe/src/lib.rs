//! Driver for the Intel 82599 10 Gigabit Ethernet controller.
//!
//! [`Ixgbe`] is the device: it resets and initialises it, holds what is common to all queues (link,
//! filters, receive side scaling, port statistics), and hands out [`QueuePair`]s, which implement
//! [`ix_hal::Nic`] and share nothing with each other but the registers. The rings
//! ([`RxRing`], [`TxRing`]) know descriptors and nothing of registers, so that they can be tried
//! against any device side.
//!
//! The driver has no unsafe code: registers come as [`ix_hal::Mmio`], rings as
//! [`ix_hal::DmaSlice`], header rooms as a slice ([`QueueMemory`]), and time as a function that
//! waits. It never believes the device: whatever a completion says, it is counted or dropped.
//!
//! ```text
//! let mut nic = Ixgbe::new(registers, config, &mut delay)?;     // reset, 4.6.3
//! let pair = nic.open(0, queue_config, memory, &mut delay)?;    // rings of queue 0
//! nic.start(&mut delay)?;                                       // receive on
//! nic.wait_for_link(timeout_us, &mut delay)?;
//! ```
//!
//! Section numbers in comments are those of the Intel 82599 10 GbE Controller Datasheet.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod device;
mod error;
mod filter;
mod init;
mod interrupt;
mod link;
mod queue_pair;
mod registers;
mod rx_ring;
mod statistics;
#[cfg(test)]
mod testing;
mod tx_context;
mod tx_ring;

pub use config::{
    Config, DEFAULT_RSS_KEY, MAX_QUEUES, QueueConfig, QueueMemory, Rss, Steering, VlanTag,
};
pub use device::Ixgbe;
pub use error::Error;
pub use link::Link;
pub use queue_pair::QueuePair;
pub use rx_ring::{REFILL_BATCH, RxRing};
pub use statistics::PortStatistics;
pub use tx_ring::{LARGEST_PAYLOAD, REPORT_INTERVAL, TxRing};
