//! The hash table, in stripes: each has a lock and the buckets of its keys.
//!
//! A stripe doubles its buckets when they are full. It has a thousandth of the items, so that whoever
//! waits for it meanwhile does not wait long.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use super::chunk::{Chunk, Item};

/// How many stripes there are.
pub const STRIPES: usize = 1 << STRIPE_BITS;
const STRIPE_BITS: u32 = 10;

/// Buckets of a new stripe.
const FIRST_BUCKETS: usize = 16;
/// Items for each bucket before there are more buckets.
const LOAD: usize = 1;

/// See the module.
pub struct Stripe {
    buckets: Vec<Option<Chunk>>,
    count: usize,
}

/// The stripe that a hash belongs to. Buckets go by the other bits.
#[inline]
pub fn stripe_of(hash: u32) -> usize {
    (hash >> (32 - STRIPE_BITS)) as usize
}

impl Stripe {
    /// Without an item.
    pub fn new() -> Self {
        Self {
            buckets: [const { None }; FIRST_BUCKETS].to_vec(),
            count: 0,
        }
    }

    /// The item of that key.
    #[inline]
    pub fn find(&self, hash: u32, key: &[u8]) -> Option<Item> {
        let mut next = self.buckets[self.bucket(hash)];
        while let Some(chunk) = next {
            if chunk.hash.load(Relaxed) == hash
                && chunk.key_bytes() == key.len()
                && let Some(item) = chunk.hold()
                && item.key() == key
            {
                return Some(item);
            }
            next = chunk.chain.get();
        }
        None
    }

    /// Puts an item in, whose key is not there.
    pub fn insert(&mut self, chunk: Chunk) {
        if self.count >= self.buckets.len() * LOAD {
            self.grow();
        }
        let bucket = self.bucket(chunk.hash.load(Relaxed));
        chunk.chain.set(self.buckets[bucket]);
        self.buckets[bucket] = Some(chunk);
        self.count += 1;
    }

    /// Takes an item out. Without effect if it is not there.
    pub fn remove(&mut self, chunk: Chunk) {
        let bucket = self.bucket(chunk.hash.load(Relaxed));
        let rest = chunk.chain.get();
        if self.buckets[bucket] == Some(chunk) {
            self.buckets[bucket] = rest;
            self.count -= 1;
            return;
        }
        let mut next = self.buckets[bucket];
        while let Some(before) = next {
            next = before.chain.get();
            if next == Some(chunk) {
                before.chain.set(rest);
                self.count -= 1;
                return;
            }
        }
    }

    /// All items for which that holds.
    pub fn select(&self, mut wanted: impl FnMut(Chunk) -> bool) -> Vec<Chunk> {
        let mut selected = Vec::new();
        for &first in &self.buckets {
            let mut next = first;
            while let Some(chunk) = next {
                next = chunk.chain.get();
                if wanted(chunk) {
                    selected.push(chunk);
                }
            }
        }
        selected
    }

    /// Buckets that there are.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    fn bucket(&self, hash: u32) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// Twice the buckets; without memory for them, chains get longer.
    fn grow(&mut self) {
        let mut buckets: Vec<Option<Chunk>> = Vec::new();
        let count = 2 * self.buckets.len();
        if count > 1 << (32 - STRIPE_BITS) || buckets.try_reserve_exact(count).is_err() {
            return;
        }
        buckets.resize(count, None);
        let old = core::mem::replace(&mut self.buckets, buckets);
        for first in old {
            let mut next = first;
            while let Some(chunk) = next {
                next = chunk.chain.get();
                let bucket = self.bucket(chunk.hash.load(Relaxed));
                chunk.chain.set(self.buckets[bucket]);
                self.buckets[bucket] = Some(chunk);
            }
        }
    }
}
