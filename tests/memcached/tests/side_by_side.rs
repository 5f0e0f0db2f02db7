//! The same stream of commands to Debian's memcached and to ours: the same answers, byte for byte.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use ix_memcached_tests::commands::{self, Random};
use ix_memcached_tests::debian::Debian;
use ix_memcached_tests::original::{Original, ends, exchange};
use ix_memcached_tests::ours::Ours;
use ix_memcached_tests::requests;

/// Commands, malformed ones included.
const COMMANDS: usize = 120_000;
const BINARY_BATCHES: usize = 2000;

fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_secs()
}

/// Where two answers part, and what was said.
fn compare(said: &[u8], original: &[u8], ours: &[u8]) -> Result<()> {
    let same = original
        .iter()
        .zip(ours)
        .take_while(|(one, other)| one == other);
    let at = same.count();
    let around = |bytes: &[u8]| {
        let part = &bytes[at.saturating_sub(60).min(bytes.len())..bytes.len().min(at + 60)];
        part.escape_ascii().to_string()
    };
    let head = &said[..said.len().min(3000)];
    ensure!(
        original == ours,
        "to {}\nmemcached answers ...{}...\nand ours {}...",
        head.escape_ascii(),
        around(original),
        around(ours)
    );
    Ok(())
}

#[test]
#[ignore = "fetches Debian's memcached: run by `cargo xtask test`"]
fn the_text_protocol_is_memcacheds() -> Result<()> {
    let original = Original::start(&Debian::fetch()?)?;
    let (mut stream, mut ours) = (original.connect()?, Ours::new(unix_seconds()));
    let (mut random, mut count) = (Random::new(1), 0);
    while count < COMMANDS {
        let batch = commands::batch(&mut random);
        count += batch.count;
        let piece = 1 + random.below(2000);
        let (expected, is_over) = ours.answer(&batch.bytes, piece);
        let answer = exchange(&mut stream, &batch.bytes, expected.len())?;
        compare(&batch.bytes, &answer, &expected)?;
        if is_over {
            ensure!(
                ends(&mut stream),
                "memcached goes on after {:?}",
                batch.bytes.escape_ascii()
            );
            stream = original.connect()?;
            ours.reconnect();
        }
    }
    // What one of them would have said beyond what the other did is in the way of this.
    let (expected, _) = ours.answer(b"version\r\n", 100);
    compare(
        b"version",
        &exchange(&mut stream, b"version\r\n", expected.len())?,
        &expected,
    )
}

#[test]
#[ignore = "fetches Debian's memcached: run by `cargo xtask test`"]
fn the_binary_protocol_is_memcacheds() -> Result<()> {
    let original = Original::start(&Debian::fetch()?)?;
    let (mut stream, mut ours) = (original.connect()?, Ours::new(unix_seconds()));
    let mut random = Random::new(2);
    for _ in 0..BINARY_BATCHES {
        let batch = requests::batch(&mut random);
        let (expected, is_over) = ours.answer(&batch, 1 + random.below(500));
        let answer = exchange(&mut stream, &batch, expected.len())?;
        compare(&batch, &answer, &expected)?;
        ensure!(!is_over, "ours ends the connection");
    }
    Ok(())
}

/// What administrators say, one after the other, to a server without items. What depends on the sizes of
/// its classes, or on how long it takes, is left out.
const ADMINISTRATION: &[&str] = &[
    "slabs",
    "slabs x",
    "slabs reassign",
    "slabs reassign 1",
    "slabs reassign 1 2 3",
    "slabs reassign x 2",
    "slabs reassign 1 x",
    "slabs reassign 1 1",
    "slabs reassign 1 99",
    "slabs reassign 99 1",
    "slabs reassign -2 1",
    "slabs reassign 5 6",
    "slabs automove",
    "slabs automove x",
    "slabs automove 0",
    "slabs automove 1 noreply",
    "slabs automove 2",
    "slabs automove 3",
    "slabs automove 1",
    "slabs automove ratio",
    "slabs automove ratio x",
    "slabs automove ratio 0.5",
    "lru_crawler",
    "lru_crawler x",
    "lru_crawler crawl",
    "lru_crawler crawl x",
    "lru_crawler crawl 0",
    "lru_crawler crawl 1,x",
    "lru_crawler crawl 64",
    "lru_crawler crawl ,",
    "lru_crawler crawl hash",
    "lru_crawler crawl 1,63",
    "lru_crawler crawl 1 2",
    "lru_crawler metadump",
    "lru_crawler metadump all",
    "lru_crawler enable x",
    "cache_memlimit x",
    "cache_memlimit 7",
    "cache_memlimit 7 noreply",
    "cache_memlimit 1000000001",
    "watch",
    "watch fetchers",
    "watch nonsense",
    "misbehave",
    "shutdown",
    "shutdown graceful",
    "verbosity 1",
    "stats detail",
    "stats detail x",
    "stats cachedump",
    "stats cachedump 1 1",
    "lru_crawler enable",
    "lru_crawler disable",
    "lru_crawler crawl x",
    "lru_crawler disable",
    "lru_crawler enable",
    "lru_crawler tocrawl",
    "lru_crawler tocrawl x",
    "lru_crawler tocrawl 100",
    "lru_crawler tocrawl 100 1",
    "lru_crawler tocrawl -1",
    "lru_crawler sleep",
    "lru_crawler sleep x",
    "lru_crawler sleep 1000",
    "lru_crawler sleep 1000000",
    "lru_crawler sleep 1000001",
    "lru",
    "lru x",
    "lru tune",
    "lru tune 10",
    "lru tune 10 20 0.1",
    "lru tune 10 20 0.1 2.0",
    "lru tune 10 20 0.1 2.0 x",
    "lru tune 10 20 0.1 2.0 noreply",
    "lru tune 50 31 0.1 2.0",
    "lru tune 40 40 0.1 2.0",
    "lru tune x 20 0.1 2.0",
    "lru tune 10 20 0 2.0",
    "lru tune 10 20 0.1 -1",
    "lru tune 10 20 x 2.0",
    "lru mode",
    "lru mode x",
    "lru mode flat",
    "lru mode segmented",
    "lru mode segmented noreply",
    "lru temp_ttl",
    "lru temp_ttl x",
    "lru temp_ttl 60",
    "lru temp_ttl 60 x",
    "lru temp_ttl -1",
    "extstore",
    "debugtime",
    "refresh_certs",
    "refresh_certs x",
    "me",
    "bogus",
    "slabs automove ratio 0.8 noreply",
    "cache_memlimit",
    "cache_memlimit 1 2 3",
    "verbosity",
    "verbosity x",
    "verbosity 1 2",
    "flush_all x",
    "flush_all 0 noreply",
    "stats x",
    "stats reset",
    "version x",
    "lru_crawler mgdump all",
    "version",
];

#[test]
#[ignore = "fetches Debian's memcached: run by `cargo xtask test`"]
fn who_administrates_is_answered_like_memcached_does() -> Result<()> {
    let original = Original::start_with(&Debian::fetch()?, &["-W", "-X"])?;
    let (mut stream, mut ours) = (original.connect()?, Ours::new(unix_seconds()));
    let mut differences = Vec::new();
    for command in ADMINISTRATION {
        // The end of the answer, whatever it is.
        let said = format!("{command}\r\nmn\r\n").into_bytes();
        let (expected, _) = ours.answer(&said, said.len());
        let mut answer = exchange(&mut stream, &said, "MN\r\n".len())?;
        while !answer.ends_with(b"MN\r\n") {
            let more = exchange(&mut stream, b"", 1)?;
            ensure!(
                !more.is_empty(),
                "memcached ends the connection after {command:?}"
            );
            answer.extend(more);
        }
        if let Err(difference) = compare(command.as_bytes(), &answer, &expected) {
            differences.push(difference.to_string());
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}
