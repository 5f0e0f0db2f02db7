//! The sessions of apps/memcached, without a network.

use libix::Lease;
use memcached_server::store::Piece;
use memcached_server::{Fed, Output, Server, Session, Settings, Worker};

/// One connection.
pub struct Ours {
    session: Session,
    worker: Worker<'static>,
}

/// Answers, as they would be on the wire.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Output for Answers {
    fn fixed(&mut self, text: &'static str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn piece(&mut self, piece: Piece) {
        self.0.extend_from_slice(piece.bytes());
    }

    fn is_full(&self) -> bool {
        false
    }
}

impl Ours {
    /// To a server of its own.
    pub fn new(unix_seconds: u64) -> Self {
        let settings = Settings::default();
        let memory_bytes = settings.store.memory_bytes;
        let server: &'static Server = Box::leak(Box::new(Server::new(settings, unix_seconds)));
        assert!(server.store.add_memory(memory_bytes), "the host has memory");
        Self {
            session: Session::default(),
            worker: Worker::new(server, 0),
        }
    }

    /// Begins a new connection.
    pub fn reconnect(&mut self) {
        self.session = Session::default();
    }

    /// What is answered to bytes that come in pieces of that length, and whether the connection ends.
    pub fn answer(&mut self, bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut answers = Answers::default();
        for piece in bytes.chunks(piece.max(1)) {
            if self.session.feed(&self.worker, piece, &mut answers) == Fed::Close {
                return (answers.0, true);
            }
        }
        (answers.0, false)
    }
}
