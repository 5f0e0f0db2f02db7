//! The binary protocol: requests with a header of 24 bytes, then extras, key and value.
//!
//! What memcached refuses and what it answers is kept; so is that quiet commands leave out what their
//! sender expects, and nothing else.

use crate::classic::{self, calculate_in, count_missing_number};
use crate::output::Output;
use crate::server::{KEY_MAX, VERSION, Worker};
use crate::session::{Answer, Session, State};
use crate::stats;
use crate::store::{Change, Delta, How, Item, Mode, NoChunk, Sum};
use crate::text::Digits;
use alloc::vec::Vec;

/// Bytes of a header.
const HEADER: usize = 24;
const REQUEST: u8 = 0x80;
const RESPONSE: u8 = 0x81;

/// In incr and decr: a number that is not there is not made.
const NO_INITIAL: u32 = u32::MAX;

/// Operation codes, without those that only differ in being quiet.
mod opcode {
    pub const GET: u8 = 0x00;
    pub const SET: u8 = 0x01;
    pub const ADD: u8 = 0x02;
    pub const REPLACE: u8 = 0x03;
    pub const DELETE: u8 = 0x04;
    pub const INCREMENT: u8 = 0x05;
    pub const DECREMENT: u8 = 0x06;
    pub const QUIT: u8 = 0x07;
    pub const FLUSH: u8 = 0x08;
    pub const GET_QUIETLY: u8 = 0x09;
    pub const NOOP: u8 = 0x0a;
    pub const VERSION: u8 = 0x0b;
    pub const GET_KEY: u8 = 0x0c;
    pub const GET_KEY_QUIETLY: u8 = 0x0d;
    pub const APPEND: u8 = 0x0e;
    pub const PREPEND: u8 = 0x0f;
    pub const STAT: u8 = 0x10;
    /// From here on to `PREPEND_QUIETLY`, the quiet ones of set to decrement, quit, flush, append, prepend.
    pub const SET_QUIETLY: u8 = 0x11;
    pub const PREPEND_QUIETLY: u8 = 0x1a;
    pub const TOUCH: u8 = 0x1c;
    pub const GET_AND_TOUCH: u8 = 0x1d;
    pub const GET_AND_TOUCH_QUIETLY: u8 = 0x1e;
    pub const GET_KEY_AND_TOUCH: u8 = 0x23;
    pub const GET_KEY_AND_TOUCH_QUIETLY: u8 = 0x24;
}

/// Why a request is not done; with what memcached says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    NotFound,
    Exists,
    TooLarge,
    Invalid,
    NotStored,
    NotNumeric,
    Unknown,
    NoMemory,
}

impl Status {
    fn code_and_text(self) -> (u16, &'static str) {
        match self {
            Self::NotFound => (0x01, "Not found"),
            Self::Exists => (0x02, "Data exists for key."),
            Self::TooLarge => (0x03, "Too large."),
            Self::Invalid => (0x04, "Invalid arguments"),
            Self::NotStored => (0x05, "Not stored."),
            Self::NotNumeric => (0x06, "Non-numeric server-side value for incr or decr"),
            Self::Unknown => (0x81, "Unknown command"),
            Self::NoMemory => (0x82, "Out of memory"),
        }
    }
}

impl From<NoChunk> for Status {
    fn from(error: NoChunk) -> Self {
        match error {
            NoChunk::TooLarge => Self::TooLarge,
            NoChunk::NoMemory => Self::NoMemory,
        }
    }
}

/// A header, and what follows it as far as it has been read: extras and key.
struct Request<'a> {
    /// As it came.
    code: u8,
    /// Without being quiet.
    operation: u8,
    is_quiet: bool,
    opaque: [u8; 4],
    cas: u64,
    extras: &'a [u8],
    key: &'a [u8],
    body_bytes: usize,
}

/// Bytes that are missing to a request without its value.
pub fn missing(kept: &[u8]) -> usize {
    if kept.len() < HEADER {
        return HEADER - kept.len();
    }
    let before_value = before_value(kept).unwrap_or(0);
    (HEADER + before_value).saturating_sub(kept.len())
}

/// Bytes of extras and key, if they can be right.
fn before_value(header: &[u8]) -> Option<usize> {
    let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let bytes = key_bytes + usize::from(header[4]);
    let fits = header[0] == REQUEST && key_bytes <= KEY_MAX && bytes <= body_bytes(header);
    fits.then_some(bytes)
}

fn body_bytes(header: &[u8]) -> usize {
    u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize
}

impl<'a> Request<'a> {
    fn read(bytes: &'a [u8], extras: usize) -> Self {
        let code = bytes[1];
        let (operation, is_quiet) = loud(code);
        Self {
            code,
            operation,
            is_quiet,
            opaque: [bytes[12], bytes[13], bytes[14], bytes[15]],
            cas: number(&bytes[16..24]),
            extras: &bytes[HEADER..HEADER + extras],
            key: &bytes[HEADER + extras..],
            body_bytes: body_bytes(bytes),
        }
    }

    fn value_bytes(&self) -> usize {
        self.body_bytes - self.extras.len() - self.key.len()
    }

    /// Whether extras and key are as this operation has them.
    fn is_valid(&self) -> bool {
        let (extras, has_key, has_value) = (
            self.extras.len(),
            !self.key.is_empty(),
            self.value_bytes() != 0,
        );
        match self.operation {
            opcode::SET | opcode::ADD | opcode::REPLACE => extras == 8 && has_key,
            opcode::APPEND | opcode::PREPEND => extras == 0 && has_key,
            opcode::INCREMENT | opcode::DECREMENT => extras == 20 && has_key && !has_value,
            opcode::GET | opcode::GET_KEY | opcode::DELETE => extras == 0 && has_key && !has_value,
            opcode::TOUCH | opcode::GET_AND_TOUCH | opcode::GET_KEY_AND_TOUCH => {
                extras == 4 && has_key && !has_value
            }
            opcode::FLUSH => !has_key && !has_value && matches!(extras, 0 | 4),
            opcode::STAT => extras == 0 && !has_value,
            _ => self.body_bytes == 0,
        }
    }

    fn respond(&self, cas: u64, extras: &[u8], key: &[u8], value: &[u8], out: &mut impl Output) {
        let body = extras.len() + key.len() + value.len();
        out.text(&self.header(0, key.len(), extras.len(), body, cas));
        out.text(extras);
        out.text(key);
        out.text(value);
    }

    fn refuse(&self, status: Status, out: &mut impl Output) {
        let (code, text) = status.code_and_text();
        out.text(&self.header(code, 0, 0, text.len(), 0));
        out.text(text.as_bytes());
    }

    fn header(
        &self,
        status: u16,
        key: usize,
        extras: usize,
        body: usize,
        cas: u64,
    ) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = RESPONSE;
        header[1] = self.code;
        header[2..4].copy_from_slice(&(key as u16).to_be_bytes());
        header[4] = extras as u8;
        header[6..8].copy_from_slice(&status.to_be_bytes());
        header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
        header[12..16].copy_from_slice(&self.opaque);
        header[16..24].copy_from_slice(&cas.to_be_bytes());
        header
    }
}

/// The operation without being quiet, and whether it is.
fn loud(code: u8) -> (u8, bool) {
    match code {
        opcode::GET_QUIETLY => (opcode::GET, true),
        opcode::GET_KEY_QUIETLY => (opcode::GET_KEY, true),
        opcode::GET_AND_TOUCH_QUIETLY => (opcode::GET_AND_TOUCH, true),
        opcode::GET_KEY_AND_TOUCH_QUIETLY => (opcode::GET_KEY_AND_TOUCH, true),
        opcode::SET_QUIETLY..=opcode::PREPEND_QUIETLY => {
            let loud = [
                opcode::SET,
                opcode::ADD,
                opcode::REPLACE,
                opcode::DELETE,
                opcode::INCREMENT,
                opcode::DECREMENT,
                opcode::QUIT,
                opcode::FLUSH,
                opcode::APPEND,
                opcode::PREPEND,
            ];
            (loud[usize::from(code - opcode::SET_QUIETLY)], true)
        }
        code => (code, false),
    }
}

fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter();
    digits.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Executes a request, of which everything but the value has come.
pub fn execute(session: &mut Session, worker: &Worker, bytes: &[u8], out: &mut impl Output) {
    if bytes[0] != REQUEST {
        return session.expect(State::Over);
    }
    if before_value(bytes).is_none() {
        let status = match usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) > KEY_MAX {
            true => Status::Invalid,
            false => Status::Unknown,
        };
        Request::read(&bytes[..HEADER], 0).refuse(status, out);
        return session.expect(State::Over);
    }
    let request = Request::read(bytes, bytes[4].into());
    if !is_known(request.operation) {
        request.refuse(Status::Unknown, out);
        return swallow(session, request.value_bytes());
    }
    if !request.is_valid() {
        request.refuse(Status::Invalid, out);
        return session.expect(State::Over);
    }
    match request.operation {
        opcode::SET | opcode::ADD | opcode::REPLACE | opcode::APPEND | opcode::PREPEND => {
            storage(session, worker, &request, out);
        }
        opcode::GET | opcode::GET_KEY => get(worker, &request, None, out),
        opcode::TOUCH | opcode::GET_AND_TOUCH | opcode::GET_KEY_AND_TOUCH => {
            let expires = worker.expiry_of(number(request.extras) as u32);
            get(worker, &request, Some(expires), out);
        }
        opcode::DELETE => delete(worker, &request, out),
        opcode::INCREMENT | opcode::DECREMENT => arithmetic(worker, &request, out),
        opcode::STAT => stat(worker, &request, out),
        opcode::FLUSH => flush(worker, &request, out),
        opcode::QUIT => {
            if !request.is_quiet {
                request.respond(0, &[], &[], &[], out);
            }
            session.expect(State::Over);
        }
        opcode::VERSION => request.respond(0, &[], &[], VERSION.as_bytes(), out),
        opcode::NOOP => request.respond(0, &[], &[], &[], out),
        _ => {}
    }
}

fn is_known(operation: u8) -> bool {
    matches!(
        operation,
        opcode::GET
            ..=opcode::PREPEND_QUIETLY
                | opcode::TOUCH
                | opcode::GET_AND_TOUCH
                | opcode::GET_KEY_AND_TOUCH
    )
}

fn swallow(session: &mut Session, bytes: usize) {
    if bytes != 0 {
        session.expect(State::Swallow(bytes));
    }
}

/// How a storage request is answered.
pub struct Stored {
    header: [u8; HEADER],
    mode: Mode,
}

impl Stored {
    /// Says what came of it.
    pub fn answer(&self, change: Change, out: &mut impl Output) {
        let request = Request::read(&self.header, 0);
        let status = match (change, self.mode) {
            (Change::Stored(_), _) if request.is_quiet => return,
            (Change::Stored(cas), _) => return request.respond(cas, &[], &[], &[], out),
            (Change::Exists, _) | (Change::NotStored, Mode::Add) => Status::Exists,
            (Change::NotFound, _) | (Change::NotStored, Mode::Replace) => Status::NotFound,
            (Change::NotStored, _) => Status::NotStored,
        };
        request.refuse(status, out);
    }
}

fn storage(session: &mut Session, worker: &Worker, request: &Request<'_>, out: &mut impl Output) {
    let mode = match request.operation {
        opcode::APPEND => Mode::Append,
        opcode::PREPEND => Mode::Prepend,
        _ if request.cas != 0 => Mode::Cas,
        opcode::ADD => Mode::Add,
        opcode::REPLACE => Mode::Replace,
        _ => Mode::Set,
    };
    let (flags, time) = match request.extras {
        [flags @ .., _, _, _, _] => (number(flags) as u32, number(&request.extras[4..]) as u32),
        _ => (0, 0),
    };
    let drafted = worker
        .store()
        .draft(request.key, flags, request.value_bytes() + 2, worker.now);
    match drafted {
        Ok(draft) => {
            let how = How {
                mode,
                cas: request.cas,
                expires: worker.expiry_of(time),
                may_be_stale: false,
            };
            let mut header = request.header(0, 0, 0, 0, 0);
            header[0] = REQUEST;
            session.expect_data(draft, how, Answer::Binary(Stored { header, mode }));
        }
        Err(error) => {
            classic::count_no_chunk(worker, error);
            if request.operation == opcode::SET {
                worker.store().entry(request.key, worker.now).remove();
            }
            request.refuse(error.into(), out);
            swallow(session, request.value_bytes());
        }
    }
}

fn get(worker: &Worker, request: &Request<'_>, touch: Option<u32>, out: &mut impl Output) {
    let item = match touch {
        Some(expires) => worker.touch(request.key, expires),
        None => worker.get(request.key),
    };
    let with_key = matches!(
        request.operation,
        opcode::GET_KEY | opcode::GET_KEY_AND_TOUCH
    );
    match item {
        Some(item) => found(request, item, with_key, out),
        None if request.is_quiet => {}
        None if with_key => {
            let (code, _) = Status::NotFound.code_and_text();
            let key = request.key;
            out.text(&request.header(code, key.len(), 0, key.len(), 0));
            out.text(key);
        }
        None => request.refuse(Status::NotFound, out),
    }
}

fn found(request: &Request<'_>, item: Item, with_key: bool, out: &mut impl Output) {
    let flags = item.chunk().flags().to_be_bytes();
    let key = match with_key {
        true => item.key(),
        false => &[],
    };
    let value = match request.operation {
        opcode::TOUCH => 0,
        _ => item.value().len(),
    };
    let body = flags.len() + key.len() + value;
    out.text(&request.header(0, key.len(), flags.len(), body, item.cas()));
    out.text(&flags);
    out.text(key);
    if value != 0 {
        out.piece(item.into_value());
    }
}

fn delete(worker: &Worker, request: &Request<'_>, out: &mut impl Output) {
    let mut entry = worker.store().entry(request.key, worker.now);
    let found = entry.item().map(|item| (item.chunk().class(), item.cas()));
    match found {
        None => {
            worker.counters.delete_misses.add(1);
            request.refuse(Status::NotFound, out);
        }
        Some((_, cas)) if request.cas != 0 && request.cas != cas => {
            request.refuse(Status::Exists, out);
        }
        Some((class, _)) => {
            worker.counters.classes[class].delete_hits.add(1);
            entry.remove();
            if !request.is_quiet {
                request.respond(0, &[], &[], &[], out);
            }
        }
    }
}

fn arithmetic(worker: &Worker, request: &Request<'_>, out: &mut impl Output) {
    let (initial, time) = (
        number(&request.extras[8..16]),
        number(&request.extras[16..]) as u32,
    );
    let delta = Delta {
        adds: request.operation == opcode::INCREMENT,
        amount: number(&request.extras[..8]),
        cas: request.cas,
    };
    let mut entry = worker.store().entry(request.key, worker.now);
    let (number, cas) = match calculate_in(&mut entry, worker, delta) {
        Sum::Is(number, cas) => (number, cas),
        Sum::NotFound if time != NO_INITIAL => {
            let digits = Digits::new(initial);
            let bytes = digits.as_bytes().len() + 2;
            match worker.store().draft(request.key, 0, bytes, worker.now) {
                Ok(mut draft) => {
                    draft.fill(digits.as_bytes());
                    draft.fill(b"\r\n");
                    (initial, entry.replace(draft, worker.expiry_of(time)))
                }
                Err(error) => return request.refuse(error.into(), out),
            }
        }
        Sum::NotFound => {
            count_missing_number(worker, delta.adds);
            return request.refuse(Status::NotFound, out);
        }
        Sum::Exists => return request.refuse(Status::Exists, out),
        Sum::NotNumeric => return request.refuse(Status::NotNumeric, out),
        Sum::NoMemory(error) => return request.refuse(error.into(), out),
    };
    if !request.is_quiet {
        request.respond(cas, &[], &[], &number.to_be_bytes(), out);
    }
}

fn flush(worker: &Worker, request: &Request<'_>, out: &mut impl Output) {
    worker.counters.cmd_flush.add(1);
    let time = i32::try_from(number(request.extras)).unwrap_or(i32::MAX);
    classic::flush(worker, time);
    if !request.is_quiet {
        request.respond(0, &[], &[], &[], out);
    }
}

/// One response for each name, and one without name or value.
fn stat(worker: &Worker, request: &Request<'_>, out: &mut impl Output) {
    let lines = match request.key {
        b"" => stats::general(worker),
        b"items" => stats::items(worker),
        b"slabs" => stats::slabs(worker),
        b"settings" => stats::settings(worker),
        b"reset" => {
            worker.server.reset();
            Default::default()
        }
        _ => return request.refuse(Status::NotFound, out),
    };
    let words = lines
        .lines()
        .map(|line| line.splitn(3, ' ').skip(1).collect::<Vec<_>>());
    for words in words {
        if let [name, value] = words[..] {
            request.respond(0, &[], name.as_bytes(), value.as_bytes(), out);
        }
    }
    request.respond(0, &[], &[], &[], out);
}
