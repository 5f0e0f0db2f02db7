//! What the guest is made of: Debian's kernel with `ixgbe`, and the programs that the tests call.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ix_small_linux::initramfs::Archive;
use ix_small_linux::kernel::{self, Flavour};
use ix_small_linux::libraries::{self, PrivateLibraries};
use ix_small_linux::packages;

/// Debian's general kernel: its cloud kernel has no driver for a card.
const LINUX: Flavour = Flavour {
    meta_package: "linux-image-amd64",
    suffix: "-amd64",
    modules: &[
        "virtio_pci",
        "virtio_console",
        "8021q",
        "tcp_dctcp",
        "ixgbe",
    ],
};
/// Packages with the guest's programs; the rest of user space is busybox.
const PACKAGES: [&str; 4] = ["busybox-static", "ethtool", "iperf3", "iproute2"];
const PROGRAMS: [&str; 3] = ["ethtool", "iperf3", "ip"];

/// An image to boot, and programs of the same packages for the host's end of the wire.
#[derive(Debug)]
pub struct Image {
    /// The bzImage.
    pub kernel: PathBuf,
    tree: PathBuf,
    modules: Vec<Vec<u8>>,
}

impl Image {
    /// Fetches into `cache` what is not there yet.
    pub fn fetch(cache: &Path) -> Result<Self> {
        let cache = cache.join("linux-guest");
        let linux = kernel::fetch(&cache.join("kernel-dctcp"), &LINUX)?;
        let tree = cache.join("programs");
        if !tree.exists() {
            fetch_programs(&cache, &tree)?;
        }
        Ok(Self {
            kernel: linux.image,
            tree,
            modules: linux.modules,
        })
    }

    /// Writes the initramfs.
    pub fn write_initramfs(&self, destination: &Path) -> Result<()> {
        let mut archive = Archive::default();
        archive.file("init", include_bytes!("init.sh"));
        archive.program("bin/busybox", &self.program("busybox")?)?;
        for (position, module) in self.modules.iter().enumerate() {
            archive.file(&format!("modules/{position:02}.ko"), module);
        }
        let libraries = PrivateLibraries::of_tree(&self.tree)?;
        let mut added: Vec<PathBuf> = Vec::new();
        for name in PROGRAMS {
            let program = self.program(name)?;
            archive.program(&format!("usr/sbin/{name}"), &program)?;
            for library in libraries::needed(&program, Some(&libraries))? {
                if added.contains(&library) {
                    continue;
                }
                let name = library.file_name().unwrap_or_default().to_string_lossy();
                let folder = if name.starts_with("ld-linux") {
                    "lib64"
                } else {
                    "lib/x86_64-linux-gnu"
                };
                archive.program(&format!("{folder}/{name}"), &library)?;
                added.push(library);
            }
        }
        archive.write(destination)
    }

    /// A program of the packages, and what precedes its name to start it on the host.
    pub fn host_command(&self, name: &str) -> Result<(PathBuf, Vec<String>)> {
        let libraries = PrivateLibraries::of_tree(&self.tree)?;
        let command = libraries::command(&self.program(name)?, Some(&libraries), &[]);
        let arguments = command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        Ok((libraries.loader, arguments))
    }

    fn program(&self, name: &str) -> Result<PathBuf> {
        ["bin", "sbin", "usr/bin", "usr/sbin"]
            .iter()
            .map(|folder| self.tree.join(folder).join(name))
            // A link may point at where the package would be installed.
            .find(|path| path.is_file() && !path.is_symlink())
            .with_context(|| {
                let tree = self.tree.display();
                format!("no {name} in {tree}: remove that folder, and it is fetched anew")
            })
    }
}

/// Unpacks the programs' packages aside and renames the folder when it is complete.
fn fetch_programs(cache: &Path, tree: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(cache)?;
    let unpacked = work.path().join("tree");
    packages::unpack(&PACKAGES, |name| name.starts_with("lib"), &unpacked)?;
    fs::rename(&unpacked, tree)
        .with_context(|| format!("cannot move the programs to {}", tree.display()))
}
