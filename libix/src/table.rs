//! All connections of a thread, and what they and the application want of the kernel.
//!
//! Nothing is called while events are delivered: a connection that has something to tell the
//! kernel is put on a list, and [`calls`] writes the calls of the whole round at its end, so that
//! several sends become one `sendv` and several returns one `recv_done`. What does not fit into
//! the arrays stays on its list for the next round.

mod calls;
mod moving;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::net::SocketAddr;

use ix_abi::Error;
use ix_abi::area::BOOT;

use crate::area::Area;
use crate::batch::Batch;
use crate::cookie;
use crate::datagrams::{DATAGRAM_SLOT, Datagrams};
use crate::hold::{Anchor, Hold};
use crate::ledger::{Crew, Entry, Ledger};
use crate::payload::{Payload, Unsent};
use crate::received::Received;
use crate::service::ConnectionId;
use crate::slot::{Ending, Phase, Slot};
use calls::Request;
pub use calls::Statistics;
pub(crate) use calls::{Outcome, Return};
use moving::Moving;

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
    /// Connections that answer a knock.
    accepts: Vec<u32>,
    pub datagrams: Datagrams,
    batch: Batch,
    /// Number of the thread, and what it is told.
    thread: usize,
    ledger: &'static Ledger,
    datagram_anchor: &'static Anchor,
    moving: Moving,
    /// Spare list that takes turns with the ledger's.
    settled: Vec<Entry>,
    /// From that many unacknowledged bytes on, a connection takes no more payloads.
    pub send_limit: usize,
    pub statistics: Statistics,
    /// The ledger's list is this thread's alone.
    stays: PhantomData<*const ()>,
}

/// What the application is to hear of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Sent,
    SentAndWritable,
}

/// Send limit unless the application sets another.
const SEND_LIMIT: usize = 256 << 10;

impl Table {
    pub fn new(area: Area, crew: &'static Crew) -> Self {
        let thread = area.load(BOOT + ix_abi::boot::THREAD) as usize;
        let ledger = crew.claim(thread);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            flushed: Vec::new(),
            refused: Vec::new(),
            retries: false,
            requests: VecDeque::new(),
            accepts: Vec::new(),
            datagrams: Datagrams::new(area),
            batch: Batch::new(area),
            thread,
            ledger,
            datagram_anchor: Box::leak(Box::new(Anchor::new(ledger, DATAGRAM_SLOT))),
            moving: Moving::new(crew),
            settled: Vec::new(),
            send_limit: SEND_LIMIT,
            statistics: Statistics::default(),
            stays: PhantomData,
        }
    }

    /// Connections that are not over.
    pub fn connections(&self) -> usize {
        self.slots.len() - self.free.len() - self.moving.away()
    }

    /// The slot of a cookie, if it names a connection that is here.
    pub fn find(&self, cookie: u64) -> Option<u32> {
        self.find_own(cookie).or_else(|| self.find_guest(cookie))
    }

    /// The same for a connection that was made here, the usual case: the cookie says which slot it
    /// is, and no other index into the table has to be checked.
    #[inline]
    pub fn find_own(&self, cookie: u64) -> Option<u32> {
        let slot = self.slots.get(cookie::index(cookie) as usize)?;
        (slot.cookie == cookie).then_some(cookie::index(cookie))
    }

    /// The name of the connection in a slot.
    #[inline]
    pub fn id_of(&self, index: u32) -> ConnectionId {
        ConnectionId::new(self.slots[index as usize].cookie)
    }

    /// The slot with that number, which the caller got from this table.
    #[inline]
    pub fn slot(&mut self, index: u32) -> &mut Slot {
        &mut self.slots[index as usize]
    }

    /// Puts a connection on the list of those with something to tell the kernel.
    #[inline(always)]
    pub fn mark(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(index);
        }
    }

    /// The peer acknowledged something. Returns what the application is to hear.
    #[inline(always)]
    pub fn acknowledged(&mut self, index: u32, bytes: usize, window: usize) -> Heard {
        let slot = &mut self.slots[index as usize];
        slot.acknowledged(bytes, window);
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
    #[inline(always)]
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

    /// Asks for the datagrams to a port, or for the end of them.
    pub fn udp_bind(&mut self, port: u16, wanted: bool) {
        self.requests.push_back(match wanted {
            true => Request::UdpBind(port),
            false => Request::UdpUnbind(port),
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
        self.accepts.push(index);
        index
    }

    /// Opens a connection.
    pub fn connect(&mut self, remote: SocketAddr) -> u32 {
        let index = self.occupy();
        self.requests.push_back(Request::Connect(index, remote));
        index
    }

    /// Wraps the bytes of a `recv` event.
    #[inline(always)]
    pub fn arrived(&mut self, index: u32, address: u64, bytes: u32) -> Received {
        let slot = &mut self.slots[index as usize];
        let segment = slot.receive.arrived(bytes);
        let hold = Hold::new(slot.anchor, segment);
        // SAFETY: address and length come from a `recv` event, and by `Kernel`'s contract the
        // bytes are good until given back or the handle is released, on whatever thread the
        // connection is; the slot does neither before all weight of the segment is back.
        unsafe { Received::new(address, bytes, hold) }
    }

    /// Takes back bytes that nobody needs any more.
    #[inline]
    pub fn give_back(&mut self, index: u32, data: Received) {
        let slot = &mut self.slots[index as usize];
        match data.part_of(slot.anchor) {
            Some((segment, weight)) => {
                data.forget();
                slot.receive.released(segment, weight);
                if slot.receive.has_done() {
                    self.mark(index);
                }
            }
            // Of another connection, or shared too often: the ledger knows.
            None => drop(data),
        }
    }

    /// Wraps the bytes of a `udp_recv` event.
    pub fn datagram_arrived(&mut self, address: u64, bytes: u32) -> Received {
        let number = self.datagrams.arrived(address);
        let hold = Hold::new(self.datagram_anchor, number);
        // SAFETY: address and length come from a `udp_recv` event, and by `Kernel`'s contract the
        // bytes are good until given back, which is not done before all weight of the buffer is
        // back.
        unsafe { Received::new(address, bytes, hold) }
    }

    /// Frees the slot of a connection that was never opened.
    pub fn forget(&mut self, index: u32, error: Error) {
        let slot = self.slot(index);
        if slot.phase == Phase::Opening && error != Error::BadHandle {
            // The knock still waits for an answer.
            let handle = slot.handle;
            self.refuse(handle);
        }
        self.free(index);
    }

    /// Makes the slot of a connection that is over a free one.
    fn free(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        self.moving.release(self.thread, index, slot);
        self.free.push(index);
    }

    fn occupy(&mut self) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 connections");
            let anchor = Box::leak(Box::new(Anchor::new(self.ledger, index)));
            // Slots are never given back, so that holds can refer to anchors without counting.
            let cookie = cookie::first(self.thread, index);
            self.slots.push(Slot::new(cookie, anchor));
            index
        });
        self.slot(index).phase = Phase::Connecting;
        index
    }
}
