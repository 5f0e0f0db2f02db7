//! Doorbells: event counters that QEMU turns into interrupts of the guest, one for each elastic
//! thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// The doorbells of all threads of one dataplane.
#[derive(Debug)]
pub struct Doorbells(Vec<OwnedFd>);

impl Doorbells {
    /// Doorbells for that many threads.
    pub fn new(threads: usize) -> io::Result<Doorbells> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fds = (0..threads).map(|_| eventfd(0, flags).map_err(io::Error::from));
        fds.collect::<io::Result<_>>().map(Doorbells)
    }

    /// Ends the halt of a thread. Nothing happens to one that does not halt, or that there is not.
    pub fn ring(&self, thread: usize) {
        let Some(fd) = self.0.get(thread) else { return };
        // It fails only when the counter is full, and then the doorbell is ringing already.
        let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }
}
