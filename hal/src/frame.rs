//! Frames on their way in and out, and the NIC queue pair that carries them.
//!
//! Frames have no VLAN tag here. Where one is configured, the NIC inserts it into each frame that
//! leaves, and takes it off those that arrive; what belongs to another VLAN never gets here.

use crate::{MbufId, MbufPool};

/// Bytes of header room for one outgoing frame: Ethernet, VLAN, IPv6 and the longest TCP header
/// (18 + 40 + 60), rounded up.
pub const HEADER_ROOM: usize = 128;

/// Most payload fragments in one outgoing frame.
pub const MAX_FRAGMENTS: usize = 8;

/// What the NIC found out about the checksums of a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RxChecksum {
    /// The NIC did not check; software must.
    #[default]
    Unchecked,
    /// IPv4 header and TCP or UDP checksum are both good.
    Good,
    /// The IPv4 header checksum is good, the rest was not checked.
    Ipv4Good,
    /// One of them is wrong; the frame is to be dropped and counted.
    Bad,
}

/// A received frame: a whole Ethernet frame without FCS in one mbuf.
#[derive(Clone, Copy, Debug, Default)]
pub struct RxFrame {
    /// Buffer that holds it, owned by the receiver from now on.
    pub mbuf: MbufId,
    /// Length in bytes.
    pub len: u16,
    /// The NIC's verdict on its checksums.
    pub checksum: RxChecksum,
    /// RSS hash, 0 if the NIC computed none.
    pub rss_hash: u32,
}

/// A piece of payload that the device reads in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Bus address.
    pub bus: u64,
    /// Length in bytes.
    pub len: u32,
}

/// Which checksums the NIC inserts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TxChecksum {
    /// None; the frame is complete.
    #[default]
    None,
    /// The IPv4 header checksum (the field holds zero).
    Ipv4,
    /// IPv4 header checksum and TCP checksum; the TCP field holds the folded, not complemented
    /// pseudo-header sum (without length of TSO frames), in network order. IPv4 header 20 bytes.
    Ipv4Tcp,
    /// IPv4 header checksum and UDP checksum, likewise.
    Ipv4Udp,
    /// TCP checksum over IPv6, likewise; there is no other. IPv6 header 40 bytes, without extension
    /// headers.
    Ipv6Tcp,
    /// UDP checksum over IPv6, likewise.
    Ipv6Udp,
}

/// What goes back to its owner once a frame is sent, or was refused by the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// An mbuf that a fragment lies in; it goes back to the pool.
    Mbuf(MbufId),
    /// Memory of the application that fragments lie in; [`Nic::reclaim`] counts it.
    User,
}

/// The frame to send from the header room just filled.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// Bytes used of the header room.
    pub header_len: u16,
    /// Payload, at most [`MAX_FRAGMENTS`] pieces, none of them empty.
    pub fragments: &'a [Fragment],
    /// What the NIC is to compute.
    pub checksum: TxChecksum,
    /// Payload bytes of each of the TCP segments that the NIC makes of the frame, the last one may
    /// be shorter; 0 to send one frame as it stands. The header is that of all of them, with a
    /// length field of zero.
    pub segment_size: u16,
    /// What goes back once the frame is sent.
    pub release: Option<Release>,
}

/// The way out, as the protocol engine sees it.
pub trait Transmit {
    /// Most payload bytes of a frame with a [`TxFrame::segment_size`]; 0 if the device makes no
    /// segments.
    #[inline]
    fn segmentation(&self) -> u32 {
        0
    }

    /// Header room for one frame, or `None` if the ring cannot take a frame of
    /// [`MAX_FRAGMENTS`] fragments now. Calling it twice without [`Transmit::send`] gives the same
    /// room. The previous contents are unspecified.
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]>;

    /// Queues the frame whose header was written to the room that [`Transmit::header`] gave.
    /// Without such a room the frame is dropped and counted.
    fn send(&mut self, frame: &TxFrame<'_>);
}

/// Statistics of one queue pair, monotonic since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStatistics {
    /// Frames handed to the receiver.
    pub rx_frames: u64,
    /// Bytes in them.
    pub rx_bytes: u64,
    /// Frames dropped by the driver: error bits, or longer than a buffer.
    pub rx_errors: u64,
    /// Frames dropped by the driver because they belong to another VLAN: they have a tag other than
    /// the configured one, or none, or any where none is configured.
    pub rx_wrong_vlan: u64,
    /// Frames the hardware missed for want of a descriptor.
    pub rx_missed: u64,
    /// Frames queued for transmission.
    pub tx_frames: u64,
    /// Bytes in them.
    pub tx_bytes: u64,
    /// Frames not queued: ring full or malformed request.
    pub tx_drops: u64,
}

/// One RX/TX queue pair of a NIC.
pub trait Nic: Transmit {
    /// The station's MAC address.
    fn mac(&self) -> [u8; 6];

    /// Whether the link is up (slow: reads a register).
    fn link_up(&mut self) -> bool;

    /// Takes received frames, at most `frames.len()`, in order of arrival, without waiting.
    /// Returns how many entries were filled.
    fn receive(&mut self, frames: &mut [RxFrame], pool: &mut MbufPool) -> usize;

    /// Gives empty buffers to the RX ring, in groups of at least 32 descriptors per doorbell, as
    /// far as the pool has any.
    fn refill(&mut self, pool: &mut MbufPool);

    /// Takes back completed TX descriptors and returns the mbufs they carried. Says how many
    /// frames with [`Release::User`] are sent that were not counted before; they complete in the
    /// order in which they were queued.
    fn reclaim(&mut self, pool: &mut MbufPool) -> u32;

    /// Rings the TX doorbell once for all frames queued since the last time.
    fn flush(&mut self);

    /// A mark behind all frames that are queued so far, for [`Nic::has_sent`].
    fn queued(&self) -> u32;

    /// Whether all frames before a mark have left. The mark is no older than 2^31 descriptors.
    fn has_sent(&mut self, mark: u32) -> bool;

    /// Enables the queue's receive interrupt. The caller must poll once more afterwards, since a
    /// frame may have come before.
    fn arm_interrupt(&mut self);

    /// Disables the queue's receive interrupt.
    fn disarm_interrupt(&mut self);

    /// What went through the queue pair so far (slow: reads a register).
    fn statistics(&mut self) -> NicStatistics;

    /// The same without asking the device: what only the device counts is as old as the last
    /// [`Nic::statistics`].
    fn counts(&self) -> NicStatistics;

    /// Frames that wait in the RX ring, for statistics: it takes a few loads.
    fn waiting(&self) -> u32;
}
