//! Two designs of a memcached on several threads, with the same store, to be measured side by side: what
//! apps/memcached does ([`shared`]), and what it does not ([`partitioned`]).
//!
//! What is alike in both is left out: the network, reading commands, putting answers together. Requests come
//! from [`Requests`], whose keys are popular by Zipf's law.

#![forbid(unsafe_code)]

pub mod partitioned;
pub mod requests;
pub mod shared;

use memcached_server::store::{How, Item, Mode};
use memcached_server::{Server, Settings, Worker};

pub use requests::{Request, Requests};

/// Connections of each thread, each with one request under way.
pub const CONNECTIONS: usize = 64;

/// What is answered.
#[derive(Default)]
pub enum Answer {
    /// Nothing is under the key, or nothing was asked for.
    #[default]
    Nothing,
    /// The item, counted until the answer has left.
    Found(Item),
    /// It is under the key now.
    Stored,
}

/// One thread of a design.
pub trait Thread: Send {
    /// Has those connections ask that have no request under way, serves what others ask of this thread, and
    /// takes answers. Returns how many answers it was.
    fn round(&mut self) -> usize;

    /// Requests that are not answered.
    fn under_way(&self) -> usize;

    /// Asks for nothing more from now on.
    fn stop(&mut self);
}

/// A server for so many threads, without items.
pub fn server(threads: usize, memory_bytes: usize) -> &'static Server {
    let mut settings = Settings {
        threads,
        ..Settings::default()
    };
    settings.store.memory_bytes = memory_bytes;
    let server: &'static Server = Box::leak(Box::new(Server::new(settings, 1_700_000_000)));
    assert!(server.store.add_memory(memory_bytes), "the host has it");
    server
}

/// Does what is asked for.
#[inline]
pub fn serve(worker: &Worker<'static>, request: &Request) -> Answer {
    if !request.stores {
        return match worker.get(&request.key) {
            Some(item) => Answer::Found(item),
            None => Answer::Nothing,
        };
    }
    let (store, bytes) = (worker.store(), request.value.len() + 2);
    let Ok(mut draft) = store.draft(&request.key, 0, bytes, worker.now) else {
        return Answer::Nothing;
    };
    draft.fill(request.value);
    draft.fill(b"\r\n");
    let how = How {
        mode: Mode::Set,
        cas: 0,
        expires: 0,
        may_be_stale: false,
    };
    store.store(draft, how, worker.now);
    Answer::Stored
}
