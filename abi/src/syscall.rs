//! Numbers of the unbatched system calls (`rax` of the `syscall` instruction).
//!
//! As a function call does, a system call preserves `rbx`, `rbp`, `rsp`, `r12` to `r15` and the
//! SSE state. `rax` holds the result: a value >= 0, or the negative of an [`Error`](crate::Error).
//! The other registers hold nothing that means anything. Arguments are in `rdi`, `rsi` and `r12`,
//! in this order.
//!
//! # Background threads
//! A machine may have one processor more than elastic threads ([`boot::BACKGROUND`](crate::boot)),
//! which has neither queue nor flow group. On it run the application's background threads, up to
//! [`BACKGROUND_MAX`], one after the other for [`SLICE_NS`] each, in the address space of all. Any
//! thread may start them. Each has a stack of [`STACK_BYTES`] from the kernel, above memory that is
//! never mapped. FS.base is the address of one thread area that they share, of which only head and
//! boot block mean anything: its [`boot::THREAD`](crate::boot) is the number of elastic threads, and
//! its heap lies behind theirs.
//!
//! [`END`], [`YIELD`], [`SLEEP`] and [`WAIT`] are for background threads, [`RUN_IO`] is for elastic
//! ones, and [`Error::BadState`](crate::Error) is the answer to the others. The rest is for both.

/// Ends the round: execute the call array, return with events. No arguments; the result is 0.
pub const RUN_IO: u64 = 0;
/// Writes UTF-8 text to the kernel log. `rdi` = address, `rsi` = length (at most [`LOG_MAX`]).
pub const LOG: u64 = 1;
/// Stops the application. `rdi` = exit code; does not return.
pub const EXIT: u64 = 2;
/// Starts a background thread. `rdi` = address in the image of its first instruction, `rsi` = what
/// it finds in `rdi`; `rsp` is 16-byte aligned there, and everything else zero. The result is its
/// number, which is free again when it has ended; `Exhausted` means that there are
/// [`BACKGROUND_MAX`], `BadState` that the machine has no processor for them.
pub const SPAWN: u64 = 3;
/// Ends this background thread. Does not return.
pub const END: u64 = 4;
/// Lets the other background threads run first that can.
pub const YIELD: u64 = 5;
/// Sleeps until the time `rdi`, in nanoseconds since boot; not at all if that has passed. The result
/// is the time.
pub const SLEEP: u64 = 6;
/// Sleeps until [`WAKE`] names the same word, or until the time `r12` unless that is 0. `rdi` =
/// address of a word (64 bits, aligned, in the image, a heap or the own stack), `rsi` = its value as
/// far as the thread knows: if it is another one, the result is `TryAgain` at once. `TimedOut` says
/// that nobody woke it.
pub const WAIT: u64 = 7;
/// Wakes threads that wait for the word at `rdi`, those first that have waited longest, at most
/// `rsi`. The result is how many.
pub const WAKE: u64 = 8;
/// Has elastic thread `rdi` run a round of the application even without events, once for any number
/// of these calls before it; a parked one when it serves again.
pub const NOTIFY: u64 = 9;

/// Longest text of one [`LOG`] call, in bytes.
pub const LOG_MAX: u64 = 1024;
/// Most background threads at a time.
pub const BACKGROUND_MAX: usize = 16;
/// Bytes of the stack of a background thread.
pub const STACK_BYTES: u64 = 256 << 10;
/// How long a background thread runs while others want to, in nanoseconds.
pub const SLICE_NS: u64 = 4_000_000;
/// How much longer it runs while [`area::HOLD`](crate::area::HOLD) is not 0, in nanoseconds.
pub const HOLD_MAX_NS: u64 = 1_000_000;
