//! Which address was seen where (IEEE 802.1Q 8.8).

use std::collections::HashMap;

use super::Place;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Addresses that are kept.
pub(super) const ADDRESSES: usize = 4096;
/// How long an address is known after it was seen last (IEEE 802.1Q table 8-6).
pub(super) const AGE_NS: u64 = 300_000_000_000;
/// A full table is searched for old addresses so often at most.
const SWEEP_NS: u64 = 1_000_000_000;

/// Addresses that were learned.
#[derive(Debug)]
pub(super) struct Table {
    entries: HashMap<(u16, Mac), Entry>,
    not_learned: u64,
    next_sweep_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: Place,
    seen_ns: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::with_capacity(ADDRESSES),
            not_learned: 0,
            next_sweep_ns: 0,
        }
    }

    /// An address was seen.
    pub(super) fn learn(&mut self, vlan: u16, mac: Mac, place: Place, now_ns: u64) {
        let entry = Entry {
            place,
            seen_ns: now_ns,
        };
        if let Some(known) = self.entries.get_mut(&(vlan, mac)) {
            *known = entry;
            return;
        }
        if self.entries.len() >= ADDRESSES {
            self.sweep(now_ns);
        }
        if self.entries.len() >= ADDRESSES {
            self.not_learned += 1;
            return;
        }
        self.entries.insert((vlan, mac), entry);
    }

    /// Where an address is, if it was seen not long ago.
    pub(super) fn find(&self, vlan: u16, mac: Mac, now_ns: u64) -> Option<Place> {
        let entry = self.entries.get(&(vlan, mac))?;
        (now_ns.saturating_sub(entry.seen_ns) < AGE_NS).then_some(entry.place)
    }

    fn sweep(&mut self, now_ns: u64) {
        if now_ns >= self.next_sweep_ns {
            self.next_sweep_ns = now_ns + SWEEP_NS;
            self.entries
                .retain(|_, entry| now_ns.saturating_sub(entry.seen_ns) < AGE_NS);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn not_learned(&self) -> u64 {
        self.not_learned
    }
}
