//! Driver for VIRTIO network devices on PCI, in the modern interface with split virtqueues.
//!
//! [`VirtioNet`] is the device: it negotiates features, sets up the control queue, and hands out
//! [`QueuePair`]s, which implement [`ix_hal::Nic`] and share nothing with each other but the device.
//! [`Ring`] is a virtqueue without a device.
//!
//! Frames are received into a descriptor for the header that VIRTIO puts before each and one for the
//! mbuf, so that a frame lies in its mbuf from the first byte on. They are sent from a room that has
//! the header before the frame's, and from the payload where it is.
//!
//! What differs from the other drivers:
//! - The device leaves the IPv4 header checksum to the driver, which sums 20 bytes up. Its verdict on
//!   what arrives says nothing of it either, and is therefore not asked for: the engine verifies.
//! - Several queue pairs need RSS and hash reports (VIRTIO_NET_F_RSS, VIRTIO_NET_F_HASH_REPORT), as
//!   flow groups do. What a device does without them, steering a flow to where it was sent from last,
//!   is of no use here.
//! - It knows nothing of VLAN tags.
//! - What the device drops for want of a buffer it does not count; QEMU's keeps it until there is one.
//!
//! The driver has no unsafe code: registers come as [`Window`], memory as [`ix_hal::DmaSlice`] and
//! slices, time as a function that waits. It never believes the device.
//!
//! Section numbers in comments are those of Virtual I/O Device (VIRTIO) Version 1.2.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod control;
mod device;
mod error;
mod header;
mod queue_pair;
mod ring;
mod rx;
mod transport;
mod tx;

pub use device::{Config, MAX_QUEUES, QueueConfig, VirtioNet};
pub use error::Error;
pub use queue_pair::{QueueMemory, QueuePair};
pub use ring::Ring;
pub use transport::{Features, Transport, Window};
pub use tx::{LARGEST_PAYLOAD, Room};

/// PCI vendor of VIRTIO devices (4.1.2).
pub const PCI_VENDOR: u16 = 0x1af4;
/// PCI device number of a network device without a legacy interface, and with one (4.1.2, 5.1.1).
pub const PCI_DEVICES: [u16; 2] = [0x1041, 0x1000];
