//! What can be sent: memory together with the owner that keeps it alive and unchanged until the
//! peer has acknowledged it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;

use crate::hold::{Anchor, Hold};
use crate::received::Received;

/// Bytes to send, in memory that the kernel reads in place: a `&'static [u8]` or `&'static str`, a
/// `Vec<u8>`, `Box<[u8]>` or `String`, an `Arc<[u8]>`, [`Received`] bytes on their way back, or memory
/// that the application counts itself ([`Lease`]).
pub struct Payload {
    start: *const u8,
    bytes: usize,
    owner: ManuallyDrop<Owner>,
}

// SAFETY: the memory is the owner's, which goes along and may change its thread, as each kind of it
// is `Send`, a `Lease` by its own bound; nobody writes to it.
unsafe impl Send for Payload {}

/// Keeps the memory alive; what it holds is never looked at, only dropped.
#[expect(dead_code, reason = "the fields are there for their drop")]
enum Owner {
    Static,
    Vec(Vec<u8>),
    Shared(Arc<[u8]>),
    Received(Hold),
    Leased(Leased),
}

/// One count on memory that an application keeps and counts by itself, such as an item of a store.
/// It fits into a [`Payload`] without an allocation.
///
/// # Safety
/// The bytes stay where they are, readable and unchanged, from [`Lease::bytes`] until
/// [`Lease::release`] is called with what [`Lease::into_raw`] gave, on whatever thread that is.
pub unsafe trait Lease: Send + Sized + 'static {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// Gives the count away, without ending it.
    fn into_raw(self) -> *const ();

    /// Ends the count.
    ///
    /// # Safety
    /// `raw` is from [`Lease::into_raw`] of this type, and is released once.
    unsafe fn release(raw: *const ());
}

/// A [`Lease`] whose type is forgotten.
struct Leased {
    raw: *const (),
    release: unsafe fn(*const ()),
}

impl Drop for Leased {
    fn drop(&mut self) {
        // SAFETY: `Payload::leased` took both from one lease, and this is its only end.
        unsafe { (self.release)(self.raw) };
    }
}

impl Payload {
    /// Memory that the application counts itself. The count ends when the payload does.
    #[inline]
    pub fn leased<L: Lease>(lease: L) -> Self {
        let bytes = lease.bytes();
        let (start, bytes) = (bytes.as_ptr(), bytes.len());
        let leased = Leased {
            raw: lease.into_raw(),
            release: L::release,
        };
        Self {
            start,
            bytes,
            owner: ManuallyDrop::new(Owner::Leased(leased)),
        }
    }

    /// Address of the first byte.
    #[inline]
    pub(crate) fn address(&self) -> u64 {
        self.start as u64
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Leaves out the first `count` bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn advance(&mut self, count: usize) {
        assert!(count <= self.bytes, "advanced beyond the end");
        self.start = self.start.wrapping_add(count);
        self.bytes -= count;
    }

    /// Sends only the first `len` bytes, if there are more.
    pub fn truncate(&mut self, len: usize) {
        self.bytes = self.bytes.min(len);
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: every constructor takes `start` and `bytes` from a slice that `owner`
        // keeps alive, unmoved and unchanged; `advance` and `truncate` only make it smaller.
        unsafe { core::slice::from_raw_parts(self.start, self.bytes) }
    }

    #[inline]
    pub(crate) fn is_received(&self) -> bool {
        matches!(*self.owner, Owner::Received(_))
    }

    /// Number and weight of the segment that it holds, if that is one of this connection.
    #[inline]
    pub(crate) fn part_of(&self, anchor: &Anchor) -> Option<(u32, u32)> {
        match &*self.owner {
            Owner::Received(hold) => hold.part_of(anchor),
            _ => None,
        }
    }

    /// Ends it without posting the end of its hold to a ledger: the caller settles that.
    #[inline]
    pub(crate) fn forget(self) {
        debug_assert!(self.is_received());
        core::mem::forget(self);
    }
}

impl Drop for Payload {
    // Not inline, so that little is left where a payload is dropped only if it is refused.
    #[inline(never)]
    fn drop(&mut self) {
        // SAFETY: this is the end of the payload; nobody sees the owner any more.
        unsafe { ManuallyDrop::drop(&mut self.owner) };
    }
}

impl Default for Payload {
    /// Nothing.
    #[inline]
    fn default() -> Self {
        b"".into()
    }
}

impl From<&'static [u8]> for Payload {
    #[inline]
    fn from(bytes: &'static [u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            bytes: bytes.len(),
            owner: ManuallyDrop::new(Owner::Static),
        }
    }
}

impl<const N: usize> From<&'static [u8; N]> for Payload {
    #[inline]
    fn from(bytes: &'static [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&'static str> for Payload {
    #[inline]
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for Payload {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            start: bytes.as_ptr(),
            bytes: bytes.len(),
            owner: ManuallyDrop::new(Owner::Vec(bytes)),
        }
    }
}

impl From<Box<[u8]>> for Payload {
    #[inline]
    fn from(bytes: Box<[u8]>) -> Self {
        bytes.into_vec().into()
    }
}

impl From<String> for Payload {
    #[inline]
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Arc<[u8]>> for Payload {
    #[inline]
    fn from(bytes: Arc<[u8]>) -> Self {
        Self {
            start: bytes.as_ptr(),
            bytes: bytes.len(),
            owner: ManuallyDrop::new(Owner::Shared(bytes)),
        }
    }
}

impl From<Received> for Payload {
    #[inline]
    fn from(received: Received) -> Self {
        let (start, bytes, hold) = received.into_parts();
        Self {
            start,
            bytes,
            owner: ManuallyDrop::new(Owner::Received(hold)),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Payload({} bytes)", self.bytes)
    }
}

/// Why a payload was not taken. It comes back with the answer.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// The connection's send queue is full; `on_writable` follows when there is room again.
    #[error("{} bytes not taken: the send queue is full, wait for on_writable", .0.len())]
    WouldBlock(Payload),
    /// The connection is over, or the sending side was shut down.
    #[error("{} bytes not taken: the connection no longer sends", .0.len())]
    Closed(Payload),
}

impl Unsent {
    /// The payload that was not taken.
    pub fn into_payload(self) -> Payload {
        match self {
            Self::WouldBlock(payload) | Self::Closed(payload) => payload,
        }
    }
}
