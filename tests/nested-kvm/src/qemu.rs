//! The QEMU of the run: how it is started on the host, and the copy of it that goes into the outer
//! machine, with the libraries that its loader names and the firmware that a q35 machine reads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ix_small_linux::initramfs::Archive;
use ix_small_linux::libraries::{self, PrivateLibraries};

use crate::protocol::QEMU;

/// Firmware that a q35 machine with a PVH kernel and no display reads.
const FIRMWARE: [&str; 4] = [
    "bios-256k.bin",
    "kvmvapic.bin",
    "linuxboot_dma.bin",
    "pvh.bin",
];

/// An installation of QEMU: the host's own, or a private one with its own loader and libraries.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The ELF program (not a wrapper script).
    pub program: PathBuf,
    /// Loader and library folders of a private installation; `None` for the host's own.
    pub private: Option<PrivateLibraries>,
    /// Where firmware images lie.
    pub firmware: Vec<PathBuf>,
}

impl Qemu {
    /// The installation that `program` starts: a program of the host's packages, or the wrapper that
    /// `cargo xtask setup` puts beside the Debian tree (`root/`) of a private one.
    pub fn of_program(program: &Path) -> Result<Self> {
        let mut magic = [0; 4];
        File::open(program)
            .and_then(|mut file| file.read_exact(&mut magic))
            .with_context(|| format!("cannot read {}", program.display()))?;
        if magic == *b"\x7fELF" {
            let firmware = ["/usr/share/qemu", "/usr/share/seabios"]
                .map(PathBuf::from)
                .to_vec();
            return Ok(Self {
                program: program.to_owned(),
                private: None,
                firmware,
            });
        }
        let root = program.with_file_name("root");
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let qemu = Self {
            program: root.join("usr/bin/qemu-system-x86_64"),
            private: Some(PrivateLibraries {
                loader: libraries.join("ld-linux-x86-64.so.2"),
                directories: vec![libraries],
            }),
            firmware: vec![root.join("usr/share/qemu"), root.join("usr/share/seabios")],
        };
        ensure!(
            qemu.program.exists(),
            "{} is a script, but there is no {} that it could start: name the program itself",
            program.display(),
            qemu.program.display()
        );
        Ok(qemu)
    }

    /// The command that starts it on the host, up to the machine's own arguments.
    pub fn command(&self) -> Command {
        let mut command = libraries::command(&self.program, self.private.as_ref(), &[]);
        for directory in &self.firmware {
            command.arg("-L").arg(directory);
        }
        command
    }

    /// Copies program, loader, libraries and firmware into `archive`.
    pub fn add_to(&self, archive: &mut Archive) -> Result<()> {
        archive.program(&format!("{QEMU}/qemu-system-x86_64"), &self.program)?;
        let mut loaders = 0;
        for library in libraries::needed(&self.program, self.private.as_ref())? {
            let name = library
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("ld-linux") {
                loaders += 1;
                archive.program(&format!("{QEMU}/ld.so"), &library)?;
            } else {
                archive.program(&format!("{QEMU}/lib/{name}"), &library)?;
            }
        }
        ensure!(
            loaders == 1,
            "{} names {loaders} loaders, not one",
            self.program.display()
        );
        for name in FIRMWARE {
            let found = self
                .firmware
                .iter()
                .map(|folder| folder.join(name))
                .find(|f| f.exists());
            let Some(file) = found else {
                bail!(
                    "no {name} in {:?}: install QEMU's firmware (package seabios)",
                    self.firmware
                )
            };
            archive.program(&format!("{QEMU}/firmware/{name}"), &file)?;
        }
        Ok(())
    }
}
