//! Plays two designs of a memcached on several threads: `cargo xtask bench memcached`.
//!
//! - `designs turns shared|partitioned THREADS ROUNDS`: the threads by turns in one thread, for callgrind to
//!   count the functions whose names begin with `counted_`.
//! - `designs times THREADS REQUESTS REPETITIONS`: each thread for itself; both designs by turns, and how many
//!   requests a second each of them answered, as JSON.
//! - `designs balance THREADS`: how much more than its part the busiest thread has to serve, if each has a
//!   part of the keys.

use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ix_memcached_bench::requests::Popularity;
use ix_memcached_bench::{Thread, partitioned, shared};

/// Items in all; fewer where callgrind counts.
const KEYS: usize = 50_000;
const KEYS_COUNTED: usize = 5_000;
/// Requests of each thread, which come again and again.
const REQUESTS: usize = 100_000;
const REQUESTS_COUNTED: usize = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().ok().filter(|&number| number > 0);
    let done = match words[..] {
        ["turns", design, count, rounds] => (|| {
            let (count, rounds) = (number(count)?, number(rounds)?);
            turns(design, count, rounds)
        })(),
        ["times", count, requests, repetitions] => (|| {
            times(number(count)?, number(requests)?, number(repetitions)?);
            Some(())
        })(),
        ["balance", count] => number(count).map(|count| {
            println!("{:.3}", Popularity::new(KEYS, count).imbalance());
        }),
        _ => None,
    };
    match done {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!(
                "usage: designs turns shared|partitioned THREADS ROUNDS | times THREADS REQUESTS \
                 REPETITIONS | balance THREADS"
            );
            ExitCode::from(2)
        }
    }
}

fn turns(design: &str, count: usize, rounds: usize) -> Option<()> {
    let popularity = Popularity::new(KEYS_COUNTED, count);
    let (keys, requests) = (KEYS_COUNTED, REQUESTS_COUNTED);
    let answers = match design {
        "shared" => play(shared::threads(&popularity, count, keys, requests), rounds),
        "partitioned" => play(
            partitioned::threads(&popularity, count, keys, requests),
            rounds,
        ),
        _ => return None,
    };
    println!("{answers} answers");
    Some(())
}

/// All threads by turns, and how many answers that came to.
fn play(mut threads: Vec<impl Thread>, rounds: usize) -> usize {
    let mut answers = 0;
    for _ in 0..rounds {
        answers += threads.iter_mut().map(Thread::round).sum::<usize>();
    }
    threads.iter_mut().for_each(Thread::stop);
    while threads.iter().any(|thread| thread.under_way() != 0) {
        answers += threads.iter_mut().map(Thread::round).sum::<usize>();
    }
    answers
}

fn times(count: usize, requests: usize, repetitions: usize) {
    let popularity = Popularity::new(KEYS, count);
    let (mut of_shared, mut of_partitioned) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        let threads = shared::threads(&popularity, count, KEYS, REQUESTS);
        of_shared.push(race(threads, requests));
        let threads = partitioned::threads(&popularity, count, KEYS, REQUESTS);
        of_partitioned.push(race(threads, requests));
    }
    println!("{{\"shared\": {of_shared:?}, \"partitioned\": {of_partitioned:?}}}");
}

/// Each thread for itself until it has its answers; answers of all in a second.
fn race<T: Thread>(threads: Vec<T>, requests: usize) -> u64 {
    let count = threads.len();
    let (start, waiting) = (Barrier::new(count + 1), AtomicUsize::new(count));
    let begun = std::thread::scope(|scope| {
        for mut thread in threads {
            let (start, waiting) = (&start, &waiting);
            scope.spawn(move || {
                start.wait();
                let mut answers = 0;
                while answers < requests {
                    answers += round(&mut thread);
                }
                thread.stop();
                while thread.under_way() != 0 {
                    round(&mut thread);
                }
                waiting.fetch_sub(1, Ordering::Relaxed);
                // The others may still want something of it.
                while waiting.load(Ordering::Relaxed) != 0 {
                    round(&mut thread);
                }
            });
        }
        start.wait();
        Instant::now()
    });
    (requests as f64 * count as f64 / begun.elapsed().as_secs_f64()) as u64
}

/// A round; one without answers leaves the processor to whoever is waited for.
fn round(thread: &mut impl Thread) -> usize {
    let answers = thread.round();
    if answers == 0 {
        std::thread::yield_now();
    }
    answers
}
