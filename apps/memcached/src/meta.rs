//! The meta commands: two letters, a key, and flags of one letter each that say what to do and what to
//! answer. Answers repeat what was asked for in the order in which it was.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::classic::{NOT_NUMERIC, Tokens, calculate_in, count_missing_number, count_no_chunk};
use crate::output::Output;
use crate::server::{KEY_MAX, Worker};
use crate::session::{Answer, Session, State};
use crate::store::{Change, Delta, Entry, How, Item, Mode, Sum, state};
use crate::text::{self, Digits};

/// Most words of a meta command.
const WORDS_MAX: usize = 18;
/// Longest opaque word, with its letter.
const OPAQUE_MAX: usize = 32;

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format\r\n";
const BAD_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag\r\n";
const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long\r\n";

/// Padded base64; bits that stand for nothing are not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Executes a meta command.
pub fn execute(session: &mut Session, worker: &Worker, tokens: &Tokens<'_>, out: &mut impl Output) {
    let words = tokens.all();
    match (words[0][1], words.len()) {
        (b'n', _) => out.fixed("MN\r\n"),
        (b'e', _) => debug(session, worker, words, out),
        (b'g' | b's' | b'd' | b'a', ..2) => session.say("ERROR\r\n", out),
        (b'g', _) => report(get(session, worker, words, out), session, out),
        (b's', _) => set(session, worker, words, out),
        (b'd', _) => report(delete(session, worker, words, out), session, out),
        (b'a', _) => report(arithmetic(session, worker, words, out), session, out),
        _ => session.say("ERROR\r\n", out),
    }
}

/// What is wrong with a command.
type Refused = &'static str;

fn report(result: Result<(), Refused>, session: &mut Session, out: &mut impl Output) {
    if let Err(text) = result {
        session.complain(text, out);
    }
}

/// What the flags of a command say.
#[derive(Default)]
struct Flags<'a> {
    words: &'a [&'a [u8]],
    key: Cow<'a, [u8]>,
    key_is_binary: bool,
    is_quiet: bool,
    wants_value: bool,
    leaves_order: bool,
    is_stale: bool,
    /// When an item is made that was not there, how long it is good.
    vivify: Option<u32>,
    expires: Option<u32>,
    recache: Option<u32>,
    client_flags: u32,
    cas: Option<u64>,
    mode: u8,
    delta: u64,
    initial: u64,
}

impl<'a> Flags<'a> {
    /// Of the words from `first` on.
    fn read(words: &'a [&'a [u8]], first: usize, worker: &Worker) -> Result<Self, Refused> {
        let mut flags = Self {
            words: &words[first..],
            key: Cow::Borrowed(words[1]),
            delta: 1,
            ..Self::default()
        };
        let mut seen = [false; 127];
        let mut refused = None;
        for word in &words[first..] {
            match seen.get_mut(usize::from(word[0])) {
                Some(seen @ false) => *seen = true,
                _ => return Err("CLIENT_ERROR duplicate flag\r\n"),
            }
            if let Err(error) = flags.note(word, worker)? {
                refused = Some(error);
            }
        }
        refused.map_or(Ok(flags), Err)
    }

    /// Notes one flag. What is wrong with its value is said after all flags are known, what is wrong with
    /// its letter at once.
    fn note(&mut self, word: &[u8], worker: &Worker) -> Result<Result<(), Refused>, Refused> {
        let value = &word[1..];
        let time = || text::signed(value).map(|time| worker.expiry(time));
        let is_good = match word[0] {
            b'b' => return Ok(self.decode_key()),
            b'N' => keep(time(), |time| self.vivify = Some(time)),
            b'T' => keep(time(), |time| self.expires = Some(time)),
            b'R' => keep(time(), |time| self.recache = Some(time)),
            b'C' => keep(text::number(value), |cas| self.cas = Some(cas)),
            b'F' => {
                let is_good = keep(text::unsigned(value), |flags| self.client_flags = flags);
                return Ok(is_good.then_some(()).ok_or(BAD_FORMAT));
            }
            b'J' => {
                let is_good = keep(text::number(value), |initial| self.initial = initial);
                let refused = "CLIENT_ERROR invalid numeric initial value\r\n";
                return Ok(is_good.then_some(()).ok_or(refused));
            }
            b'D' => {
                let is_good = keep(text::number(value), |delta| self.delta = delta);
                let refused = "CLIENT_ERROR invalid numeric delta value\r\n";
                return Ok(is_good.then_some(()).ok_or(refused));
            }
            b'M' => match value {
                [mode] => {
                    self.mode = *mode;
                    true
                }
                _ => return Ok(Err("CLIENT_ERROR incorrect length for M token\r\n")),
            },
            b'v' => {
                self.wants_value = true;
                true
            }
            b'u' => {
                self.leaves_order = true;
                true
            }
            b'q' => {
                self.is_quiet = true;
                true
            }
            b'I' => {
                self.is_stale = true;
                true
            }
            b'O' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'l' | b'h' => true,
            _ => return Err("CLIENT_ERROR invalid flag\r\n"),
        };
        Ok(is_good.then_some(()).ok_or(BAD_TOKEN))
    }

    /// Decodes the key. Characters that are not of base64 are passed over.
    fn decode_key(&mut self) -> Result<(), Refused> {
        self.key_is_binary = true;
        let is_of_base64 =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let encoded: Vec<u8> = self.key.iter().copied().filter(is_of_base64).collect();
        match BASE64.decode(encoded) {
            Ok(key) if !key.is_empty() => {
                self.key = Cow::Owned(key);
                Ok(())
            }
            _ => Err("CLIENT_ERROR error decoding key\r\n"),
        }
    }

    /// Repeats what answers repeat: the key and the opaque word. Whether the word was one of those.
    fn repeat(&self, word: &[u8], line: &mut Vec<u8>) -> Result<bool, Refused> {
        match word[0] {
            b'O' if word.len() > OPAQUE_MAX => Err(OPAQUE_TOO_LONG),
            b'O' => {
                line.push(b' ');
                line.extend_from_slice(word);
                Ok(true)
            }
            b'k' => {
                add_key(line, &self.key, self.key_is_binary);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn repeat_all(&self, line: &mut Vec<u8>) -> Result<(), Refused> {
        let mut words = self.words.iter();
        words.try_for_each(|word| self.repeat(word, line).map(drop))
    }
}

fn keep<T>(value: Option<T>, note: impl FnOnce(T)) -> bool {
    value.map(note).is_some()
}

fn add_key(line: &mut Vec<u8>, key: &[u8], is_binary: bool) {
    line.extend_from_slice(b" k");
    match is_binary {
        true => {
            line.extend_from_slice(BASE64.encode(key).as_bytes());
            line.extend_from_slice(b" b");
        }
        false => line.extend_from_slice(key),
    }
}

fn add_number(line: &mut Vec<u8>, letter: u8, number: u64) {
    line.extend_from_slice(&[b' ', letter]);
    line.extend_from_slice(Digits::new(number).as_bytes());
}

fn add_time_left(line: &mut Vec<u8>, item: &Item, worker: &Worker) {
    line.extend_from_slice(b" t");
    line.extend_from_slice(worker.time_left(item).as_bytes());
}

/// The key is checked as it came, before it may be decoded.
fn check_words(words: &[&[u8]], too_many: Refused) -> Result<(), Refused> {
    match words {
        [_, key, ..] if key.len() > KEY_MAX => Err(BAD_FORMAT),
        _ if words.len() > WORDS_MAX + 1 => Err(too_many),
        _ => Ok(()),
    }
}

fn get(
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
    let mut line = Vec::with_capacity(64);
    let Some(item) = entry.item() else {
        drop(entry);
        count_miss(worker, &flags);
        line.extend_from_slice(b"EN");
        flags.repeat_all(&mut line)?;
        line.extend_from_slice(b"\r\n");
        if !core::mem::take(&mut session.noreply) {
            out.text(&line);
        }
        return Ok(());
    };
    match flags.wants_value {
        true => {
            line.extend_from_slice(b"VA ");
            line.extend_from_slice(Digits::new(item.value().len() as u64).as_bytes());
        }
        false => line.extend_from_slice(b"HD"),
    }
    let is_winner = describe(item, is_new, &flags, worker, &mut line)?;
    add_marks(item, is_winner, &mut line);
    line.extend_from_slice(b"\r\n");
    if !flags.leaves_order {
        entry.note_read();
    }
    count_found(worker, entry.item(), &flags);
    out.text(&line);
    if flags.wants_value
        && let Some(item) = entry.into_item()
    {
        out.piece(item.into_data());
    }
    session.noreply = false;
    Ok(())
}

/// Makes an item that was asked for, if that is wanted. Whether there is one now.
fn vivify(entry: &mut Entry<'_>, flags: &Flags<'_>, worker: &Worker, value: &[u8]) -> bool {
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
    line: &mut Vec<u8>,
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
            b's' => add_number(line, b's', item.value().len() as u64),
            b't' => add_time_left(line, item, worker),
            b'c' => add_number(line, b'c', item.cas()),
            b'f' => add_number(line, b'f', chunk.flags().into()),
            b'l' => {
                let idle = worker.now.wrapping_sub(chunk.accessed.load(Relaxed));
                add_number(line, b'l', idle.into());
            }
            b'h' => add_number(line, b'h', chunk.has(state::FETCHED).into()),
            b'k' => add_key(line, item.key(), chunk.has(state::KEY_BINARY)),
            _ => drop(flags.repeat(word, line)?),
        }
    }
    Ok(is_winner)
}

/// Who is to renew an item that is out of date or about to be.
fn add_marks(item: &Item, is_winner: bool, line: &mut Vec<u8>) {
    let chunk = item.chunk();
    let was_sent = chunk.has(state::TOKEN_SENT);
    let is_stale = chunk.has(state::STALE);
    if was_sent {
        line.extend_from_slice(b" Z");
    }
    if is_stale {
        line.extend_from_slice(b" X");
    }
    if is_winner || (is_stale && !was_sent) {
        line.extend_from_slice(b" W");
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

/// What the answer to `ms` repeats.
pub struct Stored {
    is_quiet: bool,
    key_is_binary: bool,
    /// The words that it repeats.
    words: Vec<Vec<u8>>,
}

impl Stored {
    /// Whether the key is among what it repeats.
    pub fn wants_key(&self) -> bool {
        self.words.iter().any(|word| word[0] == b'k')
    }

    /// Says what came of it.
    pub fn answer(&self, session: &mut Session, change: Change, key: &[u8], out: &mut impl Output) {
        session.noreply = false;
        let (code, cas) = match change {
            Change::Stored(_) if self.is_quiet => return,
            Change::Stored(cas) => (b"HD", cas),
            Change::NotStored => (b"NS", 0),
            Change::Exists => (b"EX", 0),
            Change::NotFound => (b"NF", 0),
        };
        let mut line = code.to_vec();
        for word in &self.words {
            match word[0] {
                b'k' => add_key(&mut line, key, self.key_is_binary),
                b'c' => add_number(&mut line, b'c', cas),
                _ => {
                    line.push(b' ');
                    line.extend_from_slice(word);
                }
            }
        }
        line.extend_from_slice(b"\r\n");
        out.text(&line);
    }
}

fn set(session: &mut Session, worker: &Worker, words: &[&[u8]], out: &mut impl Output) {
    let bytes = check_words(words, "CLIENT_ERROR options flags too long\r\n").and_then(|()| {
        let bytes = words.get(2).and_then(|&word| text::signed(word));
        let bytes = bytes.filter(|bytes| (0..=i32::MAX - 2).contains(bytes));
        bytes.map(|bytes| bytes as usize + 2).ok_or(BAD_FORMAT)
    });
    let data_bytes = match bytes {
        Ok(bytes) => bytes,
        Err(refused) => return session.complain(refused, out),
    };
    // From here on the length of the data is known, which is passed over if something is wrong.
    if let Err(refused) = expect_value(session, worker, words, data_bytes) {
        session.complain(refused, out);
        session.expect(State::Swallow(data_bytes));
    }
}

fn expect_value(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    data_bytes: usize,
) -> Result<(), Refused> {
    let flags = Flags::read(words, 3, worker)?;
    if flags
        .words
        .iter()
        .any(|word| word[0] == b'O' && word.len() > OPAQUE_MAX)
    {
        return Err(OPAQUE_TOO_LONG);
    }
    let mut mode = match flags.mode {
        0 | b'S' => Mode::Set,
        b'E' => Mode::Add,
        b'A' => Mode::Append,
        b'P' => Mode::Prepend,
        b'R' => Mode::Replace,
        _ => return Err("CLIENT_ERROR invalid mode for ms M token\r\n"),
    };
    if flags.cas.is_some() && matches!(mode, Mode::Set | Mode::Replace) {
        mode = Mode::Cas;
    }
    let store = worker.store();
    let drafted = store.draft(&flags.key, flags.client_flags, data_bytes, worker.now);
    let draft = drafted.map_err(|error| {
        // What is there is not what the client thinks from now on.
        store.entry(&flags.key, worker.now).remove();
        count_no_chunk(worker, error)
    })?;
    if flags.key_is_binary {
        draft.chunk().state.fetch_or(state::KEY_BINARY, Relaxed);
    }
    let repeated = flags
        .words
        .iter()
        .filter(|word| matches!(word[0], b'O' | b'k' | b'c'));
    let stored = Stored {
        is_quiet: flags.is_quiet,
        key_is_binary: flags.key_is_binary,
        words: repeated.map(|word| word.to_vec()).collect(),
    };
    let how = How {
        mode,
        cas: flags.cas.unwrap_or_default(),
        expires: flags.expires.unwrap_or_default(),
        may_be_stale: flags.is_stale && mode == Mode::Cas,
    };
    session.expect_data(draft, how, Answer::Meta(stored.into()));
    Ok(())
}

fn delete(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    out: &mut impl Output,
) -> Result<(), Refused> {
    check_words(words, "CLIENT_ERROR options flags too long\r\n")?;
    let flags = Flags::read(words, 2, worker).map_err(|_| BAD_FLAG)?;
    session.noreply = false;
    let mut line = Vec::with_capacity(64);
    flags.repeat_all(&mut line)?;
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
        out.text(code);
        out.text(&line);
        out.fixed("\r\n");
    }
    Ok(())
}

fn arithmetic(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    out: &mut impl Output,
) -> Result<(), Refused> {
    check_words(words, "CLIENT_ERROR options flags too long\r\n")?;
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
    let mut line = Vec::with_capacity(64);
    match entry.item() {
        Some(item) if code == b"HD" => {
            line_of_sum(item, digits.as_bytes(), is_new, &flags, worker, &mut line)?;
        }
        _ => {
            line.extend_from_slice(code);
            flags.repeat_all(&mut line)?;
            line.extend_from_slice(b"\r\n");
        }
    }
    drop(entry);
    if code != b"HD" || !flags.is_quiet || is_new {
        out.text(&line);
    }
    Ok(())
}

fn line_of_sum(
    item: &Item,
    digits: &[u8],
    is_new: bool,
    flags: &Flags<'_>,
    worker: &Worker,
    line: &mut Vec<u8>,
) -> Result<(), Refused> {
    match flags.wants_value {
        true => {
            line.extend_from_slice(b"VA ");
            line.extend_from_slice(Digits::new(digits.len() as u64).as_bytes());
        }
        false => line.extend_from_slice(b"HD"),
    }
    // A new item is good for ever until the flag that says otherwise is come to.
    let expires = &item.chunk().expires;
    if is_new {
        expires.store(0, Relaxed);
    }
    for word in flags.words {
        match word[0] {
            b'c' => add_number(line, b'c', item.cas()),
            b't' => add_time_left(line, item, worker),
            b'T' => expires.store(flags.expires.unwrap_or_default(), Relaxed),
            b'N' if is_new => expires.store(flags.vivify.unwrap_or_default(), Relaxed),
            _ => drop(flags.repeat(word, line)?),
        }
    }
    if flags.wants_value {
        line.extend_from_slice(b"\r\n");
        line.extend_from_slice(digits);
    }
    line.extend_from_slice(b"\r\n");
    Ok(())
}

/// `me`: what is known of an item, for people.
fn debug(session: &mut Session, worker: &Worker, words: &[&[u8]], out: &mut impl Output) {
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
    match chunk.has(state::KEY_BINARY) {
        true => {
            out.text(b"ME ");
            out.text(BASE64.encode(item.key()).as_bytes());
        }
        false => {
            out.text(b"ME ");
            out.text(item.key());
        }
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
