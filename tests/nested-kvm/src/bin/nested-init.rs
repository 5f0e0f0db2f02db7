//! Process 1 of the outer machine: loads KVM's modules, runs the guests one after the other, and
//! reports on the console (see `protocol`). It is linked statically: the only libraries in that
//! machine are those of its QEMU.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ix_nested_kvm::protocol::{
    FAILED, GUEST_ENDED, KVM_READY, MODULES, PREFIX, QEMU, guest_directory,
};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

fn main() -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "nested-init is the first process of the nested KVM test's machine; run `cargo xtask test kvm`"
    );
    if let Err(error) = run_guests() {
        println!("{PREFIX}{FAILED}{error:#}");
    }
    // QEMU runs with -no-reboot: this ends the machine.
    reboot(RebootCommand::Restart).context("cannot restart")
}

fn run_guests() -> Result<()> {
    mount_all()?;
    load_modules()?;
    ensure!(
        Path::new("/dev/kvm").exists(),
        "no /dev/kvm although KVM's modules are loaded"
    );
    println!("{PREFIX}{KVM_READY}");
    for directory in (0..).map(guest_directory) {
        let directory = Path::new("/").join(directory);
        if !directory.exists() {
            return Ok(());
        }
        let status = run_guest(&directory)?;
        println!("{PREFIX}{GUEST_ENDED}{status}");
    }
    unreachable!("the guests are finitely many")
}

fn mount_all() -> Result<()> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        mount(kind, target, kind, MountFlags::empty(), None)
            .with_context(|| format!("cannot mount {target}"))?;
    }
    Ok(())
}

fn load_modules() -> Result<()> {
    let directory = Path::new("/").join(MODULES);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&directory).context("no modules in the archive")? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        finit_module(File::open(&path)?, c"", 0)
            .with_context(|| format!("cannot load module {}", path.display()))?;
    }
    Ok(())
}

fn run_guest(directory: &Path) -> Result<i32> {
    let qemu = Path::new("/").join(QEMU);
    let arguments = fs::read_to_string(directory.join("arguments"))?;
    let status = Command::new(qemu.join("ld.so"))
        .arg("--library-path")
        .arg(qemu.join("lib"))
        .arg(qemu.join("qemu-system-x86_64"))
        .arg("-L")
        .arg(qemu.join("firmware"))
        .args(arguments.lines())
        .stdin(Stdio::null())
        .status()
        .context("cannot start the inner QEMU")?;
    // A signal has no exit code; 128 and above is how shells show it.
    Ok(status.code().unwrap_or(128))
}
