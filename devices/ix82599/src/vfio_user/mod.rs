//! The server side of vfio-user: how a virtual machine monitor reaches a device in another process
//! over a Unix socket.
//!
//! - `message`: headers, requests and replies as bytes; no I/O;
//! - `framing`: from a stream to messages, and which file descriptors belong to which;
//! - `server`: answers requests on behalf of a [`Device`];
//! - `connection`: the socket.
//!
//! A message that is malformed or not supported is answered with an error, and the conversation
//! goes on; only a size that cannot be ends it.

mod connection;
mod framing;
pub mod message;
mod server;

pub use connection::{Connection, ConnectionError};
pub use framing::{Framing, Message};
pub use server::{
    CONFIG_REGION, Device, ERROR_INDEX, IRQ_INDEXES, MAX_FDS, MSI_INDEX, MSIX_INDEX, REGIONS,
    Region, Replies, Server,
};
