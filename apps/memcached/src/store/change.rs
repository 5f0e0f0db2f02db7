//! What commands change: under the lock of the key's stripe, from looking to writing.

use core::sync::atomic::Ordering::Relaxed;

use spin::MutexGuard;

use super::chunk::{Draft, Item, state};
use super::class::Removal;
use super::index::Stripe;
use super::{NoChunk, Store, note_read};

/// What is under a key. Nobody else gets at the key as long as this is there.
pub struct Entry<'a> {
    store: &'static Store,
    stripe: MutexGuard<'a, Stripe>,
    hash: u32,
    now: u32,
    item: Option<Item>,
}

/// How an item is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In any case.
    Set,
    /// If there is none.
    Add,
    /// If there is one.
    Replace,
    /// Its data after that of the one that is there.
    Append,
    /// Its data before that of the one that is there.
    Prepend,
    /// If the one that is there has that number.
    Cas,
}

/// What came of storing an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Stored; the number that its content has now.
    Stored(u64),
    /// The condition of add, replace, append or prepend does not hold.
    NotStored,
    /// The one that is there has another number.
    Exists,
    /// There is none.
    NotFound,
}

/// How an item is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// In which case.
    pub mode: Mode,
    /// The number that the one that is there must have; 0 for any, but in [`Mode::Cas`].
    pub cas: u64,
    /// When it is no longer good; 0 for never.
    pub expires: u32,
    /// In [`Mode::Cas`], an item with a higher number is replaced, too, and the new one is out of date.
    pub may_be_stale: bool,
}

impl Store {
    /// Stores an item that has been written.
    pub fn store(&'static self, draft: Draft, how: How, now: u32) -> Change {
        let hash = self.hash(draft.key());
        let stripe = self.stripes[super::stripe_of(hash)].lock();
        let mut entry = Entry::new(self, stripe, hash, draft.key(), now);
        let Some(old) = entry.item.take() else {
            return match how.mode {
                Mode::Set | Mode::Add => Change::Stored(entry.put(draft, how.expires)),
                Mode::Replace | Mode::Append | Mode::Prepend => Change::NotStored,
                Mode::Cas => Change::NotFound,
            };
        };
        match how.mode {
            Mode::Add => Change::NotStored,
            Mode::Set | Mode::Replace => {
                entry.take_out(&old);
                Change::Stored(entry.put(draft, how.expires))
            }
            Mode::Cas => entry.compare_and_put(&old, draft, how),
            Mode::Append | Mode::Prepend if how.cas != 0 && how.cas != old.cas() => Change::Exists,
            Mode::Append => entry.join(&old, draft, false),
            Mode::Prepend => entry.join(&old, draft, true),
        }
    }
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        store: &'static Store,
        stripe: MutexGuard<'a, Stripe>,
        hash: u32,
        key: &[u8],
        now: u32,
    ) -> Self {
        let item = stripe.find(hash, key);
        let mut entry = Self {
            store,
            stripe,
            hash,
            now,
            item: None,
        };
        if let Some(item) = item {
            match store.is_over(item.chunk(), now) {
                true => store.take_out(&mut entry.stripe, item.chunk(), Removal::Expired),
                false => entry.item = Some(item),
            }
        }
        entry
    }

    /// The item, if there is one.
    pub fn item(&self) -> Option<&Item> {
        self.item.as_ref()
    }

    /// Notes that the item was read.
    pub fn note_read(&self) {
        if let Some(item) = &self.item {
            note_read(item.chunk(), self.now);
        }
    }

    /// Removes the item.
    pub fn remove(&mut self) -> Option<Item> {
        let item = self.item.take()?;
        self.take_out(&item);
        Some(item)
    }

    /// Puts an item there that has been written, in place of the one that is there.
    pub fn replace(&mut self, draft: Draft, expires: u32) -> u64 {
        self.remove();
        let chunk = draft.chunk();
        let cas = self.put(draft, expires);
        self.item = chunk.hold();
        cas
    }

    /// Gives the item's content another number.
    pub fn renew(&mut self) {
        if let Some(item) = &self.item {
            item.chunk().cas.store(self.store.next_cas(), Relaxed);
        }
    }

    /// Gives the item away, and lets others at the key.
    pub fn into_item(self) -> Option<Item> {
        self.item
    }

    fn take_out(&mut self, item: &Item) {
        self.store
            .take_out(&mut self.stripe, item.chunk(), Removal::Unlinked);
    }

    fn put(&mut self, draft: Draft, expires: u32) -> u64 {
        let cas = self.store.next_cas();
        let chunk = draft.chunk();
        chunk.hash.store(self.hash, Relaxed);
        chunk.cas.store(cas, Relaxed);
        chunk.expires.store(expires, Relaxed);
        chunk.accessed.store(self.now, Relaxed);
        self.store
            .put_in(&mut self.stripe, draft.finish(), self.now);
        cas
    }

    fn compare_and_put(&mut self, old: &Item, draft: Draft, how: How) -> Change {
        let (cas, chunk) = (old.cas(), old.chunk());
        if how.cas == cas {
            self.take_out(old);
            return Change::Stored(self.put(draft, how.expires));
        }
        if !(how.may_be_stale && how.cas < cas) {
            return Change::Exists;
        }
        let marks = chunk.state.load(Relaxed) & state::TOKEN_SENT | state::STALE;
        draft.chunk().state.fetch_or(marks, Relaxed);
        let expires = chunk.expires.load(Relaxed);
        self.take_out(old);
        Change::Stored(self.put(draft, expires))
    }

    /// Stores the data of both, one after the other, with flags and time of the one that is there. How
    /// either's key was given is forgotten, as in memcached.
    fn join(&mut self, old: &Item, draft: Draft, new_first: bool) -> Change {
        let new = draft.finish();
        let data_bytes = old.value().len() + new.value().len() + 2;
        let (store, chunk) = (self.store, old.chunk());
        let Ok(mut joined) = store.draft(old.key(), chunk.flags(), data_bytes, self.now) else {
            return Change::NotStored;
        };
        let parts = match new_first {
            true => [new.value(), old.value()],
            false => [old.value(), new.value()],
        };
        for part in parts.into_iter().chain([&b"\r\n"[..]]) {
            joined.fill(part);
        }
        self.take_out(old);
        Change::Stored(self.put(joined, chunk.expires.load(Relaxed)))
    }
}

/// What came of adding to or subtracting from a number.
#[derive(Debug)]
pub enum Sum {
    /// The number, and the one of the content.
    Is(u64, u64),
    /// There is none.
    NotFound,
    /// The one that is there has another number of its content.
    Exists,
    /// What is there is no number.
    NotNumeric,
    /// There is no memory for it.
    NoMemory(NoChunk),
}

/// What to add or to subtract.
#[derive(Clone, Copy, Debug)]
pub struct Delta {
    /// Whether to add.
    pub adds: bool,
    /// How much.
    pub amount: u64,
    /// The number that the content must have; 0 for any.
    pub cas: u64,
}

impl Entry<'_> {
    /// Adds or subtracts. Sums wrap around at 2^64, differences end at 0. A shorter number keeps the
    /// length of the one before, with spaces.
    pub fn calculate(&mut self, delta: Delta) -> Sum {
        let Some(item) = &self.item else {
            return Sum::NotFound;
        };
        if delta.cas != 0 && delta.cas != item.cas() {
            return Sum::Exists;
        }
        let Some(before) = crate::text::number(item.value()) else {
            return Sum::NotNumeric;
        };
        let number = match delta.adds {
            true => before.wrapping_add(delta.amount),
            false => before.saturating_sub(delta.amount),
        };
        let digits = crate::text::Digits::new(number);
        let length = digits.as_bytes().len().max(item.value().len());
        let chunk = item.chunk();
        let drafted = self
            .store
            .draft(item.key(), chunk.flags(), length + 2, self.now);
        let mut draft = match drafted {
            Ok(draft) => draft,
            Err(error) => return Sum::NoMemory(error),
        };
        draft.fill(digits.as_bytes());
        while draft.missing() > 2 {
            draft.fill(b" ");
        }
        draft.fill(b"\r\n");
        // memcached writes over a number that is long enough, and makes another item of a longer one.
        if length == item.value().len() {
            let kept = state::FETCHED | state::ACTIVE | state::KEY_BINARY;
            let kept = chunk.state.load(Relaxed) & (kept | state::STALE | state::TOKEN_SENT);
            draft.chunk().state.fetch_or(kept, Relaxed);
        }
        let cas = self.replace(draft, chunk.expires.load(Relaxed));
        Sum::Is(number, cas)
    }
}
