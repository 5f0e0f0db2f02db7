//! The ring-0 dataplane kernel.
//!
//! Built with `--cfg bare` for the machine, this is the kernel: see `bare/mod.rs`, where boot
//! begins. On the host it is a stub, so that the whole workspace builds and its tests run there.

#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
mod bare;

#[cfg(not(bare))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "kernel-dp is a kernel: `cargo xtask image` builds it for the machine, \
         `cargo xtask run --app echo` boots it"
    );
    std::process::ExitCode::from(2)
}
