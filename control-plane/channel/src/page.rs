//! Linux's view of the control page. The only unsafe code of the control plane is here: the words of
//! a mapped file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use ix_abi::THREADS_MAX;
use ix_abi::control::{self, ThreadState, command, thread};
use memmap2::{MmapOptions, MmapRaw};

/// The control page of one dataplane, in a file that is also the memory of its guest's device.
#[derive(Debug)]
pub struct ControlPage {
    file: File,
    map: MmapRaw,
    is_writable: bool,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The file cannot be made, opened or mapped.
    #[error("control page {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file is no control page.
    #[error("control page {path}: it has {bytes} bytes, not {}", control::BYTES)]
    Size {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
}

/// What the kernel says of itself once it is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Elastic threads, parked ones included.
    pub threads: usize,
    /// Flow groups.
    pub groups: usize,
}

/// An average over about 1 ms, 32 ms and 1 s.
pub type Averages = [f64; 3];

/// What an elastic thread says of itself; see [`ix_abi::control::thread`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the words of the ABI, by their names there")]
pub struct ThreadReport {
    pub state: ThreadState,
    pub now_ns: u64,
    pub cycles: u64,
    pub busy_cycles: u64,
    pub rounds: u64,
    pub events: u64,
    pub calls: u64,
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub connections: u64,
    pub mbufs_free: u64,
    pub idle_ns: u64,
    pub user_ns: u64,
    pub batch: Averages,
    pub queue_depth: Averages,
    pub loop_ns: Averages,
    pub rx_missed: u64,
    pub rx_errors: u64,
    pub rx_no_buffers: u64,
    pub tx_drops: u64,
    pub retransmits: u64,
    pub migrated_in: u64,
    pub migrated_out: u64,
    pub parked_frames: u64,
    pub refused: u64,
    pub overstays: u64,
    pub is_absent: bool,
}

/// A flow group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// The thread that owns it.
    pub owner: u8,
    /// Frames that this owner has received, modulo 2^56.
    pub frames: u64,
}

impl ControlPage {
    /// Makes an empty page, in a file that only its owner may read or write.
    pub fn create(path: &Path) -> Result<ControlPage, PageError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| file.set_len(control::BYTES as u64).map(|()| file));
        let file = file.map_err(|source| io_error(path, source))?;
        ControlPage::map(path, file, true)
    }

    /// Opens a page that exists, only to read it.
    pub fn open(path: &Path) -> Result<ControlPage, PageError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        ControlPage::map(path, file, false)
    }

    fn map(path: &Path, file: File, is_writable: bool) -> Result<ControlPage, PageError> {
        let metadata = file.metadata().map_err(|source| io_error(path, source))?;
        if metadata.len() != control::BYTES as u64 {
            return Err(PageError::Size {
                path: path.to_owned(),
                bytes: metadata.len(),
            });
        }
        let mut options = MmapOptions::new();
        options.len(control::BYTES);
        let map = match is_writable {
            true => options.map_raw(&file),
            false => options.map_raw_read_only(&file),
        };
        let map = map.map_err(|source| io_error(path, source))?;
        Ok(ControlPage {
            file,
            map,
            is_writable,
        })
    }

    /// The file, to hand it to the guest.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// What the kernel says of itself; `None` as long as it has not come up, and for a kernel that
    /// makes no sense or speaks another version.
    pub fn header(&self) -> Option<Header> {
        let is_there = self.read(control::MAGIC_WORD) == control::MAGIC
            && self.read(control::VERSION_WORD) == control::VERSION;
        // What was written before the magic number is read after it.
        fence(Ordering::Acquire);
        let threads = usize::try_from(self.read(control::THREAD_COUNT)).ok()?;
        let groups = usize::try_from(self.read(control::GROUP_COUNT)).ok()?;
        let is_sane = (1..=THREADS_MAX).contains(&threads) && groups <= control::GROUPS_MAX;
        (is_there && is_sane).then_some(Header { threads, groups })
    }

    /// What thread number `index` says of itself; `None` for one that there cannot be.
    pub fn thread(&self, index: usize) -> Option<ThreadReport> {
        let block = thread_block(index)?;
        let word = |offset: usize| self.read(block + offset);
        let averages = |first: usize| [0, 1, 2].map(|horizon| fixed_point(word(first + horizon)));
        Some(ThreadReport {
            state: ThreadState::from_raw(word(thread::STATE)).unwrap_or(ThreadState::Absent),
            now_ns: word(thread::NOW_NS),
            cycles: word(thread::CYCLES),
            busy_cycles: word(thread::BUSY_CYCLES),
            rounds: word(thread::ROUNDS),
            events: word(thread::EVENTS),
            calls: word(thread::CALLS),
            rx_frames: word(thread::RX_FRAMES),
            rx_bytes: word(thread::RX_BYTES),
            tx_frames: word(thread::TX_FRAMES),
            tx_bytes: word(thread::TX_BYTES),
            connections: word(thread::CONNECTIONS),
            mbufs_free: word(thread::MBUFS_FREE),
            idle_ns: word(thread::IDLE_NS),
            user_ns: word(thread::USER_NS),
            batch: averages(thread::BATCH),
            queue_depth: averages(thread::QUEUE_DEPTH),
            loop_ns: averages(thread::LOOP_NS),
            rx_missed: word(thread::RX_MISSED),
            rx_errors: word(thread::RX_ERRORS),
            rx_no_buffers: word(thread::RX_NO_BUFFERS),
            tx_drops: word(thread::TX_DROPS),
            retransmits: word(thread::RETRANSMITS),
            migrated_in: word(thread::MIGRATED_IN),
            migrated_out: word(thread::MIGRATED_OUT),
            parked_frames: word(thread::PARKED_FRAMES),
            refused: word(thread::REFUSED),
            overstays: word(thread::OVERSTAYS),
            is_absent: word(thread::ABSENT) != 0,
        })
    }

    /// Flow group number `index`; `None` for one that there cannot be.
    pub fn group(&self, index: usize) -> Option<Group> {
        let word = (index < control::GROUPS_MAX).then(|| self.read(control::GROUPS + index))?;
        Some(Group {
            owner: word as u8,
            frames: word >> 8,
        })
    }

    /// Number of the last command that a thread has executed, and its result.
    pub(crate) fn acknowledgement(&self, index: usize) -> Option<(u64, i64)> {
        let block = thread_block(index)?;
        let sequence = self.read(block + thread::ACKNOWLEDGED);
        // The result was written before.
        fence(Ordering::Acquire);
        Some((sequence, self.read(block + thread::RESULT) as i64))
    }

    /// Puts a command into a thread's block and returns its number. False for a page that is only read.
    pub(crate) fn post(&self, index: usize, opcode: u64, arguments: [u64; 3]) -> Option<u64> {
        if index >= THREADS_MAX || !self.is_writable {
            return None;
        }
        let block = control::COMMANDS + index * command::WORDS;
        let sequence = self.read(block + command::SEQUENCE).wrapping_add(1);
        let word = |offset: usize| self.word(block + offset);
        word(command::OPCODE).store(opcode, Ordering::Relaxed);
        for (place, argument) in arguments.into_iter().enumerate() {
            word(command::ARGUMENTS + place).store(argument, Ordering::Relaxed);
        }
        word(command::SEQUENCE).store(sequence, Ordering::Release);
        Some(sequence)
    }

    /// Relaxed, since only loads of that kind are defined on memory that may only be read.
    fn read(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < control::WORDS);
        let words = self.map.as_ptr().cast::<AtomicU64>();
        // SAFETY: the map is `control::BYTES` long, which `control::WORDS` fit into, is aligned to a
        // page, and lives as long as `self`. Others may change the words at any time, which atomics
        // allow. Stores happen in `post` alone, on a map that may be written. The file does not
        // shrink: it lies in a folder of the control plane's own, which cuts no file.
        unsafe { &*words.add(index) }
    }
}

fn thread_block(index: usize) -> Option<usize> {
    (index < THREADS_MAX).then_some(control::THREADS + index * thread::WORDS)
}

/// 16 bits behind the point.
fn fixed_point(word: u64) -> f64 {
    word as f64 / 65_536.0
}

fn io_error(path: &Path, source: io::Error) -> PageError {
    PageError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A kernel that writes what it is told.

    use super::*;

    /// Writes a word as the guest would.
    pub fn write(page: &ControlPage, index: usize, value: u64) {
        page.word(index).store(value, Ordering::Release);
    }

    /// Reads a word as the guest would.
    pub fn read(page: &ControlPage, index: usize) -> u64 {
        page.word(index).load(Ordering::Acquire)
    }

    /// A page of a kernel that has come up.
    pub fn up(path: &Path, threads: u64, groups: u64) -> ControlPage {
        let page = ControlPage::create(path).unwrap();
        write(&page, control::THREAD_COUNT, threads);
        write(&page, control::GROUP_COUNT, groups);
        write(&page, control::VERSION_WORD, control::VERSION);
        write(&page, control::MAGIC_WORD, control::MAGIC);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_page_has_a_header_only_once_its_kernel_is_up() {
        let folder = folder();
        let page = ControlPage::create(&folder.path().join("empty")).unwrap();
        assert_eq!(page.header(), None);
        let page = testing::up(&folder.path().join("up"), 4, 128);
        let header = Header {
            threads: 4,
            groups: 128,
        };
        assert_eq!(page.header(), Some(header));
        for (word, value) in [
            (control::THREAD_COUNT, 0),
            (control::THREAD_COUNT, 65),
            (control::THREAD_COUNT, u64::MAX),
            (control::GROUP_COUNT, 129),
            (control::VERSION_WORD, control::VERSION + 1),
            (control::MAGIC_WORD, 0),
        ] {
            let good = testing::read(&page, word);
            testing::write(&page, word, value);
            assert_eq!(page.header(), None, "word {word} is {value}");
            testing::write(&page, word, good);
        }
        assert_eq!(page.header(), Some(header));
    }

    #[test]
    fn a_reader_sees_what_the_kernel_writes_and_can_post_nothing() {
        let folder = folder();
        let path = folder.path().join("control");
        let page = testing::up(&path, 2, 8);
        let block = control::THREADS + thread::WORDS;
        testing::write(&page, block + thread::STATE, 2);
        testing::write(&page, block + thread::RX_FRAMES, 77);
        testing::write(&page, block + thread::BATCH + 1, 3 << 15);
        testing::write(&page, control::GROUPS + 7, 1 | 900 << 8);
        let reader = ControlPage::open(&path).unwrap();
        let thread = reader.thread(1).unwrap();
        assert_eq!(
            (thread.state, thread.rx_frames, thread.batch[1]),
            (ThreadState::Running, 77, 1.5)
        );
        let group = Group {
            owner: 1,
            frames: 900,
        };
        assert_eq!(reader.group(7), Some(group));
        assert_eq!(reader.post(0, 1, [0; 3]), None);
        assert_eq!(reader.thread(THREADS_MAX), None);
        assert_eq!(reader.group(control::GROUPS_MAX), None);
    }

    #[test]
    fn files_that_are_no_pages_are_refused() {
        let folder = folder();
        let path = folder.path().join("short");
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(matches!(
            ControlPage::open(&path),
            Err(PageError::Size { bytes: 4096, .. })
        ));
        assert!(matches!(
            ControlPage::create(&path),
            Err(PageError::Io { .. })
        ));
    }
}
