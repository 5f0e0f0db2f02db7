//! Where `cargo xtask image` puts what it builds, and where the programs that use it look.

use std::env;
use std::path::{Path, PathBuf};

/// Names the folder when it is not below the workspace.
pub const ARTIFACTS_VARIABLE: &str = "IX_ARTIFACTS";

/// The folder with the kernel, the applications and the host programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    /// The artifacts in `folder`.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Artifacts {
            folder: folder.into(),
        }
    }

    /// The artifacts of this workspace: in `IX_ARTIFACTS`, else in `ix` below cargo's target folder.
    pub fn of_workspace() -> Self {
        if let Some(folder) = env::var_os(ARTIFACTS_VARIABLE) {
            return Artifacts::at(folder);
        }
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
            PathBuf::from,
        );
        Artifacts::at(target.join("ix"))
    }

    /// The artifacts beside `program`, if it is one of them: the control plane's programs are installed
    /// together with what they start.
    pub fn beside(program: &Path) -> Option<Self> {
        let artifacts = Artifacts::at(program.parent()?);
        artifacts.kernel().is_file().then_some(artifacts)
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The dataplane kernel.
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("ixkernel.elf")
    }

    /// The image of application `name`.
    pub fn app(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.elf"))
    }

    /// The NIC model.
    pub fn nic_program(&self) -> PathBuf {
        self.folder.join("ixnicd")
    }

    /// The control plane's daemon.
    pub fn daemon(&self) -> PathBuf {
        self.folder.join("ixcpd")
    }

    /// Its client.
    pub fn control_program(&self) -> PathBuf {
        self.folder.join("ixctl")
    }

    /// The load generator.
    pub fn load_program(&self) -> PathBuf {
        self.folder.join("ixload")
    }
}
