//! `mg`, which answers what is asked of an item, and `me`, which answers all there is.

use alloc::borrow::Cow;
use core::sync::atomic::Ordering::Relaxed;

use base64::Engine;

use super::flags::{BASE64, Flags, check_words};
use super::line::Line;
use super::{BAD_FORMAT, Refused};
use crate::output::Output;
use crate::server::{KEY_MAX, Worker};
use crate::session::Session;
use crate::store::{Entry, Item, state};

/// `mg`.
pub fn get(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    out: &mut impl Output,
) -> Result<(), Refused> {
    check_words(words, "CLIENT_ERROR options flags are too long\r\n")?;
    let flags = Flags::read(words, 2, worker)?;
    session.noreply = flags.is_quiet;
    let mut entry = worker.store().entry(&flags.key, worker.now);
    let is_new = entry.item().is_none() && vivify(&mut entry, &flags, worker, b"");
    let Some(item) = entry.item() else {
        drop(entry);
        count_miss(worker, &flags);
        let line = flags.line(b"EN")?;
        if !core::mem::take(&mut session.noreply) {
            line.say(out);
        }
        return Ok(());
    };
    let mut line = Line::of_value(flags.wants_value.then(|| item.value().len()));
    let is_winner = describe(item, is_new, &flags, worker, &mut line)?;
    add_marks(item, is_winner, &mut line);
    if !flags.leaves_order {
        entry.note_read();
    }
    count_found(worker, entry.item(), &flags);
    line.say(out);
    if flags.wants_value
        && let Some(item) = entry.into_item()
    {
        out.piece(item.into_data());
    }
    session.noreply = false;
    Ok(())
}

/// Makes an item that was asked for, if that is wanted. Whether there is one now.
pub fn vivify(entry: &mut Entry<'_>, flags: &Flags<'_>, worker: &Worker, value: &[u8]) -> bool {
    let Some(expires) = flags.vivify else {
        return false;
    };
    let drafted = worker
        .store()
        .draft(&flags.key, 0, value.len() + 2, worker.now);
    let Ok(mut draft) = drafted else {
        return false;
    };
    draft.fill(value);
    draft.fill(b"\r\n");
    entry.replace(draft, expires);
    true
}

/// What was asked for of an item. Whether this client is the one to renew it.
fn describe(
    item: &Item,
    is_new: bool,
    flags: &Flags<'_>,
    worker: &Worker,
    line: &mut Line,
) -> Result<bool, Refused> {
    let chunk = item.chunk();
    let mut is_winner = is_new;
    for word in flags.words {
        match word[0] {
            b'T' => chunk
                .expires
                .store(flags.expires.unwrap_or_default(), Relaxed),
            b'R' => {
                let expires = chunk.expires.load(Relaxed);
                is_winner |= !chunk.has(state::TOKEN_SENT)
                    && !is_new
                    && expires != 0
                    && flags.recache.is_some_and(|recache| expires < recache);
            }
            b's' => line.number(b's', item.value().len() as u64),
            b't' => line.labeled(b't', worker.time_left(item).as_bytes()),
            b'c' => line.number(b'c', item.cas()),
            b'f' => line.number(b'f', chunk.flags().into()),
            b'l' => {
                let idle = worker.now.wrapping_sub(chunk.accessed.load(Relaxed));
                line.number(b'l', idle.into());
            }
            b'h' => line.number(b'h', chunk.has(state::FETCHED).into()),
            b'k' => line.key(item.key(), chunk.has(state::KEY_BINARY)),
            _ => flags.repeat(word, line)?,
        }
    }
    Ok(is_winner)
}

/// Who is to renew an item that is out of date or about to be.
fn add_marks(item: &Item, is_winner: bool, line: &mut Line) {
    let chunk = item.chunk();
    let was_sent = chunk.has(state::TOKEN_SENT);
    let is_stale = chunk.has(state::STALE);
    if was_sent {
        line.word(b"Z");
    }
    if is_stale {
        line.word(b"X");
    }
    if is_winner || (is_stale && !was_sent) {
        line.word(b"W");
        chunk.state.fetch_or(state::TOKEN_SENT, Relaxed);
    }
}

fn count_miss(worker: &Worker, flags: &Flags<'_>) {
    match flags.expires {
        Some(_) => {
            worker.counters.cmd_touch.add(1);
            worker.counters.touch_misses.add(1);
        }
        None => {
            worker.counters.cmd_get.add(1);
            worker.counters.get_misses.add(1);
        }
    }
}

fn count_found(worker: &Worker, item: Option<&Item>, flags: &Flags<'_>) {
    let Some(item) = item else {
        return;
    };
    match flags.expires {
        Some(_) => {
            worker.counters.cmd_touch.add(1);
            worker.counters.classes[item.chunk().class()]
                .touch_hits
                .add(1);
        }
        None => {
            worker.counters.cmd_get.add(1);
            worker.count_hit(item);
        }
    }
}

/// `me`: what is known of an item, for people.
pub fn debug(session: &mut Session, worker: &Worker, words: &[&[u8]], out: &mut impl Output) {
    let Some(key) = words.get(1).filter(|key| key.len() <= KEY_MAX) else {
        return session.say(BAD_FORMAT, out);
    };
    let mut flags = Flags {
        key: Cow::Borrowed(key),
        ..Flags::default()
    };
    if words.get(2) == Some(&&b"b"[..]) && flags.decode_key().is_err() {
        return session.say(BAD_FORMAT, out);
    }
    worker.counters.cmd_meta.add(1);
    let entry = worker.store().entry(&flags.key, worker.now);
    let Some(item) = entry.into_item() else {
        return out.fixed("EN\r\n");
    };
    let chunk = item.chunk();
    out.text(b"ME ");
    match chunk.has(state::KEY_BINARY) {
        true => out.text(BASE64.encode(item.key()).as_bytes()),
        false => out.text(item.key()),
    }
    let expires = match chunk.expires.load(Relaxed) {
        0 => -1,
        expires => i64::from(worker.now) - i64::from(expires),
    };
    let fetched = if chunk.has(state::FETCHED) {
        "yes"
    } else {
        "no"
    };
    let bytes = (item.key().len(), chunk.flags(), item.value().len() + 2);
    let line = alloc::format!(
        " exp={expires} la={} cas={} fetch={fetched} cls={} size={}\r\n",
        worker.now.wrapping_sub(chunk.accessed.load(Relaxed)),
        item.cas(),
        chunk.class() + 1,
        worker
            .store()
            .sizes()
            .as_memcached(bytes.0, bytes.1, bytes.2),
    );
    out.text(line.as_bytes());
}
