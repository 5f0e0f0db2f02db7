//! `md` and `ma`: what changes an item that is there.

use core::sync::atomic::Ordering::Relaxed;

use super::flags::{Flags, check_words};
use super::get::vivify;
use super::line::Line;
use super::{BAD_FLAG, Refused, TOO_MANY_FLAGS};
use crate::classic::{NOT_NUMERIC, calculate_in, count_missing_number};
use crate::output::Output;
use crate::server::Worker;
use crate::session::Session;
use crate::store::{Delta, Item, Sum, state};
use crate::text::Digits;

/// `md`: deletes an item, or marks it as out of date.
pub fn delete(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    out: &mut impl Output,
) -> Result<(), Refused> {
    check_words(words, TOO_MANY_FLAGS)?;
    let flags = Flags::read(words, 2, worker).map_err(|_| BAD_FLAG)?;
    session.noreply = false;
    flags.check_opaque()?;
    let mut entry = worker.store().entry(&flags.key, worker.now);
    let found = entry.item().map(|item| (item.chunk(), item.cas()));
    let code = match found {
        None => {
            worker.counters.delete_misses.add(1);
            b"NF"
        }
        Some((_, cas)) if flags.cas.is_some_and(|wanted| wanted != cas) => {
            worker.counters.delete_misses.add(1);
            b"EX"
        }
        Some((chunk, _)) if flags.is_stale => {
            if let Some(expires) = flags.expires {
                chunk.expires.store(expires, Relaxed);
            }
            chunk.state.fetch_or(state::STALE, Relaxed);
            chunk.state.fetch_and(!state::TOKEN_SENT, Relaxed);
            entry.renew();
            b"HD"
        }
        Some((chunk, _)) => {
            worker.counters.classes[chunk.class()].delete_hits.add(1);
            entry.remove();
            b"HD"
        }
    };
    drop(entry);
    if code != b"HD" || !flags.is_quiet {
        flags.line(code)?.say(out);
    }
    Ok(())
}

/// `ma`: adds or subtracts.
pub fn arithmetic(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    out: &mut impl Output,
) -> Result<(), Refused> {
    check_words(words, TOO_MANY_FLAGS)?;
    let flags = Flags::read(words, 2, worker).map_err(|_| BAD_FLAG)?;
    session.noreply = false;
    let adds = match flags.mode {
        0 | b'I' | b'+' => true,
        b'D' | b'-' => false,
        _ => return Err("CLIENT_ERROR invalid mode for ma M token\r\n"),
    };
    let delta = Delta {
        adds,
        amount: flags.delta,
        cas: flags.cas.unwrap_or_default(),
    };
    let mut entry = worker.store().entry(&flags.key, worker.now);
    let (code, number, is_new) = match calculate_in(&mut entry, worker, delta) {
        Sum::Is(number, _) => (b"HD", number, false),
        Sum::NotFound if flags.vivify.is_some() => {
            let digits = Digits::new(flags.initial);
            if !vivify(&mut entry, &flags, worker, digits.as_bytes()) {
                return Err("SERVER_ERROR Out of memory allocating new item\r\n");
            }
            (b"HD", flags.initial, true)
        }
        Sum::NotFound => {
            count_missing_number(worker, adds);
            (b"NF", 0, false)
        }
        Sum::Exists => (b"EX", 0, false),
        Sum::NotNumeric => return Err(NOT_NUMERIC),
        Sum::NoMemory(_) => return Err("SERVER_ERROR out of memory\r\n"),
    };
    let digits = Digits::new(number);
    let line = match entry.item() {
        Some(item) if code == b"HD" => {
            line_of_sum(item, digits.as_bytes(), is_new, &flags, worker)?
        }
        _ => flags.line(code)?,
    };
    drop(entry);
    if code != b"HD" || !flags.is_quiet || is_new {
        line.say(out);
    }
    Ok(())
}

fn line_of_sum(
    item: &Item,
    digits: &[u8],
    is_new: bool,
    flags: &Flags<'_>,
    worker: &Worker,
) -> Result<Line, Refused> {
    let mut line = Line::of_value(flags.wants_value.then_some(digits.len()));
    // A new item is good for ever until the flag that says otherwise is come to.
    let expires = &item.chunk().expires;
    if is_new {
        expires.store(0, Relaxed);
    }
    for word in flags.words {
        match word[0] {
            b'c' => line.number(b'c', item.cas()),
            b't' => line.labeled(b't', worker.time_left(item).as_bytes()),
            b'T' => expires.store(flags.expires.unwrap_or_default(), Relaxed),
            b'N' if is_new => expires.store(flags.vivify.unwrap_or_default(), Relaxed),
            _ => flags.repeat(word, &mut line)?,
        }
    }
    if flags.wants_value {
        line.value(digits);
    }
    Ok(line)
}
