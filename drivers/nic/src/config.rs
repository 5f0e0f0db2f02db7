//! What the caller decides: queues, MTU, spreading, interrupts, and the memory of a queue.

use core::fmt;

use crate::Error;
use ix_hal::{DmaSlice, HEADER_ROOM, MbufGeometry};
use ixgbe_spec::{
    IPV6_INPUT_BYTES, RETA_ENTRIES, RING_GRANULE_BYTES, RING_MAX_DESCRIPTORS, RSS_KEY_BYTES,
    ToeplitzTable, ipv4_input, ipv6_input,
};

/// The key of the RSS verification suite (7.1.2.8.3). It is public: whoever fears that flows are
/// made to collide takes a random one.
pub const DEFAULT_RSS_KEY: [u8; RSS_KEY_BYTES] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Ethernet header and FCS: what a frame has beyond the MTU.
pub const FRAME_OVERHEAD: u32 = 14 + 4;
/// A VLAN tag, which no limit of a frame's length counts.
const VLAN_TAG: u32 = 4;
/// Least MTU that IPv4 allows (RFC 791).
const MIN_MTU: u32 = 68;

/// What a controller has.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Queue pairs that RSS can spread over.
    pub queues: u32,
    /// Interrupt vectors.
    pub vectors: u32,
    /// Longest frame in bytes, FCS and tag included.
    pub max_frame: u32,
}

/// How received flows are spread over queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// Key of the Toeplitz hash.
    pub key: [u8; RSS_KEY_BYTES],
    /// Redirection table: the queue of each of the 128 flow groups.
    pub reta: [u8; RETA_ENTRIES],
}

impl Rss {
    /// The default key, and the flow groups dealt out to `queues` queues in turn.
    pub fn even(queues: u32) -> Self {
        let mut queue = 0;
        Self {
            key: DEFAULT_RSS_KEY,
            reta: core::array::from_fn(|_| {
                let entry = queue;
                queue = if u32::from(queue) + 1 < queues {
                    queue + 1
                } else {
                    0
                };
                entry
            }),
        }
    }

    /// The queue that a frame of this hash arrives at.
    #[inline]
    pub fn queue_of(&self, hash: u32) -> u8 {
        self.reta[hash as usize % RETA_ENTRIES]
    }

    /// The same with some flow groups, a bit each, at another queue.
    pub fn redirected(&self, groups: u128, queue: u32) -> Self {
        let mut rss = self.clone();
        for (group, entry) in rss.reta.iter_mut().enumerate() {
            if groups >> group & 1 != 0 {
                // More than 255 are no queue either.
                *entry = queue.min(255) as u8;
            }
        }
        rss
    }

    /// Checks that each entry names one of `queues` queues.
    pub fn check(&self, queues: u32) -> Result<(), Error> {
        match (0..)
            .zip(self.reta)
            .find(|&(_, queue)| u32::from(queue) >= queues)
        {
            Some((entry, queue)) => Err(Error::Redirection {
                entry,
                queue,
                queues,
            }),
            None => Ok(()),
        }
    }
}

/// A device whose flow groups can move while frames arrive.
pub trait Redirect {
    /// Why a move failed.
    type Error: fmt::Display;

    /// How it spreads flows now.
    fn rss(&self) -> &Rss;

    /// Moves flow groups, a bit each, to one queue. Frames that arrive after it are steered so.
    fn redirect(&mut self, groups: u128, queue: u32) -> Result<(), Self::Error>;
}

/// Foretells the queue that a segment will arrive at, for connections that are to stay on a queue.
#[derive(Clone, Debug)]
pub struct Steering {
    table: ToeplitzTable<IPV6_INPUT_BYTES>,
    rss: Rss,
}

impl Steering {
    /// As `rss` spreads flows.
    pub fn new(rss: &Rss) -> Self {
        Self {
            table: ToeplitzTable::new(&rss.key),
            rss: rss.clone(),
        }
    }

    /// The queue that a TCP segment over IPv4 arrives at. Addresses and ports are numbers in host
    /// order; the destination is this host.
    pub fn queue_of_tcp(&self, source: (u32, u16), destination: (u32, u16)) -> u8 {
        let input = ipv4_input(source.0, destination.0, source.1, destination.1);
        self.rss.queue_of(self.table.hash_prefix(&input))
    }

    /// The same over IPv6. Addresses are in network order.
    pub fn queue_of_tcp_ipv6(&self, source: ([u8; 16], u16), destination: ([u8; 16], u16)) -> u8 {
        let input = ipv6_input(source.0, destination.0, source.1, destination.1);
        self.rss.queue_of(self.table.hash(&input))
    }
}

/// The VLAN that a port belongs to, and the priority of what it sends (IEEE 802.1Q-2022 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag {
    id: u16,
    priority: u8,
}

impl VlanTag {
    /// VLAN `id`, 1 to 4094, with priority 0 to 7; `None` for others.
    pub const fn new(id: u16, priority: u8) -> Option<Self> {
        if id == 0 || id > 4094 || priority > 7 {
            return None;
        }
        Some(Self { id, priority })
    }

    /// VID: the VLAN.
    pub const fn id(self) -> u16 {
        self.id
    }

    /// PCP: the priority of frames sent.
    pub const fn priority(self) -> u8 {
        self.priority
    }

    /// Tag control information of frames sent: PCP, DEI clear, VID.
    pub const fn control(self) -> u16 {
        (self.priority as u16) << 13 | self.id
    }
}

/// Configuration of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queue pairs, 1 to [`Limits::queues`].
    pub queues: u32,
    /// Longest IP packet in bytes.
    pub mtu: u32,
    /// Spreading of received flows.
    pub rss: Rss,
    /// Station address, if not the EEPROM's.
    pub mac: Option<[u8; 6]>,
    /// The VLAN of all frames. Frames of another one are dropped; without one, all that are tagged.
    pub vlan: Option<VlanTag>,
}

impl Config {
    /// `queues` queue pairs evenly used, MTU 1500, the station address of the EEPROM.
    pub fn new(queues: u32) -> Self {
        Self {
            queues,
            mtu: 1500,
            rss: Rss::even(queues),
            mac: None,
            vlan: None,
        }
    }

    /// Longest frame in bytes, FCS included and a VLAN tag not.
    pub fn max_frame(&self) -> u32 {
        self.mtu + FRAME_OVERHEAD
    }

    /// Checks that a controller of such limits can do it.
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        if !(1..=limits.queues).contains(&self.queues) {
            return Err(Error::QueueCount {
                queues: self.queues,
                max: limits.queues,
            });
        }
        let max = limits.max_frame - FRAME_OVERHEAD - VLAN_TAG;
        if !(MIN_MTU..=max).contains(&self.mtu) {
            return Err(Error::Mtu {
                mtu: self.mtu,
                min: MIN_MTU,
                max,
            });
        }
        self.rss.check(self.queues)
    }

    /// Checks that a buffer holds the longest frame, tag included, so that a frame never takes two
    /// descriptors.
    pub fn check_buffers(&self, pool: &MbufGeometry) -> Result<(), Error> {
        let min = self.max_frame() + VLAN_TAG;
        let bytes = pool.size();
        if bytes < min as usize || !bytes.is_multiple_of(1024) || bytes > 16 << 10 {
            return Err(Error::BufferSize {
                bytes,
                mtu: self.mtu,
                min,
            });
        }
        Ok(())
    }
}

/// Configuration of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// MSI-X vector of its receive interrupt.
    pub vector: u8,
    /// Least time between two interrupts in microseconds, 0 for none. The device counts in steps of
    /// a few microseconds, up to about 1 ms at least.
    pub interrupt_interval_us: u32,
    /// The pool that its receive buffers come from.
    pub pool: MbufGeometry,
}

impl QueueConfig {
    /// Checks that a controller of such limits has the vector.
    pub fn check(&self, limits: &Limits) -> Result<(), Error> {
        if u32::from(self.vector) >= limits.vectors {
            return Err(Error::Vector {
                vector: self.vector,
                max: limits.vectors,
            });
        }
        Ok(())
    }
}

/// Memory of a queue pair, which the caller keeps for nothing else as long as the device may reach
/// it: until the queue pair is closed.
#[derive(Debug)]
pub struct QueueMemory {
    /// Receive descriptors: two words each, a power of two of 64 to 8192, 128-byte aligned.
    pub rx_ring: DmaSlice,
    /// Transmit descriptors, likewise.
    pub tx_ring: DmaSlice,
    /// Header rooms, one for each transmit descriptor. The device reads a room between the doorbell
    /// and the completion of its frame; the driver does not write to it in that time.
    pub headers: &'static mut [[u8; HEADER_ROOM]],
    /// Bus address of the first room, 128-byte aligned.
    pub headers_bus: u64,
}

impl QueueMemory {
    /// Checks lengths and alignment.
    pub fn check(&self) -> Result<(), Error> {
        check_ring("receive", &self.rx_ring)?;
        check_ring("transmit", &self.tx_ring)?;
        check_alignment("header arena", self.headers_bus)?;
        let descriptors = self.tx_ring.words() / 2;
        if self.headers.len() < descriptors {
            return Err(Error::HeaderRooms {
                rooms: self.headers.len(),
                descriptors,
            });
        }
        Ok(())
    }
}

fn check_ring(name: &'static str, ring: &DmaSlice) -> Result<(), Error> {
    let words = ring.words();
    let lengths = 2 * 64..=2 * RING_MAX_DESCRIPTORS;
    if !lengths.contains(&words) || !words.is_power_of_two() {
        return Err(Error::RingLength { ring: name, words });
    }
    check_alignment(name, ring.bus())
}

fn check_alignment(what: &'static str, bus: u64) -> Result<(), Error> {
    if !bus.is_multiple_of(RING_GRANULE_BYTES as u64) {
        return Err(Error::Alignment { what, bus });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
