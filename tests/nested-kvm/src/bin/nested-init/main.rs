//! Process 1 of the outer machine: loads KVM's modules, runs the guests one after the other, has the
//! control plane serve a dataplane, and reports on the console (see `protocol`). It is linked
//! statically, and starts the inner QEMU with that one's own loader and libraries.

#![forbid(unsafe_code)]

mod control_plane;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ix_nested_kvm::protocol::{
    CONTROL_PLANE, FAILED, GUEST_ENDED, KVM_READY, MODULES, PREFIX, QEMU, QEMU_COMMAND, SERVED,
    guest_directory,
};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if file_name(&name) == file_name(OsStr::new(QEMU_COMMAND)) {
        let error = qemu(&arguments.collect::<Vec<OsString>>()).exec();
        return Err(error).context("cannot start the inner QEMU");
    }
    ensure!(
        std::process::id() == 1,
        "nested-init is the first process of the nested KVM test's machine; run `cargo xtask test kvm`"
    );
    if let Err(error) = run_all() {
        println!("{PREFIX}{FAILED}{error:#}");
    }
    // QEMU runs with -no-reboot: this ends the machine.
    reboot(RebootCommand::Restart).context("cannot restart")
}

fn file_name(path: &OsStr) -> Option<&OsStr> {
    Path::new(path).file_name()
}

fn run_all() -> Result<()> {
    mount_all()?;
    load_modules()?;
    ensure!(
        Path::new("/dev/kvm").exists(),
        "no /dev/kvm although KVM's modules are loaded"
    );
    println!("{PREFIX}{KVM_READY}");
    let directories = (0..).map(|position| Path::new("/").join(guest_directory(position)));
    for directory in directories.take_while(|directory| directory.exists()) {
        let status = run_guest(&directory)?;
        println!("{PREFIX}{GUEST_ENDED}{status}");
    }
    let programs = Path::new("/").join(CONTROL_PLANE);
    if programs.exists() {
        let served = control_plane::serve(&programs)?;
        println!("{PREFIX}{SERVED}{}", serde_json::to_string(&served)?);
    }
    Ok(())
}

fn mount_all() -> Result<()> {
    let kinds = [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/run"),
    ];
    for (kind, target) in kinds {
        fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
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
    let arguments = fs::read_to_string(directory.join("arguments"))?;
    let arguments: Vec<&str> = arguments.lines().collect();
    let status = qemu(&arguments)
        .stdin(Stdio::null())
        .status()
        .context("cannot start the inner QEMU")?;
    // A signal has no exit code; 128 and above is how shells show it.
    Ok(status.code().unwrap_or(128))
}

fn qemu<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let qemu = Path::new("/").join(QEMU);
    let mut command = Command::new(qemu.join("ld.so"));
    command
        .arg("--library-path")
        .arg(qemu.join("lib"))
        .arg(qemu.join("qemu-system-x86_64"))
        .arg("-L")
        .arg(qemu.join("firmware"))
        .args(arguments);
    command
}
