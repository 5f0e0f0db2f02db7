//! What is sent over a connection, and what has to come back.
//!
//! A [`Protocol`] writes requests and reads replies, a piece at a time as they come. [`echo`] is one;
//! [`key_value`] is memcached's, in the [`text`] or the [`binary`] format.

pub(crate) mod binary;
pub(crate) mod echo;
pub(crate) mod key_value;
pub(crate) mod text;

use serde::{Deserialize, Serialize};

/// Requests and the replies to them. Replies come in the order of the requests.
pub(crate) trait Protocol {
    /// What is known of a reply that is still to come, and how much of it has come.
    type Reply;

    /// Appends the next request of the connection of this number, of which `position` bytes were
    /// written before.
    fn request(&mut self, connection: u64, position: u64, out: &mut Vec<u8>) -> Self::Reply;

    /// Takes what it can of `bytes`, which continue this reply; what it leaves comes again, with more
    /// behind it.
    fn consume(&mut self, reply: &mut Self::Reply, bytes: &[u8]) -> Result<Step, Fault>;

    /// What was asked and answered so far.
    fn tally(&self) -> Tally;
}

/// How far a reply has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Bytes taken.
    pub used: usize,
    /// The reply is whole.
    pub is_whole: bool,
}

/// What is wrong with a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A byte is another one than it should be.
    Mismatch {
        /// Its position in the connection's stream, or in the value.
        position: u64,
        found: u8,
        expected: u8,
    },
    /// The server says something else than an answer to the question.
    Answer(String),
}

/// Requests of a key-value protocol by kind; all 0 for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// GETs whose key was there.
    pub hits: u64,
    /// GETs whose key was not.
    pub misses: u64,
    /// SETs that were carried out.
    pub sets: u64,
}

impl Tally {
    /// What came since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            sets: self.sets - earlier.sets,
        }
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            sets: self.sets + other.sets,
        }
    }
}
