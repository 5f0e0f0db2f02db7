//! Commands for who looks after a server: `slabs`, `lru`, `lru_crawler`, `cache_memlimit`, `watch`.
//!
//! Answers are those of memcached started with `-W -X -L`: it has no watchers, dumps no keys, and has all of
//! its memory from the start.

use core::str;
use core::sync::atomic::Ordering::Relaxed;

use crate::counters::CLASSES;
use crate::output::Output;
use crate::server::Worker;
use crate::session::Session;
use crate::store::{Rules, Unmoved};
use crate::text;

const ERROR: &str = "ERROR\r\n";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const OK: &str = "OK\r\n";

/// Smallest limit of memory, in MiB, and the largest number that is one.
const LIMIT_MIN: u32 = 8;
const LIMIT_MAX: u32 = 1_000_000_000;
/// Most of all items that may be hot or warm, in percent.
const HOT_AND_WARM_MAX: u32 = 80;
/// Longest rest of the crawler.
const SLEEP_MAX_US: u32 = 1_000_000;

/// The answer to one of these commands; `None` if it is none of them.
pub fn answer(words: &[&[u8]], worker: &Worker) -> Option<&'static str> {
    Some(match words {
        [b"slabs", b"reassign", from, to] => reassign(from, to, worker),
        [b"slabs", b"automove", level, more @ ..] => automove(level, more.first(), worker),
        [b"lru", words @ ..] => lru(words, worker),
        [b"lru_crawler", words @ ..] => crawler(words, worker),
        [b"cache_memlimit", megabytes] | [b"cache_memlimit", megabytes, _] => limit(megabytes),
        [b"watch", ..] => "CLIENT_ERROR watch commands not allowed\r\n",
        _ => return None,
    })
}

/// Executes one of these commands.
pub fn execute(session: &mut Session, worker: &Worker, words: &[&[u8]], out: &mut impl Output) {
    let may_be_quiet = matches!(
        words,
        [b"slabs", b"automove", ..] | [b"lru" | b"cache_memlimit" | b"watch", ..]
    );
    session.noreply = may_be_quiet && words.last() == Some(&&b"noreply"[..]);
    session.say(answer(words, worker).unwrap_or(ERROR), out);
}

fn reassign(from: &[u8], to: &[u8], worker: &Worker) -> &'static str {
    let (Some(from), Some(to)) = (text::signed(from), text::signed(to)) else {
        return BAD_FORMAT;
    };
    match worker.store().reassign(from, to, worker.now) {
        Ok(()) => OK,
        Err(Unmoved::Same) => "SAME src and dst class are identical\r\n",
        Err(Unmoved::BadClass) => "BADCLASS invalid src or dst class id\r\n",
        Err(Unmoved::NoSpare) => "NOSPARE source class has no spare pages\r\n",
    }
}

/// Whether pages move by themselves, and how much sooner items must give way in the class that gets one.
fn automove(level: &[u8], ratio: Option<&&[u8]>, worker: &Worker) -> &'static str {
    let moves = &worker.store().moves;
    if level == b"ratio" {
        return match ratio.and_then(|text| real(text)) {
            Some(ratio) => {
                moves.age_percent.store((ratio * 100.0) as u32, Relaxed);
                OK
            }
            None => ERROR,
        };
    }
    match text::unsigned(level) {
        None => BAD_FORMAT,
        Some(level @ 0..=2) => {
            moves.level.store(level, Relaxed);
            OK
        }
        Some(_) => ERROR,
    }
}

/// By which rules items go from list to list.
fn lru(words: &[&[u8]], worker: &Worker) -> &'static str {
    let rules = &worker.store().rules;
    match words {
        [b"tune", hot, warm, hot_factor, warm_factor, ..] => {
            let percents = text::unsigned(hot).zip(text::unsigned(warm));
            let factors = real(hot_factor).zip(real(warm_factor));
            match (percents, factors) {
                (Some(percents), Some(factors)) => tune(rules, percents, factors),
                _ => ERROR,
            }
        }
        [b"mode", mode @ (b"flat" | b"segmented"), ..] => {
            rules.is_segmented.store(*mode == b"segmented", Relaxed);
            OK
        }
        [b"temp_ttl", seconds, ..] => match text::signed(seconds) {
            None => ERROR,
            Some(seconds) => {
                let seconds = u32::try_from(seconds);
                rules.has_temporary.store(seconds.is_ok(), Relaxed);
                if let Ok(seconds) = seconds {
                    rules.temporary_ttl.store(seconds, Relaxed);
                }
                OK
            }
        },
        _ => ERROR,
    }
}

fn tune(rules: &Rules, percents: (u32, u32), factors: (f64, f64)) -> &'static str {
    if percents.0.wrapping_add(percents.1) > HOT_AND_WARM_MAX {
        return "ERROR hot and warm pcts must not exceed 80\r\n";
    }
    if factors.0 <= 0.0 || factors.1 <= 0.0 {
        return "ERROR hot/warm age factors must be greater than 0\r\n";
    }
    let bounds = [
        (&rules.hot, percents.0, factors.0),
        (&rules.warm, percents.1, factors.1),
    ];
    for (bounds, percent, factor) in bounds {
        bounds.percent.store(percent, Relaxed);
        bounds.age_percent.store((factor * 100.0) as u32, Relaxed);
    }
    OK
}

fn real(text: &[u8]) -> Option<f64> {
    str::from_utf8(text).ok()?.parse().ok()
}

fn crawler(words: &[&[u8]], worker: &Worker) -> &'static str {
    let crawler = &worker.server.crawler;
    match words {
        [b"enable"] if crawler.is_enabled.swap(true, Relaxed) => {
            "ERROR failed to start lru crawler thread\r\n"
        }
        [b"enable"] => OK,
        [b"disable"] => {
            crawler.is_enabled.store(false, Relaxed);
            OK
        }
        [b"crawl" | b"metadump", _] if !crawler.is_enabled.load(Relaxed) => {
            "CLIENT_ERROR lru crawler disabled\r\n"
        }
        [b"tocrawl", items] => match text::unsigned(items) {
            None => BAD_FORMAT,
            Some(items) => {
                crawler.to_crawl.store(items, Relaxed);
                OK
            }
        },
        [b"sleep", microseconds] => match text::unsigned(microseconds) {
            None => BAD_FORMAT,
            Some(microseconds @ 0..=SLEEP_MAX_US) => {
                crawler.sleep_us.store(microseconds, Relaxed);
                OK
            }
            Some(_) => "CLIENT_ERROR sleep must be one second or less\r\n",
        },
        [b"metadump", _] => "ERROR metadump not allowed\r\n",
        [b"crawl", classes] => crawl(classes, worker),
        _ => ERROR,
    }
}

/// Has all stripes swept soon: each has items of all classes.
fn crawl(classes: &[u8], worker: &Worker) -> &'static str {
    let is_class = |number: &[u8]| {
        let number = text::unsigned(number);
        number.is_some_and(|number| (1..CLASSES as u32).contains(&number))
    };
    let numbers = classes.split(|&byte| byte == b',');
    match classes {
        b"all" => {}
        b"hash" => return "ERROR an unknown error happened\r\n",
        _ if numbers.clone().all(<[u8]>::is_empty) => return "NOTSTARTED no items to crawl\r\n",
        _ if !numbers
            .clone()
            .all(|number| number.is_empty() || is_class(number)) =>
        {
            return "BADCLASS invalid class id\r\n";
        }
        _ => {}
    }
    let count = match classes {
        b"all" => CLASSES,
        _ => numbers.filter(|number| !number.is_empty()).count(),
    };
    match worker.server.crawler.start(worker.store().stripes(), count) {
        true => OK,
        false => "BUSY currently processing crawler request\r\n",
    }
}

fn limit(megabytes: &[u8]) -> &'static str {
    match text::unsigned(megabytes) {
        None => ERROR,
        Some(0..LIMIT_MIN) => "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
        Some(LIMIT_MIN..=LIMIT_MAX) => {
            "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"
        }
        Some(_) => "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
    }
}
