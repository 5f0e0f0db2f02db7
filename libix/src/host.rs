//! What the dataplane kernel does for background threads, done for a process on a host: they are
//! threads of the process, and time is that of its clock. Nothing halts here that would have to be
//! notified; [`crate::fake`] counts it.

use std::boxed::Box;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ix_abi::Error;
use ix_abi::syscall::{BACKGROUND_MAX, STACK_BYTES};

/// Background threads of this process.
static THREADS: AtomicUsize = AtomicUsize::new(0);
/// Whoever waits for any word. All are woken together, and look again.
static WAITING: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
/// Zero of the clock.
static BOOT: OnceLock<Instant> = OnceLock::new();

thread_local! {
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
    /// For tests of what happens without a processor for background threads.
    pub(crate) static HAS_PROCESSOR: Cell<bool> = const { Cell::new(true) };
    /// Notifications sent by this thread.
    pub(crate) static NOTIFICATIONS: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn spawn(work: Box<dyn FnOnce() + Send>) -> Result<(), Error> {
    if !HAS_PROCESSOR.get() {
        return Err(Error::BadState);
    }
    let more = |threads| (threads < BACKGROUND_MAX).then_some(threads + 1);
    let room = THREADS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    room.map_err(|_| Error::Exhausted)?;
    let thread = thread::Builder::new().stack_size(STACK_BYTES as usize);
    let started = thread.spawn(|| {
        IS_BACKGROUND.set(true);
        work();
        THREADS.fetch_sub(1, Ordering::Relaxed);
    });
    started.map(drop).map_err(|_| {
        THREADS.fetch_sub(1, Ordering::Relaxed);
        Error::Exhausted
    })
}

pub(crate) fn yield_now() {
    thread::yield_now();
}

/// Sleeps until that time, and says what time it is.
pub(crate) fn sleep_until(time_ns: u64) -> u64 {
    if !is_background() {
        return 0;
    }
    thread::sleep(left_until(time_ns));
    now_ns()
}

/// Waits until the word is woken, the time has come unless it is 0, or for no reason.
pub(crate) fn wait(word: &AtomicU64, expected: u64, until_ns: u64) -> Result<(), Error> {
    let (_, condition) = &WAITING;
    let waiting = lock();
    if word.load(Ordering::SeqCst) != expected {
        return Err(Error::TryAgain);
    }
    if until_ns == 0 {
        drop(condition.wait(waiting));
        return Ok(());
    }
    let left = left_until(until_ns);
    let woken = condition.wait_timeout(waiting, left);
    match woken.is_ok_and(|(_, timeout)| timeout.timed_out()) {
        true => Err(Error::TimedOut),
        false => Ok(()),
    }
}

/// Wakes whoever waits for the word.
pub(crate) fn wake(_word: &AtomicU64) {
    // With the lock taken, nobody is between looking at the word and waiting for it.
    drop(lock());
    WAITING.1.notify_all();
}

pub(crate) fn notify(_thread: usize) {
    NOTIFICATIONS.set(NOTIFICATIONS.get() + 1);
}

pub(crate) fn hold<R>(work: impl FnOnce() -> R) -> R {
    work()
}

pub(crate) fn is_background() -> bool {
    IS_BACKGROUND.get()
}

/// Number of the elastic thread; a process plays one at a time.
pub(crate) fn thread() -> usize {
    0
}

fn now_ns() -> u64 {
    BOOT.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn left_until(time_ns: u64) -> Duration {
    Duration::from_nanos(time_ns.saturating_sub(now_ns()))
}

fn lock() -> MutexGuard<'static, ()> {
    WAITING.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One test at a time uses the table of threads, and finds it empty.
#[cfg(test)]
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    while THREADS.load(Ordering::Relaxed) != 0 {
        thread::yield_now();
    }
    guard
}
