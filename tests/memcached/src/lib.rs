//! Debian's memcached and clients of it, to compare apps/memcached with, and to try `ixload` on.
//!
//! - [`debian`]: the programs, fetched with the host's apt and unpacked into the cache folder;
//! - [`original`]: Debian's memcached, serving on a Unix socket or a port;
//! - [`ours`]: the sessions of apps/memcached, in this process;
//! - [`commands`]: streams of commands, by a seed; [`requests`] the same in the binary protocol.

#![forbid(unsafe_code)]

pub mod commands;
pub mod debian;
pub mod original;
pub mod ours;
pub mod requests;
