//! One connection: bytes come in, of any number at a time, and answers go out ([`Session::feed`]).
//!
//! A command is executed when its line is complete. Lines that are in one piece are read where they are;
//! only the beginning of one that is not is kept. Data goes straight into the item ([`Draft`]), and
//! keys of a get command may be any number: they are answered one by one, and wait where they are while
//! the peer does not read.

use alloc::boxed::Box;
use alloc::vec::Vec;

use memchr::memchr;

use crate::binary;
use crate::classic;
use crate::keys::{Keys, only_key};
use crate::meta;
use crate::output::Output;
use crate::server::Worker;
use crate::store::{Change, Draft, How, Mode};

/// A line longer than this must be a get command.
const LINE_MAX: usize = 2048;

const LINE_END: &[u8] = b"\r\n";

/// The first byte of a binary request; no text command begins so.
const BINARY: u8 = 0x80;

/// See the module.
#[derive(Default)]
pub struct Session {
    /// The beginning of a line, or of a binary request, whose end has not come.
    kept: Vec<u8>,
    state: State,
    /// Whether the next plain answer is left out.
    pub(crate) noreply: bool,
    /// Whether anything has come, so that the protocol is known, and whether it is the binary one.
    protocol: Protocol,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    Unknown,
    Text,
    Binary,
}

/// What comes next.
#[derive(Default)]
pub(crate) enum State {
    /// A command.
    #[default]
    Command,
    /// Data of an item.
    Data(Storage),
    /// Data of an item that was refused.
    Swallow(usize),
    /// Keys of a get command.
    Keys(Box<Keys>),
    /// Nothing: the connection ends.
    Over,
}

/// A storage command that waits for its data.
pub(crate) struct Storage {
    pub draft: Draft,
    pub how: How,
    pub answer: Answer,
}

impl Storage {
    /// Takes what is there of the data, and says how much that was. In the binary protocol no line end
    /// follows it, and an item has one.
    fn fill(&mut self, rest: &[u8]) -> usize {
        let Answer::Binary(_) = self.answer else {
            return self.draft.fill(rest);
        };
        let value_bytes = self.draft.missing() - LINE_END.len();
        let taken = self.draft.fill(&rest[..rest.len().min(value_bytes)]);
        if taken == value_bytes {
            self.draft.fill(LINE_END);
        }
        taken
    }
}

/// How a storage command is answered.
pub(crate) enum Answer {
    /// In words.
    Classic,
    /// In two letters, with what was asked for.
    Meta(Box<meta::Stored>),
    /// In the binary protocol.
    Binary(binary::Stored),
}

/// What [`Session::feed`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Everything was taken.
    All,
    /// The peer has enough to read: so many bytes were taken, the others are to come again when it has
    /// read.
    Full(usize),
    /// The connection ends, after the answers.
    Close,
}

impl Session {
    /// The key, if what the peer has sent is a get command with one, and nothing else: what is asked most
    /// often, by far. Who answers it need not [`Session::feed`] it.
    #[inline]
    pub fn lone_get<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let is_between_lines = self.kept.is_empty() && matches!(self.state, State::Command);
        match only_key(input)? {
            (key, []) if is_between_lines && self.protocol == Protocol::Text => Some(key),
            _ => None,
        }
    }

    /// Takes what the peer has sent. Called with nothing, it goes on with what waits here.
    pub fn feed(&mut self, worker: &Worker, input: &[u8], out: &mut impl Output) -> Fed {
        if self.protocol == Protocol::Unknown
            && let Some(&first) = input.first()
        {
            self.protocol = match first {
                BINARY => Protocol::Binary,
                _ => Protocol::Text,
            };
        }
        let mut rest = input;
        let is_waiting = |state: &State| matches!(state, State::Keys(_));
        while !rest.is_empty() || is_waiting(&self.state) {
            if out.is_full() {
                return Fed::Full(input.len() - rest.len());
            }
            match &mut self.state {
                State::Command if self.protocol == Protocol::Binary => {
                    self.request(worker, &mut rest, out);
                }
                State::Command => self.line(worker, &mut rest, out),
                State::Data(_) => rest = self.data(worker, rest, out),
                State::Swallow(left) => {
                    let bytes = rest.len().min(*left);
                    *left -= bytes;
                    rest = &rest[bytes..];
                    if *left == 0 {
                        self.state = State::Command;
                    }
                }
                State::Keys(keys) => {
                    if keys.take(&mut rest) && keys.answer(worker, out) {
                        self.state = State::Command;
                    } else if rest.is_empty() && !out.is_full() {
                        return Fed::All;
                    }
                }
                State::Over => return Fed::Close,
            }
        }
        match self.state {
            State::Over => Fed::Close,
            _ => Fed::All,
        }
    }

    /// Bytes that it keeps beside items.
    pub fn kept_bytes(&self) -> usize {
        let keys = match &self.state {
            State::Keys(keys) => keys.kept_bytes(),
            _ => 0,
        };
        self.kept.capacity() + keys
    }

    /// Says something, unless the client has asked not to be answered.
    pub(crate) fn say(&mut self, text: &'static str, out: &mut impl Output) {
        if !core::mem::take(&mut self.noreply) {
            out.fixed(text);
        }
    }

    /// Says what is wrong, in any case.
    pub(crate) fn complain(&mut self, text: &'static str, out: &mut impl Output) {
        self.noreply = false;
        out.fixed(text);
    }

    /// What comes next.
    pub(crate) fn expect(&mut self, state: State) {
        self.state = state;
    }

    /// Waits for the data of an item.
    pub(crate) fn expect_data(&mut self, draft: Draft, how: How, answer: Answer) {
        self.state = State::Data(Storage { draft, how, answer });
    }

    /// Executes the next line, or keeps what there is of it.
    #[inline]
    fn line(&mut self, worker: &Worker, rest: &mut &[u8], out: &mut impl Output) {
        if self.kept.is_empty()
            && let Some((key, after)) = only_key(rest)
        {
            *rest = after;
            return classic::get_one(worker, key, out);
        }
        self.any_line(worker, rest, out);
    }

    #[inline(never)]
    fn any_line(&mut self, worker: &Worker, rest: &mut &[u8], out: &mut impl Output) {
        let Some(end) = memchr(b'\n', rest) else {
            self.kept.extend_from_slice(rest);
            *rest = &[];
            if self.kept.len() > LINE_MAX {
                self.long_line(worker);
            }
            return;
        };
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        if self.kept.is_empty() {
            *rest = self.command(worker, without_return(line), after, out);
            return;
        }
        let mut whole = core::mem::take(&mut self.kept);
        whole.extend_from_slice(line);
        *rest = self.command(worker, without_return(&whole), after, out);
    }

    /// Executes a command. Data that is there already is taken from `after`.
    fn command<'a>(
        &mut self,
        worker: &Worker,
        line: &[u8],
        after: &'a [u8],
        out: &mut impl Output,
    ) -> &'a [u8] {
        classic::execute(self, worker, line, out);
        self.data(worker, after, out)
    }

    /// Takes data if an item waits for it, and stores the item when it has all of it.
    #[inline]
    fn data<'a>(&mut self, worker: &Worker, rest: &'a [u8], out: &mut impl Output) -> &'a [u8] {
        let State::Data(storage) = &mut self.state else {
            return rest;
        };
        let taken = storage.fill(rest);
        self.finish_storage(worker, out);
        &rest[taken..]
    }

    /// A line that does not end: the keys of a get command, or nothing that is understood.
    fn long_line(&mut self, worker: &Worker) {
        let kept = core::mem::take(&mut self.kept);
        match Keys::of_unfinished_line(kept) {
            Some(keys) => self.state = State::Keys(Box::new(keys)),
            None => {
                worker.counters.lines_too_long.add(1);
                self.state = State::Over;
            }
        }
    }

    /// Executes the next binary request, or keeps what there is of it.
    fn request(&mut self, worker: &Worker, rest: &mut &[u8], out: &mut impl Output) {
        let missing = binary::missing(&self.kept).min(rest.len());
        self.kept.extend_from_slice(&rest[..missing]);
        *rest = &rest[missing..];
        if binary::missing(&self.kept) == 0 {
            let request = core::mem::take(&mut self.kept);
            binary::execute(self, worker, &request, out);
            *rest = self.data(worker, rest, out);
        }
    }

    /// Stores the item if all of its data is there.
    fn finish_storage(&mut self, worker: &Worker, out: &mut impl Output) {
        let State::Data(storage) = &self.state else {
            return;
        };
        if storage.draft.missing() != 0 {
            return;
        }
        let State::Data(storage) = core::mem::take(&mut self.state) else {
            return;
        };
        let Storage { draft, how, answer } = storage;
        let class = &worker.counters.classes[draft.chunk().class()];
        worker.counters.cmd_set.add(1);
        class.cmd_set.add(1);
        if !draft.ends_in_line_end() {
            if matches!(answer, Answer::Meta(_)) {
                self.noreply = false;
            }
            return self.say("CLIENT_ERROR bad data chunk\r\n", out);
        }
        let key = match &answer {
            Answer::Meta(stored) if stored.wants_key() => draft.key().to_vec(),
            _ => Vec::new(),
        };
        let change = worker.store().store(draft, how, worker.now);
        match change {
            Change::Stored(_) => worker.counters.total_items.add(1),
            Change::NotFound => worker.counters.cas_misses.add(1),
            Change::Exists | Change::NotStored => {}
        }
        if how.mode == Mode::Cas {
            match change {
                Change::Stored(_) => class.cas_hits.add(1),
                Change::Exists => class.cas_badval.add(1),
                Change::NotFound | Change::NotStored => {}
            }
        }
        match answer {
            Answer::Classic => self.say(in_words(change), out),
            Answer::Meta(stored) => stored.answer(self, change, &key, out),
            Answer::Binary(stored) => stored.answer(change, out),
        }
    }
}

fn in_words(change: Change) -> &'static str {
    match change {
        Change::Stored(_) => "STORED\r\n",
        Change::NotStored => "NOT_STORED\r\n",
        Change::Exists => "EXISTS\r\n",
        Change::NotFound => "NOT_FOUND\r\n",
    }
}

/// A line without the carriage return at its end; one that is nothing else keeps it, as in memcached.
fn without_return(line: &[u8]) -> &[u8] {
    match line {
        [rest @ .., b'\r'] if !rest.is_empty() => rest,
        line => line,
    }
}
