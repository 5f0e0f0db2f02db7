//! A memcached: what it keeps ([`store`]), how it is asked ([`Session`]), and how it serves on libix
//! ([`Service`]).
//!
//! | module | what |
//! |---|---|
//! | `store` | items in a fixed budget of memory, shared by all threads |
//! | `session` | one connection: bytes in, answers out; `keys` are those of a get that waits |
//! | `classic`, `meta`, `binary` | the protocols; `stats` what they say of the server, `admin` what they change |
//! | `server` | what threads share; `counters` what they count |
//! | `service` | libix on one side, sessions on the other; `options` its arguments |
//!
//! All but `service` knows nothing of libix's events, so that tests run the same sessions over sockets of
//! Linux, beside another memcached.

#![cfg_attr(bare, no_std)]
#![deny(unsafe_code)]

extern crate alloc;

mod admin;
mod binary;
mod classic;
mod counters;
mod datagram;
mod keys;
mod meta;
mod options;
mod output;
mod server;
mod service;
mod session;
mod stats;
pub mod store;
mod text;

pub use options::start;
pub use output::Output;
pub use server::{Server, Settings, VERSION, Worker};
pub use service::Service;
pub use session::{Fed, Session};
