//! What tests of the whole system share: a [`Booted`] machine with Linux sockets at the other end of
//! its wire, and the whole dataplane [`in_process`] with smoltcp at the other end.
//!
//! The tests themselves are in `tests/tests`, one file a subject. Those that boot virtual machines
//! are marked `ignore`, since they need images and root for a network namespace each: `cargo xtask
//! test` builds what they need and runs them, `cargo xtask test boot NAME` runs those whose name
//! contains NAME.

#![deny(unsafe_code)]

pub mod bare_qemu;
mod booted;
mod flood;
#[expect(
    unsafe_code,
    reason = "lends memory of this process to driver and application"
)]
pub mod in_process;
mod nic_program;
pub mod passt;
pub mod patience;
mod pcap;
mod ping;
mod random;
mod router;

pub use booted::{BOOT_TIMEOUT, Booted, EXCHANGE_TIMEOUT, exchange, pattern};
pub use flood::SynFlood;
pub use nic_program::NicProgram;
pub use pcap::captured_frames;
pub use ping::Pinger;
pub use random::Random;
pub use router::{RouterAdvertiser, interface_index};
