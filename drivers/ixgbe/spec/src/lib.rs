//! The vocabulary of the Intel 82599: where its registers are, what their bits mean, how its
//! descriptors are laid out, and how it hashes a flow.
//!
//! The driver and the device model share this crate and nothing else. It holds no policy: no
//! default values, no order of initialisation, no behaviour.
//!
//! - [`register`]: byte offsets in BAR 0, and flags for those registers that have any;
//! - [`RxRead`], [`RxWriteBack`]: advanced receive descriptors;
//! - [`TxDescriptor`] and its variants: transmit descriptors, built and decoded;
//! - [`toeplitz`], [`ToeplitzTable`]: the receive side scaling hash;
//! - [`virtual_function`]: the registers of a virtual function, and the messages of its mailbox.
//!
//! Section numbers in comments are those of the Intel 82599 10 GbE Controller Datasheet.

#![no_std]
#![forbid(unsafe_code)]

pub mod register;
mod rss;
mod rx_descriptor;
mod tx_descriptor;
pub mod virtual_function;

pub use rss::{
    IPV4_INPUT_BYTES, IPV6_INPUT_BYTES, RETA_ENTRIES, RSS_KEY_BYTES, ToeplitzTable, ipv4_input,
    ipv6_input, toeplitz,
};
pub use rx_descriptor::{PacketType, RssType, RxError, RxRead, RxStatus, RxWriteBack};
pub use tx_descriptor::{
    L4Type, LegacyCommand, TxCommand, TxContext, TxData, TxDescriptor, TxDescriptorError, TxLegacy,
    TxOptions, TxSegment, TxWriteBack,
};

/// PCI vendor of the device.
pub const PCI_VENDOR: u16 = 0x8086;
/// Size of a descriptor of any kind in bytes (7.1.6, 7.2.3.2).
pub const DESCRIPTOR_BYTES: usize = 16;
/// The length of a ring in bytes is a multiple of this (8.2.3.8.3, 8.2.3.9.7).
pub const RING_GRANULE_BYTES: usize = 128;
/// Longest validated ring, in descriptors: 128 KiB (8.2.3.8.3, 8.2.3.9.7).
pub const RING_MAX_DESCRIPTORS: usize = 8192;
/// Receive queues, and as many transmit queues (1.5).
pub const QUEUES: u32 = 128;
/// Receive queues that RSS can spread over: an entry of the table has four bits (8.2.3.7.15).
pub const RSS_QUEUES: u32 = 16;
/// Interrupt vectors with MSI-X (7.3.1).
pub const MSIX_VECTORS: u32 = 64;
/// Longest frame including its FCS that the MAC handles: 15.5 KB (1.5).
pub const MAX_FRAME_BYTES: u32 = 15_872;
/// Most data descriptors of one frame, TSO apart, with TXDCTL.WTHRESH = 0 (7.2.3.3).
pub const MAX_DATA_DESCRIPTORS: usize = 38;
/// Word of the EEPROM that holds the checksum (6.4.3).
pub const EEPROM_CHECKSUM_WORD: u16 = 0x3f;
/// What the EEPROM words 0 to 0x3f and the sections they point at add up to (6.4.3).
pub const EEPROM_CHECKSUM: u16 = 0xbaba;
