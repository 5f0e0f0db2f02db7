//! The `stats` commands.

use alloc::format;
use alloc::string::String;
use core::fmt::{Display, Write};
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::Relaxed;

use crate::output::Output;
use crate::server::{FIRST_SECOND, VERSION, Worker};
use crate::session::Session;
use crate::store::{Bounds, COLD, HOT, LISTS, Rules, TEMPORARY, WARM};

/// Executes `stats`, whose words these are.
pub fn execute(session: &mut Session, worker: &Worker, words: &[&[u8]], out: &mut impl Output) {
    let Some(&topic) = words.get(1) else {
        return say(&general(worker), out);
    };
    match topic {
        b"items" => say(&items(worker), out),
        b"slabs" => say(&slabs(worker), out),
        b"settings" => say(&settings(worker), out),
        b"reset" => {
            worker.server.reset();
            session.say("RESET\r\n", out);
        }
        b"sizes" => say("STAT sizes_status disabled\r\n", out),
        b"detail" => session.say("CLIENT_ERROR usage: stats detail on|off|dump\r\n", out),
        b"cachedump" => session.say("CLIENT_ERROR stats cachedump not allowed\r\n", out),
        _ => session.say("ERROR\r\n", out),
    }
}

fn say(lines: &str, out: &mut impl Output) {
    out.text(lines.as_bytes());
    out.text(b"END\r\n");
}

/// One line for each name.
struct Lines(String);

impl Lines {
    fn new() -> Self {
        Self(String::new())
    }

    fn add(&mut self, name: impl Display, value: impl Display) {
        // Writing to a `String` does not fail.
        let _ = write!(self.0, "STAT {name} {value}\r\n");
    }
}

/// What `stats` says.
pub fn general(worker: &Worker) -> String {
    let server = worker.server;
    let (totals, all) = (server.totals(), server.all_classes());
    let mut lines = Lines::new();
    lines.add("pid", 1);
    lines.add("uptime", worker.now - FIRST_SECOND);
    lines.add("time", worker.unix_seconds());
    lines.add("version", VERSION);
    lines.add("pointer_size", usize::BITS);
    lines.add("curr_connections", totals.curr_connections);
    lines.add("total_connections", totals.total_connections);
    lines.add("cmd_get", totals.cmd_get);
    lines.add("cmd_set", totals.cmd_set);
    lines.add("cmd_flush", totals.cmd_flush);
    lines.add("cmd_touch", totals.cmd_touch);
    lines.add("cmd_meta", totals.cmd_meta);
    lines.add("get_hits", all.get_hits());
    lines.add("get_misses", totals.get_misses);
    lines.add("get_expired", totals.get_expired);
    lines.add("get_flushed", totals.get_flushed);
    lines.add("delete_misses", totals.delete_misses);
    lines.add("delete_hits", all.delete_hits);
    lines.add("incr_misses", totals.incr_misses);
    lines.add("incr_hits", all.incr_hits);
    lines.add("decr_misses", totals.decr_misses);
    lines.add("decr_hits", all.decr_hits);
    lines.add("cas_misses", totals.cas_misses);
    lines.add("cas_hits", all.cas_hits);
    lines.add("cas_badval", all.cas_badval);
    lines.add("touch_hits", all.touch_hits);
    lines.add("touch_misses", totals.touch_misses);
    lines.add("store_too_large", totals.store_too_large);
    lines.add("store_no_memory", totals.store_no_memory);
    lines.add("auth_cmds", 0);
    lines.add("auth_errors", 0);
    lines.add("bytes_read", totals.bytes_read);
    lines.add("bytes_written", totals.bytes_written);
    lines.add("limit_maxbytes", server.settings.store.memory_bytes);
    lines.add("accepting_conns", 1);
    lines.add("conn_yields", totals.conn_yields);
    lines.add("threads", server.settings.threads);
    memory(worker, totals.total_items, &mut lines);
    lines.0
}

/// The part of `stats` that is about memory and items.
fn memory(worker: &Worker, total_items: u64, lines: &mut Lines) {
    let store = worker.store();
    let buckets = store.buckets();
    lines.add("hash_power_level", buckets.max(1).ilog2());
    lines.add("hash_bytes", buckets * size_of::<usize>());
    lines.add("slabs_moved", store.moves.count.load(Relaxed));
    let (mut used, mut items) = (0, 0);
    let mut sums = [0; 9];
    for (_, class) in store.classes() {
        used += class.used * class.chunk_bytes;
        items += class.items();
        let tally = class.tally;
        let tallies = [
            tally.expired_unfetched,
            tally.evicted_unfetched,
            tally.evicted_active,
            tally.evicted,
            tally.reclaimed,
            tally.swept,
            tally.moves_to_cold,
            tally.moves_to_warm,
            tally.moves_within_lru,
        ];
        for (sum, tally) in sums.iter_mut().zip(tallies) {
            *sum += tally;
        }
    }
    lines.add("bytes", used);
    lines.add("curr_items", items);
    lines.add("total_items", total_items);
    let names = [
        "expired_unfetched",
        "evicted_unfetched",
        "evicted_active",
        "evictions",
        "reclaimed",
        "crawler_reclaimed",
        "moves_to_cold",
        "moves_to_warm",
        "moves_within_lru",
    ];
    for (name, sum) in names.into_iter().zip(sums) {
        lines.add(name, sum);
    }
}

/// What `stats items` says.
pub fn items(worker: &Worker) -> String {
    let mut lines = Lines::new();
    for (number, class) in worker.store().classes() {
        if class.items() == 0 {
            continue;
        }
        let hits = worker.server.class_totals(number - 1);
        let mut add = |name: &str, value: u64| lines.add(format!("items:{number}:{name}"), value);
        let [hot, warm, cold] = [HOT, WARM, COLD].map(|list| class.lists[list].count as u64);
        add("number", class.items() as u64);
        add("number_hot", hot);
        add("number_warm", warm);
        add("number_cold", cold);
        if worker.store().rules.has_temporary.load(Relaxed) {
            add("number_temp", class.lists[TEMPORARY].count as u64);
        }
        add("age_hot", class.age(HOT, worker.now).into());
        add("age_warm", class.age(WARM, worker.now).into());
        let oldest = (0..LISTS).map(|list| class.age(list, worker.now)).max();
        add("age", oldest.unwrap_or_default().into());
        add("mem_requested", (class.used * class.chunk_bytes) as u64);
        let tally = class.tally;
        add("evicted", tally.evicted);
        add("evicted_nonzero", tally.evicted_nonzero);
        add("evicted_time", tally.evicted_time);
        add("outofmemory", tally.outofmemory);
        add("tailrepairs", 0);
        add("reclaimed", tally.reclaimed);
        add("expired_unfetched", tally.expired_unfetched);
        add("evicted_unfetched", tally.evicted_unfetched);
        add("evicted_active", tally.evicted_active);
        add("crawler_reclaimed", tally.swept);
        add("crawler_items_checked", tally.swept);
        add("lrutail_reflocked", tally.tails_in_use);
        add("moves_to_cold", tally.moves_to_cold);
        add("moves_to_warm", tally.moves_to_warm);
        add("moves_within_lru", tally.moves_within_lru);
        add("direct_reclaims", tally.evicted + tally.reclaimed);
        add("hits_to_hot", hits.hits_to_hot);
        add("hits_to_warm", hits.hits_to_warm);
        add("hits_to_cold", hits.hits_to_cold);
        add("hits_to_temp", hits.hits_to_temp);
    }
    lines.0
}

/// What `stats slabs` says.
pub fn slabs(worker: &Worker) -> String {
    let mut lines = Lines::new();
    let (mut active, mut pages) = (0, 0);
    for (number, class) in worker.store().classes() {
        if class.pages == 0 {
            continue;
        }
        active += 1;
        pages += class.pages;
        let counts = worker.server.class_totals(number - 1);
        let chunks = class.pages * class.per_page;
        let mut add = |name: &str, value: u64| lines.add(format!("{number}:{name}"), value);
        add("chunk_size", class.chunk_bytes as u64);
        add("chunks_per_page", class.per_page as u64);
        add("total_pages", class.pages as u64);
        add("total_chunks", chunks as u64);
        add("used_chunks", class.used as u64);
        add("free_chunks", (chunks - class.used) as u64);
        add("free_chunks_end", 0);
        add("get_hits", counts.get_hits());
        add("cmd_set", counts.cmd_set);
        add("delete_hits", counts.delete_hits);
        add("incr_hits", counts.incr_hits);
        add("decr_hits", counts.decr_hits);
        add("cas_hits", counts.cas_hits);
        add("cas_badval", counts.cas_badval);
        add("touch_hits", counts.touch_hits);
    }
    lines.add("active_slabs", active);
    lines.add(
        "total_malloced",
        pages * worker.store().sizes().page_bytes(),
    );
    lines.0
}

/// What `stats settings` says.
pub fn settings(worker: &Worker) -> String {
    let settings = &worker.server.settings;
    let on_or_off = |is_on| if is_on { "on" } else { "off" };
    let yes_or_no = |is_so| if is_so { "yes" } else { "no" };
    let mut lines = Lines::new();
    lines.add("maxbytes", settings.store.memory_bytes);
    lines.add("tcpport", settings.port);
    lines.add("udpport", settings.udp_port);
    lines.add("inter", "NULL");
    lines.add("verbosity", worker.server.verbosity.load(Relaxed));
    lines.add("oldest", 0);
    lines.add("evictions", on_or_off(settings.store.evicts));
    lines.add("domain_socket", "NULL");
    lines.add("growth_factor", hundredths(settings.store.growth_percent));
    lines.add("num_threads", settings.threads);
    lines.add("detail_enabled", "no");
    lines.add("cas_enabled", "yes");
    lines.add("binding_protocol", "auto-negotiate");
    lines.add("auth_enabled_sasl", "no");
    lines.add("auth_enabled_ascii", "no");
    lines.add("item_size_max", settings.store.item_max);
    lines.add("maxconns_fast", "yes");
    lines.add("slab_reassign", "yes");
    let moves = &worker.store().moves;
    let (level, percent) = (moves.level.load(Relaxed), moves.age_percent.load(Relaxed));
    lines.add("slab_automove", level);
    lines.add("slab_automove_ratio", hundredths(percent as usize));
    let crawler = &worker.server.crawler;
    lines.add("lru_crawler", yes_or_no(crawler.is_enabled.load(Relaxed)));
    lines.add("lru_crawler_sleep", crawler.sleep_us.load(Relaxed));
    lines.add("lru_crawler_tocrawl", crawler.to_crawl.load(Relaxed));
    rules(&worker.store().rules, &mut lines);
    lines.add("flush_enabled", yes_or_no(settings.allows_flush));
    lines.add("dump_enabled", "no");
    lines.add("watch_enabled", "no");
    lines.add("hash_algorithm", "foldhash");
    lines.add("num_stripes", worker.store().stripes());
    lines.0
}

/// The part of `stats settings` that is about lists.
fn rules(rules: &Rules, lines: &mut Lines) {
    let yes_or_no = |flag: &AtomicBool| if flag.load(Relaxed) { "yes" } else { "no" };
    let factor = |bounds: &Bounds| hundredths(bounds.age_percent.load(Relaxed) as usize);
    lines.add("lru_maintainer_thread", "yes");
    lines.add("lru_segmented", yes_or_no(&rules.is_segmented));
    lines.add("hot_lru_pct", rules.hot.percent.load(Relaxed));
    lines.add("warm_lru_pct", rules.warm.percent.load(Relaxed));
    lines.add("hot_max_factor", factor(&rules.hot));
    lines.add("warm_max_factor", factor(&rules.warm));
    lines.add("temp_lru", yes_or_no(&rules.has_temporary));
    lines.add("temporary_ttl", rules.temporary_ttl.load(Relaxed));
}

fn hundredths(percent: usize) -> String {
    format!("{}.{:02}", percent / 100, percent % 100)
}
