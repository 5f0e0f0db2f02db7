//! Folders of the control plane: one for the daemon, and one for each dataplane below it.
//!
//! | file of a dataplane | written by | what |
//! |---|---|---|
//! | `definition.json` | daemon | what it is made of |
//! | `placement.json` | daemon | which hardware thread each elastic thread has, and its policy |
//! | `lock` | keeper | held (`flock`) for as long as the keeper lives |
//! | `control` | kernel, keeper | the control page |
//! | `keeper.sock`, `ivshmem.sock` | keeper | for the daemon, for the guest |
//! | `console.log`, `keeper.log` | keeper | what kernel and application say; what the keeper says |
//! | `end.json` | keeper | how the machine ended |

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ix_api::{Definition, Policy};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The daemon's folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A dataplane's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

/// What the daemon has to remember of a dataplane beyond its definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The hardware thread of each elastic thread, none for a parked one.
    pub cores: Vec<Option<u32>>,
    /// That of its background threads, if it can have any.
    #[serde(default)]
    pub background: Option<u32>,
    /// Its policy, which may have been changed.
    pub policy: Policy,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
}

/// How a machine ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whether it did what it was there for.
    pub success: bool,
    /// In words.
    pub report: String,
}

impl Store {
    /// The folder at `root`, made if it is not there; others may pass through it, to the socket.
    pub fn open(root: &Path) -> io::Result<Store> {
        DirBuilder::new().recursive(true).mode(0o755).create(root)?;
        let dataplanes = root.join("dataplanes");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dataplanes)?;
        Ok(Store {
            root: root.to_owned(),
        })
    }

    /// Makes this process the only daemon of the folder, for as long as it keeps the result. `None` if
    /// there is one already.
    pub fn lock(&self) -> io::Result<Option<File>> {
        try_lock(&self.root.join("lock"))
    }

    /// The folder of dataplane `name`.
    pub fn folder(&self, name: &str) -> Folder {
        Folder {
            path: self.root.join("dataplanes").join(name),
        }
    }

    /// The names of all dataplanes that have a folder.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join("dataplanes"))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

impl Folder {
    /// A folder that is known by its path.
    pub fn at(path: impl Into<PathBuf>) -> Folder {
        Folder { path: path.into() }
    }

    /// Makes it for a dataplane that is about to start.
    pub fn create(&self, definition: &Definition, placement: &Placement) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(&self.path)?;
        self.write("definition.json", definition)?;
        self.save(placement)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What the dataplane is made of.
    pub fn definition(&self) -> io::Result<Definition> {
        self.read("definition.json")
    }

    /// Where its threads are.
    pub fn placement(&self) -> io::Result<Placement> {
        self.read("placement.json")
    }

    /// Remembers where its threads are.
    pub fn save(&self, placement: &Placement) -> io::Result<()> {
        self.write("placement.json", placement)
    }

    /// How its machine ended, if its keeper has said so.
    pub fn end(&self) -> Option<End> {
        self.read("end.json").ok()
    }

    /// Says how its machine ended.
    pub fn save_end(&self, end: &End) -> io::Result<()> {
        self.write("end.json", end)
    }

    /// Makes this process the keeper, for as long as it keeps the result. `None` if there is one.
    pub fn lock(&self) -> io::Result<Option<File>> {
        try_lock(&self.file("lock"))
    }

    /// Whether a keeper holds it.
    pub fn is_kept(&self) -> bool {
        // A lock file that is not there, or cannot be opened, is nobody's.
        matches!(self.lock_state(), Ok(false))
    }

    /// Removes it with everything in it.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }

    /// Whether the lock is free.
    fn lock_state(&self) -> io::Result<bool> {
        let file = OpenOptions::new().write(true).open(self.file("lock"))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let bytes = fs::read(self.file(name))?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    /// Written aside and renamed, so that a reader never sees half of it.
    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let aside = self.file(&format!("{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        fs::rename(aside, self.file(name))
    }
}

fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataplane_is_found_again_and_known_to_be_kept() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let folder = store.folder("kv");
        let definition: Definition = toml::from_str("name = 'kv'\napp = 'echo'").unwrap();
        let placement = Placement {
            cores: vec![Some(3), None],
            background: Some(5),
            policy: Policy::default(),
            started_ms: 5,
        };
        folder.create(&definition, &placement).unwrap();
        assert!(!folder.is_kept());
        let lock = folder.lock().unwrap().unwrap();
        assert!(folder.is_kept() && folder.lock().unwrap().is_none());
        drop(lock);
        assert!(!folder.is_kept());

        let again = Store::open(root.path()).unwrap();
        assert_eq!(again.names().unwrap(), ["kv"]);
        assert_eq!(again.folder("kv").definition().unwrap(), definition);
        assert_eq!(again.folder("kv").placement().unwrap(), placement);
        assert_eq!(again.folder("kv").end(), None);
        folder.remove().unwrap();
        assert!(again.names().unwrap().is_empty());
    }

    #[test]
    fn one_daemon_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lock = store.lock().unwrap();
        assert!(lock.is_some() && store.lock().unwrap().is_none());
    }
}
