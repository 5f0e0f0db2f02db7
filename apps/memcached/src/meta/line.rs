//! The line that answers a meta command.

use alloc::vec::Vec;

use base64::Engine;

use super::flags::BASE64;
use crate::output::Output;
use crate::text::Digits;

/// Room for most lines.
const USUAL_BYTES: usize = 64;

/// See the module.
pub struct Line(Vec<u8>);

impl Line {
    /// Begins with what came of the command.
    pub fn new(code: &[u8]) -> Self {
        let mut line = Self(Vec::with_capacity(USUAL_BYTES));
        line.0.extend_from_slice(code);
        line
    }

    /// Begins with the length of the value that follows, if one does.
    pub fn of_value(value_bytes: Option<usize>) -> Self {
        match value_bytes {
            Some(bytes) => {
                let mut line = Self::new(b"VA ");
                line.0
                    .extend_from_slice(Digits::new(bytes as u64).as_bytes());
                line
            }
            None => Self::new(b"HD"),
        }
    }

    /// A word, such as one of the command.
    pub fn word(&mut self, word: &[u8]) {
        self.0.push(b' ');
        self.0.extend_from_slice(word);
    }

    /// A letter and a number.
    pub fn number(&mut self, letter: u8, number: u64) {
        self.labeled(letter, Digits::new(number).as_bytes());
    }

    /// A letter and what it stands for.
    pub fn labeled(&mut self, letter: u8, text: &[u8]) {
        self.0.extend_from_slice(&[b' ', letter]);
        self.0.extend_from_slice(text);
    }

    /// The key, in base64 if it was given so.
    pub fn key(&mut self, key: &[u8], is_binary: bool) {
        match is_binary {
            true => {
                self.labeled(b'k', BASE64.encode(key).as_bytes());
                self.word(b"b");
            }
            false => self.labeled(b'k', key),
        }
    }

    /// The value, on a line of its own.
    pub fn value(&mut self, value: &[u8]) {
        self.0.extend_from_slice(b"\r\n");
        self.0.extend_from_slice(value);
    }

    /// Says the line.
    pub fn say(mut self, out: &mut impl Output) {
        self.0.extend_from_slice(b"\r\n");
        out.text(&self.0);
    }
}
