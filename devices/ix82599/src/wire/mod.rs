//! What the device's port is plugged into, and what happens to frames on the way.
//!
//! A [`Wire`] carries whole Ethernet frames without their FCS, one at a time, without blocking.
//! Ends: [`Tap`] (a Linux TAP device), [`PacketSocket`] (any interface), [`StreamSocket`] and
//! [`DatagramSocket`] (QEMU's back ends, passt), [`SwitchPort`] (a [`Switch`] with other devices and an
//! uplink), [`Cable`] (another end in this process), [`Loopback`] (the port's own frames come back).
//! Middleware, itself a wire around another: [`Captured`] (writes a
//! pcap file), [`Observed`] (lets others listen and ask while it runs), [`Impaired`] (loses, delays and
//! damages frames), [`AccessPort`] (takes VLAN tags off and puts them on).
//!
//! A virtual function's guest may want to be more than its port was made for ([`Wire::claim`]).
//!
//! A frame that is dropped is told to whoever observes, with the reason: from within by
//! [`Wire::next_dropped`], by the device through [`Wire::dropped`].

mod access;
mod cable;
mod capture;
mod filter;
mod impair;
mod netdev;
mod observe;
mod packet;
mod pcapng;
mod switch;
mod tap;

pub use access::AccessPort;
pub use cable::{Cable, Loopback};
pub use capture::{Captured, PcapWriter};
pub use filter::{Filter, FilterError};
pub use impair::Impaired;
pub use ix_impairment::Impairment;
pub use netdev::{DatagramSocket, StreamSocket};
pub use observe::Observed;
pub use packet::{PacketError, PacketSocket};
pub use pcapng::Direction;
pub use switch::{PortCounts, PortRule, Switch, SwitchPort};
pub use tap::{Tap, TapConfig, TapError};

use std::os::fd::BorrowedFd;

/// Longest frame that a wire carries, without FCS: the device's longest.
pub const MAX_FRAME_BYTES: usize = ixgbe_spec::MAX_FRAME_BYTES as usize;

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// There is no room now; the frame is lost, as on a congested switch port.
    #[error("the wire takes no more frames now")]
    Full,
    /// Nobody is at the other end.
    #[error("the wire is unplugged or its interface is down")]
    Down,
    /// The operating system refused.
    #[error("the wire failed: {0}")]
    Io(#[from] rustix::io::Errno),
}

/// A frame that a wire dropped on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Which way it went.
    pub direction: Direction,
    /// Why, for people.
    pub reason: &'static str,
    /// The frame.
    pub frame: Vec<u8>,
}

/// What the guest of a virtual function wants to be on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its station has that address from now on.
    Station([u8; 6]),
    /// It has that one too.
    Other([u8; 6]),
    /// It has no others.
    NoOthers,
    /// It belongs to that VLAN, or no longer does.
    Vlan {
        /// 1 to 4094.
        vlan: u16,
        /// Whether it does.
        joins: bool,
    },
    /// It has only its station's address, and no VLAN.
    Nothing,
    /// It is what its port was made for.
    Original,
}

/// Addresses, and VLANs, that a function may claim beside what its port was made for.
pub const MAX_CLAIMS: usize = 16;

/// The far side of the device's port.
pub trait Wire {
    /// Sends one frame.
    ///
    /// # Errors
    /// [`WireError`]; the frame is then lost.
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError>;

    /// Takes the next frame into `frame` and returns its length, or `None` if none is waiting.
    /// One longer than `frame` is lost.
    ///
    /// # Errors
    /// [`WireError`] if the wire is broken; the caller may try again later.
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError>;

    /// Whether there is a signal from the other end.
    fn link_up(&self) -> bool {
        true
    }

    /// Tells the wire what time it is, in nanoseconds from an arbitrary start.
    fn advance(&mut self, _now_ns: u64) {}

    /// When [`Wire::advance`] has something to do at the latest.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    /// A descriptor that polls readable when frames are waiting, if the wire has one.
    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// A descriptor that polls readable when somebody wants something of the wire itself.
    fn door(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Sees to whoever made [`Wire::door`] readable.
    fn answer_door(&mut self) {}

    /// Does something about the wire itself that is asked for by a word and an argument. Returns the
    /// answer, or why not; `None` if nobody here knows the word.
    fn request(&mut self, _what: &str, _argument: &str) -> Option<Result<String, String>> {
        None
    }

    /// The guest of a virtual function that is plugged in wants to be somebody else, or to be more. Whether it may,
    /// as far as others on this wire are concerned; it always may be less.
    fn claim(&mut self, _claim: Claim) -> bool {
        true
    }

    /// Whether somebody wants to know of frames that are dropped.
    fn watch(&mut self, _watched: bool) {}

    /// A frame that this wire dropped, if it is watched, until there is none.
    fn next_dropped(&mut self) -> Option<Dropped> {
        None
    }

    /// Whether [`Wire::dropped`] is listened to.
    fn is_observed(&self) -> bool {
        false
    }

    /// The device dropped a frame: the one that it received last, or one that it was to send.
    fn dropped(&mut self, _direction: Direction, _frame: &[u8], _reason: &'static str) {}
}
