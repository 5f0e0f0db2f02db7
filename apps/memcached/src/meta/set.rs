//! `ms`, and its answer when the value has come.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use super::flags::{Flags, check_words};
use super::line::Line;
use super::{BAD_FORMAT, Refused, TOO_MANY_FLAGS};
use crate::classic::count_no_chunk;
use crate::output::Output;
use crate::server::Worker;
use crate::session::{Answer, Session, State};
use crate::store::{Change, How, Mode, state};
use crate::text;

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
        let mut line = Line::new(code);
        for word in &self.words {
            match word[0] {
                b'k' => line.key(key, self.key_is_binary),
                b'c' => line.number(b'c', cas),
                _ => line.word(word),
            }
        }
        line.say(out);
    }
}

/// `ms`: waits for the value.
pub fn set(session: &mut Session, worker: &Worker, words: &[&[u8]]) -> Result<(), Refused> {
    check_words(words, TOO_MANY_FLAGS)?;
    let bytes = words.get(2).and_then(|&word| text::signed(word));
    let bytes = bytes.filter(|bytes| (0..=i32::MAX - 2).contains(bytes));
    let data_bytes = bytes.ok_or(BAD_FORMAT)? as usize + 2;
    // From here on the length of the data is known, which is passed over if something is wrong.
    let expected = expect_value(session, worker, words, data_bytes);
    if expected.is_err() {
        session.expect(State::Swallow(data_bytes));
    }
    expected
}

fn expect_value(
    session: &mut Session,
    worker: &Worker,
    words: &[&[u8]],
    data_bytes: usize,
) -> Result<(), Refused> {
    let flags = Flags::read(words, 3, worker)?;
    flags.check_opaque()?;
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
