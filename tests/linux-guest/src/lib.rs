//! A Linux guest that drives the NIC model with its own `ixgbe`, or DPDK's, so that a mistake which
//! model and driver of this workspace share cannot agree with itself.
//!
//! [`LinuxGuest::boot`] assembles a small Linux from Debian's packages ([`image`]), boots it as
//! `ix-machine` boots a dataplane, with the same model on the same kind of wire, and gives the test a
//! [`shell`] in it. Sockets of the test process at the host's end of the wire are its peers; where
//! those do not go down to the frame, [`raw`] does.

#![deny(unsafe_code)]

pub mod guest;
pub mod image;
#[expect(unsafe_code, reason = "link-layer addresses have no safe interface")]
pub mod raw;
pub mod shell;

pub use guest::LinuxGuest;
