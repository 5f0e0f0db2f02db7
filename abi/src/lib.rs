//! The contract between the dataplane kernel (ring 0) and one elastic thread of the application
//! (ring 3): batched system calls, event conditions, the thread area that carries both, the boot
//! block, and the few unbatched `syscall` numbers.
//!
//! Everything that crosses the border is a 64-bit word in the [`area`], written and read as plain
//! integers; the enums here come into being only after validation ([`CallNumber::from_raw`]). Each
//! side reads a word once, then checks it, then uses it.
//!
//! One cycle: the application fills calls and their scatter-gather entries, stores the count in
//! [`area::CALL_COUNT`], and executes `syscall` with [`syscall::RUN_IO`]. The kernel executes the
//! calls in order and overwrites [`call::RESULT`] of each; then it runs timers, transmits, polls
//! the NIC, and returns when there are events ([`area::EVENT_COUNT`]), when the time in
//! [`area::WAKE_NS`] has come, or at once when it refused a `listen`, `connect`, `accept` or `udp_bind`,
//! since no event will ever tell of it.
//!
//! # Life of a connection
//! - `knock(handle)`: a peer asks. The application answers `accept(handle, cookie)` or
//!   `close(handle)` (reset). No SYN-ACK leaves before `accept`, except in a flood of SYNs: then
//!   the kernel may answer with a SYN cookie unasked, the knock comes when the peer has completed
//!   the handshake, and `connected` follows `accept` at once. A knock nobody answers within the
//!   handshake timeout, or that the peer withdraws, ends with `dead(cookie = 0, handle)`, and the
//!   handle is gone.
//! - `connected(cookie, outcome)`: the handshake of an accepted or a connecting one completed, or
//!   failed (then `outcome` is an [`Error`], and `dead` follows).
//! - `recv(cookie, address, length)`: in-order payload, read-only, valid until `recv_done` has
//!   given those bytes back or the handle is released. Length 0: the peer sent FIN, no more data.
//!   Payload that arrived in several frames in one cycle comes in one event where it can: then the
//!   event names several pieces ([`piece`]), in order. Events of equal cookies are taken for those
//!   of one connection.
//! - `sendv` takes user memory by reference and returns how many bytes it accepted; they must stay
//!   untouched until `sent` events have covered them, or `dead`.
//! - `sent(cookie, bytes, window)`: that many bytes more are acknowledged; `window` more would be
//!   accepted now.
//! - `shutdown(handle)`: FIN after what is queued; receiving goes on.
//! - `close(handle)`: FIN after what is queued; nothing is delivered any more.
//! - `abort(handle)`: RST now.
//! - `migrated(cookie, handle, from, to)`: the connection went from one elastic thread to another,
//!   with everything that belongs to it. It is the last event on the one and the first on the other,
//!   in this order in time. Cookie and handle stay, so does what `recv` and `sendv` refer to. Calls
//!   for it are made on the new thread from now on; those in a call array that was filled before
//!   the event was read get [`Error::BadHandle`] and had no effect. A knock nobody has answered
//!   (cookie 0) comes again on the new thread.
//! - `dead(cookie, reason, handle)`: exactly once for each accepted or connecting connection, its
//!   last event: nothing of the application's memory is referenced any more. The handle itself,
//!   and the `recv` memory it still owes, is released when both `dead` has been delivered and
//!   `close` or `abort` has been called, in either order.
//!
//! # Datagrams
//! - `udp_bind(port)` asks for the datagrams to a local UDP port, `udp_unbind(port)` for no more.
//! - `udp_recv(peer, port, address, length)`: a datagram, whole and read-only, in a buffer of its
//!   own, which `udp_recv_done(address)` gives back. A port whose application holds too many of
//!   them loses what comes beyond.
//! - `udp_send` sends one datagram from a bound port and takes user memory by reference, whole or
//!   not at all. The NIC may read that memory until [`area::UDP_SENT`] has counted the datagram:
//!   the word counts accepted `udp_send` calls, in their order, whose datagram has left. No event
//!   says so; who needs the memory back by a certain time sets [`area::WAKE_NS`].
//!   [`Error::TryAgain`] means that the TX ring has no room, or that the next hop's station
//!   address is being asked for.

#![no_std]
#![forbid(unsafe_code)]

pub mod control;
mod error;
pub mod syscall;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use error::{DeadReason, Error};

/// Version of this contract; the kernel refuses an application image built for another.
pub const VERSION: u32 = 7;

/// Layout of the thread area: one per elastic thread, [`area::BYTES`] long, shared by the kernel
/// and that thread alone. All positions are indices of 64-bit words.
pub mod area {
    /// `MAGIC`, written by the kernel before the thread starts.
    pub const MAGIC_WORD: usize = 0;
    /// `VERSION`, written by the kernel.
    pub const VERSION_WORD: usize = 1;
    /// Number of calls in the call array; application to kernel.
    pub const CALL_COUNT: usize = 2;
    /// Number of events in the event array; kernel to application.
    pub const EVENT_COUNT: usize = 3;
    /// Time of this cycle in nanoseconds since boot; kernel to application.
    pub const NOW_NS: usize = 4;
    /// Time on the scale of [`NOW_NS`] from which on the kernel returns even without events, so
    /// that the application can keep timers, or can have calls executed that did not fit into one
    /// round (1 = at once); 0 = only with events. Application to kernel, read in each cycle.
    pub const WAKE_NS: usize = 5;
    /// Datagrams whose memory is free again, counted since the start in the order of the accepted
    /// `udp_send` calls; kernel to application.
    pub const UDP_SENT: usize = 6;
    /// Not 0 if the application follows [`super::EventKind::Migrated`]; as long as it does not, its
    /// connections stay on their threads. Application to kernel, read when flow groups are to move.
    pub const FOLLOWS_MOVES: usize = 7;
    /// Not 0 while a background thread asks not to be interrupted, for the few instructions in which
    /// it has something that others spin for, such as a lock. The kernel lets it go on for at most
    /// [`super::syscall::HOLD_MAX_NS`]. Each background thread has a value of its own. Application to
    /// kernel; without effect on elastic threads, which nothing interrupts for another.
    pub const HOLD: usize = 8;
    /// First word of the boot block, see [`super::boot`].
    pub const BOOT: usize = 64;
    /// First word of the event array.
    pub const EVENTS: usize = 512;
    /// First word of the call array.
    pub const CALLS: usize = EVENTS + super::EVENT_CAPACITY * super::event::WORDS;
    /// First word of the scatter-gather array.
    pub const SCATTER_GATHER: usize = CALLS + super::CALL_CAPACITY * super::call::WORDS;
    /// First word of the array of received pieces.
    pub const PIECES: usize = SCATTER_GATHER + super::SCATTER_GATHER_CAPACITY * 2;
    /// Words in the area that carry meaning.
    pub const WORDS: usize = PIECES + super::PIECE_CAPACITY;
    /// Bytes mapped for the area: one 2 MiB page.
    pub const BYTES: usize = 2 << 20;
    /// "IXTHREAD" in ASCII.
    pub const MAGIC: u64 = u64::from_be_bytes(*b"IXTHREAD");
}

/// Most elastic threads of one application.
pub const THREADS_MAX: usize = 64;

/// Entries of the call array.
pub const CALL_CAPACITY: usize = 2048;
/// Entries of the event array. A call causes at most one event and a frame at most four, so that
/// a full call array and a full batch always fit.
pub const EVENT_CAPACITY: usize = 4096;
/// Entries of the scatter-gather array that `sendv` calls refer to by index.
pub const SCATTER_GATHER_CAPACITY: usize = 4096;
/// Entries of the array of received pieces. While it is full, each piece is an event of its own.
pub const PIECE_CAPACITY: usize = 4096;
/// Most scatter-gather entries in one `sendv`.
pub const SENDV_MAX: usize = 64;
/// Most scatter-gather entries in one `udp_send`.
pub const UDP_SEND_MAX: usize = 8;

const _: () = assert!(area::WORDS * 8 <= area::BYTES);
const _: () = assert!(area::CALLS == 16_896);
const _: () = assert!(area::SCATTER_GATHER == 25_088);
const _: () = assert!(area::PIECES == 33_280);
const _: () = assert!(area::WORDS == 37_376);
// Pieces of one event are counted in 16 bits.
const _: () = assert!(PIECE_CAPACITY < 1 << 16);
const _: () = assert!(EVENT_CAPACITY >= CALL_CAPACITY + 64 * 4);

/// A batched call: four words.
///
/// | call | word 0 low 32 | word 0 high 32 | word 1 | word 2 | word 3 | result |
/// |---|---|---|---|---|---|---|
/// | listen | number | port | 0 | 0 | 0 | 0 |
/// | unlisten | number | port | 0 | 0 | 0 | 0 |
/// | connect | number | port | cookie | address, first 8 bytes | last 8 bytes | handle |
/// | accept | number | 0 | handle | cookie | 0 | 0 |
/// | sendv | number | entries | handle | first entry | 0 | bytes accepted |
/// | recv_done | number | 0 | handle | bytes | 0 | 0 |
/// | shutdown, close, abort | number | 0 | handle | 0 | 0 | 0 |
/// | udp_bind, udp_unbind | number | port | 0 | 0 | 0 | 0 |
/// | udp_send | number | [`udp_ports`] | [`udp_entries`] | address, first 8 bytes | last 8 bytes | 0 |
/// | udp_recv_done | number | 0 | address in the event | 0 | 0 | 0 |
///
/// The result (word 3) is an `i64`: a value >= 0, or the negative of an [`Error`]. Addresses are
/// IPv6, IPv4 as `::ffff:a.b.c.d`, as two big-endian words.
pub mod call {
    /// Words in a call.
    pub const WORDS: usize = 4;
    /// Number (low half) and small argument (high half).
    pub const NUMBER: usize = 0;
    /// Handle; cookie for `connect`, entries for `udp_send`, address for `udp_recv_done`.
    pub const HANDLE: usize = 1;
    /// First argument.
    pub const ARGUMENT: usize = 2;
    /// Second argument; overwritten with the result.
    pub const RESULT: usize = 3;
}

/// Which batched call (see [`call`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CallNumber {
    /// Accept knocks on a local TCP port.
    Listen = 1,
    /// No longer accept knocks on a local TCP port.
    Unlisten = 2,
    /// Open a connection.
    Connect = 3,
    /// Take a knocking connection and give it a cookie.
    Accept = 4,
    /// Send memory by reference.
    Sendv = 5,
    /// Give received bytes back.
    RecvDone = 6,
    /// Send FIN after what is queued, go on receiving.
    Shutdown = 7,
    /// Refuse a knock, or close in both directions, or release a dead handle.
    Close = 8,
    /// Send RST now.
    Abort = 9,
    /// Ask for the datagrams to a local UDP port.
    UdpBind = 10,
    /// No longer ask for them.
    UdpUnbind = 11,
    /// Send a datagram by reference.
    UdpSend = 12,
    /// Give the buffer of a datagram back.
    UdpRecvDone = 13,
}

impl CallNumber {
    /// The call of that number, if there is one.
    #[inline]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Listen,
            2 => Self::Unlisten,
            3 => Self::Connect,
            4 => Self::Accept,
            5 => Self::Sendv,
            6 => Self::RecvDone,
            7 => Self::Shutdown,
            8 => Self::Close,
            9 => Self::Abort,
            10 => Self::UdpBind,
            11 => Self::UdpUnbind,
            12 => Self::UdpSend,
            13 => Self::UdpRecvDone,
            _ => return None,
        })
    }
}

/// An event condition: four words. Bits 48 to 63 of word 0 are 0, but for `udp_recv`: there they are
/// the length of the datagram; and for a `recv` of several pieces: there they are their number, and
/// word 2 is the index of the first one in the array of received pieces.
///
/// | event | word 0 low 16 | bits 16..32 | bits 32..48 | word 1 | word 2 | word 3 |
/// |---|---|---|---|---|---|---|
/// | knock | kind | peer port | local port | handle | peer address, first 8 bytes | last 8 bytes |
/// | connected | kind | 0 | 0 | cookie | handle | 0, or the negative of an [`Error`] |
/// | recv | kind | 0 | 0 | cookie | address in user memory, or first piece | bytes, 0 = end of stream |
/// | sent | kind | 0 | 0 | cookie | bytes acknowledged | bytes that `sendv` would accept now |
/// | dead | kind | 0 | 0 | cookie | [`DeadReason`] | handle |
/// | migrated | kind | from thread | to thread | cookie | handle | 0 |
/// | udp_recv | kind | peer port | local port | address in user memory | peer address, first 8 bytes | last 8 bytes |
pub mod event {
    /// Words in an event.
    pub const WORDS: usize = 4;
}

/// A piece of received payload: one word, with the address in user memory in bits 0 to 47 and the
/// length in bits 48 to 63.
pub mod piece {
    /// Bits of an address.
    const ADDRESS: u64 = (1 << 48) - 1;

    /// The word of a piece.
    #[inline]
    pub const fn new(address: u64, len: u16) -> u64 {
        address & ADDRESS | (len as u64) << 48
    }

    /// Where a piece begins.
    #[inline]
    pub const fn address(piece: u64) -> u64 {
        piece & ADDRESS
    }

    /// Bytes of a piece.
    #[inline]
    pub const fn len(piece: u64) -> u16 {
        (piece >> 48) as u16
    }
}

/// Which event condition (see [`event`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum EventKind {
    /// A peer wants to open a connection.
    Knock = 1,
    /// A connection opened, or failed to.
    Connected = 2,
    /// Payload arrived.
    Recv = 3,
    /// Payload was acknowledged, or the window opened.
    Sent = 4,
    /// The connection is over.
    Dead = 5,
    /// A datagram arrived.
    UdpRecv = 6,
    /// A connection went from one thread to another.
    Migrated = 7,
}

impl EventKind {
    /// The event of that number, if there is one.
    #[inline]
    pub const fn from_raw(raw: u16) -> Option<Self> {
        Some(match raw {
            1 => Self::Knock,
            2 => Self::Connected,
            3 => Self::Recv,
            4 => Self::Sent,
            5 => Self::Dead,
            6 => Self::UdpRecv,
            7 => Self::Migrated,
            _ => return None,
        })
    }
}

/// The boot block: words relative to [`area::BOOT`], written once before the thread starts.
///
/// Every elastic thread enters the image's ELF entry point with `rdi` = FS.base = address of its
/// thread area, `rsp` = top of its stack (16-byte aligned), everything else zero. The threads share
/// the image. Each has a heap of its own, but all may use all heaps: these are equally long and
/// lie side by side in the order of the threads, and any of them may be sent from.
pub mod boot {
    /// First byte of the heap, 2 MiB aligned, zeroed, read-write.
    pub const HEAP_BASE: usize = 0;
    /// Bytes of the heap.
    pub const HEAP_BYTES: usize = 1;
    /// First byte of the mbuf pool, read-only.
    pub const MBUF_BASE: usize = 2;
    /// Bytes of the mbuf pool.
    pub const MBUF_BYTES: usize = 3;
    /// Own IPv4 address, as a big-endian number in the low 32 bits.
    pub const LOCAL_IPV4: usize = 4;
    /// TSC ticks per second, 0 if unknown.
    pub const TSC_HZ: usize = 5;
    /// Index of this elastic thread.
    pub const THREAD: usize = 6;
    /// Bytes of the argument text, at most [`ARGUMENTS_MAX`].
    pub const ARGUMENTS_BYTES: usize = 7;
    /// Number of elastic threads, at most [`THREADS_MAX`](super::THREADS_MAX).
    pub const THREADS: usize = 8;
    /// First eight bytes of the own IPv6 address that was configured, as a big-endian number; 0 with
    /// the next word if none was. Addresses that the engine makes by itself, from a router's
    /// advertisement or for the link alone, are not here.
    pub const LOCAL_IPV6_HIGH: usize = 9;
    /// Its last eight bytes.
    pub const LOCAL_IPV6_LOW: usize = 10;
    /// Processors for background threads: 0 or 1, see [`syscall`](super::syscall).
    pub const BACKGROUND: usize = 11;
    /// Seconds from 1970 to time 0 of [`NOW_NS`](super::area::NOW_NS), 0 if unknown.
    pub const UNIX_SECONDS: usize = 12;
    /// First word of the argument text: UTF-8, arguments parted by a zero byte, little-endian words.
    pub const ARGUMENTS: usize = 16;
    /// Most bytes of argument text.
    pub const ARGUMENTS_MAX: usize = (super::area::EVENTS - super::area::BOOT - ARGUMENTS) * 8;
}

/// Marks an application image: the ELF must hold a note of this name and type whose descriptor is
/// [`VERSION`] as a little-endian `u32`.
pub mod note {
    /// Name of the note, with its terminating zero.
    pub const NAME: &[u8; 3] = b"IX\0";
    /// Type of the note.
    pub const TYPE: u32 = 1;
}

/// An opaque name of a connection, made by the kernel and valid on the thread that the connection is
/// on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Handle(pub u64);

/// The ports of a `udp_send` call: the small argument.
#[inline]
pub const fn udp_ports(local: u16, remote: u16) -> u32 {
    local as u32 | (remote as u32) << 16
}

/// The scatter-gather entries of a `udp_send` call: their number, at most [`UDP_SEND_MAX`] and 0
/// for an empty datagram, and the first of them.
#[inline]
pub const fn udp_entries(count: u32, first: u32) -> u64 {
    count as u64 | (first as u64) << 32
}

/// The IPv4 address inside an IPv4-mapped IPv6 one, given as the two big-endian words of a call.
#[inline]
pub const fn ipv4_from_words(first: u64, last: u64) -> Option<u32> {
    if first == 0 && last >> 32 == 0xffff {
        Some(last as u32)
    } else {
        None
    }
}

/// The two words of an IPv4 address as `::ffff:a.b.c.d`.
#[inline]
pub const fn ipv4_to_words(address: u32) -> (u64, u64) {
    (0, 0xffff_0000_0000 | address as u64)
}

/// The two words of an address.
#[inline]
pub const fn address_to_words(address: IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(address) => ipv4_to_words(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            ((bits >> 64) as u64, bits as u64)
        }
    }
}

/// The address in the two words of a call or an event.
#[inline]
pub const fn address_from_words(first: u64, last: u64) -> IpAddr {
    match ipv4_from_words(first, last) {
        Some(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
        None => IpAddr::V6(Ipv6Addr::from_bits((first as u128) << 64 | last as u128)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_numbers_survive_a_round_trip_and_others_are_refused() {
        for raw in 0..64 {
            if let Some(number) = CallNumber::from_raw(raw) {
                assert_eq!(number as u32, raw);
            } else {
                assert!(raw == 0 || raw > 13);
            }
        }
    }

    #[test]
    fn ipv4_survives_its_mapped_form() {
        let (first, last) = ipv4_to_words(0x0a00_0002);
        assert_eq!(ipv4_from_words(first, last), Some(0x0a00_0002));
        assert_eq!(ipv4_from_words(1, last), None);
        assert_eq!(ipv4_from_words(0, 0x0a00_0002), None);
    }

    #[test]
    fn addresses_of_both_families_survive_a_round_trip() {
        for text in ["10.0.0.2", "::", "fd00:9::2", "fe80::1"] {
            let address: IpAddr = text.parse().unwrap();
            let (first, last) = address_to_words(address);
            assert_eq!(address_from_words(first, last), address);
        }
    }
}
