//! The global allocator: an arena for each elastic thread, on the heap that the kernel gives it, and
//! one for the background threads together.
//!
//! Talc: constant-time binned free lists with in-place growth, no dependence on an operating
//! system, tested and fuzzed by its authors. Nothing allocates per message in steady state, so
//! that its speed matters little; what matters is that it does not fragment when connections
//! come and go, and that threads share neither its state nor a cache line of what it gives out. A
//! thread allocates from its own arena; memory goes back to the arena that it lies in, whoever frees
//! it, hence the locks, which nobody else holds as a rule. A background thread is not interrupted while
//! it holds one ([`hold`]), so that nobody spins for longer than the allocator works.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

use ix_abi::THREADS_MAX;
use talc::{TalcLock, source::Manual};

use super::background::hold;
use super::entry::thread;

#[global_allocator]
static HEAP: Arenas = Arenas {
    arenas: [const { Arena(TalcLock::new(Manual)) }; THREADS_MAX],
    base: AtomicUsize::new(0),
    bytes: AtomicUsize::new(0),
};

struct Arenas {
    arenas: [Arena; THREADS_MAX],
    /// Start of the first thread's heap, and length of each; the same on all threads.
    base: AtomicUsize,
    bytes: AtomicUsize,
}

/// In cache lines of its own, two of which a processor may fetch at once.
#[repr(align(128))]
struct Arena(TalcLock<spin::Mutex<()>, Manual>);

impl Arenas {
    /// The arena that a block lies in.
    fn arena_of(&self, block: *mut u8) -> &Arena {
        let offset = block as usize - self.base.load(Ordering::Relaxed);
        &self.arenas[offset / self.bytes.load(Ordering::Relaxed)]
    }
}

// SAFETY: each block comes from one of the arenas, which keep the contract, and goes back to the
// same one: the heaps lie side by side, so that its address tells which.
unsafe impl GlobalAlloc for Arenas {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of this very method.
        hold(|| unsafe { self.arenas[thread()].0.alloc(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; the block came from this arena.
        hold(|| unsafe { self.arena_of(block).0.dealloc(block, layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above; the block came from this arena.
        hold(|| unsafe { self.arena_of(block).0.realloc(block, layout, bytes) })
    }
}

/// Gives the arena of this thread its memory.
///
/// # Safety
/// The range must be mapped read-write, and nothing else may use it. The ranges of all threads are
/// equally long and lie side by side.
pub(super) unsafe fn set_up(base: u64, bytes: u64) {
    let (base, bytes) = (base as usize, bytes as usize);
    HEAP.base.store(base - thread() * bytes, Ordering::Relaxed);
    HEAP.bytes.store(bytes, Ordering::Relaxed);
    // SAFETY: what the caller promises is what `claim` asks for.
    let claimed = unsafe { HEAP.arenas[thread()].0.lock().claim(base as *mut u8, bytes) };
    expect_claimed(claimed.is_some());
}

/// Gives the background threads' arena its memory, behind the heaps of the elastic threads, if no
/// background thread has done so yet.
pub(super) fn set_up_background() {
    static IS_SET_UP: spin::Mutex<bool> = spin::Mutex::new(false);
    let claimed = hold(|| {
        let mut is_set_up = IS_SET_UP.lock();
        if core::mem::replace(&mut *is_set_up, true) {
            return true;
        }
        let bytes = HEAP.bytes.load(Ordering::Relaxed);
        let base = HEAP.base.load(Ordering::Relaxed) + thread() * bytes;
        // SAFETY: an elastic thread has set up its heap before it could start this one, so that base
        // and length are there. The kernel has mapped one heap more than there are elastic threads,
        // for background threads alone, and this is the first one of them.
        unsafe { HEAP.arenas[thread()].0.lock().claim(base as *mut u8, bytes) }.is_some()
    });
    expect_claimed(claimed);
}

fn expect_claimed(claimed: bool) {
    if !claimed {
        super::log("libix: the heap is too small to be used; give the machine more memory");
        super::exit(super::entry::EXIT_BAD_AREA);
    }
}
