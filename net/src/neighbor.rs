//! The neighbour cache (RFC 826, with the states of RFC 4861 7.3.2 as far as they serve): who has
//! which MAC address, who is being asked, and which connections wait for an answer.
//!
//! No frame waits here: a connection that waits makes its segments once the answer is there. That
//! makes the pending queue as long as the connection table, and no longer.

use crate::address::IpAddress;
use crate::list::{List, WAITING};
use crate::wheel::NEVER;
use alloc::vec;
use alloc::vec::Vec;
use ix_hal::Instant;

/// Requests before a neighbour counts as silent (RFC 4861 10).
const MAX_REQUESTS: u8 = 3;
/// Time between requests, in nanoseconds (RFC 4861 10).
const REQUEST_INTERVAL: u64 = 1_000_000_000;
const END: u16 = u16::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Asked, never answered.
    Incomplete,
    Reachable,
    /// Known, and asked again since it got old.
    Probing,
}

#[derive(Clone, Copy, Debug)]
struct Neighbor {
    address: IpAddress,
    mac: [u8; 6],
    state: State,
    requests: u8,
    request_due: bool,
    /// When to ask, or to give up.
    deadline: u64,
    /// When it was last heard of.
    confirmed: u64,
    waiting: List<WAITING>,
    next: u16,
}

/// On whose behalf a neighbour is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The application, or a connection that has proven its peer.
    Ourselves,
    /// A peer that has only sent a SYN, whose source may be anybody's address. For it nobody gives way,
    /// and half of the cache is the most that such questions take.
    Stranger,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Its MAC address.
    Known([u8; 6]),
    /// It is being asked; wait in the list of this entry.
    Asked(u16),
    /// The cache has no room for the question.
    Full,
}

/// A request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whom to ask.
    pub address: IpAddress,
    /// Where it was last, for a unicast probe; `None` asks everybody.
    pub mac: Option<[u8; 6]>,
}

/// The cache.
pub(crate) struct Neighbors {
    entries: Vec<Neighbor>,
    buckets: Vec<u16>,
    reachable: u64,
    /// Changes whenever a MAC address that was handed out may no longer be right. Starts at 1.
    pub epoch: u32,
    /// Earliest deadline of any entry.
    pub deadline: u64,
    /// Some entry has a request due.
    pub requests_due: bool,
    /// Entries that gave way to others.
    pub evictions: u64,
    /// Neighbours that stayed silent.
    pub failures: u64,
    /// Questions of strangers for which there was no room.
    pub refusals: u64,
    /// Entries that were never answered.
    incomplete: usize,
}

impl Neighbors {
    /// A cache of `capacity` neighbours that are asked again after `reachable` nanoseconds.
    pub fn new(capacity: u16, reachable: u64) -> Self {
        let capacity = usize::from(capacity.clamp(2, END - 1));
        let free = Neighbor {
            address: IpAddress::default(),
            mac: [0; 6],
            state: State::Free,
            requests: 0,
            request_due: false,
            deadline: NEVER,
            confirmed: 0,
            waiting: List::new(),
            next: END,
        };
        Self {
            entries: vec![free; capacity],
            buckets: vec![END; capacity.next_power_of_two()],
            reachable,
            epoch: 1,
            deadline: NEVER,
            requests_due: false,
            evictions: 0,
            failures: 0,
            refusals: 0,
            incomplete: 0,
        }
    }

    /// The MAC address of a neighbour; asks for it if it is not known.
    #[inline(always)]
    pub fn lookup(&mut self, now: Instant, address: IpAddress, asker: Asker) -> Lookup {
        match self.known(address) {
            Some(mac) => Lookup::Known(mac),
            None => self.ask(now, address, asker),
        }
    }

    /// Asks for a MAC address that is not known, unless that is being done.
    #[inline(never)]
    fn ask(&mut self, now: Instant, address: IpAddress, asker: Asker) -> Lookup {
        if let Some(index) = self.find(address) {
            return Lookup::Asked(index);
        }
        if asker == Asker::Stranger && !self.has_room_for_strangers() {
            self.refusals += 1;
            return Lookup::Full;
        }
        let Some(index) = self.insert(now, address) else {
            return Lookup::Full;
        };
        self.incomplete += 1;
        let entry = &mut self.entries[usize::from(index)];
        entry.state = State::Incomplete;
        entry.requests = 1;
        entry.request_due = true;
        entry.deadline = now.0 + REQUEST_INTERVAL;
        self.requests_due = true;
        self.deadline = self.deadline.min(now.0 + REQUEST_INTERVAL);
        Lookup::Asked(index)
    }

    /// Whether another neighbour can be known without one being forgotten for it.
    pub fn has_free_entry(&self) -> bool {
        self.entries.iter().any(|entry| entry.state == State::Free)
    }

    /// Takes note of a neighbour's MAC address. An unknown neighbour is only added if it `asked`
    /// for us, so that unsolicited claims cannot fill the cache. Returns the connections that
    /// waited for it.
    pub fn heard(
        &mut self,
        now: Instant,
        address: IpAddress,
        mac: [u8; 6],
        asked: bool,
    ) -> List<WAITING> {
        let known = self.find(address);
        let Some(index) = known.or_else(|| asked.then(|| self.insert(now, address)).flatten())
        else {
            return List::new();
        };
        self.confirm(now, index, mac)
    }

    /// Takes note of a neighbour advertisement (RFC 4861 7.2.5): of a known neighbour only, and a
    /// claim that nobody asked for is put to the test at once. Without a MAC address it is about the
    /// known one. Returns the connections that waited for it.
    pub fn advertised(
        &mut self,
        now: Instant,
        address: IpAddress,
        mac: Option<[u8; 6]>,
        solicited: bool,
        overrides: bool,
    ) -> List<WAITING> {
        let Some(index) = self.find(address) else {
            return List::new();
        };
        let entry = &self.entries[usize::from(index)];
        let known = (entry.state != State::Incomplete).then_some(entry.mac);
        let Some(mac) = mac.or(known) else {
            return List::new();
        };
        let is_new = known != Some(mac);
        if known.is_some() && is_new && !overrides {
            self.probe(now, index);
            return List::new();
        }
        if !is_new && !solicited {
            return List::new();
        }
        let waiting = self.confirm(now, index, mac);
        if !solicited {
            self.probe(now, index);
        }
        waiting
    }

    /// A neighbour is there and then.
    fn confirm(&mut self, now: Instant, index: u16, mac: [u8; 6]) -> List<WAITING> {
        let entry = &mut self.entries[usize::from(index)];
        if entry.mac != mac && matches!(entry.state, State::Reachable | State::Probing) {
            self.epoch = self.epoch.wrapping_add(1).max(1);
        }
        let entry = &mut self.entries[usize::from(index)];
        self.incomplete -= usize::from(entry.state == State::Incomplete);
        entry.mac = mac;
        entry.state = State::Reachable;
        entry.confirmed = now.0;
        entry.request_due = false;
        entry.deadline = now.0 + self.reachable;
        self.deadline = self.deadline.min(entry.deadline);
        core::mem::replace(&mut entry.waiting, List::new())
    }

    /// Asks a known neighbour whether it is still there, unless that is being done.
    fn probe(&mut self, now: Instant, index: u16) {
        let entry = &mut self.entries[usize::from(index)];
        if entry.state == State::Reachable {
            entry.deadline = now.0;
            self.deadline = self.deadline.min(now.0);
        }
    }

    /// MAC addresses that were handed out are to be looked up again.
    pub fn change_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }

    /// The MAC address of a neighbour, if it is known; asks nobody.
    #[inline(always)]
    pub fn known(&self, address: IpAddress) -> Option<[u8; 6]> {
        let entry = &self.entries[usize::from(self.find(address)?)];
        matches!(entry.state, State::Reachable | State::Probing).then_some(entry.mac)
    }

    /// The list of connections that wait for an entry.
    pub fn waiting(&mut self, index: u16) -> &mut List<WAITING> {
        &mut self.entries[usize::from(index)].waiting
    }

    /// Advances the entries whose time has come. Returns one that stayed silent, with the connections
    /// that waited for it; call again until there are none.
    pub fn expire(&mut self, now: Instant) -> Option<(IpAddress, List<WAITING>)> {
        let mut earliest = NEVER;
        for index in 0..self.entries.len() {
            if self.entries[index].state == State::Free {
                continue;
            }
            if self.entries[index].deadline <= now.0 && !self.advance(index, now) {
                let Neighbor {
                    address, waiting, ..
                } = self.entries[index];
                self.failures += 1;
                self.remove(index as u16);
                return Some((address, waiting));
            }
            earliest = earliest.min(self.entries[index].deadline);
        }
        self.deadline = earliest;
        None
    }

    /// Whether somebody is being asked.
    pub fn is_asking(&self) -> bool {
        let mut states = self.entries.iter().map(|entry| entry.state);
        states.any(|state| matches!(state, State::Incomplete | State::Probing))
    }

    /// The next request to send.
    pub fn take_request(&mut self) -> Option<Request> {
        let due = self.entries.iter_mut().find(|entry| entry.request_due);
        let Some(entry) = due else {
            self.requests_due = false;
            return None;
        };
        entry.request_due = false;
        Some(Request {
            address: entry.address,
            mac: (entry.state == State::Probing).then_some(entry.mac),
        })
    }

    /// Asks once more, or returns `false` if that was done often enough.
    fn advance(&mut self, index: usize, now: Instant) -> bool {
        let entry = &mut self.entries[index];
        match entry.state {
            State::Free => return true,
            State::Reachable => {
                entry.state = State::Probing;
                entry.requests = 0;
            }
            State::Incomplete | State::Probing => {
                if entry.requests == MAX_REQUESTS {
                    return false;
                }
            }
        }
        entry.requests += 1;
        entry.request_due = true;
        entry.deadline = now.0 + REQUEST_INTERVAL;
        self.requests_due = true;
        true
    }

    #[inline(always)]
    fn bucket(&self, address: IpAddress) -> usize {
        let mixed =
            (address.low ^ address.high.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.buckets.len() - 1)
    }

    #[inline(always)]
    fn find(&self, address: IpAddress) -> Option<u16> {
        let mut at = self.buckets[self.bucket(address)];
        while at != END {
            let entry = &self.entries[usize::from(at)];
            if entry.address == address {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    fn has_room_for_strangers(&self) -> bool {
        let mut states = self.entries.iter().map(|entry| entry.state);
        self.incomplete < self.entries.len() / 2 && states.any(|state| state == State::Free)
    }

    /// Takes a free entry, or the one confirmed longest ago that nobody waits for.
    fn insert(&mut self, now: Instant, address: IpAddress) -> Option<u16> {
        let index = match self.entries.iter().position(|e| e.state == State::Free) {
            Some(index) => index as u16,
            None => {
                let idle = self.entries.iter().enumerate();
                let idle = idle.filter(|(_, entry)| entry.waiting.is_empty());
                let (index, _) = idle.min_by_key(|(_, entry)| entry.confirmed)?;
                self.evictions += 1;
                self.remove(index as u16);
                index as u16
            }
        };
        let bucket = self.bucket(address);
        let entry = &mut self.entries[usize::from(index)];
        entry.address = address;
        entry.confirmed = now.0;
        entry.waiting = List::new();
        entry.next = self.buckets[bucket];
        self.buckets[bucket] = index;
        Some(index)
    }

    fn remove(&mut self, index: u16) {
        let Neighbor { address, next, .. } = self.entries[usize::from(index)];
        let bucket = self.bucket(address);
        if self.buckets[bucket] == index {
            self.buckets[bucket] = next;
        } else {
            let mut at = self.buckets[bucket];
            while at != END {
                let entry = &mut self.entries[usize::from(at)];
                if entry.next == index {
                    entry.next = next;
                    break;
                }
                at = entry.next;
            }
        }
        let entry = &mut self.entries[usize::from(index)];
        self.incomplete -= usize::from(entry.state == State::Incomplete);
        entry.state = State::Free;
        entry.request_due = false;
        entry.deadline = NEVER;
        self.epoch = self.epoch.wrapping_add(1).max(1);
    }
}

#[cfg(test)]
mod tests;
