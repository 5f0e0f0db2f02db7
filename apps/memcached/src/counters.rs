//! What a thread has done. Each thread counts for itself; `stats` adds up.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

/// Most slab classes that hits are counted for.
pub const CLASSES: usize = 64;

/// A number that one thread counts up and any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// From 0.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts up. Only the thread that it belongs to does so, hence no locked instruction.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Counts down, by the same thread.
    pub fn subtract(&self, count: u64) {
        self.add(count.wrapping_neg());
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one thread, which start over with `stats reset`.
        #[derive(Debug)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// The same by slab class.
            pub classes: [ClassCounters; CLASSES],
        }

        impl Counters {
            /// All 0.
            pub const fn new() -> Self {
                Self {
                    $($name: Counter::new(),)*
                    classes: [const { ClassCounters::new() }; CLASSES],
                }
            }
        }

        /// Sums of the counters of several threads.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Totals {
            /// Of those threads.
            pub fn of<'a>(threads: impl IntoIterator<Item = &'a Counters>) -> Self {
                let mut totals = Self::default();
                for counters in threads {
                    $(totals.$name = totals.$name.wrapping_add(counters.$name.get());)*
                }
                totals
            }

            /// What has come since.
            pub fn since(&self, before: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(before.$name),)* }
            }
        }
    };
}

counters! {
    /// Connections that are open.
    curr_connections,
    /// Connections that were opened.
    total_connections,
    /// Keys looked up by get commands.
    cmd_get,
    /// Data blocks of storage commands.
    cmd_set,
    /// Flush commands.
    cmd_flush,
    /// Keys looked up to be touched.
    cmd_touch,
    /// Meta commands `me`.
    cmd_meta,
    /// Keys that were not found.
    get_misses,
    /// Of these, keys whose item had expired.
    get_expired,
    /// Of these, keys whose item had been flushed.
    get_flushed,
    /// Keys that were not found.
    delete_misses,
    /// Keys that were not found.
    incr_misses,
    /// Keys that were not found.
    decr_misses,
    /// Keys that were not found.
    cas_misses,
    /// Keys that were not found.
    touch_misses,
    /// Items that were larger than allowed.
    store_too_large,
    /// Items that there was no memory for.
    store_no_memory,
    /// Bytes of commands.
    bytes_read,
    /// Bytes of answers.
    bytes_written,
    /// Times that a connection was held up since its answers were not read.
    conn_yields,
    /// Items that were stored.
    total_items,
    /// Connections whose command line was too long.
    lines_too_long,
    /// Datagrams without a command that can be answered.
    datagrams_ignored,
}

macro_rules! class_counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one thread has done with items of a slab class.
        #[derive(Debug)]
        pub struct ClassCounters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl ClassCounters {
            const fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }
        }

        /// Sums of the counters of several threads.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ClassTotals {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl ClassTotals {
            /// Counts more.
            pub fn add(&mut self, counters: &ClassCounters) {
                $(self.$name = self.$name.wrapping_add(counters.$name.get());)*
            }

            /// Adds up.
            pub fn add_totals(&mut self, other: &Self) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }

            /// What has come since.
            pub fn since(&self, before: &Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(before.$name),)* }
            }
        }
    };
}

class_counters! {
    /// Keys that were found, with a hot item.
    hits_to_hot,
    /// Keys that were found, with a warm item.
    hits_to_warm,
    /// Keys that were found, with a cold item.
    hits_to_cold,
    /// Keys that were found, with an item that expires soon.
    hits_to_temp,
    /// Data blocks of storage commands.
    cmd_set,
    /// Keys that were found.
    delete_hits,
    /// Keys that were found.
    incr_hits,
    /// Keys that were found.
    decr_hits,
    /// Numbers that were right.
    cas_hits,
    /// Numbers that were wrong.
    cas_badval,
    /// Keys that were found.
    touch_hits,
}

impl ClassTotals {
    /// Keys that were found.
    pub fn get_hits(&self) -> u64 {
        self.hits_to_hot + self.hits_to_warm + self.hits_to_cold + self.hits_to_temp
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_sums_over_threads_since_the_last_reset() {
        let threads = [Counters::new(), Counters::new()];
        threads[0].cmd_get.add(3);
        threads[1].cmd_get.add(4);
        threads[1].curr_connections.add(1);
        threads[1].curr_connections.subtract(1);
        let before = Totals::of(&threads);
        assert_eq!((before.cmd_get, before.curr_connections), (7, 0));
        threads[1].cmd_get.add(2);
        assert_eq!(Totals::of(&threads).since(&before).cmd_get, 2);
    }
}
