//! Debian's packages of memcached and of its clients, unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ix_small_linux::apt::Suites;
use ix_small_linux::libraries::{PrivateLibraries, command};
use ix_small_linux::packages::{self, Source};

/// Folder in the project's cache.
const FOLDER: &str = "memcached-tools-2";
/// Debian 12: its memcached is the one that apps/memcached answers like.
const RELEASE: Suites<'static> = Suites {
    all: "bookworm bookworm-updates",
    preferred: "bookworm",
};
/// What is fetched; what it depends on comes along.
const PACKAGES: [&str; 5] = [
    "memcached",
    "libmemcached-tools",
    "python3-pymemcache",
    "python3.11-minimal",
    "libpython3.11-stdlib",
];
/// Dependencies that do not matter: what sets a system up.
const LEFT_OUT: [&str; 9] = [
    "adduser",
    "perl",
    "perl-base",
    "python3",
    "debconf",
    "passwd",
    "init-system-helpers",
    "sysvinit-utils",
    "lsb-base",
];

/// The unpacked packages.
pub struct Debian {
    tree: PathBuf,
    private: PrivateLibraries,
}

impl Debian {
    /// Of the cache, fetched first if they are not there.
    pub fn fetch() -> Result<Self> {
        let tree = ix_machine::qemu::cache_folder().join(FOLDER);
        if !tree.exists() {
            download(&tree)?;
        }
        let private = PrivateLibraries::of_tree(&tree).with_context(|| {
            let tree = tree.display();
            format!("{tree} is incomplete: remove it, and it is fetched anew")
        })?;
        Ok(Self { tree, private })
    }

    /// The command that starts one of their programs.
    pub fn command(&self, program: &str) -> Command {
        let program = self.tree.join("usr/bin").join(program);
        command(&program, Some(&self.private), &[])
    }

    /// The same, but where `around` makes the command that starts a program, such as in a network
    /// namespace.
    pub fn command_in(
        &self,
        around: impl FnOnce(&Path) -> Result<Command>,
        program: &str,
    ) -> Result<Command> {
        let plain = self.command(program);
        let mut command = around(Path::new(plain.get_program()))?;
        command.args(plain.get_args());
        Ok(command)
    }

    /// What has Python find its own modules and theirs.
    pub fn python_environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("PYTHONHOME", self.tree.join("usr")),
            (
                "PYTHONPATH",
                self.tree.join("usr/lib/python3/dist-packages"),
            ),
        ]
    }
}

/// The folder appears only when it is complete.
fn download(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("a cache folder has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    let tree = work.path().join("tree");
    let source = Source::Release(RELEASE);
    packages::unpack(source, &PACKAGES, |name| !LEFT_OUT.contains(&name), &tree)?;
    match fs::rename(&tree, folder) {
        // Another test has fetched it meanwhile.
        Err(_) if folder.exists() => Ok(()),
        result => result.with_context(|| format!("cannot move it to {}", folder.display())),
    }
}
