//! Background threads: work beside the event loops, such as expiry or statistics. They time-share
//! one processor, never those of the elastic threads, and may sleep and wait.
//!
//! ```
//! use core::time::Duration;
//! use libix::{background, channel};
//!
//! let (report, mut reports) = channel::bounded(16);
//! let thread = background::spawn(move || {
//!     background::sleep(Duration::from_millis(1));
//!     report.send("swept").is_ok()
//! });
//! let thread = match thread {
//!     Ok(thread) => thread,
//!     Err(error) => panic!("{error}"),
//! };
//! // An elastic thread looks into the channel in `Service::on_round` instead of waiting.
//! while reports.try_recv().is_none() {}
//! # while !thread.is_finished() {}
//! # assert_eq!(thread.join().ok(), Some(true));
//! ```
//!
//! What they share with other threads is under Rust's own rules; see the crate's chapter on threads.
//! A lock that an elastic thread spins for must be held within [`hold`] here: else this thread may be
//! interrupted while it has the lock, and the elastic thread spins until its next turn.

use alloc::boxed::Box;
use core::time::Duration;

use ix_abi::Error;
use ix_abi::syscall::BACKGROUND_MAX;

use crate::channel::{self, Receiver};
use crate::platform;

/// Starts a background thread that does `work`. Any thread may do so. Its stack is
/// [`STACK_BYTES`](ix_abi::syscall::STACK_BYTES) long; a panic ends the application.
pub fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, SpawnError> {
    let (sender, result) = channel::bounded(1);
    let work = move || {
        // Nobody may wait for it any longer.
        let _ = sender.try_send(work());
    };
    match platform::spawn(Box::new(work)) {
        Ok(()) => Ok(JoinHandle { result }),
        Err(Error::Exhausted) => Err(SpawnError::TooMany),
        Err(_) => Err(SpawnError::NoProcessor),
    }
}

/// Why no background thread was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// The machine has no processor for them.
    #[error(
        "no processor for background threads: give the machine one CPU more and its kernel \
         `background=1` (`background = true` in a definition, `--background` with cargo xtask run)"
    )]
    NoProcessor,
    /// There are as many as there can be.
    #[error(
        "{BACKGROUND_MAX} background threads run, which is the most: let one do the work of several"
    )]
    TooMany,
}

/// A background thread that was started. It goes on without this.
#[derive(Debug)]
pub struct JoinHandle<T> {
    result: Receiver<T>,
}

impl<T> JoinHandle<T> {
    /// Whether it has done its work. Its place is free for another thread a moment later.
    pub fn is_finished(&self) -> bool {
        !self.result.is_empty()
    }

    /// What came of its work. A background thread waits for it; on an elastic thread, which does not
    /// wait, the handle comes back as long as the work is not done.
    pub fn join(mut self) -> Result<T, Self> {
        match is_background() {
            true => self.result.recv().map_err(|_| self),
            false => self.result.try_recv().ok_or(self),
        }
    }
}

/// Whether this is a background thread.
#[inline]
pub fn is_background() -> bool {
    platform::is_background()
}

/// Time since boot, on the scale of [`Context::now`](crate::Context::now) but exact. Costs a system
/// call. An elastic thread has [`Context::now`](crate::Context::now), and gets zero here.
pub fn now() -> Duration {
    Duration::from_nanos(platform::sleep_until(0))
}

/// Sleeps at least that long. Others that can run have their turn first, so that it may be later by
/// [`SLICE_NS`](ix_abi::syscall::SLICE_NS) for each of them. Of no effect on an elastic thread.
pub fn sleep(duration: Duration) {
    sleep_until(now() + duration);
}

/// Sleeps until that time on the scale of [`now`].
pub fn sleep_until(time: Duration) {
    platform::sleep_until(nanoseconds(time));
}

/// Lets the other background threads run first. Of no effect on an elastic thread.
pub fn yield_now() {
    platform::yield_now();
}

/// Does a few instructions of work that another thread may spin for, such as those under a lock,
/// without being interrupted: for a millisecond at most, so that no other background thread starves.
#[inline]
pub fn hold<R>(work: impl FnOnce() -> R) -> R {
    platform::hold(work)
}

/// Has an elastic thread run a round, so that [`Service::on_round`](crate::Service::on_round) is
/// called although there are no events. Made by [`Context::notifier`](crate::Context::notifier); for
/// those who share something else than a [`channel`], which does this by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notifier {
    pub(crate) thread: usize,
}

impl Notifier {
    /// One more round, which begins after this call; a parked thread runs it when it serves again.
    pub fn notify(&self) {
        platform::notify(self.thread);
    }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::without_background_processor;
    use crate::host::alone;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Waits for it as an elastic thread has to.
    fn result_of<T>(mut handle: JoinHandle<T>) -> T {
        loop {
            match handle.join() {
                Ok(result) => return result,
                Err(unfinished) => handle = unfinished,
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_thread_gives_its_result_to_whoever_joins_it() {
        let _alone = alone();
        let outer = spawn(|| {
            let inner = spawn(|| 20).unwrap();
            assert!(is_background());
            inner.join().unwrap() + 1
        });
        assert!(!is_background());
        assert_eq!(result_of(outer.unwrap()), 21);
    }

    #[test]
    fn a_thread_too_many_is_refused_with_a_remedy() {
        let _alone = alone();
        let may_end = Arc::new(AtomicBool::new(false));
        let wait_for_the_end = |may_end: Arc<AtomicBool>| {
            move || {
                while !may_end.load(Ordering::Acquire) {
                    yield_now();
                }
            }
        };
        let threads: Vec<_> = (0..BACKGROUND_MAX)
            .map(|_| spawn(wait_for_the_end(may_end.clone())).unwrap())
            .collect();
        let error = spawn(|| ()).unwrap_err();
        assert_eq!(error, SpawnError::TooMany);
        assert!(error.to_string().contains("let one do the work"));
        may_end.store(true, Ordering::Release);
        threads.into_iter().for_each(result_of);
        // A result is there a little before its thread has made room.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let next = loop {
            match spawn(|| 5) {
                Ok(thread) => break thread,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        };
        assert_eq!(result_of(next), 5);
    }

    #[test]
    fn without_a_processor_the_error_says_how_to_get_one() {
        let error = without_background_processor(|| spawn(|| ())).unwrap_err();
        assert_eq!(error, SpawnError::NoProcessor);
        assert!(error.to_string().contains("background=1"));
    }

    #[test]
    fn sleep_takes_at_least_its_time() {
        let _alone = alone();
        let thread = spawn(|| {
            let begin = now();
            sleep(Duration::from_millis(3));
            now() - begin
        });
        assert!(result_of(thread.unwrap()) >= Duration::from_millis(3));
    }
}
