//! Items in a fixed budget of memory, shared by all threads.
//!
//! `chunk` is the memory of items, `class` the chunks of one size with the lists by which items give
//! way, `moves` how classes share pages, `index` the table from keys to items, `change` what commands do. A thread that reads takes one
//! lock, that of the key's stripe, for the few instructions of the search; what it finds is counted
//! ([`Item`]) and stays, also when it is deleted, replaced or evicted meanwhile. A thread that writes
//! takes the lock of a class as well, to get a chunk and to put the item into a list.
//!
//! Why all threads share one table, and do not have a part of the keys each: README of this crate.

mod change;
#[expect(
    unsafe_code,
    reason = "items lie in memory of their own, and are counted"
)]
mod chunk;
mod class;
mod index;
mod moves;
mod rules;
mod sizes;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use foldhash::fast::FixedState;
use spin::{Mutex, MutexGuard};

pub use change::{Change, Delta, Entry, How, Mode, Sum};
pub use chunk::{Chunk, Draft, Item, Piece, state};
pub use class::{COLD, Class, HOT, LISTS, TEMPORARY, Tally, WARM, list_of};
pub use moves::{Moves, Unmoved};
pub use rules::{Bounds, Rules};
pub use sizes::Sizes;

use chunk::Page;
use class::Removal;
use index::{STRIPES, Stripe, stripe_of};

/// What a store is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes for items, all included.
    pub memory_bytes: usize,
    /// Largest item, as memcached counts it.
    pub item_max: usize,
    /// Chunks of one class are so much larger than those of the class before, in percent.
    pub growth_percent: usize,
    /// Whether items give way; else what does not fit is refused.
    pub evicts: bool,
    /// Makes hashes different each time, so that nobody can foresee which keys collide.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            item_max: 1 << 20,
            growth_percent: 125,
            evicts: true,
            seed: 0,
        }
    }
}

/// Why there is no memory for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChunk {
    /// It is larger than items may be.
    #[error("object too large for cache")]
    TooLarge,
    /// Nothing gives way.
    #[error("out of memory storing object")]
    NoMemory,
}

/// Items of a stripe that was swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// All that were in it.
    pub checked: usize,
    /// Those that were over.
    pub removed: usize,
}

/// See the module.
pub struct Store {
    config: Config,
    sizes: Sizes,
    hash: FixedState,
    stripes: Box<[Mutex<Stripe>]>,
    classes: Box<[Mutex<Class>]>,
    pages: Mutex<Vec<Page>>,
    /// The last number that was given to a content.
    cas: AtomicU64,
    /// What is older than that is not there any more; 0 if nothing is.
    flushed_at: AtomicU64,
    /// So are items with a lower number, once that time has come.
    flushed_cas: AtomicU64,
    /// How pages go from class to class.
    pub moves: Moves,
    /// How items go from list to list.
    pub rules: Rules,
}

impl Store {
    /// A store without memory. It is there for good.
    pub fn leak(config: Config) -> &'static Self {
        let sizes = Sizes::new(config.item_max, config.growth_percent);
        let classes = sizes.chunks().iter();
        let classes = classes.map(|&bytes| Mutex::new(Class::new(bytes, sizes.page_bytes())));
        Box::leak(Box::new(Self {
            config,
            hash: FixedState::with_seed(config.seed),
            stripes: (0..STRIPES).map(|_| Mutex::new(Stripe::new())).collect(),
            classes: classes.collect(),
            pages: Mutex::new(Vec::new()),
            cas: AtomicU64::new(0),
            flushed_at: AtomicU64::new(0),
            flushed_cas: AtomicU64::new(0),
            moves: Moves::default(),
            rules: Rules::default(),
            sizes,
        }))
    }

    /// Adds memory from this thread's heap, to the nearest page; `false` if that has not so much.
    pub fn add_memory(&self, bytes: usize) -> bool {
        let page_bytes = self.sizes.page_bytes();
        let count = (bytes + page_bytes / 2) / page_bytes;
        let Some(mut pages) = Page::allocate(count, page_bytes) else {
            return false;
        };
        self.pages.lock().append(&mut pages);
        true
    }

    /// What it is like.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Sizes of chunks.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The item of that key, read at that time.
    #[inline]
    pub fn get(&self, key: &[u8], now: u32) -> Option<Item> {
        let hash = self.hash(key);
        let stripe = self.stripes[stripe_of(hash)].lock();
        let item = stripe.find(hash, key)?;
        drop(stripe);
        if self.is_over(item.chunk(), now) {
            self.remove_over(key, now);
            return None;
        }
        note_read(item.chunk(), now);
        Some(item)
    }

    /// Room for an item. `suffix` is what stands between key and data in the answer to `get`.
    pub fn draft(
        &'static self,
        key: &[u8],
        flags: u32,
        data_bytes: usize,
        now: u32,
    ) -> Result<Draft, NoChunk> {
        if self.sizes.as_memcached(key.len(), flags, data_bytes) > self.config.item_max {
            return Err(NoChunk::TooLarge);
        }
        let suffix = crate::text::Suffix::new(flags, data_bytes as u32 - 2);
        let text = Draft::text_bytes(key.len(), suffix.as_bytes().len(), data_bytes);
        let class = self.sizes.class_of(text).ok_or(NoChunk::TooLarge)?;
        let chunk = self.chunk_of(class, now).ok_or(NoChunk::NoMemory)?;
        let mut draft = Draft::claim(chunk).ok_or(NoChunk::NoMemory)?;
        draft.begin(key, suffix.as_bytes(), flags, data_bytes);
        Ok(draft)
    }

    /// What is under that key, for as long as nobody else may look.
    pub fn entry(&'static self, key: &[u8], now: u32) -> Entry<'static> {
        let hash = self.hash(key);
        let stripe = self.stripes[stripe_of(hash)].lock();
        Entry::new(self, stripe, hash, key, now)
    }

    /// From that time on, everything that was stored before is gone. A time that has come takes all
    /// that is there now.
    pub fn flush(&self, at: u32, now: u32) {
        let before = at.saturating_sub(1);
        self.flushed_at.store(before.into(), Relaxed);
        if before <= now {
            self.flushed_cas.store(self.next_cas(), Relaxed);
        }
    }

    /// Removes what is over in one stripe. Called for stripe after stripe, by a number that is counted up.
    pub fn sweep(&'static self, number: usize, now: u32) -> Swept {
        let mut stripe = self.stripes[number % STRIPES].lock();
        let mut checked = 0;
        let over = stripe.select(|chunk| {
            checked += 1;
            self.is_over(chunk, now)
        });
        for &chunk in &over {
            self.take_out(&mut stripe, chunk, Removal::Swept);
        }
        Swept {
            checked,
            removed: over.len(),
        }
    }

    /// How many stripes [`Store::sweep`] goes through.
    pub fn stripes(&self) -> usize {
        STRIPES
    }

    /// Buckets of the table.
    pub fn buckets(&self) -> usize {
        self.stripes
            .iter()
            .map(|stripe| stripe.lock().buckets())
            .sum()
    }

    /// What is to be told about the classes, by number from 1 on.
    pub fn classes(&self) -> impl Iterator<Item = (usize, MutexGuard<'_, Class>)> {
        let classes = self.classes.iter().enumerate();
        classes.map(|(number, class)| (number + 1, class.lock()))
    }

    /// Pages that no class has.
    pub fn free_pages(&self) -> usize {
        self.pages.lock().len()
    }

    /// Whether an item is there no longer: expired, or flushed.
    #[inline]
    pub(crate) fn is_over(&self, chunk: Chunk, now: u32) -> bool {
        let expires = chunk.expires.load(Relaxed);
        if expires != 0 && expires <= now {
            return true;
        }
        let flushed_at = self.flushed_at.load(Relaxed);
        if flushed_at == 0 || flushed_at > u64::from(now) {
            return false;
        }
        let stored = u64::from(chunk.accessed.load(Relaxed));
        stored <= flushed_at || chunk.cas.load(Relaxed) < self.flushed_cas.load(Relaxed)
    }

    /// The stripe of a hash, if nobody has it.
    pub(super) fn try_stripe(&self, hash: u32) -> Option<MutexGuard<'_, Stripe>> {
        self.stripes[stripe_of(hash)].try_lock()
    }

    /// A chunk that nobody has any more.
    pub(super) fn reclaim(&self, chunk: Chunk) {
        let page = self.classes[chunk.class()].lock().give_back(chunk);
        if let Some(page) = page {
            self.pages.lock().push(page);
        }
    }

    fn next_cas(&self) -> u64 {
        self.cas.fetch_add(1, Relaxed) + 1
    }

    #[inline]
    fn hash(&self, key: &[u8]) -> u32 {
        let mut hasher = self.hash.build_hasher();
        hasher.write(key);
        let hash = hasher.finish();
        (hash ^ (hash >> 32)) as u32
    }

    /// A chunk to be claimed: a free one, one of a new page, or one whose item gives way.
    fn chunk_of(&'static self, number: usize, now: u32) -> Option<Chunk> {
        let mut class = self.classes[number].lock();
        if let Some(chunk) = class.take_free(self, number as u8) {
            return Some(chunk);
        }
        let page = self.pages.lock().pop();
        if let Some(page) = page {
            class.add_page(page);
            return class.take_free(self, number as u8);
        }
        if self.config.evicts
            && let Some(chunk) = class.evict(self, now)
        {
            if class.has_evicted_page() {
                let age = class.end_age(now);
                drop(class);
                self.balance(number, age, now);
            }
            return Some(chunk);
        }
        drop(class);
        let chunk = match self.config.evicts {
            true => self.chunk_of_others(number, now),
            false => None,
        };
        if chunk.is_none() {
            self.classes[number].lock().tally.outofmemory += 1;
        }
        chunk
    }

    /// Removes an item that is over, unless there is another one meanwhile.
    #[cold]
    fn remove_over(&self, key: &[u8], now: u32) {
        let hash = self.hash(key);
        let mut stripe = self.stripes[stripe_of(hash)].lock();
        if let Some(item) = stripe.find(hash, key)
            && self.is_over(item.chunk(), now)
        {
            self.take_out(&mut stripe, item.chunk(), Removal::Expired);
        }
    }

    /// Takes an item out of table and list.
    fn take_out(&self, stripe: &mut Stripe, chunk: Chunk, why: Removal) {
        stripe.remove(chunk);
        let mut class = self.classes[chunk.class()].lock();
        class.unlink(chunk, why);
        let page = match chunk.unlink() {
            true => class.give_back(chunk),
            false => None,
        };
        drop(class);
        if let Some(page) = page {
            self.pages.lock().push(page);
        }
    }

    /// Puts an item into table and list.
    fn put_in(&self, stripe: &mut Stripe, item: Item, now: u32) {
        let chunk = item.into_link();
        stripe.insert(chunk);
        self.classes[chunk.class()]
            .lock()
            .link(chunk, &self.rules, now);
    }
}

/// Notes that an item was read: the first time, or again, which makes it active.
#[inline]
pub(crate) fn note_read(chunk: Chunk, now: u32) {
    let before = chunk.state.load(Relaxed);
    if before & state::ACTIVE == 0 {
        match before & state::FETCHED {
            0 => chunk.state.fetch_or(state::FETCHED, Relaxed),
            _ => {
                chunk.accessed.store(now, Relaxed);
                chunk.state.fetch_or(state::ACTIVE, Relaxed)
            }
        };
    }
}
