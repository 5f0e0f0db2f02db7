//! `cargo xtask setup`.

use anyhow::Result;

/// Install what is missing: the kernel's compilation target, the network tools, and QEMU.
///
/// A QEMU of the host that is new enough and has vfio-user-pci is used as it is (IX_QEMU names another
/// one). Otherwise a private one goes into the cache folder, ~/.cache/ix or IX_CACHE, from the Debian
/// mirror that apt is configured with. No package of the host is replaced.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<()> {
    crate::setup::run()
}
