//! Runs simulations of two engines over a faulty wire, each from a seed (`cargo xtask sim`):
//!
//! ```text
//! cargo run --release -p ix-net --example simulate -- run FIRST COUNT
//! cargo run --release -p ix-net --example simulate -- trace SEED
//! ```
//!
//! `run` prints the first failing seed with what is wrong and ends with exit code 1, and else how many
//! seeds met each of the conditions that simulations are to meet; of many seeds, each has to be met.
//! `trace` prints what the seed stands for and each frame as it is sent.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ix_net::testing::{Outcome, Scenario};

/// So many seeds have to meet every condition.
const ENOUGH_SEEDS: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match *words {
        ["run", first, count] => match (number(first), number(count)) {
            (Some(first), Some(count)) => run(first, count),
            _ => usage(),
        },
        ["trace", seed] => number(seed).map_or_else(usage, trace),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: simulate run FIRST COUNT | simulate trace SEED");
    ExitCode::from(2)
}

/// The first failure among many seeds, or what they did in all.
fn run(first: u64, count: u64) -> ExitCode {
    let start = Instant::now();
    let total = Total {
        next: AtomicU64::new(first),
        end: first.saturating_add(count),
        ..Total::default()
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| total.work())).collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(20));
            if told.elapsed() > Duration::from_secs(5) {
                told = Instant::now();
                let done = total.done.load(Ordering::Relaxed);
                println!("{done} of {count} seeds, {} s", start.elapsed().as_secs());
            }
        }
    });
    let failure = total.failure.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, wrong)) = &*failure {
        println!("seed {seed} failed: {wrong}");
        println!("replay: cargo xtask sim --seed {seed} --trace");
        return ExitCode::FAILURE;
    }
    let sum = total.sum.lock().unwrap_or_else(PoisonError::into_inner);
    println!("seeds that met");
    for (name, seeds) in &sum.met {
        println!("{seeds:>9}  {name}");
    }
    println!(
        "{count} seeds from {first}: {} frames, {} bytes verified, {} s of virtual time, in {:.1} s",
        sum.frames,
        sum.verified,
        sum.time / 1_000_000_000,
        start.elapsed().as_secs_f64()
    );
    let missed: Vec<_> = sum.met.iter().filter(|(_, seeds)| *seeds == 0).collect();
    if count >= ENOUGH_SEEDS && !missed.is_empty() {
        println!("no seed met {missed:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What simulations did, all together.
#[derive(Default)]
struct Sum {
    time: u64,
    frames: u64,
    verified: u64,
    /// How many seeds met each condition.
    met: Vec<(&'static str, u64)>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.time += outcome.time;
        self.frames += outcome.frames;
        self.verified += outcome.verified;
        let names = outcome.conditions.iter().map(|(name, _)| (*name, 0));
        if self.met.is_empty() {
            self.met = names.collect();
        }
        for ((_, seeds), (_, is_met)) in self.met.iter_mut().zip(&outcome.conditions) {
            *seeds += u64::from(*is_met);
        }
    }
}

/// What the workers share.
#[derive(Default)]
struct Total {
    next: AtomicU64,
    end: u64,
    done: AtomicU64,
    has_failed: AtomicBool,
    /// The failure with the lowest seed.
    failure: Mutex<Option<(u64, String)>>,
    sum: Mutex<Sum>,
}

impl Total {
    fn work(&self) {
        while !self.has_failed.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end {
                return;
            }
            self.take(seed, simulate(seed, None));
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self, seed: u64, result: Result<Outcome, String>) {
        match result {
            Ok(outcome) => {
                let mut sum = self.sum.lock().unwrap_or_else(PoisonError::into_inner);
                sum.add(&outcome);
            }
            Err(wrong) => {
                self.has_failed.store(true, Ordering::Relaxed);
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                if failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                    *failure = Some((seed, wrong));
                }
            }
        }
    }
}

/// Prints a simulation frame by frame.
fn trace(seed: u64) -> ExitCode {
    println!("{:#?}", Scenario::new(seed));
    println!("time in us, > from the opening station, < from the listening one:");
    match simulate(seed, Some(|line| println!("{line}"))) {
        Ok(outcome) => {
            println!("seed {seed} holds: {outcome:?}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("seed {seed} failed: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a simulation; a panic of an application counts as its failure.
fn simulate(seed: u64, trace: Option<fn(&str)>) -> Result<Outcome, String> {
    let run = AssertUnwindSafe(|| Scenario::new(seed).run(trace));
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    })
}
