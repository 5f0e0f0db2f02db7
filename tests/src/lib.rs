//! What the tests on booted machines share: a [`Booted`] machine with Linux sockets at the other
//! end of its wire.
//!
//! The tests themselves are in `tests/tests`, one file a subject, all of them marked `ignore`:
//! they boot virtual machines and need root for a network namespace each. `cargo xtask test` builds
//! the images and runs them; `cargo xtask test boot NAME` runs those whose name contains NAME.

#![forbid(unsafe_code)]

mod booted;
mod ping;

pub use booted::{BOOT_TIMEOUT, Booted, EXCHANGE_TIMEOUT, pattern};
pub use ping::Pinger;
