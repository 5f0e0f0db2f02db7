//! The way between Linux and a dataplane kernel: the control page that both see, laid out by
//! [`ix_abi::control`], and the doorbells that end the halt of an elastic thread.
//!
//! The guest has them as QEMU's stock `ivshmem-doorbell` device. [`Ivshmem`] is the server that this
//! device asks for its shared memory and its interrupts; [`ControlPage`] is Linux's view of that
//! memory; [`Doorbells`] are the interrupts. [`Commander`] puts the three together: it has a thread
//! execute a command and waits for its answer.
//!
//! The guest is hostile here as everywhere: whatever it writes is a number in a report, or is refused.

#![deny(unsafe_code)]

mod command;
mod doorbell;
mod ivshmem;
#[expect(unsafe_code, reason = "words of a mapped file")]
mod page;

pub use command::{Command, CommandError, Commander};
pub use doorbell::Doorbells;
pub use ivshmem::Ivshmem;
pub use page::{Averages, ControlPage, Group, Header, PageError, ThreadReport};
