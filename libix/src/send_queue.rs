//! The sending side of one connection: payloads from the application's `send` to the peer's
//! acknowledgement.
//!
//! The queue is in stream order. Its front part is with the kernel (accepted, not acknowledged);
//! from [`SendQueue::next`] on it waits to be offered. A payload leaves, and its owner with it,
//! when the last of its bytes is acknowledged.

use ix_abi::SENDV_MAX;

use crate::batch::Entries;
use crate::front_queue::FrontQueue;
use crate::hold::Anchor;
use crate::payload::Payload;

/// See the module.
pub(crate) struct SendQueue {
    pieces: FrontQueue<Payload>,
    /// Index of the first piece that the kernel has not accepted to its end.
    next: usize,
    /// Bytes of that piece that it has accepted.
    next_offset: usize,
    /// Bytes of the front piece that are acknowledged.
    acknowledged: usize,
    /// Bytes not acknowledged yet, accepted or not.
    pending: usize,
    /// Bytes not accepted yet.
    waiting: usize,
    /// Bytes that the kernel would accept, as far as is known.
    window: usize,
    /// Bytes in the offer that the kernel has not answered yet.
    offered: usize,
}

/// What [`SendQueue::offer`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Scatter-gather entries written.
    pub entries: usize,
    /// Whether more could have been offered but for the entries.
    pub is_cut: bool,
}

impl SendQueue {
    pub fn new() -> Self {
        Self {
            pieces: FrontQueue::new(),
            next: 0,
            next_offset: 0,
            acknowledged: 0,
            pending: 0,
            waiting: 0,
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
        self.waiting == 0
    }

    /// Whether there is an offer that the kernel has not answered.
    #[inline]
    pub fn is_offered(&self) -> bool {
        self.offered != 0
    }

    /// Appends a payload, which must not be empty.
    #[inline]
    pub fn push(&mut self, payload: Payload) {
        debug_assert!(!payload.is_empty());
        self.pending += payload.len();
        self.waiting += payload.len();
        self.pieces.push_back(payload);
    }

    /// Writes the entry for what waits, if that is one piece that nothing was accepted of, the
    /// usual case; else nothing is done, and [`SendQueue::offer_pieces`] has to be called.
    #[inline]
    pub fn offer_whole(&mut self, entries: &mut Entries<'_>) -> bool {
        if self.waiting <= self.window
            && let Some(piece) = self.pieces.only()
            && self.waiting == piece.len()
            && entries.room() != 0
        {
            entries.push(piece.address(), self.waiting as u64);
            self.offered = self.waiting;
            return true;
        }
        false
    }

    /// Writes entries for what waits, as far as window and entries go.
    pub fn offer_pieces(&mut self, entries: &mut Entries<'_>) -> Offer {
        let goal = self.waiting.min(self.window);
        let room = entries.room().min(SENDV_MAX);
        let mut offer = Offer::default();
        let mut offset = self.next_offset;
        self.offered = 0;
        while self.offered < goal
            && let Some(piece) = self.pieces.get(self.next + offer.entries)
        {
            if offer.entries == room {
                offer.is_cut = true;
                break;
            }
            let bytes = (piece.len() - offset).min(goal - self.offered);
            entries.push(piece.address() + offset as u64, bytes as u64);
            offer.entries += 1;
            self.offered += bytes;
            offset = 0;
        }
        offer
    }

    /// The kernel accepted that many bytes of the offer. If those were not all, it takes no more
    /// until it says so, and `false` is returned.
    #[inline]
    pub fn accepted(&mut self, bytes: usize) -> bool {
        if bytes == self.waiting && bytes == self.offered {
            // No more was offered than the window.
            self.window = self.window.wrapping_sub(bytes);
            self.offered = 0;
            self.waiting = 0;
            self.next = self.pieces.len();
            self.next_offset = 0;
            true
        } else {
            self.accepted_in_part(bytes)
        }
    }

    #[inline(never)]
    fn accepted_in_part(&mut self, bytes: usize) -> bool {
        let is_all = bytes >= self.offered;
        let mut bytes = bytes.min(self.offered);
        self.window = match is_all {
            true => self.window - bytes,
            false => 0,
        };
        self.offered = 0;
        self.waiting -= bytes;
        while let Some(piece) = self.pieces.get(self.next) {
            let left = piece.len() - self.next_offset;
            if bytes < left {
                self.next_offset += bytes;
                break;
            }
            bytes -= left;
            self.next += 1;
            self.next_offset = 0;
        }
        is_all
    }

    /// The kernel refused the offer.
    pub fn refused(&mut self) {
        self.offered = 0;
    }

    /// Whether no `sent` event is going to tell that the kernel takes more, since it has nothing:
    /// its tables were full. What waits is then to be offered again after a while.
    #[inline(never)]
    pub fn retries(&mut self) -> bool {
        let is_stuck = self.waiting != 0 && self.waiting == self.pending;
        if is_stuck {
            self.window = usize::MAX;
        }
        is_stuck
    }

    /// The kernel would accept so much more.
    #[inline]
    pub fn set_window(&mut self, window: usize) {
        self.window = window;
    }

    /// The piece whose end the acknowledgement of `bytes` more reaches, if that is all there is in
    /// the queue, the usual case. The caller takes or drops it, or else goes through
    /// [`SendQueue::acknowledged_in_part`].
    #[inline]
    pub fn whole(&self, bytes: usize) -> Option<&Payload> {
        let is_whole = bytes == self.pending && self.next == 1;
        self.pieces.only().filter(|_| is_whole)
    }

    /// Takes the piece that [`SendQueue::whole`] showed.
    #[inline]
    pub fn take_whole(&mut self) -> Option<Payload> {
        self.forget_whole();
        self.pieces.take_only()
    }

    /// Drops it.
    #[inline]
    pub fn drop_whole(&mut self) {
        self.forget_whole();
        self.pieces.drop_only();
    }

    #[inline]
    fn forget_whole(&mut self) {
        self.next = 0;
        self.acknowledged = 0;
        self.pending = 0;
    }

    /// The peer acknowledged `bytes` more. Pieces that are acknowledged to their end go to
    /// `finished`.
    pub fn acknowledged_in_part(&mut self, bytes: usize, mut finished: impl FnMut(Payload)) {
        self.pending = self.pending.saturating_sub(bytes);
        self.acknowledged += bytes;
        while self.next > 0
            && let Some(front) = self.pieces.get(0)
            && front.len() <= self.acknowledged
            && let Some(front) = self.pieces.pop_front()
        {
            self.acknowledged -= front.len();
            self.next -= 1;
            finished(front);
        }
    }

    /// Takes the piece of a queue that has just one, if it is a part of received bytes of the connection
    /// itself: number and weight of the segment that is given back.
    #[inline]
    pub fn take_own(&mut self, anchor: &Anchor) -> Option<(u32, u32)> {
        let part = self.pieces.only()?.part_of(anchor)?;
        self.pieces.take_only()?.forget();
        Some(part)
    }

    /// What the holds of pieces on received bytes of the connection itself weigh.
    #[inline]
    pub fn held_of(&self, anchor: &Anchor) -> u64 {
        if self.pending == 0 {
            return 0;
        }
        let own = self.pieces.iter().filter_map(|piece| piece.part_of(anchor));
        own.map(|(_, weight)| u64::from(weight)).sum()
    }

    /// Drops everything, and starts over for the next connection. The memory stays, unless a
    /// burst made it large.
    pub fn clear(&mut self) {
        self.pieces.clear(SENDV_MAX);
        self.next = 0;
        self.next_offset = 0;
        self.acknowledged = 0;
        self.pending = 0;
        self.waiting = 0;
        self.window = usize::MAX;
        self.offered = 0;
    }
}
