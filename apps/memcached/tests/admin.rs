//! Commands for who looks after a server: what they change. Answers to what is malformed are compared with
//! memcached's in tests/memcached.

mod talk;

use talk::Talk;

/// A number that some `stats` say.
fn stat(talk: &mut Talk, topic: &str, name: &str) -> Option<u64> {
    let said = talk.say(format!("stats{topic}\r\n"));
    let mut lines = said.lines();
    let value = lines.find_map(|line| line.strip_prefix(&format!("STAT {name} ")))?;
    value.parse().ok()
}

/// The classes with pages, and how many.
fn pages(talk: &mut Talk) -> Vec<(u64, u64)> {
    let numbers = (1..64).filter_map(|number| {
        let pages = stat(talk, " slabs", &format!("{number}:total_pages"))?;
        Some((number, pages))
    });
    numbers.collect()
}

fn store(talk: &mut Talk, prefix: &str, count: usize, bytes: usize) {
    let value = "v".repeat(bytes);
    for number in 0..count {
        let set = format!("set {prefix}{number} 0 0 {bytes}\r\n{value}\r\n");
        assert_eq!(talk.say(set), "STORED\r\n");
    }
}

#[test]
fn a_page_goes_where_it_is_sent() {
    let mut talk = Talk::new();
    store(&mut talk, "small", 30_000, 100);
    store(&mut talk, "large", 10, 50_000);
    let before = pages(&mut talk);
    let [(small, many), (large, one)] = before[..] else {
        panic!("two classes: {before:?}");
    };
    assert!(many > 2 && one == 1);
    assert_eq!(
        talk.say(format!("slabs reassign {small} {large}\r\n")),
        "OK\r\n"
    );
    assert_eq!(pages(&mut talk), [(small, many - 1), (large, 2)]);
    // From anywhere, and to nobody.
    assert_eq!(talk.say(format!("slabs reassign -1 {large}\r\n")), "OK\r\n");
    assert_eq!(talk.say(format!("slabs reassign {small} 0\r\n")), "OK\r\n");
    assert_eq!(pages(&mut talk), [(small, many - 3), (large, 3)]);
    assert_eq!(talk.say(format!("slabs reassign 0 {large}\r\n")), "OK\r\n");
    assert_eq!(pages(&mut talk), [(small, many - 3), (large, 4)]);
    assert_eq!(stat(&mut talk, "", "slabs_moved"), Some(3));
    // What was in them has given way, and the rest is there.
    let left = stat(&mut talk, "", "curr_items").unwrap() as usize;
    let evicted = stat(&mut talk, "", "evictions").unwrap() as usize;
    assert_eq!(left + evicted, 30_010);
    assert!(evicted > 0);
    assert!(
        talk.say("get large9\r\n")
            .starts_with("VALUE large9 0 50000\r\n")
    );
}

#[test]
fn pages_stay_where_they_are_if_that_is_wanted() {
    let mut talk = Talk::new();
    assert_eq!(
        talk.say("slabs automove 0\r\nslabs automove ratio 0.9\r\n"),
        "OK\r\nOK\r\n"
    );
    assert_eq!(stat(&mut talk, " settings", "slab_automove"), Some(0));
    assert!(
        talk.say("stats settings\r\n")
            .contains("STAT slab_automove_ratio 0.90\r\n")
    );
    store(&mut talk, "old", 64, 990_000);
    talk.worker.now += 1000;
    store(&mut talk, "new", 10_000, 1000);
    talk.worker.now += 10;
    let before = stat(&mut talk, "", "slabs_moved");
    store(&mut talk, "newer", 10_000, 1000);
    // One class has nothing but what the other one has had to give it to begin with.
    assert_eq!(stat(&mut talk, "", "slabs_moved"), before);
    assert_eq!(talk.say("slabs automove 1\r\n"), "OK\r\n");
    store(&mut talk, "newest", 10_000, 1000);
    assert!(stat(&mut talk, "", "slabs_moved") > before);
}

#[test]
fn a_crawl_is_wanted_once() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("lru_crawler crawl 5,7\r\n"), "OK\r\n");
    let busy = "BUSY currently processing crawler request\r\n";
    assert_eq!(talk.say("lru_crawler crawl all\r\n"), busy);
    let (crawler, stripes) = (&talk.worker.server.crawler, talk.worker.store().stripes());
    assert!(crawler.has_swept(stripes - 1, 100), "one is left");
    assert!(!crawler.has_swept(1, 100));
    assert_eq!(talk.say("lru_crawler crawl all\r\n"), "OK\r\n");
    assert_eq!(talk.say("lru_crawler disable\r\n"), "OK\r\n");
    let settings = talk.say("stats settings\r\n");
    assert!(settings.contains("STAT lru_crawler no\r\n"));
}

#[test]
fn a_crawl_checks_as_many_items_as_it_was_told() {
    let mut talk = Talk::new();
    let said = "lru_crawler tocrawl 50\r\nlru_crawler sleep 1000\r\nlru_crawler crawl 5,7\r\n";
    assert_eq!(talk.say(said), "OK\r\nOK\r\nOK\r\n");
    let crawler = &talk.worker.server.crawler;
    assert!(
        crawler.has_swept(1, 99),
        "two classes, of which each has 50"
    );
    assert!(!crawler.has_swept(1, 1));
    let settings = talk.say("stats settings\r\n");
    assert!(settings.contains("STAT lru_crawler_sleep 1000\r\nSTAT lru_crawler_tocrawl 50\r\n"));
}

/// Sizes of a class's lists: hot, warm, cold, temporary.
fn lists(talk: &mut Talk) -> [u64; 4] {
    let number =
        (1..64).find(|number| stat(talk, " items", &format!("items:{number}:number")).is_some());
    let number = number.unwrap();
    ["hot", "warm", "cold", "temp"].map(|list| {
        stat(talk, " items", &format!("items:{number}:number_{list}")).unwrap_or_default()
    })
}

#[test]
fn lists_are_as_long_as_they_are_tuned_to_be() {
    let mut talk = Talk::new();
    store(&mut talk, "k", 1000, 100);
    assert_eq!(lists(&mut talk), [200, 0, 800, 0]);
    assert_eq!(talk.say("lru tune 50 30 0.1 1.5\r\n"), "OK\r\n");
    store(&mut talk, "more", 1000, 100);
    let [hot, ..] = lists(&mut talk);
    assert_eq!(hot, 1000);
    let settings = talk.say("stats settings\r\n");
    assert!(settings.contains("STAT hot_lru_pct 50\r\nSTAT warm_lru_pct 30\r\n"));
    assert!(settings.contains("STAT hot_max_factor 0.10\r\nSTAT warm_max_factor 1.50\r\n"));
    // Items are cold for 20 s when the hot ones are 15 s old, and then for 2 s.
    talk.worker.now += 15;
    store(&mut talk, "late", 200, 100);
    let [hot, ..] = lists(&mut talk);
    assert!(hot < 900, "{hot} are hot although they are old");
}

#[test]
fn without_segments_all_items_are_cold_and_what_is_read_twice_stays() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("lru mode flat\r\n"), "OK\r\n");
    store(&mut talk, "k", 100, 100);
    assert_eq!(lists(&mut talk), [0, 0, 100, 0]);
    for _ in 0..2 {
        assert!(talk.say("get k0\r\n").starts_with("VALUE"));
    }
    let before = stat(&mut talk, "", "evictions").unwrap();
    store(&mut talk, "more", 600_000, 100);
    assert!(stat(&mut talk, "", "evictions").unwrap() > before);
    assert_eq!(lists(&mut talk)[..2], [0, 0]);
    assert!(talk.say("get k1\r\n").starts_with("END"));
    assert_eq!(talk.say("lru mode segmented\r\n"), "OK\r\n");
    store(&mut talk, "last", 10, 100);
    assert!(lists(&mut talk)[0] != 0);
}

#[test]
fn what_expires_soon_is_kept_apart_if_that_is_wanted() {
    let mut talk = Talk::new();
    assert_eq!(talk.say("set a 0 30 1\r\n1\r\n"), "STORED\r\n");
    assert_eq!(lists(&mut talk)[3], 0);
    assert_eq!(talk.say("lru temp_ttl 30\r\n"), "OK\r\n");
    assert_eq!(talk.say("set b 0 30 1\r\n1\r\n"), "STORED\r\n");
    assert_eq!(talk.say("set c 0 31 1\r\n1\r\n"), "STORED\r\n");
    assert_eq!(talk.say("set d 0 0 1\r\n1\r\n"), "STORED\r\n");
    assert_eq!(lists(&mut talk)[3], 1);
    assert!(talk.say("get b\r\n").starts_with("VALUE b"));
    let hits = (1..64)
        .find_map(|number| stat(&mut talk, " items", &format!("items:{number}:hits_to_temp")));
    assert_eq!(hits, Some(1));
    assert_eq!(talk.say("lru temp_ttl -1\r\n"), "OK\r\n");
    assert_eq!(talk.say("set e 0 30 1\r\n1\r\n"), "STORED\r\n");
    let settings = talk.say("stats settings\r\n");
    assert!(settings.contains("STAT temp_lru no\r\nSTAT temporary_ttl 30\r\n"));
}
