//! What every implementation of [`ix_hal::Nic`] must do, as one set of tests.
//!
//! A driver's tests build a [`Bed`]: the driver, a device in the same process, and the far end of the
//! device's wire. `ix_conformance::conformance!(TheBed)` then makes a test of each requirement, and
//! `requirements!(TheBed)` a list of them. What a device may lack is in [`Offers`]; everything else is
//! asked of all.
//!
//! - [`receive`], [`transmit`]: frames of all shapes, one way each, and their checksums;
//! - [`rings`]: wrapping, exhaustion, interrupts, reset, statistics;
//! - [`segments`]: large frames; [`vlan`]: tags;
//! - [`frames`]: the frames themselves, with checksums computed in the plainest way.

#![forbid(unsafe_code)]

pub mod frames;
pub mod receive;
pub mod rings;
pub mod segments;
mod station;
pub mod transmit;
pub mod vlan;

use ix_hal::{MbufId, MbufPool, Nic, RxFrame};

pub use station::Station;

/// The station address of every bed.
pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// A driver's queue pair, a device beneath it, and the far end of its wire.
pub trait Bed: Sized {
    /// The queue pair.
    type Nic: Nic;
    /// What the device can do.
    const OFFERS: Offers;
    /// Whether the last segment of a large frame has its FIN and PSH, as it must. A device that is known to
    /// lose them is not asked.
    const ENDS_SEGMENTS: bool = true;

    /// Brings a device up with one queue pair, whose receive ring is full and whose link is up.
    fn new(setup: &Setup) -> Self;

    /// The queue pair and its pool.
    fn port(&mut self) -> (&mut Self::Nic, &mut MbufPool);

    /// Puts a frame on the wire at the far end.
    fn inject(&mut self, frame: &[u8]);

    /// Lets the device do all that it has to do.
    fn run(&mut self);

    /// Frames that came to the far end since the last time, as a station there sees them.
    fn arrived(&mut self) -> Vec<Vec<u8>>;

    /// A received frame's bytes.
    fn bytes(&self, frame: &RxFrame) -> Vec<u8>;

    /// Writes to an mbuf; its bus address.
    fn fill(&mut self, mbuf: MbufId, bytes: &[u8]) -> u64;

    /// Interrupts of the queue pair so far.
    fn interrupts(&self) -> u32;

    /// Resets the device whatever it is doing, takes all buffers back, and brings it up again with
    /// the same memory and a full receive ring.
    fn reset(&mut self);

    /// What the device counted, for the messages of failed tests.
    fn story(&self) -> String;
}

/// What a device offers beyond the least.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    /// It verifies checksums of what arrives, of TCP and UDP over both IP versions.
    pub verifies: bool,
    /// It tells how many frames it missed for want of a buffer.
    pub counts_missed: bool,
    /// It keeps frames that it has no buffer for until there is one.
    pub waits_for_buffers: bool,
    /// It puts VLAN tags on and takes them off.
    pub tags: bool,
    /// Somebody else has it drop what is of a VLAN, before the driver can count that.
    pub filters_vlans: bool,
}

/// How large a bed is.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Longest IP packet in bytes.
    pub mtu: u32,
    /// The VLAN of all frames, and the priority of those sent.
    pub vlan: Option<(u16, u8)>,
    /// Frames that the receive ring has room for, a power of two; a ring may keep one place empty.
    pub rx_frames: usize,
    /// Descriptors of the transmit ring, a power of two.
    pub tx_descriptors: usize,
    /// Buffers of the pool.
    pub buffers: u32,
    /// log2 of the size of a buffer.
    pub buffer_shift: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mtu: 1500,
            vlan: None,
            rx_frames: 256,
            tx_descriptors: 256,
            buffers: 1024,
            buffer_shift: 11,
        }
    }
}

impl Setup {
    /// For frames of 9014 bytes.
    pub fn jumbo() -> Self {
        Self {
            mtu: 9000,
            buffers: 512,
            buffer_shift: 14,
            ..Self::default()
        }
    }
}

/// Makes a test of each requirement for the bed of that name.
#[macro_export]
macro_rules! conformance {
    ($bed:ty) => {
        $crate::each_requirement!(tests $bed);
    };
}

/// The requirements for the bed of that name, as an array of names and functions: for beds that cannot
/// be made anew for each.
#[macro_export]
macro_rules! requirements {
    ($bed:ty) => {
        $crate::each_requirement!(list $bed)
    };
}

/// All requirements, and what is made of them.
#[doc(hidden)]
#[macro_export]
macro_rules! each_requirement {
    ($what:ident $bed:ty) => {
        $crate::each_requirement! { @$what $bed,
            receive: [
                every_length_arrives_with_an_honest_verdict
                ipv6_arrives_with_an_honest_verdict
                a_frame_without_ip_has_no_verdict
                jumbo_frames_take_one_buffer
                frames_longer_than_the_mtu_do_not_come_in
            ]
            transmit: [
                every_length_leaves_with_its_checksums
                both_families_in_turn_leave_with_their_checksums
                an_ipv4_header_checksum_alone_is_inserted
                a_short_frame_leaves_whole
                jumbo_frames_leave_whole
                payload_in_an_mbuf_is_sent_in_place_and_given_back
                releases_come_in_the_order_of_their_frames
                a_mark_is_reached_when_what_is_before_it_has_left
                what_cannot_be_sent_is_dropped_and_counted
            ]
            rings: [
                rings_wrap_around_many_times
                an_empty_receive_ring_loses_nothing_unsaid_and_recovers
                a_refill_takes_what_the_pool_has
                a_full_transmit_ring_refuses_until_the_device_has_caught_up
                the_same_room_is_given_until_it_is_used
                waiting_frames_are_counted_without_being_taken
                interrupts_come_while_armed_only
                a_frame_before_arming_is_found_by_polling_once_more
                sending_causes_no_interrupt
                a_reset_under_traffic_starts_anew_with_all_buffers
                statistics_count_frames_and_bytes_both_ways
                the_link_is_up_and_the_address_is_the_station_s
            ]
            segments: [
                a_large_frame_becomes_segments
                small_frames_between_large_ones_are_as_ever
                what_cannot_be_cut_is_dropped_and_counted
            ]
            vlan: [
                every_frame_sent_has_the_tag
                only_frames_of_the_vlan_come_in
                without_a_vlan_nothing_tagged_comes_in
                jumbo_segments_have_the_tag
            ]
        }
    };
    (@tests $bed:ty, $($part:ident: [$($name:ident)+])+) => {
        $(
            mod $part {
                use super::*;
                $(
                    #[test]
                    fn $name() {
                        $crate::$part::$name::<$bed>();
                    }
                )+
            }
        )+
    };
    (@list $bed:ty, $($part:ident: [$($name:ident)+])+) => {
        [
            $($((
                concat!(stringify!($part), "::", stringify!($name)),
                $crate::$part::$name::<$bed> as fn(),
            ),)+)+
        ]
    };
}
