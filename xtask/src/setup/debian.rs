//! Packages of a newer Debian release, fetched by the host's own apt into a folder of ours, with their
//! dependencies, and unpacked without being installed (`ix_small_linux::apt`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use ix_small_linux::apt::{self, Apt, Suites};

use crate::child;
use crate::step::Step;

/// The release that packages are taken from.
const SUITES: Suites<'_> = Suites {
    all: "trixie trixie-updates trixie-backports",
    preferred: "trixie-backports",
};

/// Folders of packages that nothing here reads.
const NOT_NEEDED: [&str; 5] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
];

/// Whether the host has apt.
pub fn has_apt() -> bool {
    ["apt-get", "dpkg-deb"]
        .iter()
        .all(|tool| ix_machine::process::find_tool(tool, "apt").is_ok())
}

/// Whether packages can be taken from Debian here; the error says why not.
pub fn check_host() -> Result<(), String> {
    if !has_apt() {
        return Err("the host is not a Debian system with apt".to_owned());
    }
    apt::check_host().map_err(|why| format!("{why:#}"))
}

/// Fetches `packages` with all that they depend on and unpacks them into `root`, an empty folder.
/// `work` keeps what is downloaded, so that an interrupted run can go on.
pub fn unpack(step: &Step, packages: &[&str], work: &Path, root: &Path) -> Result<()> {
    let run = |command| child::capture(step, command);
    step.at("package lists");
    let apt = Apt::of_suites(&SUITES, work, &run)?;
    step.at(&format!("downloading {}", packages.join(" ")));
    let archives = apt.fetch_all(packages, &run)?;
    step.at(&format!("unpacking {} packages", archives.len()));
    for archive in &archives {
        apt::extract(archive, root, &run)?;
    }
    for folder in NOT_NEEDED {
        let folder = root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    link_merged_folders(root)
}

/// Releases with a merged /usr have these links from a package that is not unpacked here.
fn link_merged_folders(root: &Path) -> Result<()> {
    for folder in ["lib", "lib64"] {
        let link = root.join(folder);
        if !link.exists() {
            symlink(Path::new("usr").join(folder), &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(())
}
