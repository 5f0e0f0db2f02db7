//! What the guest is made of: Debian's kernel with `ixgbe`, and the programs that the tests call.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ix_machine::Artifacts;
use ix_small_linux::apt::Suites;
use ix_small_linux::initramfs::Archive;
use ix_small_linux::kernel::{self, Flavour};
use ix_small_linux::libraries::{self, PrivateLibraries};
use ix_small_linux::packages::{self, Source};

/// What the guest is made of, apart from its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its kernel.
    pub kernel: Kernel,
    /// It has DPDK's `testpmd` too.
    pub dpdk: bool,
    /// It has `ixload`, whose echo server is one thread on epoll. That is the workspace's: it must have
    /// been built.
    pub servers: bool,
}

/// A kernel that the guest may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernel {
    /// That of the host's Debian release.
    #[default]
    OfHost,
    /// 6.12, that of Debian 13.
    Linux6_12,
}

impl Kernel {
    /// Debian's general kernel: its cloud kernel has no driver for a card.
    fn flavour(self) -> Flavour {
        Flavour {
            source: match self {
                Self::OfHost => Source::Host,
                Self::Linux6_12 => Source::Release(Suites {
                    all: "trixie trixie-updates",
                    preferred: "trixie",
                }),
            },
            meta_package: "linux-image-amd64",
            suffix: "-amd64",
            modules: &[
                "virtio_pci",
                "virtio_console",
                "8021q",
                "tcp_dctcp",
                "ixgbe",
                "igb",
                "uio_pci_generic",
            ],
        }
    }

    /// Folder of the cache; named for what is in it, so that a cache of before is not taken for it.
    fn folder(self) -> &'static str {
        match self {
            Self::OfHost => "kernel-igb",
            Self::Linux6_12 => "kernel-6.12-igb",
        }
    }
}

/// Packages with the guest's programs; the rest of user space is busybox.
const PACKAGES: [&str; 6] = [
    "busybox-static",
    "ethtool",
    "iperf3",
    "iproute2",
    "dpdk-dev",
    "ibverbs-providers",
];
const PROGRAMS: [&str; 3] = ["ethtool", "iperf3", "ip"];
/// DPDK's program, and the plugin that it needs besides what it is linked with, without its version.
const DPDK_PROGRAM: &str = "dpdk-testpmd";
const DPDK_PLUGIN: &str = "librte_mempool_ring.so";

/// An image to boot, and programs of the same packages for the host's end of the wire.
#[derive(Debug)]
pub struct Image {
    /// The bzImage.
    pub kernel: PathBuf,
    tree: PathBuf,
    modules: Vec<Vec<u8>>,
    dpdk: bool,
    servers: bool,
}

impl Image {
    /// Fetches into `cache` what is not there yet.
    pub fn fetch(cache: &Path, contents: Contents) -> Result<Self> {
        let cache = cache.join("linux-guest");
        let linux = {
            let kernel = contents.kernel;
            kernel::fetch(&cache.join(kernel.folder()), &kernel.flavour())?
        };
        let tree = cache.join("programs-dpdk");
        if !tree.exists() {
            fetch_programs(&cache, &tree)?;
        }
        Ok(Self {
            kernel: linux.image,
            tree,
            modules: linux.modules,
            dpdk: contents.dpdk,
            servers: contents.servers,
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
        let mut programs = Programs {
            libraries: PrivateLibraries::of_tree(&self.tree)?,
            archive: &mut archive,
            added: Vec::new(),
        };
        for name in PROGRAMS {
            programs.add(&format!("usr/sbin/{name}"), &self.program(name)?)?;
        }
        if self.dpdk {
            let path = format!("usr/sbin/{DPDK_PROGRAM}");
            programs.add(&path, &self.program(DPDK_PROGRAM)?)?;
            let plugin = programs.libraries.find(DPDK_PLUGIN)?;
            programs.add(&format!("lib/dpdk/{DPDK_PLUGIN}"), &plugin)?;
        }
        if self.servers {
            let program = Artifacts::of_workspace().load_program();
            programs.add_of_host("usr/sbin/ixload", &program)?;
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

/// Programs on their way into an archive.
struct Programs<'a> {
    libraries: PrivateLibraries,
    archive: &'a mut Archive,
    /// Libraries that are in it.
    added: Vec<PathBuf>,
}

impl Programs<'_> {
    /// Adds a program or plugin with the libraries that it needs.
    fn add(&mut self, path: &str, program: &Path) -> Result<()> {
        self.archive.program(path, program)?;
        let needed = libraries::needed(program, Some(&self.libraries))?;
        self.add_libraries(needed)
    }

    /// Adds a program that was built on the host. It runs with the packages' C library, as on the host,
    /// whose release they are of; what they do not have comes from the host.
    fn add_of_host(&mut self, path: &str, program: &Path) -> Result<()> {
        self.archive.program(path, program)?;
        let mut needed = libraries::needed(program, None)?;
        needed.retain(|library| {
            let name = library.file_name();
            library != program && !self.added.iter().any(|added| added.file_name() == name)
        });
        self.add_libraries(needed)
    }

    fn add_libraries(&mut self, libraries: Vec<PathBuf>) -> Result<()> {
        for library in libraries {
            if self.added.contains(&library) {
                continue;
            }
            let name = library.file_name().unwrap_or_default().to_string_lossy();
            let folder = if name.starts_with("ld-linux") {
                "lib64"
            } else {
                "lib/x86_64-linux-gnu"
            };
            self.archive
                .program(&format!("{folder}/{name}"), &library)?;
            self.added.push(library);
        }
        Ok(())
    }
}

/// Unpacks the programs' packages aside and renames the folder when it is complete.
fn fetch_programs(cache: &Path, tree: &Path) -> Result<()> {
    let work = tempfile::tempdir_in(cache)?;
    let unpacked = work.path().join("tree");
    let is_library = |name: &str| name.starts_with("lib") && !name.ends_with("-dev");
    packages::unpack(Source::Host, &PACKAGES, is_library, &unpacked)?;
    fs::rename(&unpacked, tree)
        .with_context(|| format!("cannot move the programs to {}", tree.display()))
}
