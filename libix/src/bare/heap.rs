//! The global allocator, on the heap region that the kernel gives.
//!
//! Talc: constant-time binned free lists with in-place growth, no dependence on an operating
//! system, tested and fuzzed by its authors. Nothing allocates per message in steady state, so
//! that its speed matters little; what matters is that it does not fragment when connections
//! come and go. Elastic threads share it behind a spin lock.

use talc::{TalcLock, source::Manual};

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the heap its memory.
///
/// # Safety
/// The range must be mapped read-write, and nothing else may use it.
pub(super) unsafe fn set_up(base: u64, bytes: u64) {
    // SAFETY: what the caller promises is what `claim` asks for.
    let claimed = unsafe { HEAP.lock().claim(base as *mut u8, bytes as usize) };
    if claimed.is_none() {
        super::log("libix: the heap is too small to be used; give the machine more memory");
        super::exit(super::entry::EXIT_BAD_AREA);
    }
}
