//! The conversation with a client: what it sends is handled, what it is owed is sent, and nothing waits.
//!
//! A client that does not take its replies is not heard until it does, so what is kept for it is bounded,
//! and nobody else is held up.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::Endpoint;
use crate::vfio_user::{Connection, ConnectionError, Replies, Server};
use crate::wire::Wire;

/// Messages are left unhandled while so many bytes of replies are unsent. One reply may come on top.
const UNSENT_BYTES: usize = 1 << 16;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All messages that were there are handled.
    Idle,
    /// There are more, which have arrived already.
    More,
    /// The client has to read its replies before anything else happens.
    Blocked,
}

/// A connected client, and where the conversation is.
#[derive(Debug)]
pub struct Conversation {
    connection: Connection,
    server: Server,
    replies: Replies,
    turn: Turn,
}

impl Conversation {
    /// Begins with the client at the other end of a connected stream socket.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(socket: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            connection: Connection::new(socket),
            server: Server::new(),
            replies: Replies::default(),
            turn: Turn::Idle,
        })
    }

    /// How the last turn ended.
    pub fn state(&self) -> Turn {
        self.turn
    }

    /// Receives at most a chunk, handles messages that are complete, and sends the replies.
    ///
    /// # Errors
    /// [`ConnectionError`]: the conversation is over.
    pub fn turn<W: Wire>(&mut self, endpoint: &mut Endpoint<W>) -> Result<Turn, ConnectionError> {
        self.turn = self.take_turn(endpoint)?;
        Ok(self.turn)
    }

    fn take_turn<W: Wire>(&mut self, endpoint: &mut Endpoint<W>) -> Result<Turn, ConnectionError> {
        if !self.connection.send(&mut self.replies)? {
            return Ok(Turn::Blocked);
        }
        // What was left by the last turn comes first: the buffer may have no room for more.
        if self.turn == Turn::Idle {
            self.connection.receive()?;
        }
        let mut turn = Turn::Idle;
        while let Some(message) = self.connection.next_message()? {
            self.server.handle(message, endpoint, &mut self.replies);
            if self.replies.bytes.len() >= UNSENT_BYTES {
                turn = Turn::More;
                break;
            }
        }
        if self.connection.send(&mut self.replies)? {
            Ok(turn)
        } else {
            Ok(Turn::Blocked)
        }
    }
}

impl AsFd for Conversation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
