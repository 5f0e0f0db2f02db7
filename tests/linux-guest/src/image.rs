//! What the guest is made of: Debian's kernel with `ixgbe` and its like, and the programs that the tests call.

use std::ffi::OsString;
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
    /// It has Debian's memcached.
    pub memcached: bool,
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
                "ixgbevf",
                "igb",
                "uio_pci_generic",
            ],
        }
    }

    /// Folder of the cache; named for what is in it, so that a cache of before is not taken for it.
    fn folder(self) -> &'static str {
        match self {
            Self::OfHost => "kernel-vf",
            Self::Linux6_12 => "kernel-6.12-vf",
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
/// The package, program and folder of the cache. The program is of the host's release, as the others are,
/// so that one C library serves all.
const MEMCACHED: &str = "memcached";
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
    /// Where memcached's package is, if the guest has it.
    memcached: Option<PathBuf>,
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
        let memcached = contents
            .memcached
            .then(|| fetch_programs(&cache, MEMCACHED, &[MEMCACHED]));
        Ok(Self {
            kernel: linux.image,
            tree: fetch_programs(&cache, "programs-dpdk", &PACKAGES)?,
            memcached: memcached.transpose()?,
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
        let libraries = PrivateLibraries::of_tree(&self.tree)?;
        let mut programs = Programs {
            archive: &mut archive,
            added: Vec::new(),
        };
        for name in PROGRAMS {
            let path = format!("usr/sbin/{name}");
            programs.add(&path, &self.program(name)?, Some(&libraries))?;
        }
        if self.dpdk {
            let path = format!("usr/sbin/{DPDK_PROGRAM}");
            programs.add(&path, &self.program(DPDK_PROGRAM)?, Some(&libraries))?;
            let plugin = libraries.find(DPDK_PLUGIN)?;
            let path = format!("lib/dpdk/{DPDK_PLUGIN}");
            programs.add(&path, &plugin, Some(&libraries))?;
        }
        if let Some(tree) = &self.memcached {
            let libraries = PrivateLibraries::of_tree(tree)?;
            let program = program_of(tree, MEMCACHED)?;
            programs.add("usr/sbin/memcached", &program, Some(&libraries))?;
            // It asks who the user is that it is to run as.
            programs
                .archive
                .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n");
        }
        if self.servers {
            let program = Artifacts::of_workspace().load_program();
            programs.add("usr/sbin/ixload", &program, None)?;
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
        program_of(&self.tree, name)
    }
}

/// A program of an unpacked tree.
fn program_of(tree: &Path, name: &str) -> Result<PathBuf> {
    ["bin", "sbin", "usr/bin", "usr/sbin"]
        .iter()
        .map(|folder| tree.join(folder).join(name))
        // A link may point at where the package would be installed.
        .find(|path| path.is_file() && !path.is_symlink())
        .with_context(|| {
            let tree = tree.display();
            format!("no {name} in {tree}: remove that folder, and it is fetched anew")
        })
}

/// Programs on their way into an archive.
struct Programs<'a> {
    archive: &'a mut Archive,
    /// Names of the libraries that are in it.
    added: Vec<OsString>,
}

impl Programs<'_> {
    /// Adds a program or plugin with the libraries that it needs: these or the host's. All are of the
    /// host's release, so what is there already will do.
    fn add(
        &mut self,
        path: &str,
        program: &Path,
        private: Option<&PrivateLibraries>,
    ) -> Result<()> {
        self.archive.program(path, program)?;
        let mut needed = libraries::needed(program, private)?;
        needed.retain(|library| library != program);
        self.add_libraries(needed)
    }

    fn add_libraries(&mut self, libraries: Vec<PathBuf>) -> Result<()> {
        for library in libraries {
            let name = library.file_name().unwrap_or_default().to_owned();
            if self.added.contains(&name) {
                continue;
            }
            let text = name.to_string_lossy();
            let folder = if text.starts_with("ld-linux") {
                "lib64"
            } else {
                "lib/x86_64-linux-gnu"
            };
            self.archive
                .program(&format!("{folder}/{text}"), &library)?;
            self.added.push(name);
        }
        Ok(())
    }
}

/// The tree with the programs of these packages, in a folder of the cache. What is not there yet is unpacked
/// aside, and the folder renamed when it is complete.
fn fetch_programs(cache: &Path, folder: &str, packages: &[&str]) -> Result<PathBuf> {
    let tree = cache.join(folder);
    if tree.exists() {
        return Ok(tree);
    }
    let work = tempfile::tempdir_in(cache)?;
    let unpacked = work.path().join("tree");
    let is_library = |name: &str| name.starts_with("lib") && !name.ends_with("-dev");
    packages::unpack(Source::Host, packages, is_library, &unpacked)?;
    fs::rename(&unpacked, &tree)
        .with_context(|| format!("cannot move the programs to {}", tree.display()))?;
    Ok(tree)
}
