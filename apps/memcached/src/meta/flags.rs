//! What a meta command says.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::line::Line;
use super::{BAD_FORMAT, OPAQUE_MAX, OPAQUE_TOO_LONG, Refused};
use crate::server::{KEY_MAX, Worker};
use crate::text;

/// Most words of a meta command.
const WORDS_MAX: usize = 18;

const BAD_TOKEN: &str = "CLIENT_ERROR bad token in command line format\r\n";

/// Padded base64; bits that stand for nothing are not looked at.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What the flags of a command say.
#[derive(Default)]
pub struct Flags<'a> {
    /// As they came.
    pub words: &'a [&'a [u8]],
    /// Decoded, if it was given in base64.
    pub key: Cow<'a, [u8]>,
    /// `b`.
    pub key_is_binary: bool,
    /// `q`.
    pub is_quiet: bool,
    /// `v`.
    pub wants_value: bool,
    /// `u`.
    pub leaves_order: bool,
    /// `I`.
    pub is_stale: bool,
    /// `N`: an item that is not there is made, and good until then.
    pub vivify: Option<u32>,
    /// `T`: when it is no longer good, from now on.
    pub expires: Option<u32>,
    /// `R`: who finds it no longer good at that time is to renew it.
    pub recache: Option<u32>,
    /// `F`.
    pub client_flags: u32,
    /// `C`.
    pub cas: Option<u64>,
    /// `M`; 0 without.
    pub mode: u8,
    /// `D`; 1 without.
    pub delta: u64,
    /// `J`.
    pub initial: u64,
}

impl<'a> Flags<'a> {
    /// Of the words from `first` on.
    pub fn read(words: &'a [&'a [u8]], first: usize, worker: &Worker) -> Result<Self, Refused> {
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
    pub fn decode_key(&mut self) -> Result<(), Refused> {
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

    /// Refuses an opaque word that is too long to be repeated.
    pub fn check_opaque(&self) -> Result<(), Refused> {
        let is_too_long = |word: &&[u8]| word[0] == b'O' && word.len() > OPAQUE_MAX;
        match self.words.iter().any(is_too_long) {
            true => Err(OPAQUE_TOO_LONG),
            false => Ok(()),
        }
    }

    /// Repeats what answers repeat: the key and the opaque word. Other words are passed over.
    pub fn repeat(&self, word: &[u8], line: &mut Line) -> Result<(), Refused> {
        match word[0] {
            b'O' if word.len() > OPAQUE_MAX => return Err(OPAQUE_TOO_LONG),
            b'O' => line.word(word),
            b'k' => line.key(&self.key, self.key_is_binary),
            _ => {}
        }
        Ok(())
    }

    /// The answer of that code, with nothing but what is repeated.
    pub fn line(&self, code: &[u8]) -> Result<Line, Refused> {
        let mut line = Line::new(code);
        for word in self.words {
            self.repeat(word, &mut line)?;
        }
        Ok(line)
    }
}

fn keep<T>(value: Option<T>, note: impl FnOnce(T)) -> bool {
    value.map(note).is_some()
}

/// The key is checked as it came, before it may be decoded.
pub fn check_words(words: &[&[u8]], too_many: Refused) -> Result<(), Refused> {
    match words {
        [_, key, ..] if key.len() > KEY_MAX => Err(BAD_FORMAT),
        _ if words.len() > WORDS_MAX + 1 => Err(too_many),
        _ => Ok(()),
    }
}
