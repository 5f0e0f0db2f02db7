//! The kernel's compilation target.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::child;
use crate::failure::bad_input;
use crate::step::Step;
use crate::workspace::{KERNEL_TARGET, root};

/// Adds the target to the pinned toolchain.
pub fn install() -> Result<()> {
    Step::run(format!("setup: target {KERNEL_TARGET}"), |step| {
        if libraries()?.is_dir() {
            return Ok(((), "present".to_owned()));
        }
        let mut command = Command::new("rustup");
        command
            .args(["target", "add", KERNEL_TARGET])
            .current_dir(root());
        match child::capture(step, command) {
            Ok(_) => Ok(((), "installed".to_owned())),
            Err(error) => {
                crate::interrupt::check()?;
                Err(bad_input(format!(
                    "run `rustup target add {KERNEL_TARGET}`: {error:#}"
                )))
            }
        }
    })
}

/// Where the toolchain keeps the target's libraries.
fn libraries() -> Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(root())
        .output()
        .context("cannot run rustc")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(PathBuf::from(sysroot)
        .join("lib/rustlib")
        .join(KERNEL_TARGET)
        .join("lib"))
}
