//! The machine's hardware threads: packages, cores and their siblings, as Linux lists them in
//! `/sys/devices/system/cpu`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where Linux has it.
pub const SYSTEM: &str = "/sys/devices/system/cpu";

/// A hardware thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Linux's number of the CPU.
    pub id: u32,
    /// The lowest number among the hardware threads of its core.
    pub core: u32,
    /// Its package.
    pub package: u32,
}

/// The hardware threads that are online, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    places: Vec<Place>,
}

/// Why the topology is not known.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds {text:?}, which is no list of CPUs")]
    Format {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

impl Topology {
    /// Reads the topology below `system`, which is [`SYSTEM`] but in tests.
    pub fn read(system: &Path) -> Result<Topology, TopologyError> {
        let online = read_list(&system.join("online"))?;
        let mut places = Vec::with_capacity(online.len());
        for id in online {
            let folder = system.join(format!("cpu{id}/topology"));
            let siblings = read_list(&folder.join("thread_siblings_list"))?;
            let package = read_list(&folder.join("physical_package_id"))?;
            places.push(Place {
                id,
                core: siblings.into_iter().min().unwrap_or(id),
                package: package.first().copied().unwrap_or(0),
            });
        }
        Ok(Topology { places })
    }

    /// A made-up machine of that many cores, each with one hardware thread.
    pub fn emulated(cores: u32) -> Topology {
        let place = |id| Place {
            id,
            core: id,
            package: 0,
        };
        Topology {
            places: (0..cores).map(place).collect(),
        }
    }

    /// The hardware threads, by number.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The hardware threads that share a core with `id`, itself included.
    pub fn siblings(&self, id: u32) -> impl Iterator<Item = &Place> {
        let core = self
            .places
            .iter()
            .find(|place| place.id == id)
            .map(|place| place.core);
        self.places
            .iter()
            .filter(move |place| Some(place.core) == core)
    }
}

fn read_list(path: &Path) -> Result<Vec<u32>, TopologyError> {
    let text = fs::read_to_string(path).map_err(|source| TopologyError::Io {
        path: path.to_owned(),
        source,
    })?;
    parse_list(text.trim()).ok_or_else(|| TopologyError::Format {
        path: path.to_owned(),
        text,
    })
}

/// A list of CPUs like `0-3,8,10-11`; `None` for anything else.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    /// More than any machine has, so that a bad list cannot fill the memory.
    const MOST: u32 = 1 << 16;
    let mut list = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        list.extend(first..=last);
    }
    list.sort_unstable();
    list.dedup();
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_nonsense_is_not() {
        assert_eq!(parse_list("0-3,8,10-11"), Some(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(parse_list("5"), Some(vec![5]));
        assert_eq!(parse_list(""), Some(vec![]));
        for text in ["a", "3-1", "1-", "0-99999999", "1 2"] {
            assert_eq!(parse_list(text), None, "{text}");
        }
    }

    #[test]
    fn siblings_are_found_as_sys_lists_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("online", "0-3\n");
        for (id, siblings) in [(0, "0,2\n"), (1, "1,3\n"), (2, "0,2\n"), (3, "1,3\n")] {
            write(&format!("cpu{id}/topology/thread_siblings_list"), siblings);
            write(&format!("cpu{id}/topology/physical_package_id"), "0\n");
        }
        let topology = Topology::read(folder.path()).unwrap();
        let cores: Vec<u32> = topology.places().iter().map(|place| place.core).collect();
        assert_eq!(cores, [0, 1, 0, 1]);
        let siblings: Vec<u32> = topology.siblings(3).map(|place| place.id).collect();
        assert_eq!(siblings, [1, 3]);
        assert!(Topology::read(&folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn this_machine_has_a_topology() {
        let topology = Topology::read(Path::new(SYSTEM)).unwrap();
        assert!(!topology.places().is_empty());
    }
}
