//! The socket: chunks in, replies out. Everything else is in [`Framing`] and
//! [`Server`](super::Server).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::framing::{Framing, Message};
use super::message::BadSize;
use super::server::{MAX_FDS, Replies};

/// How long a client may leave its replies unread while there is no room for more.
const PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The client hung up.
    #[error("the client disconnected")]
    Closed,
    /// The stream cannot be followed.
    #[error("the client sent a {0}")]
    BadSize(#[from] BadSize),
    /// The client does not take its replies.
    #[error("the client does not read its replies")]
    Stuck,
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

    /// Sends all replies and empties them. Waits while the client does not read, which a client
    /// that waits for its replies does not do for long, and not for ever.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub fn send(&mut self, replies: &mut Replies) -> Result<(), ConnectionError> {
        let mut fds = replies.fds.drain(..).peekable();
        let mut at = 0;
        while at < replies.bytes.len() {
            // A descriptor rides on the first byte of its message, so that message begins a send.
            let fd = fds.next_if(|(place, _)| *place == at).map(|(_, fd)| fd);
            let end = fds.peek().map_or(replies.bytes.len(), |(place, _)| *place);
            at += self.send_piece(&replies.bytes[at..end], fd.as_ref())?;
        }
        drop(fds);
        replies.bytes.clear();
        Ok(())
    }

    fn send_piece(&self, bytes: &[u8], fd: Option<&OwnedFd>) -> Result<usize, ConnectionError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fd = fd.map(AsFd::as_fd);
        if let Some(fd) = &fd {
            control.push(SendAncillaryMessage::ScmRights(std::slice::from_ref(fd)));
        }
        loop {
            match sendmsg(
                &self.socket,
                &[IoSlice::new(bytes)],
                &mut control,
                SendFlags::NOSIGNAL,
            ) {
                Ok(sent) => return Ok(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait_until_writable()?,
                Err(Errno::CONNRESET | Errno::PIPE) => return Err(ConnectionError::Closed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn wait_until_writable(&self) -> Result<(), ConnectionError> {
        match poll(
            &mut [PollFd::new(&self.socket, PollFlags::OUT)],
            Some(&PATIENCE),
        ) {
            Ok(0) => Err(ConnectionError::Stuck),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
