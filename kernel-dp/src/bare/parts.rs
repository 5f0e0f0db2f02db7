//! What an elastic thread is built of, and the launch of one that is built: on its own CPU, in its own
//! address space.

use alloc::boxed::Box;

use ix_net::{Config, Movable};
use kernel_dp::LARGE_PAGE;

use super::heap::{self, Arena};
use super::load;
use super::memory::Space;
use super::percpu::{Job, PerCpu};
use super::privacy;

/// What an elastic thread is built of.
pub struct Parts<N> {
    /// Its part of the application.
    pub application: load::Thread,
    /// Its queue pair.
    pub nic: N,
    /// Its engine's configuration.
    pub net: Config,
    /// Where its connections lie, and what they move in.
    pub movable: Movable,
}

/// The kernel's heap is too small for what connections lie and move in.
#[derive(Debug, thiserror::Error)]
#[error(
    "thread {thread}: {} MiB of kernel heap are too little for its connections, which take {} MiB: give \
     the machine more memory or fewer CPUs, or set a lower connections=",
    left >> 20,
    needed >> 20
)]
pub struct NoRoom {
    thread: usize,
    left: usize,
    needed: usize,
}

impl<N> Parts<N> {
    /// Gives the thread `heap` for its own, but for the end of it, where connections are.
    pub fn new(
        application: load::Thread,
        nic: N,
        net: Config,
        heap: &mut Arena,
    ) -> Result<Self, NoRoom> {
        let thread = application.index;
        let needed = Movable::bytes(&net).next_multiple_of(LARGE_PAGE as usize);
        let left = heap.available();
        let mut shared = heap.cut(needed).ok_or(NoRoom {
            thread,
            left,
            needed,
        })?;
        privacy::keep(thread, heap.range(), "kernel heap");
        Ok(Self {
            movable: heap::within(&mut shared, || Movable::new(&net)),
            application,
            nic,
            net,
        })
    }
}

/// A thread that is ready to run.
pub struct Launch<J> {
    /// What it does, in memory of its own.
    pub job: Box<J>,
    /// The address space that it does it in.
    pub space: Space,
    /// Whether it first reads what is private to another thread, to show that it cannot.
    pub trespasses: bool,
}

impl<J: Job> Job for Launch<J> {
    fn run(self: Box<Self>) -> ! {
        let Self {
            job,
            space,
            trespasses,
        } = *self;
        // SAFETY: this is the CPU of the thread, on its stack; the job was built of what is the
        // thread's own, and of what all threads share.
        unsafe { space.enter() };
        if trespasses {
            privacy::trespass(PerCpu::get().thread() as usize);
        }
        job.run()
    }
}
