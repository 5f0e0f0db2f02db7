//! All connections of a thread, and the calls that they and the application want of the kernel.
//!
//! Nothing is called while events are delivered: a connection that has something to tell the
//! kernel is put on a list, and [`Table::flush`] writes the calls of the whole round at its end,
//! so that several sends become one `sendv` and several returns one `recv_done`. What does not
//! fit into the arrays stays on its list for the next round.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use ix_abi::{CallNumber, Error, ipv4_to_words};

use crate::area::Area;
use crate::batch::{Awaited, Batch};
use crate::payload::{Payload, Unsent};
use crate::received::{Entry, Hold, Ledger, Received};
use crate::service::ConnectionId;
use crate::slot::{CALLS_PER_FLUSH, Ending, Phase, Progress, Slot};

/// See the module.
pub(crate) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Connections with something to tell the kernel.
    dirty: Vec<u32>,
    /// Those that were on that list when the round's calls were written.
    flushed: Vec<u32>,
    /// `sendv` calls of the round that were not accepted as a whole, with their results.
    refused: Vec<(u32, i64)>,
    /// Whether some of them are to be made again, although no event will say when.
    retries: bool,
    requests: VecDeque<Request>,
    batch: Batch,
    ledger: &'static Ledger,
    /// Spare list that takes turns with the ledger's.
    settled: Vec<Entry>,
    /// From that many unacknowledged bytes on, a connection takes no more payloads.
    pub send_limit: usize,
    pub statistics: Statistics,
}

/// A call that does not belong to an open connection.
#[derive(Clone, Copy)]
enum Request {
    Listen(u16),
    Unlisten(u16),
    Refuse(u64),
    Accept(u32),
    Connect(u32, SocketAddrV4),
}

/// A result that the application must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A listen call was answered.
    Listen(u16, Result<(), Error>),
    /// An `accept` or `connect` was refused: the connection in that slot never was.
    NotOpened(u32, Error),
}

/// When the kernel must be back from a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// Calls did not fit.
    AtOnce,
    /// Calls are made again that failed for want of room in the kernel's tables.
    Soon,
    /// There is nothing to do before the next event.
    WithEvents,
}

/// What the application is to hear of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Sent,
    SentAndWritable,
}

/// What a thread's event loop has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Rounds, that is returns from the kernel.
    pub rounds: u64,
    /// Events delivered.
    pub events: u64,
    /// Events that were of no known kind or named no connection.
    pub events_stray: u64,
    /// Batched calls made.
    pub calls: u64,
    /// Calls that would have begun something, or sent something, and that the kernel refused. Some
    /// are in the nature of things: the connection ended in the same cycle.
    pub calls_refused: u64,
    /// Rounds whose calls did not all fit into the arrays.
    pub rounds_overflowed: u64,
}

/// Send limit unless the application sets another.
const SEND_LIMIT: usize = 256 << 10;

impl Table {
    pub fn new(area: Area) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            flushed: Vec::new(),
            refused: Vec::new(),
            retries: false,
            requests: VecDeque::new(),
            batch: Batch::new(area),
            // One for each thread, for good: received bytes refer to it without counting.
            ledger: Box::leak(Box::default()),
            settled: Vec::new(),
            send_limit: SEND_LIMIT,
            statistics: Statistics::default(),
        }
    }

    /// Connections that are not over.
    pub fn connections(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The slot of a cookie, if it names a connection that still has one.
    #[inline]
    pub fn find(&self, cookie: u64) -> Option<u32> {
        let slot = self.slots.get(cookie as u32 as usize)?;
        (slot.generation == (cookie >> 32) as u32).then_some(cookie as u32)
    }

    /// The name of the connection in a slot.
    #[inline]
    pub fn id_of(&self, index: u32) -> ConnectionId {
        let generation = self.slots[index as usize].generation;
        ConnectionId::new(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slot with that number, which the caller got from this table.
    #[inline]
    pub fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// Puts a connection on the list of those with something to tell the kernel.
    #[inline]
    pub fn mark(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(index);
        }
    }

    /// The peer acknowledged something. Returns what the application is to hear.
    #[inline]
    pub fn acknowledged(&mut self, index: u32, bytes: usize, window: usize) -> Heard {
        let ledger = self.ledger;
        let slot = &mut self.slots[index as usize];
        slot.acknowledged(index, ledger, bytes, window);
        let mut heard = Heard::Sent;
        let mut matters = slot.receive.has_done() || !slot.send.is_accepted();
        if slot.starved || slot.ending != Ending::None {
            matters = true;
            heard = match slot.is_heard() {
                true if slot.starved && slot.send.pending() <= self.send_limit / 2 => {
                    slot.starved = false;
                    Heard::SentAndWritable
                }
                true => Heard::Sent,
                false => Heard::Nothing,
            };
        }
        if matters {
            self.mark(index);
        }
        heard
    }

    /// Takes a payload for a connection.
    #[inline]
    pub fn send(&mut self, index: u32, payload: Payload) -> Result<(), Unsent> {
        let slot = &mut self.slots[index as usize];
        if slot.ending != Ending::None || slot.phase == Phase::Dead {
            return Err(Unsent::Closed(payload));
        }
        // Received bytes are bounded by the receive window already.
        if slot.send.pending() >= self.send_limit && !payload.is_received() {
            slot.starved = true;
            return Err(Unsent::WouldBlock(payload));
        }
        if !payload.is_empty() {
            slot.send.push(payload);
            self.mark(index);
        }
        Ok(())
    }

    /// Lets a connection end this way, if it does not end in a harder way already.
    pub fn end(&mut self, index: u32, ending: Ending) {
        let slot = &mut self.slots[index as usize];
        if slot.ending < ending && slot.phase != Phase::Dead {
            slot.ending = ending;
            self.mark(index);
        }
    }

    /// Asks for a listening port, or for the end of it.
    pub fn listen(&mut self, port: u16, wanted: bool) {
        self.requests.push_back(match wanted {
            true => Request::Listen(port),
            false => Request::Unlisten(port),
        });
    }

    /// Answers a knock with RST.
    pub fn refuse(&mut self, handle: u64) {
        self.requests.push_back(Request::Refuse(handle));
    }

    /// Answers a knock with a new connection.
    pub fn accept(&mut self, handle: u64) -> u32 {
        let index = self.occupy();
        let slot = self.slot(index);
        slot.handle = handle;
        slot.phase = Phase::Opening;
        self.requests.push_back(Request::Accept(index));
        index
    }

    /// Opens a connection.
    pub fn connect(&mut self, remote: SocketAddrV4) -> u32 {
        let index = self.occupy();
        self.requests.push_back(Request::Connect(index, remote));
        index
    }

    /// Wraps the bytes of a `recv` event.
    #[inline]
    pub fn arrived(&mut self, index: u32, address: u64, bytes: u32) -> Received {
        let segment = self.slots[index as usize].receive.arrived(bytes);
        let hold = Hold::new(self.ledger, index, segment);
        // SAFETY: address and length come from a `recv` event, and by `Kernel`'s contract the
        // bytes are good until given back or the handle is released; the slot does neither before
        // it has settled the drop of every hold on the segment.
        unsafe { Received::new(address, bytes, hold) }
    }

    /// Writes the calls of the round, and says when the kernel must be back for the next one.
    pub fn flush(&mut self) -> Return {
        self.settle();
        self.batch.begin();
        self.flush_requests();
        let is_complete = self.flush_connections() && self.requests.is_empty();
        self.batch.publish();
        self.statistics.calls += self.batch.calls() as u64;
        self.statistics.rounds_overflowed += u64::from(!is_complete);
        match core::mem::take(&mut self.retries) {
            _ if !is_complete => Return::AtOnce,
            true => Return::Soon,
            false => Return::WithEvents,
        }
    }

    /// Books what became of the received bytes that are out.
    #[inline]
    fn settle(&mut self) {
        let empty = core::mem::take(&mut self.settled);
        let mut entries = self.ledger.exchange(empty);
        for &Entry {
            slot: index,
            segment,
            change,
        } in &entries
        {
            let slot = &mut self.slots[index as usize];
            slot.receive.change(segment, change);
            let is_ending = slot.phase == Phase::Dead || slot.ending != Ending::None;
            if slot.receive.has_done() || is_ending {
                self.mark(index);
            }
        }
        entries.clear();
        self.settled = entries;
    }

    fn flush_requests(&mut self) {
        while self.batch.room() > 0
            && let Some(request) = self.requests.pop_front()
        {
            self.issue(request);
        }
    }

    fn issue(&mut self, request: Request) {
        match request {
            Request::Listen(port) => {
                let port = u32::from(port);
                self.batch
                    .awaited_call(CallNumber::Listen, port, [0; 3], port);
            }
            Request::Unlisten(port) => {
                self.batch
                    .call(CallNumber::Unlisten, u32::from(port), [0; 3]);
            }
            Request::Refuse(handle) => self.batch.call_on(CallNumber::Close, handle),
            Request::Accept(index) => {
                let words = [self.slot(index).handle, self.id_of(index).cookie(), 0];
                self.batch.awaited_call(CallNumber::Accept, 0, words, index);
            }
            Request::Connect(index, remote) => {
                let (first, last) = ipv4_to_words(remote.ip().to_bits());
                let words = [self.id_of(index).cookie(), first, last];
                let port = u32::from(remote.port());
                self.batch
                    .awaited_call(CallNumber::Connect, port, words, index);
            }
        }
    }

    #[inline]
    fn flush_connections(&mut self) -> bool {
        core::mem::swap(&mut self.dirty, &mut self.flushed);
        self.dirty.clear();
        let mut position = 0;
        while position < self.flushed.len() {
            // So many are sure to find room for their calls.
            let sure = self.batch.room() / CALLS_PER_FLUSH;
            if sure == 0 {
                // The others stay marked.
                self.dirty.extend(self.flushed.drain(position..));
                break;
            }
            let end = self.flushed.len().min(position + sure);
            for &index in &self.flushed[position..end] {
                let slot = &mut self.slots[index as usize];
                match slot.flush(index, self.ledger, &mut self.batch) {
                    Progress::Done => slot.dirty = false,
                    Progress::More => self.dirty.push(index),
                    Progress::Released => {
                        slot.dirty = false;
                        slot.release();
                        self.free.push(index);
                    }
                }
            }
            position = end;
        }
        self.dirty.is_empty()
    }

    /// Reads the results of the round. What the application must hear of goes to `outcomes`.
    #[inline]
    pub fn examine(&mut self, outcomes: &mut Vec<Outcome>) {
        for &index in &self.flushed {
            let slot = &mut self.slots[index as usize];
            let Some(call) = slot.sendv_call() else {
                continue;
            };
            let result = self.batch.result(call);
            if result < 0 || !slot.send.accepted(result as usize) {
                self.refused.push((index, result));
            }
        }
        if !self.batch.awaited().is_empty() {
            self.examine_awaited(outcomes);
        }
        while let Some((index, result)) = self.refused.pop() {
            self.examine_refused(index, result);
        }
    }

    /// A `sendv` call was not accepted as a whole.
    #[inline(never)]
    fn examine_refused(&mut self, index: u32, result: i64) {
        let slot = &mut self.slots[index as usize];
        if result < 0 {
            self.statistics.calls_refused += 1;
            slot.send.refused();
        }
        match result {
            0.. => {}
            _ if error_of(result) == Error::Exhausted => {}
            // Over already; `dead` is on its way.
            _ if matches!(error_of(result), Error::BadHandle | Error::BadState) => return,
            // The payload is not in memory that can be sent from; the stream cannot go on.
            _ => {
                slot.failure = Some(error_of(result));
                return self.end(index, Ending::Abort);
            }
        }
        if slot.send.retries() {
            self.retries = true;
            self.mark(index);
        }
    }

    #[inline(never)]
    fn examine_awaited(&mut self, outcomes: &mut Vec<Outcome>) {
        for &Awaited {
            number,
            call,
            subject,
        } in self.batch.awaited()
        {
            let result = self.batch.result(call);
            self.statistics.calls_refused += u64::from(result < 0);
            match number {
                CallNumber::Listen if result < 0 => {
                    outcomes.push(Outcome::Listen(subject as u16, Err(error_of(result))));
                }
                CallNumber::Listen => outcomes.push(Outcome::Listen(subject as u16, Ok(()))),
                _ if result < 0 => outcomes.push(Outcome::NotOpened(subject, error_of(result))),
                CallNumber::Connect => {
                    let slot = &mut self.slots[subject as usize];
                    slot.handle = result as u64;
                    slot.phase = Phase::Opening;
                    // What was asked of it meanwhile.
                    if slot.ending != Ending::None && !slot.dirty {
                        slot.dirty = true;
                        self.dirty.push(subject);
                    }
                }
                _ => {}
            }
        }
    }

    /// Frees the slot of a connection that was never opened.
    pub fn forget(&mut self, index: u32, error: Error) {
        let slot = self.slot(index);
        if slot.phase == Phase::Opening && error != Error::BadHandle {
            // The knock still waits for an answer.
            let handle = slot.handle;
            self.refuse(handle);
        }
        self.slot(index).release();
        self.free.push(index);
    }

    fn occupy(&mut self) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 connections");
            self.slots.push(Slot::new());
            index
        });
        self.slot(index).phase = Phase::Connecting;
        index
    }
}

/// The error of a negative result; one of a later version counts as invalid.
fn error_of(result: i64) -> Error {
    Error::from_result(result).unwrap_or(Error::Invalid)
}
