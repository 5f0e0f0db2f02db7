//! Commands for who looks after a server: `slabs`, `lru_crawler`, `cache_memlimit`, `watch`.
//!
//! Answers are those of memcached started with `-W -X -L`: it has no watchers, dumps no keys, and has all of
//! its memory from the start.

use core::str;
use core::sync::atomic::Ordering::Relaxed;

use crate::counters::CLASSES;
use crate::output::Output;
use crate::server::Worker;
use crate::session::Session;
use crate::store::Unmoved;
use crate::text;

const ERROR: &str = "ERROR\r\n";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const OK: &str = "OK\r\n";

/// Smallest limit of memory, in MiB, and the largest number that is one.
const LIMIT_MIN: u32 = 8;
const LIMIT_MAX: u32 = 1_000_000_000;

/// The answer to one of these commands; `None` if it is none of them.
pub fn answer(words: &[&[u8]], worker: &Worker) -> Option<&'static str> {
    Some(match words {
        [b"slabs", b"reassign", from, to] => reassign(from, to, worker),
        [b"slabs", b"automove", level, more @ ..] => automove(level, more.first(), worker),
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
        [b"slabs", b"automove", ..] | [b"cache_memlimit" | b"watch", ..]
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
        let ratio = ratio.and_then(|&text| str::from_utf8(text).ok()?.parse::<f64>().ok());
        return match ratio {
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
    let mut numbers = classes.split(|&byte| byte == b',');
    match classes {
        b"all" => {}
        b"hash" => return "ERROR an unknown error happened\r\n",
        _ if numbers.clone().all(<[u8]>::is_empty) => return "NOTSTARTED no items to crawl\r\n",
        _ if !numbers.all(|number| number.is_empty() || is_class(number)) => {
            return "BADCLASS invalid class id\r\n";
        }
        _ => {}
    }
    match worker.server.crawler.start(worker.store().stripes()) {
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
