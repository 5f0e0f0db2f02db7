//! The keys of a get command that are not answered yet.

use alloc::vec::Vec;

use memchr::memchr;

use crate::output::Output;
use crate::server::{KEY_MAX, Worker};
use crate::store::Item;
use crate::text::{self, Digits};

/// The end of the answer to a get command.
pub const END: &str = "END\r\n";

/// What a get command asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Get {
    /// The unique number, too (`gets`, `gats`).
    pub with_cas: bool,
    /// Another time to expire (`gat`, `gats`).
    pub touch: Option<u32>,
}

/// See the module.
pub struct Keys {
    get: Get,
    line: Vec<u8>,
    /// Where in it the next key is to be looked for.
    at: usize,
    /// Whether the line is there to its end.
    is_complete: bool,
    /// Whether a key was too long.
    has_failed: bool,
    /// Whether a zero byte has ended the line for those who read it.
    is_cut: bool,
}

impl Get {
    /// Answers one key.
    #[inline]
    pub fn answer(&self, key: &[u8], worker: &Worker, out: &mut impl Output) {
        let item = match self.touch {
            None => worker.get(key),
            Some(expires) => worker.touch(key, expires),
        };
        match item {
            Some(item) if self.with_cas => answer_with_cas(item, out),
            Some(item) => out.piece(item.into_line_and_data()),
            None => {}
        }
    }
}

fn answer_with_cas(item: Item, out: &mut impl Output) {
    out.text(b"VALUE ");
    out.text(item.key());
    for number in [
        u64::from(item.chunk().flags()),
        item.chunk().value_bytes() as u64,
        item.cas(),
    ] {
        out.text(b" ");
        out.text(Digits::new(number).as_bytes());
    }
    out.fixed("\r\n");
    out.piece(item.into_data());
}

/// The next key from a place on, and the place after it. The end of a line is also at a zero byte, which
/// memcached takes for the end of a text.
#[inline]
pub fn next_key(line: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let mut start = from;
    while line.get(start) == Some(&b' ') {
        start += 1;
    }
    let rest = line.get(start..)?;
    let end = text::word_end(rest);
    (end != 0).then(|| (&rest[..end], start + end))
}

/// The key of a get command that asks for one key, if the line is there to its end and is as clients write
/// it, and what is after the line.
#[inline]
pub fn only_key(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = input.strip_prefix(b"get ")?;
    let (key, rest) = rest.split_at_checked(text::plain_end(rest))?;
    let after = rest.strip_prefix(b"\r\n")?;
    (1..=KEY_MAX).contains(&key.len()).then_some((key, after))
}

impl Keys {
    /// The rest of a line that is there.
    pub fn of_line(get: Get, rest: &[u8]) -> Self {
        Self {
            get,
            line: rest.to_vec(),
            at: 0,
            is_complete: true,
            has_failed: false,
            is_cut: false,
        }
    }

    /// A line whose end has not come, if it is a get command.
    pub fn of_unfinished_line(line: Vec<u8>) -> Option<Self> {
        let start = line.iter().take_while(|&&byte| byte == b' ').count();
        let (with_cas, length) = match &line[start..] {
            [b'g', b'e', b't', b' ', ..] => (false, 4),
            [b'g', b'e', b't', b's', b' ', ..] => (true, 5),
            _ => return None,
        };
        (start <= 100).then_some(Self {
            get: Get {
                with_cas,
                touch: None,
            },
            line,
            at: start + length,
            is_complete: false,
            has_failed: false,
            is_cut: false,
        })
    }

    /// Bytes that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.line.capacity()
    }

    /// Takes what is there of the line. Whether there may be a key to answer.
    pub fn take(&mut self, input: &mut &[u8]) -> bool {
        if self.is_complete {
            return true;
        }
        self.line.drain(..self.at);
        self.at = 0;
        let end = memchr(b'\n', input);
        let bytes = end.unwrap_or(input.len());
        self.line.extend_from_slice(&input[..bytes]);
        *input = &input[end.map_or(bytes, |end| end + 1)..];
        self.is_complete = end.is_some();
        if self.is_complete && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        true
    }

    /// Answers keys until the peer has enough to read. Whether that was all of the command.
    pub fn answer(&mut self, worker: &Worker, out: &mut impl Output) -> bool {
        while !self.is_cut
            && let Some((key, end)) = next_key(&self.line, self.at)
        {
            let is_whole = self.is_complete || self.line.get(end).is_some();
            self.has_failed |= key.len() > KEY_MAX;
            if self.has_failed || !is_whole {
                break;
            }
            if out.is_full() {
                return false;
            }
            self.get.answer(key, worker, out);
            self.at = end;
        }
        self.is_cut |= memchr(0, &self.line[self.at..]).is_some();
        if self.has_failed || self.is_cut {
            self.at = self.line.len();
        }
        if !self.is_complete {
            return false;
        }
        out.fixed(match self.has_failed {
            true => "CLIENT_ERROR bad command line format\r\n",
            false => END,
        });
        true
    }
}
