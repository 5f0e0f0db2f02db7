//! What can go wrong while a device is set up. Nothing on the packet path can.

use crate::Features;

/// Why the device could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Features that nothing works without.
    #[error(
        "virtio-net: the device does not offer {0:?}; in QEMU, leave csum, ctrl_vq, mac and status \
         on, and give it a TAP"
    )]
    Missing(Features),
    /// Features that several queue pairs need.
    #[error(
        "virtio-net: {queues} queue pairs need {missing:?}; in QEMU, add mq=on,rss=on,hash=on, or \
         give the machine one CPU"
    )]
    Unsteered {
        /// How many were asked for.
        queues: u32,
        /// What the device does not offer.
        missing: Features,
    },
    /// The device does not take what it offered.
    #[error("virtio-net: the device refuses features {0:#x}; it may need others of its own")]
    Refused(u64),
    /// It does not do what it is to do in time.
    #[error("virtio-net: {what} after {waited_us} us; reset the device")]
    Timeout {
        /// What did not happen.
        what: &'static str,
        /// How long was waited.
        waited_us: u32,
    },
    /// More queue pairs than the device has.
    #[error("virtio-net: {queues} queue pairs asked for, the device has {max}")]
    QueueCount {
        /// What was asked for.
        queues: u32,
        /// What there is.
        max: u32,
    },
    /// A queue number beyond the configured ones, or one in use.
    #[error("virtio-net: queue pair {0} is open already or not configured")]
    QueueInUse(u32),
    /// An MTU beyond that of the device, or that buffers cannot hold.
    #[error(
        "virtio-net: MTU {mtu} does not fit: the device takes {max}, buffers hold {bytes} bytes"
    )]
    Mtu {
        /// What was asked for.
        mtu: u32,
        /// What the device says.
        max: u32,
        /// Size of a buffer, 0 if it was not the matter.
        bytes: usize,
    },
    /// A queue that is shorter than its memory.
    #[error(
        "virtio-net: queue {queue} takes {max} descriptors, it is to have {size}, a power of two"
    )]
    QueueSize {
        /// Which virtqueue.
        queue: u16,
        /// How many it is to have.
        size: u16,
        /// How many it can have.
        max: u16,
    },
    /// Memory too small for its queue, or crooked.
    #[error("virtio-net: {0} too small for their queue, or not aligned to 16 bytes")]
    Memory(&'static str),
    /// A vector that the device does not take.
    #[error("virtio-net: interrupt vector {0} is refused; the device has too few")]
    Vector(u16),
    /// A command that failed.
    #[error("virtio-net: the device refuses {0}")]
    Command(&'static str),
    /// The redirection table names a queue that does not exist.
    #[error(transparent)]
    Spreading(#[from] ix_nic::Error),
    /// Neither the device nor anybody else says its address.
    #[error("virtio-net: station address {0:02x?} is no unicast address; give QEMU mac=")]
    StationAddress([u8; 6]),
}
