//! The text protocol: commands in words, as memcached 1.6 understands and answers them.
//!
//! Answers are those of memcached to the byte, also to what is malformed: clients match on them. The
//! two-letter commands are in `meta`.

use core::ops::ControlFlow;
use core::sync::atomic::Ordering::Relaxed;

use crate::admin;
use crate::keys::{END, Get, Keys, next_key};
use crate::meta;
use crate::output::Output;
use crate::server::{KEY_MAX, VERSION, Worker};
use crate::session::{Answer, Session, State};
use crate::stats;
use crate::store::{Delta, Entry, How, Mode, NoChunk, Sum};
use crate::text::{self, Digits};

/// Most words of a command that are looked at.
pub const TOKENS_MAX: usize = 23;
/// Highest level of verbosity.
const VERBOSITY_MAX: u32 = 2;

const ERROR: &str = "ERROR\r\n";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument\r\n";

/// Words of a line, as many as are looked at.
pub struct Tokens<'a>(heapless::Vec<&'a [u8], TOKENS_MAX>);

impl<'a> Tokens<'a> {
    /// Those of a line, which a zero byte ends. Not returned, since they would be copied.
    fn read(&mut self, line: &'a [u8]) {
        let mut start = 0;
        text::each_word_end(line, |end| {
            self.push(&line[start..end]);
            start = end + 1;
            match line[end] {
                0 => {
                    start = line.len();
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        });
        self.push(&line[start..]);
    }

    /// Several spaces stand between two words like one.
    #[inline]
    fn push(&mut self, word: &'a [u8]) {
        if !word.is_empty() {
            // What does not fit is not looked at.
            let _ = self.0.push(word);
        }
    }

    /// All of them.
    pub fn all(&self) -> &[&'a [u8]] {
        &self.0
    }

    fn says_noreply(&self) -> bool {
        self.all().last() == Some(&&b"noreply"[..])
    }
}

/// Executes a command whose line is complete.
#[inline(never)]
pub fn execute(session: &mut Session, worker: &Worker, line: &[u8], out: &mut impl Output) {
    match line {
        [b'g', b'e', b't', b' ', keys @ ..] if next_key(keys, 0).is_some() => {
            get_keys(session, worker, Get::default(), keys, out);
        }
        _ => others(session, worker, line, out),
    }
}

/// Answers a get command that asks for one key.
pub fn get_one(worker: &Worker, key: &[u8], out: &mut impl Output) {
    match worker.get(key) {
        Some(item) => out.piece(item.into_answer()),
        None => out.fixed(END),
    }
}

/// Any number of keys. Those that the peer has no room for wait.
fn get_keys(session: &mut Session, worker: &Worker, get: Get, line: &[u8], out: &mut impl Output) {
    let mut at = 0;
    while let Some((key, end)) = next_key(line, at) {
        if key.len() > KEY_MAX {
            return session.complain(BAD_FORMAT, out);
        }
        at = end;
    }
    let mut at = 0;
    while let Some((key, end)) = next_key(line, at) {
        if out.is_full() {
            let keys = Keys::of_line(get, &line[at..]);
            return session.expect(State::Keys(keys.into()));
        }
        get.answer(key, worker, out);
        at = end;
    }
    out.fixed(END);
}

fn others(session: &mut Session, worker: &Worker, line: &[u8], out: &mut impl Output) {
    session.noreply = false;
    let mut tokens = Tokens(heapless::Vec::new());
    tokens.read(line);
    let Some(&command) = tokens.all().first() else {
        return session.say(ERROR, out);
    };
    if let [b'm', _] = command {
        return meta::execute(session, worker, &tokens, out);
    }
    let count = tokens.all().len();
    match (command, count) {
        (b"get" | b"bget", 2..) => get_keys_after(session, worker, false, line, out),
        (b"gets", 2..) => get_keys_after(session, worker, true, line, out),
        (b"gat", 2..) => get_and_touch(session, worker, false, line, &tokens, out),
        (b"gats", 2..) => get_and_touch(session, worker, true, line, &tokens, out),
        (b"set", 5 | 6) => storage(session, worker, Mode::Set, &tokens, out),
        (b"add", 5 | 6) => storage(session, worker, Mode::Add, &tokens, out),
        (b"replace", 5 | 6) => storage(session, worker, Mode::Replace, &tokens, out),
        (b"append", 5 | 6) => storage(session, worker, Mode::Append, &tokens, out),
        (b"prepend", 5 | 6) => storage(session, worker, Mode::Prepend, &tokens, out),
        (b"cas", 6 | 7) => storage(session, worker, Mode::Cas, &tokens, out),
        (b"incr", 3 | 4) => arithmetic(session, worker, true, &tokens, out),
        (b"decr", 3 | 4) => arithmetic(session, worker, false, &tokens, out),
        (b"touch", 3 | 4) => touch(session, worker, &tokens, out),
        (b"delete", 2..=4) => delete(session, worker, &tokens, out),
        (b"flush_all", 1..=3) => flush_all(session, worker, &tokens, out),
        (b"stats", _) => stats::execute(session, worker, tokens.all(), out),
        (b"version", _) => {
            out.text(b"VERSION ");
            out.text(VERSION.as_bytes());
            out.text(b"\r\n");
        }
        (b"verbosity", 2 | 3) => verbosity(session, worker, &tokens, out),
        (b"slabs" | b"lru" | b"lru_crawler" | b"cache_memlimit" | b"watch", _) => {
            admin::execute(session, worker, tokens.all(), out);
        }
        (b"quit", _) => session.expect(State::Over),
        (b"refresh_certs", _) => session.say("Error TLS not enabled\r\n", out),
        (b"shutdown", _) => session.say("ERROR: shutdown not enabled\r\n", out),
        _ => session.say(ERROR, out),
    }
}

/// The line from the second word on.
fn after_command(line: &[u8]) -> &[u8] {
    let Some((_, end)) = next_key(line, 0) else {
        return &[];
    };
    &line[end..]
}

fn get_keys_after(
    session: &mut Session,
    worker: &Worker,
    with_cas: bool,
    line: &[u8],
    out: &mut impl Output,
) {
    let get = Get {
        with_cas,
        touch: None,
    };
    get_keys(session, worker, get, after_command(line), out);
}

fn get_and_touch(
    session: &mut Session,
    worker: &Worker,
    with_cas: bool,
    line: &[u8],
    tokens: &Tokens<'_>,
    out: &mut impl Output,
) {
    let Some(time) = text::signed(tokens.all()[1]) else {
        return session.say(BAD_EXPTIME, out);
    };
    let get = Get {
        with_cas,
        touch: Some(worker.expiry(time)),
    };
    get_keys(
        session,
        worker,
        get,
        after_command(after_command(line)),
        out,
    );
}

/// The key of a command that has one, if it is not too long.
fn key_of<'a>(tokens: &Tokens<'a>) -> Option<&'a [u8]> {
    let key = tokens.all()[1];
    (key.len() <= KEY_MAX).then_some(key)
}

fn storage(
    session: &mut Session,
    worker: &Worker,
    mode: Mode,
    tokens: &Tokens<'_>,
    out: &mut impl Output,
) {
    session.noreply = tokens.says_noreply();
    let words = tokens.all();
    let cas = match mode {
        Mode::Cas => text::number(words[5]),
        _ => Some(0),
    };
    let numbers = (
        key_of(tokens),
        text::unsigned(words[2]),
        text::signed(words[3]),
        text::signed(words[4]),
        cas,
    );
    let (Some(key), Some(flags), Some(time), Some(bytes @ 0..=TWO_LESS), Some(cas)) = numbers
    else {
        return session.say(BAD_FORMAT, out);
    };
    let data_bytes = bytes as usize + 2;
    let how = How {
        mode,
        cas,
        expires: worker.expiry(time),
        may_be_stale: false,
    };
    match worker.store().draft(key, flags, data_bytes, worker.now) {
        Ok(draft) => session.expect_data(draft, how, Answer::Classic),
        Err(error) => {
            session.say(count_no_chunk(worker, error), out);
            session.expect(State::Swallow(data_bytes));
            // What is there is not what the client thinks from now on.
            if mode == Mode::Set {
                worker.store().entry(key, worker.now).remove();
            }
        }
    }
}

/// Largest length of data that can be announced: with its line end it must be a C `int`.
const TWO_LESS: i32 = i32::MAX - 2;

/// Counts an item that there is no memory for, and says so.
pub fn count_no_chunk(worker: &Worker, error: NoChunk) -> &'static str {
    match error {
        NoChunk::TooLarge => {
            worker.counters.store_too_large.add(1);
            "SERVER_ERROR object too large for cache\r\n"
        }
        NoChunk::NoMemory => {
            worker.counters.store_no_memory.add(1);
            "SERVER_ERROR out of memory storing object\r\n"
        }
    }
}

fn arithmetic(
    session: &mut Session,
    worker: &Worker,
    adds: bool,
    tokens: &Tokens<'_>,
    out: &mut impl Output,
) {
    session.noreply = tokens.says_noreply();
    let Some(key) = key_of(tokens) else {
        return session.say(BAD_FORMAT, out);
    };
    let Some(amount) = text::number(tokens.all()[2]) else {
        return session.say("CLIENT_ERROR invalid numeric delta argument\r\n", out);
    };
    let delta = Delta {
        adds,
        amount,
        cas: 0,
    };
    match calculate(worker, key, delta) {
        Sum::Is(number, _) => {
            if !core::mem::take(&mut session.noreply) {
                out.text(Digits::new(number).as_bytes());
                out.text(b"\r\n");
            }
        }
        Sum::NotFound | Sum::Exists => session.say("NOT_FOUND\r\n", out),
        Sum::NotNumeric => session.say(NOT_NUMERIC, out),
        Sum::NoMemory(_) => session.say("SERVER_ERROR out of memory\r\n", out),
    }
}

/// The answer to arithmetic on what is no number.
pub const NOT_NUMERIC: &str = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";

/// Adds or subtracts, and counts that.
pub fn calculate(worker: &Worker, key: &[u8], delta: Delta) -> Sum {
    let sum = calculate_in(&mut worker.store().entry(key, worker.now), worker, delta);
    if matches!(sum, Sum::NotFound) {
        count_missing_number(worker, delta.adds);
    }
    sum
}

/// Counts a number that is not there.
pub fn count_missing_number(worker: &Worker, adds: bool) {
    match adds {
        true => worker.counters.incr_misses.add(1),
        false => worker.counters.decr_misses.add(1),
    }
}

/// The same with what is under the key, but for counting that there is none.
pub fn calculate_in(entry: &mut Entry<'_>, worker: &Worker, delta: Delta) -> Sum {
    let sum = entry.calculate(delta);
    if let (Sum::Is(..), Some(item)) = (&sum, entry.item()) {
        let class = &worker.counters.classes[item.chunk().class()];
        match delta.adds {
            true => class.incr_hits.add(1),
            false => class.decr_hits.add(1),
        }
    }
    sum
}

fn touch(session: &mut Session, worker: &Worker, tokens: &Tokens<'_>, out: &mut impl Output) {
    session.noreply = tokens.says_noreply();
    let Some(key) = key_of(tokens) else {
        return session.say(BAD_FORMAT, out);
    };
    let Some(time) = text::signed(tokens.all()[2]) else {
        return session.say(BAD_EXPTIME, out);
    };
    match worker.touch(key, worker.expiry(time)) {
        Some(_) => session.say("TOUCHED\r\n", out),
        None => session.say("NOT_FOUND\r\n", out),
    }
}

fn delete(session: &mut Session, worker: &Worker, tokens: &Tokens<'_>, out: &mut impl Output) {
    session.noreply = tokens.all().len() > 2 && tokens.says_noreply();
    let is_usual = match tokens.all() {
        [_, _] => true,
        [_, _, time] => *time == b"0" || session.noreply,
        [_, _, time, _] => *time == b"0" && session.noreply,
        _ => false,
    };
    if !is_usual {
        let usage = "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
        return session.say(usage, out);
    }
    let Some(key) = key_of(tokens) else {
        return session.say(BAD_FORMAT, out);
    };
    match worker.delete(key) {
        true => session.say("DELETED\r\n", out),
        false => session.say("NOT_FOUND\r\n", out),
    }
}

fn flush_all(session: &mut Session, worker: &Worker, tokens: &Tokens<'_>, out: &mut impl Output) {
    session.noreply = tokens.says_noreply();
    worker.counters.cmd_flush.add(1);
    if !worker.server.settings.allows_flush {
        return session.say("CLIENT_ERROR flush_all not allowed\r\n", out);
    }
    let plain = 1 + usize::from(session.noreply);
    let time = match tokens.all().len() == plain {
        true => 0,
        false => match text::signed(tokens.all()[1]) {
            Some(time) => time,
            None => return session.say(BAD_EXPTIME, out),
        },
    };
    flush(worker, time);
    session.say("OK\r\n", out);
}

/// Flushes at a time as clients give it; what is not in the future is now.
pub fn flush(worker: &Worker, time: i32) {
    let at = match time {
        1.. => worker.expiry(time),
        _ => worker.now,
    };
    worker.store().flush(at, worker.now);
}

fn verbosity(session: &mut Session, worker: &Worker, tokens: &Tokens<'_>, out: &mut impl Output) {
    session.noreply = tokens.says_noreply();
    let Some(level) = text::unsigned(tokens.all()[1]) else {
        return session.say(BAD_FORMAT, out);
    };
    let level = level.min(VERBOSITY_MAX);
    worker.server.verbosity.store(level, Relaxed);
    session.say("OK\r\n", out);
}
