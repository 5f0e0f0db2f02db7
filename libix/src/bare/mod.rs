//! What only exists in an image for the dataplane: the entry from the kernel, the system calls,
//! the heap, the panic handler, and what is below background threads.

pub(crate) mod background;
mod entry;
mod heap;
mod syscall;

pub(crate) use entry::{take_area, thread};
pub(crate) use syscall::Syscalls;
pub use syscall::{exit, log};
