//! One connection in the table: its two queues, what the application wants of it, and what the
//! kernel has been told.

use ix_abi::{CALL_CAPACITY, CallNumber, Error};

use crate::batch::Batch;
use crate::cookie;
use crate::hold::Anchor;
use crate::receive_queue::ReceiveQueue;
use crate::send_queue::SendQueue;

/// See the module.
#[repr(align(64))]
pub(crate) struct Slot {
    /// Of the connection; in a free slot, of the next one; 0 if that is on another thread.
    pub cookie: u64,
    pub phase: Phase,
    /// Whether it is in the table's list of connections with something to tell the kernel.
    pub dirty: bool,
    /// Whether a send was refused, so that `on_writable` is owed.
    pub starved: bool,
    /// How the application wants it to end.
    pub ending: Ending,
    /// Index of the round's `sendv` call, if there is one.
    sendv_call: u16,
    shutdown_told: bool,
    /// Whether `close` or `abort` was called, the call that releases the handle.
    release_told: bool,
    /// The kernel's name for it; known in all phases but [`Phase::Free`] and
    /// [`Phase::Connecting`].
    pub handle: u64,
    /// What went wrong, if it is known better than by the `dead` event.
    pub failure: Option<Error>,
    /// What holds on received bytes refer to.
    pub anchor: &'static Anchor,
    pub send: SendQueue,
    pub receive: ReceiveQueue,
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not in use.
    Free,
    /// The connection that was made here is on another thread, and not over.
    Away,
    /// `connect` is asked for and not answered.
    Connecting,
    /// `accept` is asked for, or `connect` answered; not `connected` yet.
    Opening,
    /// Connected.
    Open,
    /// The kernel has said `dead`; the handle is held until all received bytes are dropped.
    Dead,
}

/// How the application wants a connection to end; a later one includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// Not at all.
    None,
    /// No more sending.
    Shutdown,
    /// Both directions, after what is queued.
    Close,
    /// At once.
    Abort,
}

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The kernel is told everything that can be told now.
    Done,
    /// There is more, and the batch had no room for all of it.
    More,
    /// The slot is free for another connection.
    Released,
}

/// Most calls of one connection in one round: give back, send, and end.
pub(crate) const CALLS_PER_FLUSH: usize = 3;

const _: () = assert!(CALL_CAPACITY <= 1 << 16);

impl Slot {
    /// A free slot.
    pub fn new(cookie: u64, anchor: &'static Anchor) -> Self {
        Self {
            cookie,
            phase: Phase::Free,
            dirty: false,
            starved: false,
            ending: Ending::None,
            sendv_call: 0,
            shutdown_told: false,
            release_told: false,
            handle: 0,
            failure: None,
            anchor,
            send: SendQueue::new(),
            receive: ReceiveQueue::new(),
        }
    }

    /// Whether the application still wants to hear of it.
    #[inline]
    pub fn is_heard(&self) -> bool {
        self.ending < Ending::Close
    }

    /// Makes a free slot of it, of the next generation.
    pub fn release(&mut self) {
        self.send.clear();
        self.receive.clear();
        self.cookie = cookie::next(self.cookie);
        self.phase = Phase::Free;
        self.starved = false;
        self.ending = Ending::None;
        self.shutdown_told = false;
        self.release_told = false;
        self.handle = 0;
        self.failure = None;
    }

    /// Drops what the peer has not acknowledged and never will. Received bytes on their way back to it are
    /// settled here, where the way through the ledger is not needed.
    pub fn drop_unsent(&mut self) {
        if let Some((segment, weight)) = self.send.take_own(self.anchor) {
            self.receive.released(segment, weight);
        }
        self.send.clear();
    }

    /// The peer acknowledged `bytes` more, and the kernel would accept `window` more.
    #[inline(always)]
    pub fn acknowledged(&mut self, bytes: usize, window: usize) {
        self.send.set_window(window);
        let Some(piece) = self.send.whole(bytes) else {
            return self.acknowledged_in_part(bytes);
        };
        match piece.part_of(self.anchor) {
            Some((segment, weight)) => {
                if let Some(piece) = self.send.take_whole() {
                    piece.forget();
                }
                self.receive.released(segment, weight);
            }
            None => self.send.drop_whole(),
        }
    }

    #[inline(never)]
    fn acknowledged_in_part(&mut self, bytes: usize) {
        let (receive, anchor) = (&mut self.receive, self.anchor);
        self.send.acknowledged_in_part(bytes, |piece| {
            if let Some((segment, weight)) = piece.part_of(anchor) {
                piece.forget();
                receive.released(segment, weight);
            }
        });
    }

    /// The kernel did not do what it was told in the last round, since the connection was elsewhere.
    pub fn not_done(&mut self, number: CallNumber, argument: u64) {
        match number {
            CallNumber::RecvDone => self.receive.not_taken(argument),
            CallNumber::Shutdown => self.shutdown_told = false,
            CallNumber::Close | CallNumber::Abort => self.release_told = false,
            // What was offered waits still; the others are not about connections that can move.
            _ => {}
        }
    }

    /// The round's `sendv` call, if there is one.
    #[inline]
    pub fn sendv_call(&self) -> Option<usize> {
        self.send.is_offered().then_some(self.sendv_call.into())
    }

    /// Adds the calls that the connection needs, at most [`CALLS_PER_FLUSH`].
    #[inline]
    pub fn flush(&mut self, batch: &mut Batch) -> Progress {
        if self.phase == Phase::Open {
            return self.flush_open(batch);
        }
        self.flush_not_open(batch)
    }

    #[inline(never)]
    fn flush_not_open(&mut self, batch: &mut Batch) -> Progress {
        match self.phase {
            Phase::Free | Phase::Away | Phase::Connecting | Phase::Open => Progress::Done,
            Phase::Opening => {
                self.flush_ending(batch);
                Progress::Done
            }
            Phase::Dead if self.receive.held() != 0 => Progress::Done,
            Phase::Dead => {
                if !self.release_told {
                    batch.call_on(CallNumber::Close, self.handle);
                }
                Progress::Released
            }
        }
    }

    /// Received bytes first, so that the segments of the send that follows carry the new window.
    #[inline]
    fn flush_open(&mut self, batch: &mut Batch) -> Progress {
        let done = self.receive.take_done();
        if done != 0 {
            batch.call(CallNumber::RecvDone, 0, [self.handle, done, 0]);
        }
        let mut progress = Progress::Done;
        if !self.send.is_accepted() {
            let first = batch.next_entry();
            if self.send.offer_whole(&mut batch.entries()) {
                self.call_sendv(first, 1, batch);
            } else {
                progress = self.flush_pieces(batch);
            }
        }
        if self.ending != Ending::None {
            progress = self.flush_ending(batch);
        }
        progress
    }

    #[inline(never)]
    fn flush_pieces(&mut self, batch: &mut Batch) -> Progress {
        let first = batch.next_entry();
        let offer = self.send.offer_pieces(&mut batch.entries());
        if offer.entries != 0 {
            self.call_sendv(first, offer.entries, batch);
        }
        match offer.is_cut {
            true => Progress::More,
            false => Progress::Done,
        }
    }

    #[inline]
    fn call_sendv(&mut self, first: usize, entries: usize, batch: &mut Batch) {
        self.sendv_call = batch.calls() as u16;
        let words = [self.handle, first as u64, 0];
        batch.call(CallNumber::Sendv, entries as u32, words);
    }

    /// Tells the kernel of the end, as far as it can be told now.
    ///
    /// `close` and `abort` release the handle once `dead` is delivered, and with it the received
    /// bytes, so both wait until the application holds none. (Those on their way back to the peer
    /// may stay: only the kernel reads them, and not after `dead`.) A close that has to wait
    /// sends its FIN meanwhile.
    #[inline(never)]
    fn flush_ending(&mut self, batch: &mut Batch) -> Progress {
        if self.release_told {
            return Progress::Done;
        }
        let is_accepted = self.send.is_accepted();
        let can_release = || self.receive.held() == self.send.held_of(self.anchor);
        match self.ending {
            Ending::Abort if can_release() => {
                batch.call_on(CallNumber::Abort, self.handle);
                self.release_told = true;
            }
            Ending::Close if is_accepted && can_release() => {
                batch.call_on(CallNumber::Close, self.handle);
                self.release_told = true;
            }
            Ending::Close | Ending::Shutdown
                if is_accepted && !self.shutdown_told && self.phase == Phase::Open =>
            {
                batch.call_on(CallNumber::Shutdown, self.handle);
                self.shutdown_told = true;
            }
            // What is to follow the last byte has to wait for the answer to its offer.
            Ending::Close | Ending::Shutdown if self.send.is_offered() => return Progress::More,
            _ => {}
        }
        Progress::Done
    }
}
