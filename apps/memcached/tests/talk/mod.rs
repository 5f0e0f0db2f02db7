//! A session without a network: what is said to it, and what it answers.

use libix::Lease;
use memcached_server::store::Piece;
use memcached_server::{Fed, Output, Server, Session, Settings, Worker};

/// A session with a server of its own, unless it shares that of another.
pub struct Talk {
    session: Session,
    pub worker: Worker<'static>,
}

/// Answers as one text.
#[derive(Default)]
pub struct Answers {
    pub bytes: Vec<u8>,
    /// Takes no more than about so many; 0 for any number.
    pub limit: usize,
}

impl Output for Answers {
    fn fixed(&mut self, text: &'static str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn piece(&mut self, piece: Piece) {
        self.bytes.extend_from_slice(piece.bytes());
    }

    fn is_full(&self) -> bool {
        self.limit != 0 && self.bytes.len() >= self.limit
    }
}

impl Talk {
    #[allow(dead_code, reason = "not every test has the usual settings")]
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    /// With those settings, and all of the memory that they say.
    pub fn with(settings: Settings) -> Self {
        let memory_bytes = settings.store.memory_bytes;
        let server: &'static Server = Box::leak(Box::new(Server::new(settings, 1_700_000_000)));
        assert!(server.store.add_memory(memory_bytes));
        Self {
            session: Session::default(),
            worker: Worker::new(server, 0),
        }
    }

    /// Another session of the same server.
    #[allow(dead_code, reason = "not every test has two")]
    pub fn beside(&self) -> Self {
        Self {
            session: Session::default(),
            worker: self.worker,
        }
    }

    /// Says that, and returns all answers.
    pub fn say(&mut self, text: impl AsRef<[u8]>) -> String {
        let (answer, _) = self.feed(text.as_ref());
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The same in bytes, with what the session makes of it.
    pub fn feed(&mut self, bytes: &[u8]) -> (Vec<u8>, Fed) {
        let mut answers = Answers::default();
        let fed = self.session.feed(&self.worker, bytes, &mut answers);
        (answers.bytes, fed)
    }

    /// Says that to a peer who reads so many bytes at a time.
    #[allow(dead_code, reason = "not every test has a slow reader")]
    pub fn feed_slowly(&mut self, bytes: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let (mut rest, mut parts) = (bytes, Vec::new());
        loop {
            let mut answers = Answers {
                limit,
                ..Answers::default()
            };
            let fed = self.session.feed(&self.worker, rest, &mut answers);
            parts.push(answers.bytes);
            match fed {
                Fed::Full(taken) => rest = &rest[taken..],
                Fed::All | Fed::Close => return parts,
            }
        }
    }

    /// Bytes that the session keeps beside items.
    #[allow(dead_code, reason = "not every test asks")]
    pub fn kept_bytes(&self) -> usize {
        self.session.kept_bytes()
    }
}
