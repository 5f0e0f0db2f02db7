//! Flow director: filters that send single flows to queues (7.1.2.7, 8.2.3.21).

use super::{field, with_field};
use bitflags::bitflags;

/// Flow director control (8.2.3.21.1).
pub const FDIRCTRL: u32 = 0x0ee00;
/// Source IPv4 address, or the last 32 bits of an IPv6 one, first byte in the low byte (8.2.3.21).
pub const FDIRIPSA: u32 = 0x0ee18;
/// Destination IPv4 address, first byte in the low byte (8.2.3.21).
pub const FDIRIPDA: u32 = 0x0ee1c;
/// Source port in the low half, destination port in the high half (8.2.3.21).
pub const FDIRPORT: u32 = 0x0ee20;
/// VLAN tag in the low half, flexible bytes in the high half, first byte lower (8.2.3.21).
pub const FDIRVLAN: u32 = 0x0ee24;
/// Hash in bits 14:0, software index or signature in bits 30:16 (8.2.3.21).
pub const FDIRHASH: u32 = 0x0ee28;
/// Flow director command: adds, removes and asks for filters (8.2.3.21).
pub const FDIRCMD: u32 = 0x0ee2c;
/// Filters that can still be added (8.2.3.21).
pub const FDIRFREE: u32 = 0x0ee38;
/// Bits of the destination IPv4 address that are not compared (8.2.3.21).
pub const FDIRDIP4M: u32 = 0x0ee3c;
/// Bits of the source IPv4 address that are not compared (8.2.3.21).
pub const FDIRSIP4M: u32 = 0x0ee40;
/// Bits of TCP ports that are not compared, each port's in reverse order (8.2.3.21).
pub const FDIRTCPM: u32 = 0x0ee44;
/// Bits of UDP ports that are not compared, each port's in reverse order (8.2.3.21).
pub const FDIRUDPM: u32 = 0x0ee48;
/// Longest list of filters behind one hash, and that hash (8.2.3.21).
pub const FDIRLEN: u32 = 0x0ee4c;
/// Filters added, and removed in the high half (8.2.3.21).
pub const FDIRUSTAT: u32 = 0x0ee50;
/// Failures to add, and to remove in the high half (8.2.3.21).
pub const FDIRFSTAT: u32 = 0x0ee54;
/// Frames that matched a filter (8.2.3.21).
pub const FDIRMATCH: u32 = 0x0ee58;
/// Frames that matched none (8.2.3.21).
pub const FDIRMISS: u32 = 0x0ee5c;
/// Key of the hash that finds a filter (8.2.3.21).
pub const FDIRHKEY: u32 = 0x0ee68;
/// Key of the hash that is a filter's signature (8.2.3.21).
pub const FDIRSKEY: u32 = 0x0ee6c;
/// Fields that are not compared (8.2.3.21).
pub const FDIRM: u32 = 0x0ee70;

/// The first 96 bits of a source IPv6 address, `n` 0 to 2 (8.2.3.21).
pub const fn fdirsipv6(n: u32) -> u32 {
    0x0ee0c + 4 * n
}

bitflags! {
    /// Bits of [`FDIRCTRL`] (8.2.3.21.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Fdirctrl: u32 {
        /// INIT-Done: the table is empty and ready; set by the device.
        const INIT_DONE = 1 << 3;
        /// Perfect-Match: filters hold the fields themselves, instead of a signature of them.
        const PERFECT_MATCH = 1 << 4;
        /// Report-Status: descriptors of frames that match hold the filter's identity for the hash.
        const REPORT_STATUS = 1 << 5;
        const _ = !0;
    }
}

impl Fdirctrl {
    /// PBALLOC: 0 is off, 1 to 3 take 64 KB, 128 KB, 256 KB of the packet buffer for filters.
    pub const fn pballoc(self) -> u32 {
        field(self.bits(), 0, 2)
    }

    /// Replaces PBALLOC.
    pub const fn with_pballoc(self, pballoc: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 0, 2, pballoc))
    }

    /// Drop-Queue: where frames go that a filter drops; it should not be enabled.
    pub const fn drop_queue(self) -> u32 {
        field(self.bits(), 8, 7)
    }

    /// Replaces Drop-Queue.
    pub const fn with_drop_queue(self, queue: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 8, 7, queue))
    }

    /// Flex-Offset: where the flexible bytes are in the frame, in words.
    pub const fn flex_offset(self) -> u32 {
        field(self.bits(), 16, 5)
    }

    /// Replaces Flex-Offset.
    pub const fn with_flex_offset(self, words: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 16, 5, words))
    }
}

bitflags! {
    /// Bits of [`FDIRCMD`] (8.2.3.21).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Fdircmd: u32 {
        /// Filter-Valid: the filter that was asked for is there; set by the device.
        const FILTER_VALID = 1 << 2;
        /// Filter-Update: an equal filter is replaced.
        const FILTER_UPDATE = 1 << 3;
        /// IPv6: the filter is one for IPv6.
        const IPV6 = 1 << 7;
        /// CLEARHT: forgets all filters.
        const CLEARHT = 1 << 8;
        /// Drop: frames that match go to the drop queue.
        const DROP = 1 << 9;
        /// Last: ends the list of filters of a flow.
        const LAST = 1 << 11;
        /// Queue-EN: frames that match go to the queue.
        const QUEUE_EN = 1 << 15;
        const _ = !0;
    }
}

impl Fdircmd {
    /// CMD value: adds a filter.
    pub const CMD_ADD: u32 = 1;
    /// CMD value: removes a filter.
    pub const CMD_REMOVE: u32 = 2;
    /// CMD value: asks whether a filter is there.
    pub const CMD_QUERY: u32 = 3;

    /// CMD; 0 when the device is done.
    pub const fn cmd(self) -> u32 {
        field(self.bits(), 0, 2)
    }

    /// Replaces CMD.
    pub const fn with_cmd(self, cmd: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 0, 2, cmd))
    }

    /// L4TYPE: 1 UDP, 2 TCP, 3 SCTP, 0 none of these.
    pub const fn l4type(self) -> u32 {
        field(self.bits(), 5, 2)
    }

    /// Replaces L4TYPE.
    pub const fn with_l4type(self, l4type: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 5, 2, l4type))
    }

    /// Rx-Queue.
    pub const fn rx_queue(self) -> u32 {
        field(self.bits(), 16, 7)
    }

    /// Replaces Rx-Queue.
    pub const fn with_rx_queue(self, queue: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 16, 7, queue))
    }
}

bitflags! {
    /// Bits of [`FDIRM`]: what is not compared (8.2.3.21).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Fdirm: u32 {
        /// VLANID: the VLAN's number.
        const VLANID = 1 << 0;
        /// VLANP: the VLAN's priority.
        const VLANP = 1 << 1;
        /// POOL: the pool.
        const POOL = 1 << 2;
        /// L4P: the transport protocol, and with it the ports.
        const L4P = 1 << 3;
        /// Flex: the flexible bytes.
        const FLEX = 1 << 4;
        /// DIPv6: the destination IPv6 address.
        const DIPV6 = 1 << 5;
        const _ = !0;
    }
}
