//! Linux's side of a transfer: streams of the bytes that `ix_net::testing` knows, each byte verified.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::LazyLock;
use std::thread;

pub use ix_net::testing::STREAM_PERIOD as PERIOD;
use ix_net::testing::stream_byte;

/// Bytes per call; less than a period.
const CHUNK: usize = 60_000;

/// Two periods, so that a chunk from anywhere in the first is in one piece.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..2 * PERIOD).map(stream_byte).collect());

/// The stream from `position` on, at most `len` bytes of it.
fn piece(position: u64, len: u64) -> &'static [u8] {
    let at = (position % PERIOD) as usize;
    &BYTES[at..at + len.min(CHUNK as u64) as usize]
}

/// Which side ends its stream first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Shuts down as soon as everything is sent.
    First,
    /// Shuts down after the peer's end of stream.
    Second,
}

/// Sends and receives at the same time, verifies what comes, up to the peer's end of stream.
pub fn exchange(stream: &TcpStream, send: u64, expect: u64, ends: Ends) {
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            self::send(stream, send);
            if ends == Ends::First {
                shut_down(stream);
            }
        });
        receive(stream, expect);
        assert_eq!((&*stream).read(&mut [0]).expect("the end of stream"), 0);
        writer.join().expect("the writer ends well");
    });
    if ends == Ends::Second {
        shut_down(stream);
    }
}

/// Sends the first `len` bytes.
pub fn send(mut stream: &TcpStream, len: u64) {
    let mut position = 0;
    while position < len {
        let piece = piece(position, len - position);
        stream.write_all(piece).expect("Linux sends");
        position += piece.len() as u64;
    }
}

/// Receives and verifies the first `len` bytes.
pub fn receive(mut stream: &TcpStream, len: u64) {
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    while position < len {
        let most = CHUNK.min((len - position) as usize);
        let count = stream.read(&mut buffer[..most]).expect("Linux receives");
        assert_ne!(count, 0, "the stream ended at {position} of {len}");
        assert!(
            buffer[..count] == *piece(position, count as u64),
            "wrong bytes after {position}"
        );
        position += count as u64;
    }
}

/// Ends Linux's stream.
pub fn shut_down(stream: &TcpStream) {
    stream
        .shutdown(Shutdown::Write)
        .expect("Linux shuts its side down");
}
