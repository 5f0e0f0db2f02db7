//! Driver for the Intel 82599 10 Gigabit Ethernet controller.
//!
//! [`Ixgbe`] is the device: it resets and initialises it, holds what is common to all queues (link,
//! filters, receive side scaling, port statistics), and hands out [`QueuePair`]s, which implement
//! [`ix_hal::Nic`] and share nothing with each other but the registers. Rings and queue pairs are
//! those of `ix_nic`, which the driver of the 82576 uses as well.
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

mod device;
mod filter;
mod init;
mod interrupt;
mod link;
mod queue;
mod statistics;
#[cfg(test)]
mod testing;

pub use device::Ixgbe;
pub use ix_nic::{
    Config, DEFAULT_RSS_KEY, Error, LARGEST_PAYLOAD, QueueConfig, QueueMemory, REFILL_BATCH,
    REPORT_INTERVAL, Rss, RxRing, Steering, TxRing, VlanTag,
};
pub use link::Link;
pub use statistics::PortStatistics;

use ix_nic::Limits;

/// Most queue pairs: as many as RSS can spread over.
pub const MAX_QUEUES: u32 = ixgbe_spec::RSS_QUEUES;

const LIMITS: Limits = Limits {
    queues: MAX_QUEUES,
    vectors: ixgbe_spec::MSIX_VECTORS,
    max_frame: ixgbe_spec::MAX_FRAME_BYTES,
};

/// The 82599 and those that differ from it in the MAC's link only.
#[derive(Debug)]
pub enum I82599 {}

/// A queue pair of an [`Ixgbe`].
pub type QueuePair<R> = ix_nic::QueuePair<R, I82599>;
