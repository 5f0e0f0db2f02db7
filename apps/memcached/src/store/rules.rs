//! By which rules items go from list to list, as administrators may change them (`lru` in memcached's
//! protocol).

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32};

use super::chunk::Chunk;
use super::class::{COLD, HOT, TEMPORARY};

/// See the module. Ages are those of the item that came to a list, or was read there, first.
pub struct Rules {
    /// The hot list.
    pub hot: Bounds,
    /// The warm list.
    pub warm: Bounds,
    /// Whether there are hot and warm items; else all are cold, and who is read twice stays longer.
    pub is_segmented: AtomicBool,
    /// Whether items that expire soon are in a list of their own, which gives way last.
    pub has_temporary: AtomicBool,
    /// In so many seconds at most.
    pub temporary_ttl: AtomicU32,
}

/// What a list has to give up.
pub struct Bounds {
    /// Items beyond this share of all, in percent.
    pub percent: AtomicU32,
    /// Items older than so many percent of the oldest cold one.
    pub age_percent: AtomicU32,
}

impl Default for Rules {
    /// As in memcached.
    fn default() -> Self {
        Self {
            hot: Bounds::new(20, 20),
            warm: Bounds::new(40, 200),
            is_segmented: AtomicBool::new(true),
            has_temporary: AtomicBool::new(false),
            temporary_ttl: AtomicU32::new(61),
        }
    }
}

impl Rules {
    /// The list that a new item goes to.
    pub(super) fn first_list(&self, chunk: Chunk, now: u32) -> usize {
        // Without a time to expire, the difference is larger than any.
        let left = chunk.expires.load(Relaxed).wrapping_sub(now);
        if self.has_temporary.load(Relaxed) && left <= self.temporary_ttl.load(Relaxed) {
            return TEMPORARY;
        }
        match self.is_segmented.load(Relaxed) {
            true => HOT,
            false => COLD,
        }
    }
}

impl Bounds {
    fn new(percent: u32, age_percent: u32) -> Self {
        Self {
            percent: AtomicU32::new(percent),
            age_percent: AtomicU32::new(age_percent),
        }
    }

    /// Whether a list of `count` items, the oldest of that age, has to give one up, where there are `items` in
    /// all and the oldest cold one is so old.
    pub(super) fn are_passed(&self, count: usize, items: usize, age: u32, cold_age: u32) -> bool {
        let share = |whole: u64, percent: &AtomicU32| whole * u64::from(percent.load(Relaxed));
        count as u64 * 100 > share(items as u64, &self.percent)
            || u64::from(age) * 100 > share(cold_age.into(), &self.age_percent)
    }
}
