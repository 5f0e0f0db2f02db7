//! GET and SET, in either of memcached's formats.

use std::marker::PhantomData;

use super::{Fault, Protocol, Step, Tally};
use crate::pattern;
use crate::workload::Workload;

/// How GET and SET and their answers look.
pub(crate) trait Format {
    /// What follows the value of a GET.
    const TAIL: &'static [u8];

    /// Appends a GET of `key`.
    fn append_get(key: &[u8], out: &mut Vec<u8>);

    /// Appends a SET of `key` up to the value, of `value_len` bytes.
    fn append_set(key: &[u8], value_len: usize, out: &mut Vec<u8>);

    /// Appends what follows the value of a SET.
    fn append_set_end(out: &mut Vec<u8>);

    /// Reads the beginning of an answer; `None` if more of it has to come first.
    fn read_head(kind: Kind, bytes: &[u8]) -> Result<Option<Head>, Fault>;
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Set,
}

/// The beginning of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// How long it is.
    pub len: usize,
    pub answer: Answer,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A value of so many bytes follows, then the format's tail.
    Value(usize),
    /// The key is not there; so many bytes of explanation follow.
    Miss(usize),
    /// The SET was carried out.
    Stored,
}

/// GETs and SETs of a workload.
#[derive(Debug)]
pub(crate) struct KeyValue<F> {
    workload: Workload,
    source: Source,
    key: Vec<u8>,
    tally: Tally,
    format: PhantomData<F>,
}

/// Where the next request comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// The workload's mix.
    Mix,
    /// SETs of this key and those after it.
    Preload { next: u64 },
}

/// A reply on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    kind: Kind,
    key: u64,
    state: State,
}

/// How far a reply has come.
#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Value { position: usize, len: usize },
    Tail,
    Explanation { left: usize },
}

impl<F: Format> KeyValue<F> {
    /// The workload's mix.
    pub fn new(workload: Workload) -> Self {
        Self::with_source(workload, Source::Mix)
    }

    /// A SET of each key, in order.
    pub fn preload(workload: Workload) -> Self {
        Self::with_source(workload, Source::Preload { next: 0 })
    }

    fn with_source(workload: Workload, source: Source) -> Self {
        Self {
            workload,
            source,
            key: Vec::new(),
            tally: Tally::default(),
            format: PhantomData,
        }
    }

    /// What to do next, and to which key.
    fn next(&mut self) -> (Kind, u64) {
        match &mut self.source {
            Source::Mix if self.workload.is_get() => (Kind::Get, self.workload.key()),
            Source::Mix => (Kind::Set, self.workload.key()),
            Source::Preload { next } => {
                let key = *next;
                *next += 1;
                (Kind::Set, key)
            }
        }
    }

    fn read_head(&mut self, reply: &mut Reply, bytes: &[u8]) -> Result<Step, Fault> {
        let Some(head) = F::read_head(reply.kind, bytes)? else {
            return Ok(Step {
                used: 0,
                is_whole: false,
            });
        };
        let is_whole = match head.answer {
            Answer::Value(len) => {
                self.tally.hits += 1;
                reply.state = match len {
                    0 => State::Tail,
                    len => State::Value { position: 0, len },
                };
                len == 0 && F::TAIL.is_empty()
            }
            Answer::Miss(left) => {
                self.tally.misses += 1;
                reply.state = State::Explanation { left };
                left == 0
            }
            Answer::Stored => {
                self.tally.sets += 1;
                true
            }
        };
        Ok(Step {
            used: head.len,
            is_whole,
        })
    }
}

impl<F: Format> Protocol for KeyValue<F> {
    type Reply = Reply;

    fn request(&mut self, _: u64, _: u64, out: &mut Vec<u8>) -> Reply {
        let (kind, key) = self.next();
        self.key.clear();
        self.workload.append_name(key, &mut self.key);
        match kind {
            Kind::Get => F::append_get(&self.key, out),
            Kind::Set => {
                let len = self.workload.value_len();
                F::append_set(&self.key, len, out);
                let start = out.len();
                out.resize(start + len, 0);
                pattern::fill(&mut out[start..], key, 0);
                F::append_set_end(out);
            }
        }
        Reply {
            kind,
            key,
            state: State::Head,
        }
    }

    fn consume(&mut self, reply: &mut Reply, bytes: &[u8]) -> Result<Step, Fault> {
        match &mut reply.state {
            State::Head => self.read_head(reply, bytes),
            State::Value { position, len } => {
                let count = bytes.len().min(*len - *position);
                let piece = &bytes[..count];
                if let Some((index, expected)) =
                    pattern::mismatch(piece, reply.key, *position as u64)
                {
                    return Err(Fault::Mismatch {
                        position: (*position + index) as u64,
                        found: piece[index],
                        expected,
                    });
                }
                *position += count;
                let is_complete = position == len;
                if is_complete {
                    reply.state = State::Tail;
                }
                Ok(Step {
                    used: count,
                    is_whole: is_complete && F::TAIL.is_empty(),
                })
            }
            State::Tail => match bytes.get(..F::TAIL.len()) {
                None => Ok(Step {
                    used: 0,
                    is_whole: false,
                }),
                Some(tail) if tail == F::TAIL => Ok(Step {
                    used: tail.len(),
                    is_whole: true,
                }),
                Some(tail) => Err(Fault::Answer(shown(tail))),
            },
            State::Explanation { left } => {
                let used = bytes.len().min(*left);
                *left -= used;
                Ok(Step {
                    used,
                    is_whole: *left == 0,
                })
            }
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// Bytes of a server, fit for a message.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    bytes[..bytes.len().min(LONGEST)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::binary::Binary;
    use super::super::text::Text;
    use super::*;
    use crate::options::{Command, Options};
    use clap::Parser;

    fn workload(arguments: &str) -> Workload {
        let line = format!("ixload load --connect 127.0.0.1:1 {arguments}");
        match Options::parse_from(line.split_whitespace()).command {
            Command::Load(load) => Workload::new(&load.items, 7),
            other => panic!("{other:?}"),
        }
    }

    /// The value of key 5, as both formats send it.
    fn value() -> Vec<u8> {
        let mut value = vec![0; 32];
        pattern::fill(&mut value, 5, 0);
        value
    }

    fn text_hit(value: &[u8]) -> Vec<u8> {
        [b"VALUE 0000000000000005 0 32\r\n", value, b"\r\nEND\r\n"].concat()
    }

    fn binary_hit(value: &[u8]) -> Vec<u8> {
        let mut head = [0; 28];
        (head[0], head[4], head[11]) = (0x81, 4, 4 + value.len() as u8);
        [&head, value].concat()
    }

    /// Feeds an answer in pieces of `size` bytes, keeping what is left as a connection does.
    fn feed<F: Format>(kind: Kind, answer: &[u8], size: usize) -> Result<Tally, Fault> {
        let mut protocol = KeyValue::<F>::new(workload("--workload fixed"));
        let mut reply = Reply {
            kind,
            key: 5,
            state: State::Head,
        };
        let mut rest = Vec::new();
        let mut is_whole = false;
        for piece in answer.chunks(size) {
            assert!(!is_whole, "whole before the last byte");
            rest.extend_from_slice(piece);
            while !is_whole && !rest.is_empty() {
                let step = protocol.consume(&mut reply, &rest)?;
                rest.drain(..step.used);
                is_whole = step.is_whole;
                if step.used == 0 {
                    break;
                }
            }
        }
        assert!(is_whole && rest.is_empty(), "{rest:?}");
        Ok(protocol.tally())
    }

    #[test]
    fn answers_are_read_in_pieces_of_any_size() {
        let tally = |hits, misses, sets| Ok(Tally { hits, misses, sets });
        let mut missing = vec![0x81, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9];
        missing.resize(24, 0);
        missing.extend(b"Not found");
        let mut stored = vec![0x81, 1];
        stored.resize(24, 0);
        for size in 1..60 {
            assert_eq!(
                feed::<Text>(Kind::Get, &text_hit(&value()), size),
                tally(1, 0, 0)
            );
            assert_eq!(feed::<Text>(Kind::Get, b"END\r\n", size), tally(0, 1, 0));
            assert_eq!(feed::<Text>(Kind::Set, b"STORED\r\n", size), tally(0, 0, 1));
            assert_eq!(
                feed::<Binary>(Kind::Get, &binary_hit(&value()), size),
                tally(1, 0, 0)
            );
            assert_eq!(feed::<Binary>(Kind::Get, &missing, size), tally(0, 1, 0));
            assert_eq!(feed::<Binary>(Kind::Set, &stored, size), tally(0, 0, 1));
        }
    }

    #[test]
    fn a_wrong_byte_of_a_value_is_found() {
        for index in 0..32 {
            let mut wrong = value();
            wrong[index] ^= 4;
            let position = index as u64;
            let is_it = |result| matches!(result, Err(Fault::Mismatch { position: at, .. }) if at == position);
            assert!(is_it(feed::<Text>(Kind::Get, &text_hit(&wrong), 7)));
            assert!(is_it(feed::<Binary>(Kind::Get, &binary_hit(&wrong), 7)));
        }
    }

    #[test]
    fn other_answers_are_faults() {
        let fails = |kind, answer: &[u8]| {
            assert!(matches!(
                feed::<Text>(kind, answer, 60),
                Err(Fault::Answer(_))
            ));
        };
        fails(Kind::Get, b"ERROR\r\n");
        fails(Kind::Get, b"STORED\r\n");
        fails(Kind::Get, b"VALUE k 0 x\r\n");
        fails(
            Kind::Get,
            &[&text_hit(&value())[..61], b"\r\nBAD\r\n"].concat(),
        );
        fails(Kind::Set, b"SERVER_ERROR out of memory storing object\r\n");
        fails(Kind::Set, &[b'x'; 3000]);
        let mut refused = vec![0x81, 1, 0, 0, 0, 0, 0, 0x82];
        refused.resize(24, 0);
        assert!(matches!(
            feed::<Binary>(Kind::Set, &refused, 60),
            Err(Fault::Answer(_))
        ));
    }

    #[test]
    fn preloading_sets_every_key_once() {
        let mut preload = KeyValue::<Text>::preload(workload("--workload usr"));
        let mut sent = Vec::new();
        for key in 0..6 {
            let reply = preload.request(0, 0, &mut sent);
            assert_eq!((reply.kind, reply.key), (Kind::Set, key));
        }
        let text = String::from_utf8_lossy(&sent);
        assert!(text.starts_with("set 0000000000000000"), "{text}");
        assert_eq!(text.matches("set ").count(), 6);
    }
}
