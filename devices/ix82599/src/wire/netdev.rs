//! Unix sockets that carry frames as QEMU's network back ends do: `stream`, where each frame has its length
//! before it, which is also how passt is spoken to, without any privilege; and `dgram`, where each datagram
//! is a frame.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

use super::{MAX_FRAME_BYTES, Wire, WireError};

/// Bytes of the length before a frame, in network byte order.
const LENGTH_BYTES: usize = 4;
/// What may wait for the other side to read.
const UNSENT_BYTES: usize = 1 << 18;
/// How long what the other side did not take waits at least.
const RETRY_NS: u64 = 1_000_000;
/// Read at once.
const CHUNK_BYTES: usize = 1 << 16;

/// A stream socket: QEMU's `-netdev stream`, passt.
#[derive(Debug)]
pub struct StreamSocket {
    stream: UnixStream,
    unsent: Vec<u8>,
    received: Vec<u8>,
    /// Bytes of `received` that are taken.
    taken: usize,
    is_over: bool,
    now_ns: u64,
}

impl StreamSocket {
    /// Connects to whoever listens at `path`.
    ///
    /// # Errors
    /// The operating system's.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Self::new(UnixStream::connect(path)?)
    }

    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            unsent: Vec::new(),
            received: Vec::new(),
            taken: 0,
            is_over: false,
            now_ns: 0,
        })
    }

    /// Sends what was left; whether nothing is left now.
    fn flush(&mut self) -> Result<bool, WireError> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.end()),
            }
        }
        Ok(true)
    }

    fn end(&mut self) -> WireError {
        if !std::mem::replace(&mut self.is_over, true) {
            log::warn!("the other side of the stream is gone: the link is down from now on");
        }
        WireError::Down
    }

    /// The next frame that is complete: where it is in `received`.
    fn next(&mut self) -> Result<Option<std::ops::Range<usize>>, WireError> {
        let waiting = &self.received[self.taken..];
        let Some(length) = waiting.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_FRAME_BYTES {
            log::warn!("a frame of {length} bytes: what comes is no stream of frames");
            return Err(self.end());
        }
        if waiting.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let start = self.taken + LENGTH_BYTES;
        self.taken = start + length;
        Ok(Some(start..start + length))
    }

    /// Reads more. Whether there was any.
    fn read(&mut self) -> Result<bool, WireError> {
        self.received.drain(..self.taken);
        self.taken = 0;
        let end = self.received.len();
        self.received.resize(end + CHUNK_BYTES, 0);
        let result = self.stream.read(&mut self.received[end..]);
        self.received
            .truncate(end + result.as_ref().map_or(0, |count| *count));
        match result {
            Ok(0) => Err(self.end()),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Err(self.end()),
        }
    }
}

impl Wire for StreamSocket {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        if self.is_over {
            return Err(WireError::Down);
        }
        self.flush()?;
        if self.unsent.len() + LENGTH_BYTES + frame.len() > UNSENT_BYTES {
            return Err(WireError::Full);
        }
        self.unsent
            .extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.unsent.extend_from_slice(frame);
        self.flush()?;
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        if self.is_over {
            return Ok(None);
        }
        self.flush()?;
        loop {
            if let Some(range) = self.next()? {
                let received = &self.received[range];
                if let Some(room) = frame.get_mut(..received.len()) {
                    room.copy_from_slice(received);
                    return Ok(Some(received.len()));
                }
            } else if !self.read()? {
                return Ok(None);
            }
        }
    }

    fn link_up(&self) -> bool {
        !self.is_over
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// What is unsent is sent when frames are looked for next.
    fn deadline_ns(&self) -> Option<u64> {
        let waits = !self.unsent.is_empty() && !self.is_over;
        waits.then_some(self.now_ns + RETRY_NS)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }
}

/// A datagram socket: QEMU's `-netdev dgram`.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UnixDatagram,
}

impl DatagramSocket {
    /// Receives at `local`, which is created, and sends to `remote`, which may come later.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(local: &Path, remote: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(local)?;
        socket.connect(remote)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }
}

impl Wire for DatagramSocket {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        match self.socket.send(frame) {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Err(WireError::Full),
                _ => Err(WireError::Down),
            },
        }
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        match self.socket.recv(frame) {
            Ok(length) => Ok(Some(length)),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                _ => Err(WireError::Down),
            },
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frame: &[u8]) -> Vec<u8> {
        [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
    }

    #[test]
    fn frames_survive_any_cutting_of_the_stream() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut wire = StreamSocket::new(near).unwrap();
        let frames: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 60 + 7 * usize::from(n)]).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
        let mut room = [0; 2048];
        let mut got = Vec::new();
        for piece in stream.chunks(61) {
            far.write_all(piece).unwrap();
            while let Some(length) = wire.receive(&mut room).unwrap() {
                got.push(room[..length].to_vec());
            }
        }
        assert_eq!(got, frames);
        wire.send(&[9; 100]).unwrap();
        let mut bytes = [0; 104];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes[..], framed(&[9; 100]));
    }

    #[test]
    fn a_reader_that_does_not_read_is_full_and_gets_whole_frames_later() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut wire = StreamSocket::new(near).unwrap();
        let mut sent = 0;
        while wire.send(&[7; 1500]).is_ok() {
            sent += 1;
        }
        assert!(matches!(wire.send(&[7; 1500]), Err(WireError::Full)));
        far.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let mut room = [0; 1 << 16];
        while bytes.len() < sent * 1504 {
            let count = far.read(&mut room).unwrap_or(0);
            bytes.extend_from_slice(&room[..count]);
            // Looking for frames sends the rest.
            assert_eq!(wire.receive(&mut room).unwrap(), None);
        }
        assert!(bytes.chunks(1504).all(|piece| piece == framed(&[7; 1500])));
    }

    #[test]
    fn nonsense_and_the_end_are_a_link_that_is_down() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut wire = StreamSocket::new(near).unwrap();
        far.write_all(&[0xff; 8]).unwrap();
        assert!(matches!(wire.receive(&mut [0; 64]), Err(WireError::Down)));
        assert!(!wire.link_up());
        let (near, far) = UnixStream::pair().unwrap();
        let mut wire = StreamSocket::new(near).unwrap();
        drop(far);
        assert!(matches!(wire.receive(&mut [0; 64]), Err(WireError::Down)));
        assert!(matches!(wire.send(&[0; 64]), Err(WireError::Down)));
    }

    #[test]
    fn datagrams_are_frames() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let far = UnixDatagram::bind(&two).unwrap();
        let mut wire = DatagramSocket::bind(&one, &two).unwrap();
        wire.send(&[5; 60]).unwrap();
        let mut room = [0; 128];
        assert_eq!(far.recv(&mut room).unwrap(), 60);
        far.send_to(&[6; 70], &one).unwrap();
        assert_eq!(wire.receive(&mut room).unwrap(), Some(70));
        assert_eq!(wire.receive(&mut room).unwrap(), None);
    }
}
