//! The ring-0 dataplane kernel.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(not(bare))]
fn main() -> std::process::ExitCode {
    eprintln!(
        "kernel-dp is a kernel: `cargo xtask image` builds it for the machine, \
         `cargo xtask run --app echo` boots it"
    );
    std::process::ExitCode::from(2)
}
