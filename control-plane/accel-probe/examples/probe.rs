//! Asks the given QEMU program whether this machine's KVM is usable: `probe /path/to/qemu`.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let Some(qemu) = std::env::args_os().nth(1) else {
        eprintln!("usage: probe QEMU");
        return ExitCode::from(2);
    };
    match ix_accel_probe::probe_kvm(Command::new(qemu)) {
        Ok(()) => println!("KVM is usable"),
        Err(error) => println!("KVM is not usable: {error}"),
    }
    ExitCode::SUCCESS
}
