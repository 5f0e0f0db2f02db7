//! memcached's text protocol (its `doc/protocol.txt`).

use std::io::Write as _;

use super::Fault;
use super::key_value::{Answer, Format, Head, Kind, shown};

/// The text format.
#[derive(Debug)]
pub(crate) struct Text;

/// No line of an answer is longer: a key has at most 250 bytes.
const LONGEST_LINE: usize = 300;

impl Format for Text {
    const TAIL: &'static [u8] = b"\r\nEND\r\n";

    fn append_get(key: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"get ");
        out.extend_from_slice(key);
        out.extend_from_slice(b"\r\n");
    }

    fn append_set(key: &[u8], value_len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"set ");
        out.extend_from_slice(key);
        write!(out, " 0 0 {value_len}\r\n").expect("memory takes everything");
    }

    fn append_set_end(out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
    }

    fn read_head(kind: Kind, bytes: &[u8]) -> Result<Option<Head>, Fault> {
        let line = &bytes[..bytes.len().min(LONGEST_LINE)];
        let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
            return match bytes.len() < LONGEST_LINE {
                true => Ok(None),
                false => Err(Fault::Answer(shown(line))),
            };
        };
        let line = &bytes[..end];
        let answer = match (kind, line) {
            (Kind::Get, b"END") => Answer::Miss(0),
            (Kind::Set, b"STORED") => Answer::Stored,
            (Kind::Get, _) => value_len(line)
                .map(Answer::Value)
                .ok_or_else(|| Fault::Answer(shown(line)))?,
            (Kind::Set, _) => return Err(Fault::Answer(shown(line))),
        };
        let len = end + 2;
        Ok(Some(Head { len, answer }))
    }
}

/// The length in `VALUE <key> <flags> <bytes>`.
fn value_len(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    text.strip_prefix("VALUE ")?.split(' ').nth(2)?.parse().ok()
}
