//! What each elastic thread has to itself: the kernel's and the application's addresses of its
//! stacks, rings, thread area and heap. Every thread runs in an address space in which those of the
//! others are absent, so that what breaks the rule that threads share nothing in steady state is a
//! page fault, which [`Trespass`] explains. ARCHITECTURE.md lists what is shared.
//!
//! Filled in by the boot CPU before any thread runs; [`Memory::space_of`] makes the address spaces.
//!
//! [`Memory::space_of`]: super::memory::Memory::space_of

use core::fmt;

use ix_abi::THREADS_MAX;
use kernel_dp::boot_info::Range;
use spin::Mutex;

/// Parts that a thread has at most.
const PARTS_OF_EACH: usize = 8;
const PARTS_MAX: usize = THREADS_MAX * PARTS_OF_EACH;

/// A range of addresses that only one thread may use.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    thread: usize,
    what: &'static str,
    /// Virtual addresses, whole pages.
    pub range: Range,
}

struct Parts {
    parts: [Part; PARTS_MAX],
    count: usize,
}

static PARTS: Mutex<Parts> = Mutex::new(Parts {
    parts: [const {
        Part {
            thread: 0,
            what: "",
            range: Range { start: 0, end: 0 },
        }
    }; PARTS_MAX],
    count: 0,
});

/// Makes a range private to a thread.
///
/// # Panics
/// If there are more than the table has room for.
pub fn keep(thread: usize, range: Range, what: &'static str) {
    let mut parts = PARTS.lock();
    let count = parts.count;
    parts.parts[count] = Part {
        thread,
        what,
        range,
    };
    parts.count += 1;
}

/// Calls `visit` with each part that is private to another thread, until one fails.
pub fn of_others<E>(thread: usize, mut visit: impl FnMut(&Part) -> Result<(), E>) -> Result<(), E> {
    let parts = PARTS.lock();
    let mut others = parts.parts[..parts.count]
        .iter()
        .filter(|part| part.thread != thread);
    others.try_for_each(&mut visit)
}

/// Reads what is private to another thread, which must end in a page fault: it shows that the rule
/// is watched over.
pub fn trespass(thread: usize) {
    let mut found = None;
    let _: Result<(), ()> = of_others(thread, |part| {
        found = Some(*part);
        Err(())
    });
    let Some(part) = found else {
        log::warn!("trespass=on: there is no other thread whose memory could be read");
        return;
    };
    // SAFETY: the address is mapped in no address space but that of its owner, so that this faults;
    // were it mapped, it would be plain memory.
    let word = unsafe { (part.range.start as *const u64).read_volatile() };
    log::error!("trespass=on: {} could be read: {word:#x}", Whose(part));
}

/// Says of an address that it is private to another thread than the one given, if it is.
pub struct Trespass {
    /// Who used it.
    pub thread: u32,
    /// What was used.
    pub address: u64,
}

impl fmt::Display for Trespass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nobody holds the lock for long; a fault may have come in between.
        let Some(parts) = PARTS.try_lock() else {
            return Ok(());
        };
        let holds = |part: &&Part| (part.range.start..part.range.end).contains(&self.address);
        let part = parts.parts[..parts.count].iter().find(holds);
        match part.filter(|part| part.thread != self.thread as usize) {
            Some(part) => write!(f, ", {}", Whose(*part)),
            None => Ok(()),
        }
    }
}

struct Whose(Part);

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Part { thread, what, .. }) = self;
        write!(f, "{what} of thread {thread}, private to it")
    }
}
