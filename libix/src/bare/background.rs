//! Background threads on the dataplane kernel: their first instructions, and the system calls.

use alloc::boxed::Box;
use core::sync::atomic::AtomicU64;

use ix_abi::syscall::{END, NOTIFY, SLEEP, SPAWN, WAIT, WAKE, YIELD};
use ix_abi::{Error, area, boot};

pub(crate) use super::entry::thread;
use super::heap;
use super::syscall::{system_call, wait_call};

/// What a thread does.
type Work = Box<dyn FnOnce() + Send>;

pub(crate) fn spawn(work: Work) -> Result<(), Error> {
    let work = Box::into_raw(Box::new(work));
    let result = system_call(SPAWN, begin as *const () as u64, work as u64);
    match Error::from_result(result) {
        None => Ok(()),
        Some(error) => {
            // SAFETY: `into_raw` made it of a box above, and no thread got it.
            drop(unsafe { Box::from_raw(work) });
            Err(error)
        }
    }
}

/// Where a background thread begins: `rdi` = its work, `rsp` = top of its stack, aligned to 16 bytes.
///
/// # Safety
/// Only the kernel enters here, once for each [`SPAWN`].
#[unsafe(naked)]
unsafe extern "sysv64" fn begin() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "call {enter}",
        "ud2",
        enter = sym enter,
    )
}

extern "sysv64" fn enter(work: *mut Work) -> ! {
    heap::set_up_background();
    // SAFETY: `spawn` made it of a box and handed it to this thread alone.
    let work = *unsafe { Box::from_raw(work) };
    work();
    system_call(END, 0, 0);
    unreachable!("the kernel returned from the end of a thread");
}

pub(crate) fn yield_now() {
    system_call(YIELD, 0, 0);
}

/// Sleeps until that time, and says what time it is; 0 on an elastic thread, which does not sleep.
pub(crate) fn sleep_until(time_ns: u64) -> u64 {
    u64::try_from(system_call(SLEEP, time_ns, 0)).unwrap_or(0)
}

/// Waits until the word is woken, or until the time has come unless it is 0.
pub(crate) fn wait(word: &AtomicU64, expected: u64, until_ns: u64) -> Result<(), Error> {
    let result = wait_call(WAIT, word.as_ptr() as u64, expected, until_ns);
    Error::from_result(result).map_or(Ok(()), Err)
}

/// Wakes whoever waits for the word.
pub(crate) fn wake(word: &AtomicU64) {
    system_call(WAKE, word.as_ptr() as u64, u64::MAX);
}

pub(crate) fn notify(thread: usize) {
    system_call(NOTIFY, thread as u64, 0);
}

/// Keeps the kernel from interrupting a background thread in favour of another one.
#[inline]
pub(crate) fn hold<R>(work: impl FnOnce() -> R) -> R {
    const OFFSET: usize = area::HOLD * 8;
    // SAFETY: FS.base is the address of the thread area, which stays mapped; nothing but the kernel
    // and the thread that runs on this processor accesses the word. The compiler moves no access to
    // memory across.
    unsafe {
        core::arch::asm!("inc qword ptr fs:[{offset}]", offset = const OFFSET, options(nostack));
    }
    let result = work();
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("dec qword ptr fs:[{offset}]", offset = const OFFSET, options(nostack));
    }
    result
}

/// Whether this is a background thread: their area's number is behind those of the elastic threads.
#[inline]
pub(crate) fn is_background() -> bool {
    const OFFSET: usize = (area::BOOT + boot::THREADS) * 8;
    let threads: usize;
    // SAFETY: as in `thread`.
    unsafe {
        core::arch::asm!("mov {}, fs:[{offset}]", out(reg) threads, offset = const OFFSET,
            options(pure, readonly, nostack, preserves_flags));
    }
    thread() >= threads
}
