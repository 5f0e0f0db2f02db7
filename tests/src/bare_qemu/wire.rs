//! The far end of a card's wire: frames with their length before them, as QEMU's `stream` has them.

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt;

/// Enough for all frames of a test, so that neither side ever waits for the other.
const BUFFER_BYTES: usize = 16 << 20;
const LENGTH_BYTES: usize = 4;

/// The far end.
pub struct FarEnd {
    stream: RefCell<UnixStream>,
    /// Bytes that were injected since it was asked last.
    injected: Cell<usize>,
    /// Bytes that came and are no whole frame yet.
    rest: RefCell<Vec<u8>>,
}

impl FarEnd {
    /// This end, and QEMU's.
    pub(super) fn pair() -> (Self, OwnedFd) {
        let (stream, theirs) = UnixStream::pair().expect("make a wire");
        for end in [&stream, &theirs] {
            sockopt::set_socket_send_buffer_size_force(end, BUFFER_BYTES)
                .expect("enlarge a buffer: these tests run as root");
            end.set_nonblocking(true).expect("never wait");
        }
        let far = Self {
            stream: RefCell::new(stream),
            injected: Cell::new(0),
            rest: RefCell::default(),
        };
        (far, theirs.into())
    }

    /// Puts a frame on the wire.
    pub fn inject(&self, frame: &[u8]) {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        let mut stream = self.stream.borrow_mut();
        stream.write_all(&bytes).expect("room on the wire");
        self.injected.set(self.injected.get() + bytes.len());
    }

    /// Frames that came.
    pub fn arrived(&self) -> Vec<Vec<u8>> {
        let mut rest = self.rest.borrow_mut();
        match self.stream.borrow_mut().read_to_end(&mut rest) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("the wire is cut: {other:?}"),
        }
        let mut frames = Vec::new();
        while let Some(length) = rest.first_chunk::<LENGTH_BYTES>() {
            let end = LENGTH_BYTES + u32::from_be_bytes(*length) as usize;
            if rest.len() < end {
                break;
            }
            frames.push(rest[LENGTH_BYTES..end].to_vec());
            rest.drain(..end);
        }
        frames
    }

    pub(super) fn take_injected(&self) -> usize {
        self.injected.take()
    }
}
