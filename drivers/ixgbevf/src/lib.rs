//! Driver for the virtual functions of the Intel 82599, X540 and X550.
//!
//! Device and queue pairs are those of `ix_nic`: a virtual function has the 82599's queues seen through another
//! window, and asks its owner, the driver of the physical function, for what it cannot decide (`mailbox`). Like the
//! driver of the 82599 it has no unsafe code, and never believes the device.
//!
//! There is one queue pair: over how many queues flows are spread, and which goes where, is a table of the
//! owner's, which belongs to all functions of the card. Which flags of TCP the segments of a large frame have is
//! the owner's to say as well: as the card comes out of reset, all but the last have CWR where the first has it.
//! It has run on the model, whose mailbox Linux's ixgbevf has tried, and not on silicon.
//!
//! Registers have the names of the Intel 82599 10 GbE Controller Datasheet, 8.3; messages those of
//! [`ixgbe_spec::virtual_function::mailbox`].

#![no_std]
#![forbid(unsafe_code)]

mod controller;
mod init;
mod mailbox;

pub use controller::{Function, Virtual82599};

/// Queue pairs of a function.
pub const MAX_QUEUES: u32 = 1;

/// An initialised virtual function.
pub type Ixgbevf<R> = ix_nic::Device<R, Function>;

/// The queue pair of an [`Ixgbevf`].
pub type QueuePair<R> = ix_nic::QueuePair<R, Virtual82599>;
