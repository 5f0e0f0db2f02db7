//! The QEMU of the run: how it is started on the host, and the copy of it that goes into the outer
//! machine, with the libraries that its loader names and the firmware that a q35 machine reads.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::initramfs::Archive;
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

/// What a program from another distribution needs in order to start here.
#[derive(Clone, Debug)]
pub struct PrivateLibraries {
    /// The dynamic loader.
    pub loader: PathBuf,
    /// Folders for the loader's `--library-path`.
    pub directories: Vec<PathBuf>,
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
        let mut command = self.loaded(&[]);
        for directory in &self.firmware {
            command.arg("-L").arg(directory);
        }
        command
    }

    /// Copies program, loader, libraries and firmware into `archive`.
    pub fn add_to(&self, archive: &mut Archive) -> Result<()> {
        archive.program(&format!("{QEMU}/qemu-system-x86_64"), &self.program)?;
        let mut loaders = 0;
        for library in self.libraries()? {
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

    /// The libraries that the loader would map, itself included.
    fn libraries(&self) -> Result<Vec<PathBuf>> {
        let mut command = self.loaded(&["--list"]);
        if self.private.is_none() {
            // What ldd does: the loader prints what it would map, and does not start the program.
            command.env("LD_TRACE_LOADED_OBJECTS", "1");
        }
        let output = command
            .output()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && !text.contains("not found"),
            "libraries of {} are missing: {text}{}",
            self.program.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(text.lines().filter_map(listed_path).collect())
    }

    fn loaded(&self, loader_options: &[&str]) -> Command {
        let Some(private) = &self.private else {
            return Command::new(&self.program);
        };
        let folders: Vec<OsString> = private
            .directories
            .iter()
            .map(|folder| folder.clone().into_os_string())
            .collect();
        let mut command = Command::new(&private.loader);
        command
            .arg("--library-path")
            .arg(folders.join(":".as_ref()));
        command.args(loader_options).arg(&self.program);
        command
    }
}

/// The path in a line of the loader's list: `name => /path (0x..)`, or `/path (0x..)` for itself.
fn listed_path(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
    let path = path.split(" (").next().unwrap_or(path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::listed_path;
    use std::path::Path;

    #[test]
    fn list_lines_yield_their_paths() {
        let cases = [
            (
                "\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)",
                Some("/lib/x/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 => /own/ld-linux-x86-64.so.2 (0x1)",
                Some("/own/ld-linux-x86-64.so.2"),
            ),
            ("\tlinux-vdso.so.1 (0x00007ffd)", None),
        ];
        for (line, path) in cases {
            assert_eq!(listed_path(line).as_deref(), path.map(Path::new), "{line}");
        }
    }
}
