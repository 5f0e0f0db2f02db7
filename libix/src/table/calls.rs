//! The calls of a round: [`Table::flush`] writes them, [`Table::examine`] reads their results.

use alloc::vec::Vec;
use core::net::SocketAddr;

use ix_abi::{CallNumber, Error, address_to_words};

use super::Table;
use crate::batch::Awaited;
use crate::ledger::Entry;
use crate::slot::{CALLS_PER_FLUSH, Ending, Phase, Progress};

/// A call that does not belong to an open connection.
#[derive(Clone, Copy)]
pub(super) enum Request {
    Listen(u16),
    Unlisten(u16),
    UdpBind(u16),
    UdpUnbind(u16),
    Refuse(u64),
    Connect(u32, SocketAddr),
}

/// A result that the application must hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A listen call was answered.
    Listen(u16, Result<(), Error>),
    /// A `udp_bind` call was answered.
    UdpBind(u16, Result<(), Error>),
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
    /// Datagrams that were not sent.
    pub datagrams_lost: u64,
    /// Connections that came from other threads.
    pub moved_in: u64,
    /// Connections that went to other threads.
    pub moved_out: u64,
    /// Connections that were reset when they came, because what came with them was not this
    /// service's [`State`](crate::Service::State), or nothing.
    pub moves_failed: u64,
}

impl Table {
    /// Writes the calls of the round, and says when the kernel must be back for the next one.
    pub fn flush(&mut self) -> Return {
        if self.ledger.has_post() {
            self.read_post();
        }
        if !self.ledger.is_empty() {
            self.settle();
        }
        self.batch.begin();
        if !self.requests.is_empty() {
            self.flush_requests();
        }
        if !self.accepts.is_empty() {
            self.flush_accepts();
        }
        // Those with waiting payload last, since they may use up the arrays.
        let mut is_complete =
            self.flush_connections() && self.requests.is_empty() && self.accepts.is_empty();
        if self.datagrams.has_calls() {
            is_complete &= self.datagrams.flush(&mut self.batch);
        }
        self.batch.publish();
        self.statistics.calls += self.batch.calls() as u64;
        self.statistics.rounds_overflowed += u64::from(!is_complete);
        match core::mem::take(&mut self.retries) {
            _ if !is_complete => Return::AtOnce,
            true => Return::Soon,
            _ if self.datagrams.is_pending() => Return::Soon,
            false => Return::WithEvents,
        }
    }

    /// Books what became of the received bytes that are out.
    #[inline(never)]
    fn settle(&mut self) {
        let empty = core::mem::take(&mut self.settled);
        let mut entries = self.ledger.exchange(empty);
        // A run of frames is a run of entries for one connection.
        for run in entries.chunk_by(|one, next| core::ptr::eq(one.anchor, next.anchor)) {
            self.settle_run(run);
        }
        entries.clear();
        self.settled = entries;
    }

    /// The same for entries of one connection, or of datagrams.
    pub(super) fn settle_run(&mut self, run: &[Entry]) {
        let index = run[0].anchor.slot_at(self.ledger);
        // A connection that is not here, and datagrams, have no slot of that number.
        let slot = index.and_then(|index| self.slots.get_mut(index as usize));
        let (Some(index), Some(slot)) = (index, slot) else {
            return self.settle_elsewhere(index, run);
        };
        let receive = &mut slot.receive;
        for &Entry {
            segment, weight, ..
        } in run
        {
            if !receive.released_in_order(segment, weight) {
                receive.lighten(segment, weight);
            }
        }
        let is_ending = slot.phase == Phase::Dead || slot.ending != Ending::None;
        if slot.receive.has_done() || is_ending {
            self.mark(index);
        }
    }

    #[inline(never)]
    fn flush_requests(&mut self) {
        while self.batch.room() > 0
            && let Some(request) = self.requests.pop_front()
        {
            self.issue(request);
        }
    }

    #[inline(never)]
    fn flush_accepts(&mut self) {
        let count = self.accepts.len().min(self.batch.room());
        for index in self.accepts.drain(..count) {
            let slot = &self.slots[index as usize];
            let words = [slot.handle, slot.cookie, 0];
            self.batch.awaited_call(CallNumber::Accept, 0, words, index);
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
            Request::UdpBind(port) => {
                let port = u32::from(port);
                self.batch
                    .awaited_call(CallNumber::UdpBind, port, [0; 3], port);
            }
            Request::UdpUnbind(port) => {
                self.batch
                    .call(CallNumber::UdpUnbind, u32::from(port), [0; 3]);
            }
            Request::Refuse(handle) => self.batch.call_on(CallNumber::Close, handle),
            Request::Connect(index, remote) => {
                let (first, last) = address_to_words(remote.ip());
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
                match slot.flush(&mut self.batch) {
                    Progress::Done => slot.dirty = false,
                    Progress::More => self.dirty.push(index),
                    Progress::Released => {
                        slot.dirty = false;
                        self.moving.release(self.thread, index, slot);
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
        self.datagrams.examine(&self.batch);
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
                CallNumber::UdpBind => {
                    let outcome = Error::from_result(result).map_or(Ok(()), Err);
                    outcomes.push(Outcome::UdpBind(subject as u16, outcome));
                }
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
}

/// The error of a negative result; one of a later version counts as invalid.
fn error_of(result: i64) -> Error {
    Error::from_result(result).unwrap_or(Error::Invalid)
}
