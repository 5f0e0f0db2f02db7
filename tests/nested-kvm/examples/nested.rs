//! Runs the accelerator probe under nested KVM with the QEMU in a Debian tree: `nested ROOT CACHE`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use ix_nested_kvm::{Config, Guest, Qemu, run};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let root = arguments.next().context("usage: nested ROOT CACHE")?;
    let cache = arguments.next().context("usage: nested ROOT CACHE")?;
    let config = Config {
        qemu: Qemu::of_debian_root(&root),
        cache,
        timeout: Duration::from_secs(60),
    };
    let image = tempfile::NamedTempFile::new()?;
    std::fs::write(&image, ix_accel_probe::guest::image())?;
    let guests = [Guest::probe(image.path())];
    let outcome = run(&config, &guests)?;
    println!("{outcome:#?}");
    outcome.check(&guests)
}
