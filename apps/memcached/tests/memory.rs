//! The budget of memory: what fits, what gives way, and what stays because it is under way.

mod talk;

use libix::Lease;
use memcached_server::Settings;
use memcached_server::store::Config;
use talk::Talk;

fn small(memory_mib: usize) -> Talk {
    Talk::with(Settings {
        store: Config {
            memory_bytes: memory_mib << 20,
            ..Config::default()
        },
        ..Settings::default()
    })
}

fn set(talk: &mut Talk, key: &str, value: &str) -> String {
    talk.say(format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()))
}

fn stat(talk: &mut Talk, name: &str) -> u64 {
    let stats = talk.say("stats\r\n");
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
    line.and_then(|value| value.parse().ok())
        .expect("the statistic is there")
}

#[test]
fn the_limit_is_used_to_95_percent_and_hardly_passed() {
    let mut talk = small(16);
    let value = "v".repeat(1000);
    for key in 0..40_000 {
        assert_eq!(set(&mut talk, &format!("key{key}"), &value), "STORED\r\n");
    }
    let bytes = stat(&mut talk, "bytes");
    let limit = 16 << 20;
    assert!(
        bytes <= limit * 101 / 100 && bytes >= limit * 95 / 100,
        "{bytes} of {limit}"
    );
    assert!(stat(&mut talk, "evictions") > 20_000);
    assert!(talk.say("get key39999\r\n").starts_with("VALUE"));
    assert_eq!(talk.say("get key0\r\n"), "END\r\n");
}

#[test]
fn a_scan_does_not_push_out_what_is_read_again_and_again() {
    let mut talk = small(8);
    let value = "v".repeat(1000);
    for key in 0..1000 {
        set(&mut talk, &format!("hot{key}"), &value);
    }
    let read_hot = |talk: &mut Talk| {
        let found = (0..1000).map(|key| talk.say(format!("get hot{key}\r\n")).len() > 5);
        found.filter(|&found| found).count()
    };
    assert_eq!(read_hot(&mut talk) + read_hot(&mut talk), 2000);
    for key in 0..50_000 {
        set(&mut talk, &format!("scan{key}"), &value);
        if key % 5000 == 0 {
            read_hot(&mut talk);
        }
    }
    let left = read_hot(&mut talk);
    assert!(left > 950, "{left} of 1000 are left");
}

#[test]
fn without_evictions_what_does_not_fit_is_refused() {
    let mut talk = Talk::with(Settings {
        store: Config {
            memory_bytes: 4 << 20,
            evicts: false,
            ..Config::default()
        },
        ..Settings::default()
    });
    let value = "v".repeat(100_000);
    let answers: Vec<String> = (0..60)
        .map(|key| set(&mut talk, &format!("k{key}"), &value))
        .collect();
    assert_eq!(answers[0], "STORED\r\n");
    assert_eq!(answers[59], "SERVER_ERROR out of memory storing object\r\n");
    assert_eq!(stat(&mut talk, "evictions"), 0);
    assert!(stat(&mut talk, "store_no_memory") > 10);
}

#[test]
fn memory_goes_to_the_sizes_that_are_asked_for() {
    let mut talk = small(16);
    for (round, bytes) in [100, 10_000, 300_000, 1_000_000, 50]
        .into_iter()
        .enumerate()
    {
        talk.worker.now += 1000;
        let value = "v".repeat(bytes);
        let count = (20 << 20) / bytes;
        for key in 0..count.min(50_000) {
            let answer = set(&mut talk, &format!("r{round}k{key}"), &value);
            assert_eq!(answer, "STORED\r\n", "{bytes} bytes, number {key}");
        }
    }
    assert!(stat(&mut talk, "slabs_moved") > 10);
}

#[test]
fn an_item_under_way_stays_whatever_becomes_of_its_key() {
    let mut talk = small(4);
    let value = "v".repeat(100_000);
    set(&mut talk, "a", &value);
    let item = talk.worker.get(b"a").expect("it is there");
    let piece = item.into_answer();
    let before = piece.bytes().to_vec();
    talk.say("delete a\r\n");
    for key in 0..200 {
        set(&mut talk, &format!("k{key}"), &"w".repeat(100_000));
    }
    assert!(piece.bytes() == before, "it has changed");
    let used = stat(&mut talk, "bytes");
    drop(piece);
    assert!(stat(&mut talk, "bytes") < used, "its memory is free");
}

#[test]
fn items_under_way_may_take_all_memory_and_give_it_back() {
    let mut talk = small(4);
    let value = "v".repeat(400_000);
    let mut pieces = Vec::new();
    let refused = loop {
        let answer = set(&mut talk, "a", &value);
        match talk.worker.get(b"a") {
            Some(item) => pieces.push(item.into_answer()),
            None => break answer,
        }
        assert!(pieces.len() < 100, "there is no end");
    };
    assert_eq!(refused, "SERVER_ERROR out of memory storing object\r\n");
    pieces.clear();
    assert_eq!(set(&mut talk, "a", &value), "STORED\r\n");
    assert_eq!(set(&mut talk, "small", "v"), "STORED\r\n");
}

#[test]
fn the_sweep_frees_what_has_expired() {
    let mut talk = small(8);
    for key in 0..1000 {
        talk.say(format!("set k{key} 0 {} 1\r\n1\r\n", 10 + key % 2 * 100));
    }
    talk.worker.now += 50;
    let store = talk.worker.store();
    let swept: usize = (0..store.stripes())
        .map(|number| store.sweep(number, talk.worker.now).removed)
        .sum();
    assert_eq!(swept, 500);
    assert_eq!(stat(&mut talk, "curr_items"), 500);
    assert_eq!(stat(&mut talk, "crawler_reclaimed"), 500);
}

#[test]
fn threads_share_the_items() {
    let talk = small(16);
    let threads: Vec<_> = (0..4_u32)
        .map(|thread| {
            let mut talk = talk.beside();
            std::thread::spawn(move || {
                for round in 0..3000_u32 {
                    let key = round.wrapping_mul(2_654_435_761) % 64;
                    let value = format!("{key:05}").repeat(1 + (round as usize % 200));
                    match (round + thread) % 4 {
                        0 => drop(set(&mut talk, &format!("k{key}"), &value)),
                        1 => drop(talk.say(format!("delete k{key}\r\n"))),
                        _ => {
                            let answer = talk.say(format!("get k{key}\r\n"));
                            let data = answer.lines().nth(1).unwrap_or_default();
                            assert_eq!(
                                data.replace(&format!("{key:05}"), ""),
                                "",
                                "whole values of the key"
                            );
                        }
                    }
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
}
