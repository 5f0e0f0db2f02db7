//! Connections that go to other threads and come from them.
//!
//! With a connection goes all that libix has of it: its slot, whose queues say what is sent and
//! received, and the application's state. At its new place it is a guest in a slot that has a cookie
//! and an anchor of its own, which wait until it is over or goes on. The slot that it was made in
//! stays reserved for it, so that its cookie and its anchor are nobody else's.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::any::Any;

use super::Table;
use crate::cookie;
use crate::datagrams::DATAGRAM_SLOT;
use crate::hold::Anchor;
use crate::ledger::{Crew, Entry, Ledger, Message, Traveller};
use crate::slot::{Phase, Slot};

/// What a table knows of connections that move.
pub(super) struct Moving {
    crew: &'static Crew,
    /// Connections made here that are elsewhere.
    away: usize,
    /// By the thread and the slot that a connection was made in: the slot that it had here last.
    guests: Vec<Vec<u32>>,
    /// What slots with guests are themselves.
    hosts: BTreeMap<u32, Host>,
    /// Connections that the kernel has not announced yet.
    arrivals: VecDeque<Traveller>,
    /// Ends of holds on segments of these.
    early: Vec<Entry>,
}

/// A slot's own cookie and anchor.
struct Host {
    cookie: u64,
    anchor: &'static Anchor,
}

impl Moving {
    pub fn new(crew: &'static Crew) -> Self {
        Self {
            crew,
            away: 0,
            guests: Vec::new(),
            hosts: BTreeMap::new(),
            arrivals: VecDeque::new(),
            early: Vec::new(),
        }
    }

    /// Connections made here that are elsewhere.
    pub fn away(&self) -> usize {
        self.away
    }

    /// Makes a free slot of one whose connection is over. A guest's maker is told.
    #[inline]
    pub fn release(&mut self, thread: usize, index: u32, slot: &mut Slot) {
        let cookie = slot.cookie;
        slot.release();
        if cookie::thread(cookie) != thread {
            self.end_visit(index, slot, cookie);
        }
    }

    #[inline(never)]
    fn end_visit(&mut self, index: u32, slot: &mut Slot, cookie: u64) {
        if let Some(host) = self.hosts.remove(&index) {
            slot.cookie = host.cookie;
            slot.anchor = host.anchor;
        }
        if let Some(maker) = self.crew.ledger(cookie::thread(cookie)) {
            maker.send(Message::Over(cookie));
        }
    }
}

impl Table {
    /// The slot of a cookie that another thread made.
    #[inline(never)]
    pub fn find_guest(&self, cookie: u64) -> Option<u32> {
        let guests = self.moving.guests.get(cookie::thread(cookie))?;
        let index = *guests.get(cookie::index(cookie) as usize)?;
        let slot = self.slots.get(index as usize)?;
        (slot.cookie == cookie).then_some(index)
    }

    /// A connection has gone to another thread, with this state.
    pub fn depart(&mut self, index: u32, to: usize, state: Option<Box<dyn Any + Send>>) {
        let Some(ledger) = self.moving.crew.ledger(to) else {
            self.statistics.moves_failed += 1;
            return;
        };
        let slot = &mut self.slots[index as usize];
        for (number, argument) in self.batch.misdirected(slot.handle) {
            slot.not_done(number, argument);
        }
        let mut left = match self.moving.hosts.remove(&index) {
            Some(host) => Slot::new(host.cookie, host.anchor),
            None => Slot::new(0, slot.anchor),
        };
        // The list of dirty ones keeps its number.
        left.dirty = slot.dirty;
        if left.cookie == 0 {
            left.phase = Phase::Away;
            self.moving.away += 1;
        } else {
            self.free.push(index);
        }
        let slot = core::mem::replace(slot, left);
        slot.anchor.send_to(ledger);
        self.statistics.moved_out += 1;
        ledger.send(Message::Traveller(Box::new(Traveller { slot, state })));
    }

    /// A connection has come from another thread. Returns its slot and its state; `None` if it came
    /// without anything.
    pub fn arrive(
        &mut self,
        cookie: u64,
        handle: u64,
    ) -> Option<(u32, Option<Box<dyn Any + Send>>)> {
        self.read_post();
        let is_it = |traveller: &Traveller| traveller.slot.cookie == cookie;
        let at = self.moving.arrivals.iter().position(is_it)?;
        let Traveller { mut slot, state } = self.moving.arrivals.remove(at)?;
        let index = self.seat(cookie);
        slot.anchor.settle(index);
        slot.dirty = self.slot(index).dirty;
        slot.handle = handle;
        *self.slot(index) = slot;
        self.mark(index);
        self.statistics.moved_in += 1;
        for entry in core::mem::take(&mut self.moving.early) {
            self.settle_run(&[entry]);
        }
        Some((index, state))
    }

    /// A slot for a connection that comes: the one that it was made in, or one as a guest.
    fn seat(&mut self, cookie: u64) -> u32 {
        let (maker, made_in) = (cookie::thread(cookie), cookie::index(cookie));
        if maker == self.thread {
            self.moving.away -= 1;
            return made_in;
        }
        let index = self.occupy();
        let slot = &self.slots[index as usize];
        let host = Host {
            cookie: slot.cookie,
            anchor: slot.anchor,
        };
        self.moving.hosts.insert(index, host);
        let makers = &mut self.moving.guests;
        makers.resize_with(makers.len().max(maker + 1), Vec::new);
        let guests = &mut makers[maker];
        guests.resize(guests.len().max(made_in as usize + 1), 0);
        guests[made_in as usize] = index;
        index
    }

    /// Reads what the other threads tell.
    #[inline(never)]
    pub(super) fn read_post(&mut self) {
        for message in self.ledger.take_post() {
            match message {
                Message::Released(entry) => self.settle_run(&[entry]),
                Message::Traveller(traveller) => self.moving.arrivals.push_back(*traveller),
                Message::Over(cookie) => self.end_reservation(cookie),
            }
        }
    }

    fn end_reservation(&mut self, cookie: u64) {
        let (index, ledger) = (cookie::index(cookie), self.ledger);
        let slot = self.slot(index);
        debug_assert!(slot.phase == Phase::Away);
        // No hold of the connection is left, and the next one of this slot begins here.
        slot.anchor.send_to(ledger);
        slot.anchor.settle(index);
        slot.cookie = cookie::next(cookie);
        slot.phase = Phase::Free;
        self.moving.away -= 1;
        self.free.push(index);
    }

    /// Books ends of holds on datagrams, or on segments of a connection that has no slot here.
    #[inline(never)]
    pub(super) fn settle_elsewhere(&mut self, index: Option<u32>, run: &[Entry]) {
        match index {
            None => run.iter().copied().for_each(Ledger::post),
            Some(DATAGRAM_SLOT) => {
                for entry in run {
                    self.datagrams.released(entry.segment, entry.weight);
                }
            }
            Some(_) => self.moving.early.extend_from_slice(run),
        }
    }
}
