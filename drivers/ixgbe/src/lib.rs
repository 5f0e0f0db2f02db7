//! Driver for the Intel 82599 10 Gigabit Ethernet controller, the X540 and the X550.
//!
//! [`Ixgbe`] is the device: it hands out [`QueuePair`]s, which implement [`ix_hal::Nic`] and share
//! nothing with each other but the registers. Devices, rings and queue pairs are those of `ix_nic`,
//! which the driver of the 82576 uses as well; here is what is done to which register: initialisation,
//! filters, receive side scaling, link, port statistics.
//!
//! The driver has no unsafe code: registers come as [`ix_hal::Mmio`], rings as
//! [`ix_hal::DmaSlice`], header rooms as a slice ([`QueueMemory`]), and time as a function that
//! waits. It never believes the device: whatever a completion says, it is counted or dropped.
//!
//! ```text
//! let mut nic = Ixgbe::new(card, registers, config, &mut delay)?;  // reset, 4.6.3
//! let pair = nic.open(0, queue_config, memory, &mut delay)?;       // rings of queue 0
//! nic.start(&mut delay)?;                                          // receive on
//! nic.wait_for_link(timeout_us, &mut delay)?;
//! ```
//!
//! The X540 and the X550 are the 82599 with another port ([`Card`]).
//!
//! Section numbers in comments are those of the Intel 82599 10 GbE Controller Datasheet.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod card;
mod controller;
mod filter;
mod init;
mod interrupt;
mod link;
mod semaphore;
mod statistics;
#[cfg(test)]
mod testing;

pub use card::{CARDS, Card};
pub use controller::I82599;
pub use filter::set_promiscuous;
pub use ix_nic::{
    Config, DEFAULT_RSS_KEY, Error, LARGEST_PAYLOAD, Link, QueueConfig, QueueMemory, REFILL_BATCH,
    REPORT_INTERVAL, Rss, RxRing, Steering, TxRing, VlanTag,
};
pub use statistics::PortStatistics;

/// Most queue pairs: as many as RSS can spread over.
pub const MAX_QUEUES: u32 = ixgbe_spec::RSS_QUEUES;

/// An initialised card.
pub type Ixgbe<R> = ix_nic::Device<R, Card>;

/// A queue pair of an [`Ixgbe`].
pub type QueuePair<R> = ix_nic::QueuePair<R, I82599>;
