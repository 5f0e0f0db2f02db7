//! What tests of the whole control plane share: a daemon in a folder of its own with `ixctl` for it, the
//! processes that hang on it, and a browser.
//!
//! The programs are those of `cargo build -p ixcpd -p ixctl`, which `cargo xtask test` runs before.

#![forbid(unsafe_code)]

pub mod chromium;
mod control_plane;
pub mod processes;

pub use control_plane::ControlPlane;

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take on a loaded two-core machine under emulation.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds; panics with `what` if it never does.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
