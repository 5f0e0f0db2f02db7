//! The folder of one running machine: its sockets, and a lock that tells whether its owner lives.
//!
//! The lock is a `flock`, which the kernel drops with the owner however it dies. Whoever creates a
//! run directory first takes away what dead owners left: their folder, and the network namespace of
//! the same name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::netns;

const LOCK_FILE: &str = "lock";

/// The folder of one machine; removed on drop.
#[derive(Debug)]
pub struct RunDir {
    name: String,
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes a folder with a name of its own, after removing what dead owners left.
    pub fn create() -> Result<RunDir> {
        RunDir::create_in(&base_folder())
    }

    fn create_in(base: &Path) -> Result<RunDir> {
        let doing = || format!("create a run directory in {}", base.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(base)
            .map_err(Error::io(doing()))?;
        // Held while the folder has no lock of its own yet, so that nobody takes it for abandoned.
        let _creation = open_lock(&base.join(LOCK_FILE))
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(Error::io(doing()))?;
        remove_abandoned(base);
        let id = std::process::id();
        for serial in 0.. {
            let name = format!("ix-{id}-{serial}");
            let path = base.join(&name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created.map_err(Error::io(doing()))?,
            }
            let lock = open_lock(&path.join(LOCK_FILE)).map_err(Error::io(doing()))?;
            lock.try_lock()
                .map_err(|error| Error::io(doing())(error.into()))?;
            return Ok(RunDir {
                name,
                path,
                _lock: lock,
            });
        }
        unreachable!("the serial numbers do not end")
    }

    /// The machine's name on this host, which its network namespace shares.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path in the folder.
    pub fn join(&self, file: &str) -> PathBuf {
        self.path.join(file)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Removes what machines of dead owners left on this host. The next start of a machine does so too.
pub fn remove_all_abandoned() {
    let base = base_folder();
    if let Ok(lock) = open_lock(&base.join(LOCK_FILE))
        && lock.lock().is_ok()
    {
        remove_abandoned(&base);
    }
}

/// Removes the folders in `base` that nobody holds, with their network namespaces.
fn remove_abandoned(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else {
        return;
    };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let abandoned = match open_lock(&entry.path().join(LOCK_FILE)) {
            Ok(lock) => match lock.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(_)) => false,
            },
            Err(_) => false,
        };
        if !abandoned || !name.starts_with("ix-") {
            continue;
        }
        log::info!("removing {name}, whose owner is dead");
        if let Err(error) = netns::remove_if_present(&name) {
            log::warn!("{error}");
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            log::warn!("cannot remove {}: {error}", entry.path().display());
        }
    }
}

/// `/run/ix` for root, who can also make namespaces; else the user's runtime folder.
fn base_folder() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/run/ix");
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    runtime
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(std::env::temp_dir)
        .join("ix-run")
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abandoned_folders_go_and_held_ones_stay() {
        let base = tempfile::tempdir().unwrap();
        let held = RunDir::create_in(base.path()).unwrap();
        let abandoned = base.path().join("ix-999999999-0");
        fs::create_dir(&abandoned).unwrap();
        File::create(abandoned.join(LOCK_FILE)).unwrap();
        let strange = base.path().join("someone-elses");
        fs::create_dir(&strange).unwrap();

        let second = RunDir::create_in(base.path()).unwrap();
        assert!(held.join("").is_dir() && second.join("").is_dir());
        assert_ne!(held.name(), second.name());
        assert!(!abandoned.exists());
        assert!(strange.exists());
    }

    #[test]
    fn dropping_removes_the_folder_with_its_files() {
        let base = tempfile::tempdir().unwrap();
        let folder = RunDir::create_in(base.path()).unwrap();
        let path = folder.join("");
        File::create(folder.join("socket")).unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
