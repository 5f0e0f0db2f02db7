//! What a fresh machine lacks: the kernel's compilation target, the tools that make a TAP, and a QEMU
//! with the vfio-user client. Idempotent, and safe to interrupt: whatever is installed appears whole or
//! not at all. The host's own packages are never replaced.

mod debian;
mod lock;
mod qemu;
mod target;
mod tools;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::step::say;

/// Installs what is missing; where it may not, the error says what to install.
pub fn run() -> Result<()> {
    let _lock = lock::acquire()?;
    let mut missing = Vec::new();
    for result in [target::install(), tools::install(), qemu::install()] {
        match result {
            Ok(()) => {}
            Err(error) => {
                crate::interrupt::check()?;
                missing.push(error);
            }
        }
    }
    let Some(last) = missing.pop() else {
        return Ok(());
    };
    // All of them, so that the user can mend everything in one go.
    for error in missing {
        say(&format!("setup: {error:#}"));
    }
    Err(last)
}

/// Removes a folder that may be there.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
