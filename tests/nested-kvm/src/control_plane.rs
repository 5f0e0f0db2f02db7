//! The control plane's part of the archive: its programs, what they start, the tools that they use, and
//! the libraries of all these, which are the host's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ix_small_linux::initramfs::Archive;
use ix_small_linux::libraries;

use crate::protocol::{CONTROL_PLANE, QEMU_COMMAND};

/// The tools of the host by which machines and their wires are made.
const TOOLS: [&str; 3] = ["ip", "nsenter", "setpriv"];
/// Where such tools are.
const TOOL_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// What the control plane of the outer machine consists of.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// `ixcpd`, `ixctl`, `ixnicd` and `ixload`.
    pub programs: Vec<PathBuf>,
    /// The dataplane kernel and the application, in the same folder.
    pub images: Vec<PathBuf>,
}

impl ControlPlane {
    /// Copies all of it into `archive`, where `init` passes for QEMU.
    pub fn add_to(&self, archive: &mut Archive, init: &Path) -> Result<()> {
        archive.program(QEMU_COMMAND, init)?;
        let mut programs = Vec::new();
        for path in self.programs.iter().chain(&self.images) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            archive.program(&format!("{CONTROL_PLANE}/{name}"), path)?;
        }
        for tool in TOOLS {
            let path = find_tool(tool)?;
            archive.program(&format!("usr/bin/{tool}"), &path)?;
            programs.push(path);
        }
        programs.extend(self.programs.iter().cloned());
        add_libraries(archive, &programs)
    }
}

fn find_tool(name: &str) -> Result<PathBuf> {
    TOOL_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} in {TOOL_FOLDERS:?}: `cargo xtask setup` installs it"))
}

/// Where the programs look for them: the loader has its path from the program, and a list of folders of
/// its own.
fn add_libraries(archive: &mut Archive, programs: &[PathBuf]) -> Result<()> {
    let mut libraries = BTreeSet::new();
    for program in programs {
        let needed = libraries::needed(program, None)?;
        libraries.extend(needed.into_iter().filter(|library| library != program));
    }
    for library in libraries {
        let path = library.strip_prefix("/")?.display().to_string();
        archive.program(&path, &library)?;
    }
    Ok(())
}
