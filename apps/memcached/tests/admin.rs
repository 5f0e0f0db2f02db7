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
    assert!(crawler.has_swept(stripes - 1), "one is left");
    assert!(!crawler.has_swept(1));
    assert_eq!(talk.say("lru_crawler crawl all\r\n"), "OK\r\n");
    assert_eq!(talk.say("lru_crawler disable\r\n"), "OK\r\n");
    let settings = talk.say("stats settings\r\n");
    assert!(settings.contains("STAT lru_crawler no\r\n"));
}
