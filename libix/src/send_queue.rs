//! The sending side of one connection: payloads from the application's `send` to the peer's
//! acknowledgement.
//!
//! The queue is in stream order. Its front part is with the kernel (accepted, not acknowledged);
//! from [`SendQueue::next`] on it waits to be offered. A payload is dropped, and its owner with
//! it, when the last of its bytes is acknowledged.

use alloc::collections::VecDeque;

use ix_abi::SENDV_MAX;

use crate::batch::Entries;
use crate::payload::Payload;
use crate::received::Ledger;

/// See the module.
pub(crate) struct SendQueue {
    pieces: VecDeque<Payload>,
    /// Index of the first piece that the kernel has not accepted to its end.
    next: usize,
    /// Bytes of that piece that it has accepted.
    next_offset: usize,
    /// Bytes of the front piece that are acknowledged.
    acknowledged: usize,
    /// Bytes not acknowledged yet, accepted or not.
    pending: usize,
    /// Bytes that the kernel would accept, as far as is known.
    window: usize,
    /// Bytes in the offer that the kernel has not answered yet.
    offered: usize,
}

/// What [`SendQueue::offer`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Scatter-gather entries written.
    pub entries: usize,
    /// Whether more could have been offered but for the entries.
    pub cut: bool,
}

impl SendQueue {
    pub fn new() -> Self {
        Self {
            pieces: VecDeque::new(),
            next: 0,
            next_offset: 0,
            acknowledged: 0,
            pending: 0,
            window: usize::MAX,
            offered: 0,
        }
    }

    /// Bytes that the peer has not acknowledged.
    #[inline]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Whether the kernel has accepted everything.
    #[inline]
    pub fn is_accepted(&self) -> bool {
        self.next == self.pieces.len()
    }

    /// Appends a payload, which must not be empty.
    #[inline]
    pub fn push(&mut self, payload: Payload) {
        debug_assert!(!payload.is_empty());
        self.pending += payload.len();
        self.pieces.push_back(payload);
    }

    /// Writes entries for what waits, as far as window and entries go.
    #[inline]
    pub fn offer(&mut self, entries: &mut Entries<'_>) -> Offer {
        let room = entries.room().min(SENDV_MAX);
        let mut offer = Offer {
            entries: 0,
            cut: false,
        };
        let mut offset = self.next_offset;
        let mut offered = 0;
        while let Some(piece) = self.pieces.get(self.next + offer.entries) {
            let bytes = (piece.len() - offset).min(self.window - offered);
            if bytes == 0 {
                break;
            }
            if offer.entries == room {
                offer.cut = true;
                break;
            }
            entries.push(piece.address() + offset as u64, bytes as u64);
            offer.entries += 1;
            offered += bytes;
            offset = 0;
        }
        self.offered = offered;
        offer
    }

    /// The kernel accepted that many bytes of the offer. If those were not all, it takes no more
    /// until it says so.
    #[inline]
    pub fn accepted(&mut self, bytes: usize) {
        let mut bytes = bytes.min(self.offered);
        self.window = if bytes < self.offered {
            0
        } else {
            self.window - bytes
        };
        self.offered = 0;
        while bytes > 0 {
            let left = self.pieces[self.next].len() - self.next_offset;
            if bytes < left {
                self.next_offset += bytes;
                return;
            }
            bytes -= left;
            self.next += 1;
            self.next_offset = 0;
        }
    }

    /// The kernel refused the offer for a reason that may pass: it will be repeated.
    pub fn refused(&mut self) {
        self.offered = 0;
    }

    /// The peer acknowledged `bytes` more, and the kernel would accept `window` more.
    #[inline]
    pub fn acknowledged(&mut self, bytes: usize, window: usize) {
        self.window = window;
        self.pending = self.pending.saturating_sub(bytes);
        self.acknowledged += bytes;
        while self.next > 0 {
            let Some(front) = self.pieces.front() else {
                break;
            };
            if front.len() > self.acknowledged {
                break;
            }
            self.acknowledged -= front.len();
            self.pieces.pop_front();
            self.next -= 1;
        }
    }

    /// Pieces that hold received bytes of the connection itself.
    pub fn held_of(&self, ledger: &Ledger, slot: u32) -> usize {
        let own = |piece: &&Payload| piece.holds(ledger, slot);
        self.pieces.iter().filter(own).count()
    }

    /// Drops everything, and starts over for the next connection.
    pub fn clear(&mut self) {
        let mut pieces = core::mem::take(&mut self.pieces);
        pieces.clear();
        // The memory stays for the slot's next connection, unless a burst made it large.
        pieces.shrink_to(SENDV_MAX);
        *self = Self {
            pieces,
            ..Self::new()
        };
    }
}
