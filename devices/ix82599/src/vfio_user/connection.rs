//! The socket: chunks in, replies out. Everything else is in [`Framing`] and
//! [`Server`](super::Server).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::framing::{Framing, Message};
use super::message::BadSize;
use super::server::{MAX_FDS, Replies};

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The client hung up.
    #[error("the client disconnected")]
    Closed,
    /// The stream cannot be followed.
    #[error("the client sent a {0}")]
    BadSize(#[from] BadSize),
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] Errno),
}

/// A connected client.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    framing: Framing,
}

impl Connection {
    /// Takes a connected, non-blocking stream socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            framing: Framing::new(),
        }
    }

    /// Receives what is there, at most one chunk. Take all messages before the next call.
    ///
    /// # Errors
    /// [`ConnectionError`]; an empty socket is none.
    pub fn receive(&mut self) -> Result<(), ConnectionError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(self.framing.room())];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match recvmsg(&self.socket, &mut room, &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(Errno::CONNRESET | Errno::PIPE) => return Err(ConnectionError::Closed),
            Err(error) => return Err(error.into()),
        };
        if received.bytes == 0 {
            return Err(ConnectionError::Closed);
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        self.framing.received(received.bytes, fds);
        Ok(())
    }

    /// The next complete message.
    ///
    /// # Errors
    /// [`ConnectionError::BadSize`].
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, ConnectionError> {
        Ok(self.framing.next_message()?)
    }

    /// Sends as much of the replies as the socket takes, and removes it from them. Returns whether
    /// nothing is left.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub fn send(&mut self, replies: &mut Replies) -> Result<bool, ConnectionError> {
        let mut sent = 0;
        while sent < replies.bytes.len() {
            // A descriptor rides on the first byte of its message, so that message begins a send.
            let first = replies.fds.first();
            let rides = first.is_some_and(|(place, _)| *place == sent);
            let next = replies.fds.get(usize::from(rides));
            let end = next.map_or(replies.bytes.len(), |(place, _)| *place);
            let fd = first.filter(|_| rides).map(|(_, fd)| fd.as_fd());
            let Some(count) = self.send_piece(&replies.bytes[sent..end], fd)? else {
                break;
            };
            sent += count;
            replies.fds.drain(..usize::from(rides));
        }
        replies.bytes.drain(..sent);
        for (place, _) in &mut replies.fds {
            *place -= sent;
        }
        Ok(replies.bytes.is_empty())
    }

    /// `None` if the socket takes nothing now.
    fn send_piece(
        &self,
        bytes: &[u8],
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Option<usize>, ConnectionError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(fd) = &fd {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
        }
        let bytes = [IoSlice::new(bytes)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            match sendmsg(&self.socket, &bytes, &mut control, flags) {
                Ok(sent) => return Ok(Some(sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET | Errno::PIPE) => return Err(ConnectionError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
