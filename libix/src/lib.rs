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
//! Inside, in the order of a round: [`runtime`](Runtime) delivers events; `table` holds the
//! connections (`slot`, with its `send_queue` and `receive_queue`) and writes their calls into the
//! `batch` at the end of the round; `area` is the memory shared with the kernel. `bare` is what
//! only an image has. Neighbours: `ix-abi` is the contract with the kernel.

#![cfg_attr(bare, no_std)]
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "access to memory shared with the kernel")]
mod area;
#[cfg(bare)]
#[expect(unsafe_code, reason = "entry stub, system calls, allocator")]
mod bare;
mod batch;
mod boot;
mod context;
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

pub use area::{Area, AreaError, Kernel};
#[cfg(bare)]
pub use bare::exit;
pub use boot::BootBlock;
pub use context::{Connection, Context};
pub use ix_abi::{DeadReason, Error};
pub use log::log_line;
pub use payload::{Payload, Unsent};
pub use received::Received;
pub use runtime::Runtime;
pub use service::{CloseReason, ConnectionId, Knock, Service};
pub use table::Statistics;
pub use time::ticks;

/// Serves until the service stops, and returns its exit code.
#[cfg(bare)]
pub fn run<S: Service>(service: S) -> i32 {
    let kernel = bare::Syscalls { area: bare::area() };
    Runtime::new(service, kernel).run()
}

/// Only an image for the dataplane has a kernel to run on; a host process says so, and the exit
/// code is that of bad usage. Tests use [`Runtime`] with a kernel of their own.
#[cfg(not(bare))]
pub fn run<S: Service>(service: S) -> i32 {
    drop(service);
    std::eprintln!("this program is an application of the dataplane and has no kernel here:");
    std::eprintln!(
        "build it as an image with `cargo xtask image`, start it with `cargo xtask run`"
    );
    2
}

/// Makes a program of a start function `fn(arguments: &[&str]) -> i32`: in an image for the
/// dataplane it is called with the arguments of the kernel's command line, and what it returns is
/// the exit code. On a host, the program only says how it is meant to be run.
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
            const START: fn(&[&str]) -> i32 = $start;
            ::std::process::ExitCode::from(START(&[]) as u8)
        }
    };
}
