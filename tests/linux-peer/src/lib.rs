//! Linux's TCP as the peer, without a virtual machine: the engine runs in this process on a TAP in a
//! network namespace of its own, and Linux's sockets are at the other end.
//!
//! [`Wire`] is the namespace with its TAP, and a [`Path`] what lies before it; [`Station`] is an engine at
//! the end of such a path; [`Tally`] is what an independent reader saw there; [`stream`] is the Linux side
//! of a transfer, [`transfer`] the whole of it; [`patch`] joins two wires, so that Linux can be measured
//! against itself over the same path.
//!
//! Everything here panics with the reason when it fails: it serves tests, which are marked `ignore`,
//! since they need root for the namespaces; `cargo xtask test linux-peer` runs them.

#![forbid(unsafe_code)]

mod patch;
mod path;
mod station;
pub mod stream;
mod tally;
mod too_big;
pub mod transfer;
mod wire;

pub use patch::patch;
pub use path::{Distant, Path};
pub use station::{Application, ENGINE, ENGINE6, LINUX, LINUX6, Station};
pub use tally::{SynOptions, Tally};
pub use wire::{LinuxHost, Wire};
