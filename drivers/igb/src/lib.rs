//! Driver for the Intel 82576 Gigabit Ethernet controller, which is also the `igb` of QEMU.
//!
//! Device and queue pairs are those of `ix_nic`: the 82576 has the descriptors of the 82599, and its
//! registers elsewhere, which is what is here. Like the driver of the 82599 it has no unsafe code, and
//! never believes the device.
//!
//! What is covered is copper (CTRL_EXT.LINK_MODE 0), as QEMU has it: the link is negotiated by the
//! internal PHY. The driver does not take the PHY's semaphore (SW_FW_SYNC), so that a board whose
//! management firmware uses the PHY at the same time is not served. It has not run on silicon.
//!
//! Registers and bits have the names of the Intel 82576EB Gigabit Ethernet Controller Datasheet.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod controller;
mod init;
mod interrupt;
mod link;
mod register;

pub use controller::I82576;

use ix_nic::Limits;

/// PCI vendor of the device.
pub const PCI_VENDOR: u16 = 0x8086;
/// PCI device number of the 82576 with copper ports.
pub const PCI_DEVICE: u16 = 0x10c9;
/// Queue pairs that RSS spreads over: three bits of an entry of the table count without
/// virtualisation, though there are 16 queues.
pub const MAX_QUEUES: u32 = 8;

const LIMITS: Limits = Limits {
    queues: MAX_QUEUES,
    // Silicon has 25; QEMU gives the physical function 10 of them.
    vectors: 10,
    // RLPML, which counts FCS and tag, holds 14 bits; 9.5 KB are supported.
    max_frame: 9728,
};

/// An initialised 82576.
pub type Igb<R> = ix_nic::Device<R, I82576>;

/// A queue pair of an [`Igb`].
pub type QueuePair<R> = ix_nic::QueuePair<R, I82576>;
