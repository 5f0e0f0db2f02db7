//! Reads the plugin's counters: how often each guest instruction was executed, by address.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// First address of the upper half of the address space, where the dataplane kernel lives. User
/// mode has the lower half; what else ran there (firmware, boot) ran before any measurement.
pub const KERNEL_HALF: u64 = 1 << 63;

/// A connection to the plugin in a running machine.
pub struct Sampler {
    stream: UnixStream,
}

impl Sampler {
    /// Connects to the plugin's socket, which appears a moment after QEMU started.
    pub fn connect(socket: &Path, patience: Duration) -> io::Result<Self> {
        let deadline = Instant::now() + patience;
        loop {
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(patience))?;
                    return Ok(Self { stream });
                }
                Err(error) => match error.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused
                        if Instant::now() < deadline =>
                    {
                        thread::sleep(Duration::from_millis(10));
                    }
                    _ => return Err(error),
                },
            }
        }
    }

    /// The counters now, since power-on.
    pub fn sample(&mut self) -> io::Result<Counts> {
        self.stream.write_all(b"?")?;
        let mut length = [0; 8];
        self.stream.read_exact(&mut length)?;
        let entries = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
        let mut bytes = vec![0; entries * 16];
        self.stream.read_exact(&mut bytes)?;
        let words = |entry: &[u8]| {
            let word = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8"));
            (word(0), word(8))
        };
        Ok(bytes.chunks_exact(16).map(words).collect())
    }
}

/// How often the instruction at each address was executed; addresses never executed are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by_address: BTreeMap<u64, u64>,
}

impl Counts {
    /// What was executed between `earlier` and `self`.
    pub fn since(&self, earlier: &Counts) -> Counts {
        self.iter()
            .map(|(address, count)| (address, count - earlier.at(address)))
            .collect()
    }

    /// Executions of the instruction at `address`.
    pub fn at(&self, address: u64) -> u64 {
        self.by_address.get(&address).copied().unwrap_or(0)
    }

    /// All instructions executed.
    pub fn total(&self) -> u64 {
        self.by_address.values().sum()
    }

    /// Addresses in ascending order, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_address
            .iter()
            .map(|(&address, &count)| (address, count))
    }
}

impl FromIterator<(u64, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(entries: I) -> Self {
        let executed = entries.into_iter().filter(|&(_, count)| count > 0);
        Self {
            by_address: executed.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_keeps_only_what_ran_in_between() {
        let earlier = Counts::from_iter([(1, 5), (2, 7)]);
        let later = Counts::from_iter([(1, 5), (2, 9), (KERNEL_HALF, 4)]);
        let window = later.since(&earlier);
        assert_eq!(window, Counts::from_iter([(2, 2), (KERNEL_HALF, 4)]));
        assert_eq!(window.total(), 6);
    }

    #[test]
    fn sampler_reads_what_the_plugin_writes() {
        let directory = std::env::temp_dir().join(format!("ix-insns-{}", std::process::id()));
        let listener = std::os::unix::net::UnixListener::bind(&directory).unwrap();
        let plugin = thread::spawn(move || {
            let (mut reader, _) = listener.accept().unwrap();
            reader.read_exact(&mut [0]).unwrap();
            let reply: Vec<u8> = [2u64, 0x1000, 3, KERNEL_HALF, 4]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            reader.write_all(&reply).unwrap();
        });
        let mut sampler = Sampler::connect(&directory, Duration::from_secs(5)).unwrap();
        let counts = sampler.sample().unwrap();
        assert_eq!(counts, Counts::from_iter([(0x1000, 3), (KERNEL_HALF, 4)]));
        plugin.join().unwrap();
        std::fs::remove_file(directory).unwrap();
    }
}
