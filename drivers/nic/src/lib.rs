//! What NIC drivers share: how flows are spread ([`Rss`], [`Steering`]), what a caller decides
//! ([`Config`], [`QueueConfig`], [`QueueMemory`]), waiting for registers with a bound
//! ([`registers`]), and all of those Intel controllers whose descriptors are the "advanced" ones
//! ([`Device`], [`QueuePair`], [`RxRing`], [`TxRing`]) but what is in which register.
//!
//! The 82576 and the 82599 fetch and write back the same descriptors, but for the places of three
//! error bits, and have their registers elsewhere. [`Family`] says so for what runs on the packet path,
//! and each driver is a [`Controller`], which brings its own up; the rings know descriptors and nothing
//! of registers, so that they can be tried against any device side. Everything is monomorphised.
//!
//! There is no unsafe code: registers come as [`ix_hal::Mmio`], rings as [`ix_hal::DmaSlice`], header
//! rooms as a slice, and time as a function that waits.
//!
//! Section numbers in comments are those of the Intel 82599 10 GbE Controller Datasheet.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod device;
mod error;
mod queue;
mod queue_pair;
pub mod registers;
mod rx_ring;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tx_context;
mod tx_ring;

pub use config::{
    Config, DEFAULT_RSS_KEY, FRAME_OVERHEAD, Limits, QueueConfig, QueueMemory, Redirect, Rss,
    Steering, VlanTag,
};
pub use device::{Controller, Device, Link, Setup};
pub use error::Error;
pub use queue::{RxQueue, TxQueue};
pub use queue_pair::{Family, Parts, QueuePair, VectorMask};
pub use rx_ring::{REFILL_BATCH, RxErrors, RxRing};
pub use tx_ring::{LARGEST_PAYLOAD, REPORT_INTERVAL, TxRing};
