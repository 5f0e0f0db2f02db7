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
