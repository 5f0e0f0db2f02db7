//! The static `/init` of the outer machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Builds the static `/init` (the program `nested-init` of this crate) and returns its path.
pub fn build() -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    // A target directory of its own: other flags than the tools' would rebuild them each time.
    let target_directory = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
    }
    .join("nested-kvm");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--release",
            "--bin",
            "nested-init",
            "--target",
            TARGET,
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CARGO_TARGET_DIR", &target_directory)
        .status()
        .context("cannot start cargo to build nested-init")?;
    ensure!(
        status.success(),
        "cargo could not build nested-init ({status})"
    );
    Ok(target_directory.join(TARGET).join("release/nested-init"))
}
