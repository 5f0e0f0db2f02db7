//! The chunks of one size: which are free, and in which order items give way.
//!
//! Items are in one of three lists, as in memcached: a new item is [`HOT`]; what leaves the hot or the
//! warm list by its end goes to [`WARM`] if it was read twice meanwhile, else to [`COLD`]; what is read
//! twice in the cold list becomes warm instead of giving way. So a scan over many items, each read once,
//! passes through hot and cold and leaves the warm ones alone. Items that expire soon may be in a list of
//! their own ([`TEMPORARY`]), which gives way last. Which item goes where, [`Rules`] say. A reader only sets bits of the item, and
//! takes no lock here: the bits are looked at when an item comes to the end of its list.
//!
//! All of it is under the lock of the class. What changes whether an item is in a list holds the lock of
//! its stripe as well, which is taken first; who has the class first may only try for a stripe.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use super::Store;
use super::chunk::{Chunk, Page, Slab, state};
use super::rules::{Bounds, Rules};

/// Number of a list.
pub const HOT: usize = 0;
/// Number of a list.
pub const WARM: usize = 1;
/// Number of a list.
pub const COLD: usize = 2;
/// Number of a list.
pub const TEMPORARY: usize = 3;
/// How many lists there are.
pub const LISTS: usize = 4;

/// In which order lists are asked for an item that gives way.
const GIVING: [usize; LISTS] = [COLD, WARM, HOT, TEMPORARY];

/// Items that are moved from list to list for one that is added, at most.
const MOVES: usize = 2;
/// Items that are looked at for one that gives way, at most.
const TRIES: usize = 50;

/// See the module.
pub struct Class {
    /// Bytes of a chunk.
    pub chunk_bytes: usize,
    /// Chunks in a page.
    pub per_page: usize,
    slots: Vec<Option<Partition>>,
    /// Numbers of pages with free chunks.
    partial: Vec<u32>,
    /// Items by list.
    pub lists: [List; LISTS],
    /// Chunks that are in use: items in the table, those that are not any more, and drafts.
    pub used: usize,
    /// Pages.
    pub pages: usize,
    /// What has happened.
    pub tally: Tally,
    /// Evictions when it was last looked at whether there were enough for a page.
    evicted_before: u64,
}

/// What has happened in a class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Items that gave way.
    pub evicted: u64,
    /// Of these, those that would have expired some time.
    pub evicted_nonzero: u64,
    /// Of these, those that were never read.
    pub evicted_unfetched: u64,
    /// Of these, those that had been read twice.
    pub evicted_active: u64,
    /// Seconds since the last one that gave way had been stored or read.
    pub evicted_time: u64,
    /// Items refused for want of memory.
    pub outofmemory: u64,
    /// Expired items whose memory a new one took.
    pub reclaimed: u64,
    /// Expired items that were never read.
    pub expired_unfetched: u64,
    /// Expired items that the sweep found.
    pub swept: u64,
    /// Items that could not give way since answers with them were under way.
    pub tails_in_use: u64,
    /// Items that went from hot or warm to cold.
    pub moves_to_cold: u64,
    /// Items that went from hot or cold to warm.
    pub moves_to_warm: u64,
    /// Items that stayed in their list since they had been read.
    pub moves_within_lru: u64,
}

/// Items in the order in which they came.
#[derive(Default)]
pub struct List {
    newest: Option<Chunk>,
    oldest: Option<Chunk>,
    /// How many.
    pub count: usize,
}

/// A page of the class, with its free chunks.
struct Partition {
    slab: Slab,
    free: Option<Chunk>,
    used: usize,
    /// Whether its number is among those of pages with free chunks.
    is_partial: bool,
    /// Whether it is being given back, so that no chunk is taken from it.
    leaving: bool,
}

/// What an item that is removed was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The table no longer has it: deleted, replaced or flushed.
    Unlinked,
    /// It had expired.
    Expired,
    /// It had expired, as the sweep found.
    Swept,
}

impl Class {
    /// A class without pages.
    pub fn new(chunk_bytes: usize, page_bytes: usize) -> Self {
        Self {
            chunk_bytes,
            per_page: page_bytes / chunk_bytes,
            slots: Vec::new(),
            partial: Vec::new(),
            lists: Default::default(),
            used: 0,
            pages: 0,
            tally: Tally::default(),
            evicted_before: 0,
        }
    }

    /// A free chunk of those that there are.
    pub fn take_free(&mut self, store: &'static Store, class: u8) -> Option<Chunk> {
        loop {
            let number = *self.partial.last()?;
            let partition = self.slots[number as usize].as_mut()?;
            let chunk = match partition.free {
                Some(chunk) => {
                    partition.free = chunk.chain.get();
                    Some(chunk)
                }
                None => partition.slab.next_chunk(store, class, number),
            };
            match chunk {
                Some(chunk) => {
                    partition.used += 1;
                    self.used += 1;
                    return Some(chunk);
                }
                None => {
                    partition.is_partial = false;
                    self.partial.pop();
                }
            }
        }
    }

    /// A chunk is free again. A page that this was the last chunk of, and that was to be given back,
    /// comes back.
    pub fn give_back(&mut self, chunk: Chunk) -> Option<Page> {
        let number = chunk.page();
        let partition = self.slots[number as usize].as_mut()?;
        chunk.chain.set(partition.free);
        partition.free = Some(chunk);
        partition.used -= 1;
        self.used -= 1;
        if partition.leaving {
            return self.dissolve(number);
        }
        if !partition.is_partial {
            partition.is_partial = true;
            self.partial.push(number);
        }
        None
    }

    /// One page more.
    pub fn add_page(&mut self, page: Page) {
        let partition = Partition {
            slab: Slab::new(page, self.chunk_bytes),
            free: None,
            used: 0,
            is_partial: true,
            leaving: false,
        };
        let number = match self.slots.iter().position(Option::is_none) {
            Some(number) => {
                self.slots[number] = Some(partition);
                number
            }
            None => {
                self.slots.push(Some(partition));
                self.slots.len() - 1
            }
        };
        self.partial.push(number as u32);
        self.pages += 1;
    }

    /// Puts an item at the front of the list that it belongs to, and moves items that are no longer hot or
    /// warm.
    pub fn link(&mut self, chunk: Chunk, rules: &Rules, now: u32) {
        self.push(rules.first_list(chunk, now), chunk);
        self.rebalance(HOT, &rules.hot, now);
        self.rebalance(WARM, &rules.warm, now);
    }

    /// Takes an item out of its list, and counts it.
    pub fn unlink(&mut self, chunk: Chunk, why: Removal) {
        self.remove(chunk);
        if why != Removal::Unlinked && !chunk.has(state::FETCHED) {
            self.tally.expired_unfetched += 1;
        }
        if why == Removal::Swept {
            self.tally.swept += 1;
        }
    }

    /// Has an item give way, and returns its chunk, which is in use for the caller from then on.
    pub fn evict(&mut self, store: &'static Store, now: u32) -> Option<Chunk> {
        for _ in 0..TRIES {
            let mut lists = GIVING.into_iter();
            let chunk = lists.find_map(|list| self.lists[list].oldest)?;
            let has_expired = store.is_over(chunk, now);
            if !has_expired && list_of(chunk) == COLD && chunk.has(state::ACTIVE) {
                let is_segmented = store.rules.is_segmented.load(Relaxed);
                self.renew(chunk, if is_segmented { WARM } else { COLD }, now);
                continue;
            }
            let Some(mut stripe) = store.try_stripe(chunk.hash.load(Relaxed)) else {
                self.rotate(chunk);
                continue;
            };
            if !chunk.is_only_linked() {
                self.tally.tails_in_use += 1;
                self.rotate(chunk);
                continue;
            }
            stripe.remove(chunk);
            self.remove(chunk);
            self.count_eviction(chunk, has_expired, now);
            if !chunk.unlink() {
                continue;
            }
            if !self.is_leaving(chunk) {
                return Some(chunk);
            }
            if let Some(page) = self.give_back(chunk) {
                self.add_page(page);
                return self.take_free(store, chunk.class() as u8);
            }
        }
        None
    }

    /// Gives a page back, with everything in it. `None` if there is none, or if answers with items in
    /// it are under way; then the page comes back from [`Class::give_back`] when the last one has ended.
    pub fn give_up_page(&mut self, store: &Store, now: u32) -> Option<Page> {
        let partitions = self.slots.iter().enumerate();
        let (number, _) = partitions
            .filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
            .min_by_key(|(_, partition)| (!partition.leaving, partition.used))?;
        let partition = self.slots[number].as_mut()?;
        partition.leaving = true;
        partition.is_partial = false;
        let chunks = partition.slab.chunks();
        self.partial.retain(|&partial| partial != number as u32);
        for chunk in chunks.filter(|chunk| chunk.has(state::LINKED)) {
            let Some(mut stripe) = store.try_stripe(chunk.hash.load(Relaxed)) else {
                continue;
            };
            // With both locks, nobody else links or unlinks it.
            if !chunk.has(state::LINKED) {
                continue;
            }
            stripe.remove(chunk);
            self.remove(chunk);
            let has_expired = store.is_over(chunk, now);
            self.count_eviction(chunk, has_expired, now);
            if chunk.unlink()
                && let Some(page) = self.give_back(chunk)
            {
                return Some(page);
            }
        }
        self.dissolve(number as u32)
    }

    /// Age of the oldest item of a list.
    pub fn age(&self, list: usize, now: u32) -> u32 {
        let oldest = self.lists[list].oldest;
        oldest.map_or(0, |chunk| now.saturating_sub(chunk.accessed.load(Relaxed)))
    }

    /// Age of the item that gives way next.
    pub fn end_age(&self, now: u32) -> u32 {
        let mut lists = GIVING.into_iter();
        let list = lists.find(|&list| self.lists[list].count != 0);
        list.map_or(0, |list| self.age(list, now))
    }

    /// Whether as many items as are in a page have given way since this was last so.
    pub fn has_evicted_page(&mut self) -> bool {
        let has = self.tally.evicted - self.evicted_before >= self.per_page as u64;
        if has {
            self.evicted_before = self.tally.evicted;
        }
        has
    }

    /// Items in all lists.
    pub fn items(&self) -> usize {
        self.lists.iter().map(|list| list.count).sum()
    }

    fn is_leaving(&self, chunk: Chunk) -> bool {
        let partition = self.slots[chunk.page() as usize].as_ref();
        partition.is_some_and(|partition| partition.leaving)
    }

    fn dissolve(&mut self, number: u32) -> Option<Page> {
        let slot = &mut self.slots[number as usize];
        let partition = slot.take()?;
        if partition.used != 0 {
            *slot = Some(partition);
            return None;
        }
        match partition.slab.dissolve() {
            Ok(page) => {
                self.pages -= 1;
                Some(page)
            }
            Err(slab) => {
                *slot = Some(Partition { slab, ..partition });
                None
            }
        }
    }

    fn count_eviction(&mut self, chunk: Chunk, has_expired: bool, now: u32) {
        if has_expired {
            self.tally.reclaimed += 1;
            self.tally.expired_unfetched += u64::from(!chunk.has(state::FETCHED));
            return;
        }
        self.tally.evicted += 1;
        self.tally.evicted_nonzero += u64::from(chunk.expires.load(Relaxed) != 0);
        self.tally.evicted_unfetched += u64::from(!chunk.has(state::FETCHED));
        self.tally.evicted_active += u64::from(chunk.has(state::ACTIVE));
        self.tally.evicted_time = now.saturating_sub(chunk.accessed.load(Relaxed)).into();
    }

    /// Moves items from the end of a list that has passed its bounds.
    fn rebalance(&mut self, list: usize, bounds: &Bounds, now: u32) {
        for _ in 0..MOVES {
            let (count, items) = (self.lists[list].count, self.items());
            let Some(chunk) = self.lists[list].oldest else {
                break;
            };
            if !bounds.are_passed(count, items, self.age(list, now), self.age(COLD, now)) {
                break;
            }
            match chunk.has(state::ACTIVE) {
                true => self.renew(chunk, WARM, now),
                false => {
                    self.remove(chunk);
                    self.push(COLD, chunk);
                    self.tally.moves_to_cold += 1;
                }
            }
        }
    }

    /// To the front of a list, as if it had just been read for the first time.
    fn renew(&mut self, chunk: Chunk, list: usize, now: u32) {
        match list_of(chunk) == list {
            true => self.tally.moves_within_lru += 1,
            false => self.tally.moves_to_warm += 1,
        }
        chunk.state.fetch_and(!state::ACTIVE, Relaxed);
        chunk.accessed.store(now, Relaxed);
        self.remove(chunk);
        self.push(list, chunk);
    }

    /// To the front of its list.
    fn rotate(&mut self, chunk: Chunk) {
        let list = list_of(chunk);
        self.remove(chunk);
        self.push(list, chunk);
    }

    fn push(&mut self, number: usize, chunk: Chunk) {
        let bits = (number as u8) << state::LIST_SHIFT;
        chunk.state.fetch_and(!state::LIST, Relaxed);
        chunk.state.fetch_or(bits, Relaxed);
        let list = &mut self.lists[number];
        chunk.newer.set(None);
        chunk.older.set(list.newest);
        match list.newest {
            Some(newest) => newest.newer.set(Some(chunk)),
            None => list.oldest = Some(chunk),
        }
        list.newest = Some(chunk);
        list.count += 1;
    }

    fn remove(&mut self, chunk: Chunk) {
        let list = &mut self.lists[list_of(chunk)];
        let (newer, older) = (chunk.newer.get(), chunk.older.get());
        match newer {
            Some(newer) => newer.older.set(older),
            None => list.newest = older,
        }
        match older {
            Some(older) => older.newer.set(newer),
            None => list.oldest = newer,
        }
        list.count -= 1;
    }
}

/// Number of the list that an item is in.
pub fn list_of(chunk: Chunk) -> usize {
    usize::from((chunk.state.load(Relaxed) & state::LIST) >> state::LIST_SHIFT)
}
