//! What the dataplane asks of a machine: a NIC queue pair ([`Nic`], [`Transmit`]) and its place among
//! others ([`Steer`]), memory that a
//! device can reach ([`DmaSlice`]), device registers ([`Mmio`]), frame buffers ([`MbufPool`],
//! [`MbufMemory`]) and time ([`Instant`]).
//!
//! The engine (`net`), the cycle (`core`) and the drivers meet here and nowhere else, so that the
//! same code runs in the booted kernel, in tests on the host, and in benchmarks. Everything is
//! monomorphised; nothing here allocates after construction.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod dma;
mod frame;
mod mbuf;
mod steer;
mod time;

pub use dma::{DmaSlice, Mmio};
pub use frame::{
    Fragment, HEADER_ROOM, MAX_FRAGMENTS, Nic, NicStatistics, Release, RxChecksum, RxFrame,
    Transmit, TxChecksum, TxFrame,
};
pub use mbuf::{LentMbuf, MbufGeometry, MbufId, MbufMemory, MbufPool};
pub use steer::Steer;
pub use time::{Duration, Instant};
