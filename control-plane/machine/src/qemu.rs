//! Finding a QEMU that can carry a machine: 10.1 or newer, with the vfio-user client, unless the
//! machine has a card of QEMU's own.
//!
//! In this order: the one that `IX_QEMU` names, the host's own, and the private one that
//! `cargo xtask setup` keeps in the cache folder.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::net::NicKind;
use crate::process::run_tool;

/// Names the QEMU to use.
pub const QEMU_VARIABLE: &str = "IX_QEMU";
/// Names the cache folder.
pub const CACHE_VARIABLE: &str = "IX_CACHE";
/// The first version with a usable vfio-user client.
pub const MINIMUM: Version = Version {
    major: 10,
    minor: 1,
};

/// The first version with the `igb` card.
pub const MINIMUM_IGB: Version = Version { major: 8, minor: 0 };

/// The first version whose VIRTIO card tells the hash of each frame.
pub const MINIMUM_VIRTIO: Version = Version { major: 5, minor: 2 };

const PROGRAM: &str = "qemu-system-x86_64";
const CLIENT_DEVICE: &str = "vfio-user-pci";
const CLIENT_HELP: &str = "vfio-user-pci,help";

/// A usable QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemu {
    /// What to run.
    pub program: PathBuf,
    /// Its version.
    pub version: Version,
}

/// Version of QEMU, as far as it decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// Behind it.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    /// Reads the first line of `qemu-system-x86_64 --version`.
    pub fn parse(output: &str) -> Option<Version> {
        let number = output
            .lines()
            .next()?
            .strip_prefix("QEMU emulator version ")?;
        let mut parts = number.split(|c: char| !c.is_ascii_digit());
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Version { major, minor })
    }
}

impl Qemu {
    /// Finds one that will do for any machine.
    pub fn locate() -> Result<Qemu> {
        Self::locate_for(NicKind::Intel82599)
    }

    /// Finds one that will do for a machine with that card.
    pub fn locate_for(nic: NicKind) -> Result<Qemu> {
        let mut tried = Vec::new();
        for (what, program) in candidates() {
            match Qemu::examine_for(&program, nic) {
                Ok(qemu) => return Ok(qemu),
                Err(why) => tried.push(format!("{what}: {why}")),
            }
        }
        Err(Error::NoQemu {
            minimum: minimum(nic).to_string(),
            tried: tried.join("; "),
        })
    }

    /// Runs `program` to see whether it will do for any machine; the error says why not.
    pub fn examine(program: &Path) -> Result<Qemu, String> {
        Self::examine_for(program, NicKind::Intel82599)
    }

    fn examine_for(program: &Path, nic: NicKind) -> Result<Qemu, String> {
        if program.components().count() > 1 && !program.exists() {
            return Err("not there".to_owned());
        }
        let ask = |question: &[&str]| {
            let mut command = Command::new(program);
            command.args(question);
            run_tool("asking for its version", command, "").map_err(|error| error.to_string())
        };
        let answer = ask(&["--version"])?;
        let version = Version::parse(&answer).ok_or_else(|| format!("no version in {answer:?}"))?;
        if version < minimum(nic) {
            return Err(format!("version {version} is too old"));
        }
        // Not plain `-device help`: that loads every module there is, also those of another QEMU on
        // this host, and aborts at the first one that is not its own.
        let has_client =
            || ask(&["-device", CLIENT_HELP]).is_ok_and(|it| it.contains(CLIENT_DEVICE));
        if minimum(nic) == MINIMUM && !has_client() {
            return Err(format!("version {version} was built without vfio-user-pci"));
        }
        Ok(Qemu {
            program: program.to_owned(),
            version,
        })
    }
}

/// The first version that can carry a machine with that card.
fn minimum(nic: NicKind) -> Version {
    match nic {
        NicKind::Igb => MINIMUM_IGB,
        NicKind::Virtio | NicKind::Host(_) => MINIMUM_VIRTIO,
        NicKind::Intel82599 | NicKind::Virtual82599 | NicKind::None => MINIMUM,
    }
}

/// The folder for what is downloaded once: `IX_CACHE`, else `ix` in the user's cache folder.
pub fn cache_folder() -> PathBuf {
    if let Some(folder) = non_empty(CACHE_VARIABLE) {
        return PathBuf::from(folder);
    }
    let cache = non_empty("XDG_CACHE_HOME").map(PathBuf::from);
    cache
        .or_else(|| non_empty("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(|| PathBuf::from("/var/cache"))
        .join("ix")
}

/// Where `cargo xtask setup` keeps its private QEMU.
pub fn private_folder() -> PathBuf {
    cache_folder().join("qemu")
}

/// The private QEMU's program in `folder`.
pub fn private_program(folder: &Path) -> PathBuf {
    folder.join(PROGRAM)
}

fn candidates() -> Vec<(String, PathBuf)> {
    if let Some(program) = non_empty(QEMU_VARIABLE) {
        let program = PathBuf::from(program);
        return vec![(format!("{QEMU_VARIABLE}={}", program.display()), program)];
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path)
        .map(|folder| folder.join(PROGRAM))
        .find(|file| file.is_file());
    let mut candidates = Vec::new();
    if let Some(program) = on_path {
        candidates.push(("the host's".to_owned(), program));
    }
    candidates.push((
        "the private one".to_owned(),
        private_program(&private_folder()),
    ));
    candidates
}

fn non_empty(variable: &str) -> Option<std::ffi::OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions_of_releases_and_builds_are_read() {
        let parse = |text| Version::parse(text).map(|version| version.to_string());
        assert_eq!(
            parse("QEMU emulator version 7.2.19 (Debian 1:7.2+dfsg-7)").as_deref(),
            Some("7.2")
        );
        assert_eq!(
            parse("QEMU emulator version 10.1.0-rc2\nCopyright").as_deref(),
            Some("10.1")
        );
        assert_eq!(
            parse("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1)").as_deref(),
            Some("11.1")
        );
        for text in [
            "",
            "qemu 10.1",
            "QEMU emulator version ",
            "QEMU emulator version ten.one",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        assert!(Version { major: 9, minor: 2 } < MINIMUM);
        assert!(
            Version {
                major: 10,
                minor: 0
            } < MINIMUM
        );
        assert!(
            Version {
                major: 10,
                minor: 10
            } > MINIMUM
        );
        assert!(
            Version {
                major: 11,
                minor: 0
            } > MINIMUM
        );
    }

    fn fake(script: &str) -> Result<Qemu, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("qemu");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Qemu::examine(&program)
    }

    #[test]
    fn a_qemu_is_judged_by_version_and_device() {
        let version = "if [ $1 = --version ]; then echo QEMU emulator version";
        assert!(
            fake(&format!("{version} 9.2.0; fi"))
                .unwrap_err()
                .contains("too old")
        );
        assert!(
            fake(&format!("{version} 11.1.3; fi"))
                .unwrap_err()
                .contains("without vfio-user-pci")
        );
        let whole = format!("{version} 11.1.3; else echo 'vfio-user-pci options:'; fi");
        assert_eq!(
            fake(&whole).unwrap().version,
            Version {
                major: 11,
                minor: 1
            }
        );
        assert!(fake("exit 3").unwrap_err().contains("exit code 3"));
        assert_eq!(
            Qemu::examine(Path::new("/no/such/qemu")).unwrap_err(),
            "not there"
        );
    }
}
