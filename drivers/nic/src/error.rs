//! What can go wrong while a device is set up or shut down. Nothing on the packet path can. Messages
//! do not say which device: whoever has several knows.

use ixgbe_spec::{RING_GRANULE_BYTES, RING_MAX_DESCRIPTORS};

/// Why the device could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Registers read as all ones.
    #[error(
        "STATUS reads 0xffffffff; check that the device has power and its BAR 0 is mapped and enabled"
    )]
    Gone,
    /// A register did not change in time.
    #[error(
        "{register} is {value:#010x} after {waited_us} us, {expected}; reset the device or replace it"
    )]
    Timeout {
        /// Name of the register.
        register: &'static str,
        /// What was waited for.
        expected: &'static str,
        /// What it held at last.
        value: u32,
        /// How long was waited.
        waited_us: u32,
    },
    /// Nobody is at the other end.
    #[error("the link is down after {waited_us} us; check the cable, and that the peer is up")]
    LinkDown {
        /// How long was waited.
        waited_us: u32,
    },
    /// No EEPROM, or one without a good signature.
    #[error("no valid EEPROM (EEC = {eec:#010x}); the device needs one to come out of reset")]
    NoEeprom {
        /// EEC as it reads.
        eec: u32,
    },
    /// Neither the EEPROM nor the configuration has a usable station address.
    #[error("station address {0:02x?} is no unicast address; configure one")]
    StationAddress([u8; 6]),
    /// A number of queues that cannot be had.
    #[error("{queues} queues asked for; flows can be spread over 1 to {max}: use fewer CPUs")]
    QueueCount {
        /// What was asked for.
        queues: u32,
        /// How many it spreads over.
        max: u32,
    },
    /// The owner of a virtual function says no.
    #[error("the host refuses {what}; {remedy}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// An MTU that the device or the buffers cannot carry.
    #[error("MTU {mtu} is outside {min} to {max}")]
    Mtu {
        /// What was asked for.
        mtu: u32,
        /// Least possible.
        min: u32,
        /// Most possible.
        max: u32,
    },
    /// An entry of the redirection table names a queue that does not exist.
    #[error("redirection table entry {entry} names queue {queue} of {queues}")]
    Redirection {
        /// Which entry.
        entry: usize,
        /// What it says.
        queue: u8,
        /// How many queues there are.
        queues: u32,
    },
    /// A queue number beyond the configured ones.
    #[error("queue {queue} opened, but only {queues} are configured")]
    NoSuchQueue {
        /// Which.
        queue: u32,
        /// How many there are.
        queues: u32,
    },
    /// A queue that is open already.
    #[error("queue {0} is open already; close it first")]
    QueueInUse(u32),
    /// A vector beyond those the device has.
    #[error("interrupt vector {vector} asked for; there are {max}")]
    Vector {
        /// Which.
        vector: u8,
        /// How many there are.
        max: u32,
    },
    /// A ring of impossible length.
    #[error(
        "{ring} ring of {words} words; it takes two words for each of 64 to {max} \
         descriptors, a power of two",
        max = RING_MAX_DESCRIPTORS
    )]
    RingLength {
        /// Which ring.
        ring: &'static str,
        /// Its length in 64-bit words.
        words: usize,
    },
    /// A ring or header arena at an impossible address.
    #[error("{what} at bus address {bus:#x} is not aligned to {granule} bytes", granule = RING_GRANULE_BYTES)]
    Alignment {
        /// What lies there.
        what: &'static str,
        /// The address.
        bus: u64,
    },
    /// Too few header rooms.
    #[error("{rooms} header rooms for {descriptors} transmit descriptors; one each is needed")]
    HeaderRooms {
        /// How many there are.
        rooms: usize,
        /// How many are needed.
        descriptors: usize,
    },
    /// Buffers too small for the MTU, or larger than the device can be told.
    #[error(
        "frame buffers of {bytes} bytes; MTU {mtu} needs {min}, and the device takes at most 16384"
    )]
    BufferSize {
        /// Their size.
        bytes: usize,
        /// The configured MTU.
        mtu: u32,
        /// What it needs.
        min: u32,
    },
    /// An address for the multicast table that is none.
    #[error("{0:02x?} is no multicast address")]
    NotMulticast([u8; 6]),
}
