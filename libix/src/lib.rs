//! The user library of the dataplane: what an application in ring 3 links to.
//!
//! An application implements [`Service`] and hands it to [`run`]; [`main!`] makes an image of it.
//! Received data comes as [`Received`], a read-only slice of the kernel's buffers that can be sent
//! back as it is; what is sent is a [`Payload`], memory with its owner. Neither is copied.
//!
//! ```
//! use libix::{Connection, Context, Knock, Received, Service};
//!
//! struct Discard;
//!
//! impl Service for Discard {
//!     type State = ();
//!     fn on_start(&mut self, cx: &mut Context<()>) {
//!         cx.listen(9);
//!     }
//!     fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
//!         Some(())
//!     }
//!     fn on_data(&mut self, _: &mut Connection<'_, ()>, _data: Received) {}
//! }
//! ```
//!
//! # Threads
//! The program runs once on each elastic thread, from the start function given to [`main!`] on, all at
//! the same time: each makes a [`Service`] of its own, which the others never see.
//! [`Context::thread`] tells which one it is. To serve a port, each thread listens on it; the network
//! card spreads the connections. The first thread whose start function returns ends the
//! application, with its exit code; a fault of one thread stops them all.
//!
//! A connection is on one thread at a time, and goes to another one when the control plane moves its
//! flow group. Everything goes along: its [state](Service::State), what was received and is held, what
//! was sent and is not acknowledged, what was asked for and not done yet. A service need not know;
//! [`Service::on_migrated`] tells who wants to. So all threads should run the same service, and listen
//! on the same ports. A [`ConnectionId`] stays good, but only on the thread where the connection is:
//! who keeps names in the service, not in the state, forgets them in `on_migrated`. Datagrams stay with
//! the thread that they arrived at.
//!
//! The threads share the image's statics and all memory from the allocator, under Rust's own rules:
//! a static must be [`Sync`], and what crosses over must be [`Send`]. [`Received`] data and
//! [`Payload`]s are: they can be dropped, cloned, and sent from on any thread, also on another one
//! than their connection is on by now. Nothing schedules the threads: whoever waits for another one spins, so
//! share by atomics and by locks that are held for a few instructions. Each thread allocates from a
//! heap of its own; what another one frees goes back to the heap that it came from.
//!
//! Beside them there may be [`background`] threads, which time-share one processor more, if the
//! machine has one for them. They may sleep and wait, have a heap together, and exchange messages
//! with elastic threads through a [`channel`], which an elastic thread looks into in
//! [`Service::on_round`]. They make no connections. What an elastic thread spins for, they hold
//! within [`background::hold`], since they are interrupted.
//!
//! Inside, in the order of a round: [`runtime`](Runtime) delivers events; `table` holds the
//! connections (`slot`, with its `send_queue` and `receive_queue`) and `datagrams`, and writes their calls into the
//! `batch` at the end of the round; `area` is the memory shared with the kernel. `hold` keeps received
//! bytes, `ledger` is how threads tell each other of their ends and hand connections over. `bare` is
//! what only an image has. Neighbours: `ix-abi` is the contract with the kernel.

#![cfg_attr(bare, no_std)]
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "access to memory shared with the kernel")]
mod area;
pub mod background;
#[cfg(bare)]
#[expect(unsafe_code, reason = "entry stub, system calls, allocator")]
mod bare;
mod batch;
mod boot;
pub mod channel;
mod context;
mod cookie;
mod datagrams;
#[cfg(not(bare))]
#[expect(
    unsafe_code,
    reason = "plays the kernel, which reads the application's memory"
)]
pub mod fake;
mod front_queue;
#[expect(unsafe_code, reason = "refers to what lives for good, or is counted")]
mod hold;
#[cfg(not(bare))]
mod host;
#[expect(unsafe_code, reason = "a list of atomic pointers")]
mod inbox;
#[expect(
    unsafe_code,
    reason = "each thread has a list of its own in what all share"
)]
mod ledger;
mod log;
#[cfg(any(bare, test))]
#[expect(unsafe_code, reason = "memory functions in assembler")]
mod memory;
#[expect(unsafe_code, reason = "access to memory that the owner keeps alive")]
mod payload;
mod receive_queue;
#[expect(unsafe_code, reason = "access to the kernel's frame buffers")]
mod received;
mod runtime;
mod send_queue;
mod service;
mod slot;
#[expect(unsafe_code, reason = "wraps the kernel's frame buffers")]
mod table;
#[expect(unsafe_code, reason = "the TSC is read by an intrinsic")]
mod time;

#[cfg(bare)]
use bare::background as platform;
#[cfg(not(bare))]
use host as platform;

pub use area::{Area, AreaError, Kernel};
pub use background::Notifier;
#[cfg(bare)]
pub use bare::exit;
pub use boot::BootBlock;
pub use context::{Connection, Context, SendHalf};
pub use ix_abi::{DeadReason, Error};
pub use ledger::Crew;
pub use log::log_line;
pub use payload::{Lease, Payload, Unsent};
pub use received::Received;
pub use runtime::Runtime;
pub use service::{CloseReason, ConnectionId, Datagram, Knock, Service};
pub use table::Statistics;
pub use time::ticks;

/// Serves until the service stops, and returns its exit code.
pub fn run<S: Service>(service: S) -> i32 {
    match kernel() {
        Ok(kernel) => Runtime::new(service, kernel).run(),
        Err(error) => {
            println!("{error}");
            EXIT_USAGE
        }
    }
}

/// Exit code for bad arguments, and for a program in the wrong place.
pub const EXIT_USAGE: i32 = 2;

/// Why there is no kernel to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The program runs in an ordinary process.
    #[error(
        "this program is an application of the dataplane and has no kernel here: \
         build the images with `cargo xtask image`, start one with `cargo xtask run --app NAME`"
    )]
    NoKernel,
    /// The thread has handed its kernel out already. A second event loop would get the events of
    /// the first one's connections.
    #[error("an elastic thread runs one event loop: start one service that does everything")]
    Taken,
}

/// The kernel that this thread runs on, once. [`run`] uses it; to make calls by hand is for tests
/// of the kernel.
#[cfg(bare)]
pub fn kernel() -> Result<impl Kernel, KernelError> {
    let area = bare::take_area().ok_or(KernelError::Taken)?;
    Ok(bare::Syscalls { area })
}

/// The kernel that this thread runs on; a process on a host has none. Tests give [`Runtime`] a
/// kernel of their own.
#[cfg(not(bare))]
pub fn kernel() -> Result<impl Kernel, KernelError> {
    Err::<area::NeverKernel, _>(KernelError::NoKernel)
}

/// Makes a program of a start function `fn(arguments: &[&str]) -> i32`: in an image for the
/// dataplane it is called on every elastic thread with the arguments of the kernel's command line,
/// and what the first one returns is the exit code. On a host, the program only says how it is meant to be run.
#[macro_export]
macro_rules! main {
    ($start:path) => {
        #[cfg(bare)]
        #[expect(
            unsafe_code,
            reason = "libix's entry finds the start function by its name"
        )]
        // SAFETY: the linker refuses a second definition.
        #[unsafe(no_mangle)]
        extern "Rust" fn ix_image_main(arguments: &[&str]) -> i32 {
            $start(arguments)
        }

        #[cfg(not(bare))]
        fn main() -> ::std::process::ExitCode {
            // Named, so that the host build checks all that the image is made of.
            const START: fn(&[&str]) -> i32 = $start;
            let _ = START;
            ::std::eprintln!("{}", $crate::KernelError::NoKernel);
            ::std::process::ExitCode::from($crate::EXIT_USAGE as u8)
        }
    };
}
