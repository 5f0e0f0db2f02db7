//! What all threads share: the store, settings, counters; and what one thread has of it ([`Worker`]).

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};

use spin::Mutex;

use crate::counters::{CLASSES, ClassTotals, Counters, Totals};
use crate::store::{Config, HOT, Item, Store, TEMPORARY, WARM, list_of, state};

/// What `version` answers: the memcached whose behaviour this is.
pub const VERSION: &str = "1.6.18";
/// Longest key.
pub const KEY_MAX: usize = 250;

/// Seconds that the clock of items shows at the start, as in memcached: so that a time "just before the
/// start" is there.
pub const FIRST_SECOND: u32 = 62;
/// Times up to this are from now on, later ones since 1970.
const RELATIVE_MAX: u32 = 60 * 60 * 24 * 30;

/// [`Crawler::sleep_us`] to begin with, as in memcached.
const CRAWLER_SLEEP_US: u32 = 100;

/// What is set at the start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The store.
    pub store: Config,
    /// Port for TCP.
    pub port: u16,
    /// Port for UDP; 0 for none.
    pub udp_port: u16,
    /// Bytes of answers from which on a connection waits until its peer has read.
    pub answer_limit: usize,
    /// Whether `flush_all` is done.
    pub allows_flush: bool,
    /// Elastic threads.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store: Config::default(),
            port: 11211,
            udp_port: 0,
            answer_limit: 256 << 10,
            allows_flush: true,
            threads: 1,
        }
    }
}

/// What all threads share.
pub struct Server {
    /// The items.
    pub store: &'static Store,
    /// As they were at the start.
    pub settings: Settings,
    /// Seconds from 1970 to 0 of the clock of items.
    pub epoch: u64,
    /// Who looks for what has expired.
    pub crawler: Crawler,
    /// What `verbosity` was set to. It is kept and shown, nothing else.
    pub verbosity: AtomicU32,
    threads: Vec<Counters>,
    /// What `stats reset` takes off.
    reset: Mutex<Reset>,
}

/// The sweep through the stripes, as clients see it.
pub struct Crawler {
    /// Whether stripes are swept, in their turn.
    pub is_enabled: AtomicBool,
    /// Microseconds between two steps of a sweep that a client wants; it rests for a millisecond in any case.
    pub sleep_us: AtomicU32,
    /// Items that such a sweep checks for each class that is asked for; 0 for all.
    pub to_crawl: AtomicU32,
    /// Stripes that a client wants swept at once, and items that are still checked then.
    stripes_left: AtomicUsize,
    items_left: AtomicUsize,
}

impl Crawler {
    /// Wants so many stripes swept at once, for the sake of so many classes. `false` if that is so already.
    pub fn start(&self, stripes: usize, classes: usize) -> bool {
        let start = self
            .stripes_left
            .compare_exchange(0, stripes, Relaxed, Relaxed);
        if start.is_err() {
            return false;
        }
        let items = match self.to_crawl.load(Relaxed) {
            0 => usize::MAX,
            each => classes * each as usize,
        };
        self.items_left.store(items, Relaxed);
        true
    }

    /// So many stripes are swept, with so many items. Whether more are wanted at once.
    pub fn has_swept(&self, stripes: usize, items: usize) -> bool {
        let items_left = self.items_left.load(Relaxed).saturating_sub(items);
        self.items_left.store(items_left, Relaxed);
        let left = match items_left {
            0 => 0,
            _ => self.stripes_left.load(Relaxed).saturating_sub(stripes),
        };
        self.stripes_left.store(left, Relaxed);
        left != 0
    }
}

/// Counters at the last `stats reset`.
struct Reset {
    totals: Totals,
    classes: Vec<ClassTotals>,
}

impl Server {
    /// With an empty store; `unix_seconds` is the time now.
    pub fn new(settings: Settings, unix_seconds: u64) -> Self {
        Self {
            store: Store::leak(settings.store),
            threads: (0..settings.threads.max(1))
                .map(|_| Counters::new())
                .collect(),
            settings,
            epoch: unix_seconds.saturating_sub(FIRST_SECOND.into()),
            crawler: Crawler {
                is_enabled: AtomicBool::new(true),
                sleep_us: AtomicU32::new(CRAWLER_SLEEP_US),
                to_crawl: AtomicU32::new(0),
                stripes_left: AtomicUsize::new(0),
                items_left: AtomicUsize::new(0),
            },
            verbosity: AtomicU32::new(0),
            reset: Mutex::new(Reset {
                totals: Totals::default(),
                classes: [ClassTotals::default(); CLASSES].to_vec(),
            }),
        }
    }

    /// Sums over all threads since the last reset. What is open now is not reset.
    pub fn totals(&self) -> Totals {
        let totals = Totals::of(&self.threads);
        Totals {
            curr_connections: totals.curr_connections,
            ..totals.since(&self.reset.lock().totals)
        }
    }

    /// The same by slab class.
    pub fn class_totals(&self, class: usize) -> ClassTotals {
        self.class_sums(class)
            .since(&self.reset.lock().classes[class])
    }

    /// The same over all classes.
    pub fn all_classes(&self) -> ClassTotals {
        let mut all = ClassTotals::default();
        (0..CLASSES).for_each(|class| all.add_totals(&self.class_totals(class)));
        all
    }

    /// Has the counters start over.
    pub fn reset(&self) {
        let classes = (0..CLASSES).map(|class| self.class_sums(class)).collect();
        let totals = Totals::of(&self.threads);
        *self.reset.lock() = Reset { totals, classes };
    }

    fn class_sums(&self, class: usize) -> ClassTotals {
        let mut sums = ClassTotals::default();
        for counters in &self.threads {
            sums.add(&counters.classes[class]);
        }
        sums
    }
}

/// One thread's view of the server.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    /// What all share.
    pub server: &'static Server,
    /// What this thread counts.
    pub counters: &'a Counters,
    /// Seconds on the clock of items.
    pub now: u32,
}

impl Worker<'static> {
    /// The view of that thread, at the start.
    ///
    /// # Panics
    /// If the server has fewer threads.
    pub fn new(server: &'static Server, thread: usize) -> Self {
        Self {
            server,
            counters: &server.threads[thread],
            now: FIRST_SECOND,
        }
    }
}

impl Worker<'_> {
    /// The store.
    #[inline]
    pub fn store(&self) -> &'static Store {
        self.server.store
    }

    /// The item of that key for a get command.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Item> {
        self.counters.cmd_get.add(1);
        match self.store().get(key, self.now) {
            Some(item) => {
                self.count_hit(&item);
                Some(item)
            }
            None => {
                self.counters.get_misses.add(1);
                None
            }
        }
    }

    /// Counts a key that was found.
    #[inline]
    pub fn count_hit(&self, item: &Item) {
        let class = &self.counters.classes[item.chunk().class()];
        let hits = match list_of(item.chunk()) {
            HOT => &class.hits_to_hot,
            WARM => &class.hits_to_warm,
            TEMPORARY => &class.hits_to_temp,
            _ => &class.hits_to_cold,
        };
        hits.add(1);
    }

    /// Gives the item of that key another time to expire.
    pub fn touch(&self, key: &[u8], expires: u32) -> Option<Item> {
        self.counters.cmd_touch.add(1);
        let entry = self.store().entry(key, self.now);
        entry.note_read();
        let Some(item) = entry.into_item() else {
            self.counters.touch_misses.add(1);
            return None;
        };
        item.chunk().expires.store(expires, Relaxed);
        self.counters.classes[item.chunk().class()]
            .touch_hits
            .add(1);
        Some(item)
    }

    /// Removes the item of that key; whether there was one.
    pub fn delete(&self, key: &[u8]) -> bool {
        let removed = self.store().entry(key, self.now).remove();
        match &removed {
            Some(item) => self.counters.classes[item.chunk().class()]
                .delete_hits
                .add(1),
            None => self.counters.delete_misses.add(1),
        }
        removed.is_some()
    }

    /// The second at which something expires, of what a client says: 0 for never, seconds from now on,
    /// or, if that is more than 30 days, since 1970. What has passed is 1.
    pub fn expiry(&self, time: i32) -> u32 {
        u32::try_from(time).map_or(1, |time| self.expiry_of(time))
    }

    /// The same of a time without a sign.
    pub fn expiry_of(&self, time: u32) -> u32 {
        match time {
            0 => 0,
            1..=RELATIVE_MAX => self.now + time,
            _ => match u64::from(time).checked_sub(self.server.epoch) {
                None | Some(0) => 1,
                Some(second) => second as u32,
            },
        }
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> u64 {
        self.server.epoch + u64::from(self.now)
    }

    /// Seconds that an item is still good for; -1 if for ever.
    pub fn time_left(&self, item: &Item) -> String {
        match item.chunk().expires.load(Relaxed) {
            0 => String::from("-1"),
            // Of what expires while it is looked at, memcached says so, too.
            expires => alloc::format!("{}", expires.wrapping_sub(self.now)),
        }
    }

    /// Whether the item's state has that bit.
    pub fn has(&self, item: &Item, bit: u8) -> bool {
        debug_assert!(bit != state::LIST);
        item.chunk().has(bit)
    }
}
