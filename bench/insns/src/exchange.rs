//! What clients say to the applications that are measured, and what has to come back.

use std::array;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Bytes of an echo request and of its reply.
pub const MESSAGE_BYTES: usize = 64;
/// Bytes of a key and of its value in memcached.
const KEY_BYTES: usize = 32;
const VALUE_BYTES: usize = 32;

/// An application that can be measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Application {
    /// Messages of 64 bytes that come back.
    #[default]
    Echo,
    /// SETs and GETs in memcached's text protocol, keys and values of 32 bytes.
    Memcached,
}

impl Application {
    /// Its name among the artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Memcached => "memcached",
        }
    }

    /// Where it listens.
    pub fn port(self) -> u16 {
        match self {
            // RFC 862.
            Self::Echo => 7,
            Self::Memcached => 11211,
        }
    }

    /// What is asked of it, in this order: a GET finds what a SET has left.
    pub fn exchanges(self) -> &'static [Exchange] {
        match self {
            Self::Echo => &[Exchange::Echo],
            Self::Memcached => &[Exchange::Set, Exchange::Get],
        }
    }
}

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exchange {
    /// The reply is the request.
    Echo,
    /// Stores the value of the connection's key.
    Set,
    /// Asks for it.
    Get,
}

impl Exchange {
    /// What its table and its baseline are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Set => "set",
            Self::Get => "get",
        }
    }

    /// Request number `count` of a connection, and the reply to it.
    pub fn message(self, connection: usize, count: u64) -> (Vec<u8>, Vec<u8>) {
        let key = format!("{connection:0KEY_BYTES$}");
        let value = value(connection);
        match self {
            Self::Echo => {
                let bytes = echo_bytes(connection, count).to_vec();
                (bytes.clone(), bytes)
            }
            Self::Set => (
                format!("set {key} 0 0 {VALUE_BYTES}\r\n{value}\r\n").into(),
                b"STORED\r\n".to_vec(),
            ),
            Self::Get => (
                format!("get {key}\r\n").into(),
                format!("VALUE {key} 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n").into(),
            ),
        }
    }
}

/// Different bytes for each connection and each request.
fn echo_bytes(connection: usize, count: u64) -> [u8; MESSAGE_BYTES] {
    let number = (connection % 251) as u8;
    let first = number.wrapping_mul(31).wrapping_add(count as u8);
    array::from_fn(|position| first.wrapping_add(position as u8))
}

/// The value of a connection's key: letters that no other connection's value begins with.
fn value(connection: usize) -> String {
    let letter = |position| char::from(b'a' + ((connection >> (4 * (position % 4))) & 15) as u8);
    (0..VALUE_BYTES).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn echoed_bytes_differ_between_requests_and_connections() {
        let messages = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let sent = messages.map(|(connection, count)| Exchange::Echo.message(connection, count));
        assert!(sent.iter().all(|(request, reply)| request == reply));
        assert_eq!(sent.into_iter().collect::<BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn a_get_is_answered_with_what_was_set() {
        let values: BTreeSet<_> = (0..1000).map(value).collect();
        assert_eq!(values.len(), 1000);
        let (set, stored) = Exchange::Set.message(77, 1);
        let (get, found) = Exchange::Get.message(77, 9);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (key, value) = (format!("{:030}77", 0), value(77));
        assert_eq!(text(set), format!("set {key} 0 0 32\r\n{value}\r\n"));
        assert_eq!(text(stored), "STORED\r\n");
        assert_eq!(text(get), format!("get {key}\r\n"));
        assert_eq!(
            text(found),
            format!("VALUE {key} 0 32\r\n{value}\r\nEND\r\n")
        );
    }
}
