//! The kernel's compilation target: from rustup, or where that cannot get it, built from Debian's copy
//! of the same release's source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use ix_machine::qemu::cache_folder;

use crate::child;
use crate::failure::bad_input;
use crate::interrupt;
use crate::setup::{debian, remove};
use crate::step::Step;
use crate::workspace::{self, KERNEL_TARGET};

/// The libraries of a target without an operating system.
const LIBRARIES: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// A crate that makes cargo build them.
const MANIFEST: &str = "[package]\nname = \"sysroot\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
                        [profile.release]\npanic = \"abort\"\n[workspace]\n";
const SOURCE: &str = "#![no_std]\nextern crate alloc;\n";

/// Adds the target to the pinned toolchain.
pub fn install() -> Result<()> {
    Step::run(format!("setup: target {KERNEL_TARGET}"), |step| {
        let toolchain = Toolchain::find()?;
        if toolchain.libraries().is_dir() {
            return Ok(((), "present".to_owned()));
        }
        let mut command = Command::new("rustup");
        command
            .args(["target", "add", KERNEL_TARGET])
            .current_dir(workspace::root());
        let refusal = match child::capture(step, command) {
            Ok(_) if toolchain.libraries().is_dir() => return Ok(((), "installed".to_owned())),
            Ok(_) => anyhow!("it installs nothing into {}", toolchain.sysroot.display()),
            Err(error) => error,
        };
        interrupt::check()?;
        match build(step, &toolchain) {
            Ok(()) => Ok(((), "built from Debian's source".to_owned())),
            Err(error) => Err(bad_input(format!(
                "install the target with `rustup target add {KERNEL_TARGET}`, which fails here: \
                 {refusal:#}; nor can it be built from Debian's package rust-src: {error:#}"
            ))),
        }
    })
}

/// The compiler in use.
struct Toolchain {
    sysroot: PathBuf,
    release: String,
}

impl Toolchain {
    fn find() -> Result<Toolchain> {
        let sysroot = ask_rustc(&["--print", "sysroot"])?;
        let version = ask_rustc(&["--version", "--verbose"])?;
        let release =
            release_of(&version).ok_or_else(|| anyhow!("rustc names no release: {version}"))?;
        Ok(Toolchain {
            sysroot: PathBuf::from(sysroot.trim()),
            release: release.to_owned(),
        })
    }

    /// The folder whose presence makes the target usable.
    fn libraries(&self) -> PathBuf {
        self.sysroot
            .join("lib/rustlib")
            .join(KERNEL_TARGET)
            .join("lib")
    }
}

/// Builds the libraries aside and moves them into the toolchain when they are all there.
fn build(step: &Step, toolchain: &Toolchain) -> Result<()> {
    debian::check_host().map_err(|why| anyhow!(why))?;
    let work = cache_folder().join("target");
    let source = work.join("source");
    remove(&source)?;
    create(&source)?;
    // The release has to be the compiler's own: the libraries use its unstable features.
    let package = format!("rust-src={}*", toolchain.release);
    debian::unpack(step, &[&package], &work.join("apt"), &source)?;
    let library = source.join(format!("usr/src/rustc-{}/library", toolchain.release));
    let built = build_with_cargo(step, &work, &library)?;
    let target = toolchain.sysroot.join("lib/rustlib").join(KERNEL_TARGET);
    let aside = target.with_extension(format!("new-{}", std::process::id()));
    let placed = place(&built, &aside, &target);
    remove(&aside)?;
    placed?;
    remove(&work)
}

/// Lets cargo build the libraries of `library`; returns the folder where it has put them.
fn build_with_cargo(step: &Step, work: &Path, library: &Path) -> Result<PathBuf> {
    let package = work.join("package");
    let output = work.join("output");
    create(&package.join("src"))?;
    for (file, text) in [("Cargo.toml", MANIFEST), ("src/lib.rs", SOURCE)] {
        let file = package.join(file);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut command = workspace::cargo(&["build", "--release", "--target", KERNEL_TARGET]);
    command
        .args([
            "-Zbuild-std=core,alloc",
            "-Zbuild-std-features=compiler-builtins-mem",
        ])
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", &output)
        .env("RUSTC_BOOTSTRAP", "1")
        // Where cargo looks for the source instead of in the toolchain.
        .env("__CARGO_TESTS_ONLY_SRC_ROOT", library)
        // The kernel is linked with LTO, which needs the bitcode.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes");
    child::capture(step, command)?;
    Ok(output.join(KERNEL_TARGET).join("release/deps"))
}

fn place(built: &Path, aside: &Path, target: &Path) -> Result<()> {
    let libraries = aside.join("lib");
    create(&libraries)?;
    for library in LIBRARIES {
        let file = archive_of(built, library)?;
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, libraries.join(name))
            .with_context(|| format!("cannot copy {} into the toolchain", file.display()))?;
    }
    fs::rename(aside, target).with_context(|| format!("cannot create {}", target.display()))
}

/// The one `lib<name>-<hash>.rlib` in a folder.
fn archive_of(folder: &Path, library: &str) -> Result<PathBuf> {
    let prefix = format!("lib{library}-");
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with(&prefix) && name.ends_with(".rlib"))
    });
    match (found.next(), found.next()) {
        (Some(file), None) => Ok(file),
        (None, _) => bail!("cargo built no {library}"),
        (Some(_), Some(_)) => bail!("cargo built {library} twice"),
    }
}

fn ask_rustc(question: &[&str]) -> Result<String> {
    let output = Command::new("rustc")
        .args(question)
        .current_dir(workspace::root())
        .output()
        .context("cannot run rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn release_of(version: &str) -> Option<&str> {
    version
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_rustc() {
        let version = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nrelease: 1.95.0\nLLVM version: 22\n";
        assert_eq!(release_of(version), Some("1.95.0"));
        assert_eq!(release_of("rustc 1.95.0"), None);
    }

    #[test]
    fn libraries_are_placed_all_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("deps");
        create(&built).unwrap();
        for library in ["core", "alloc"] {
            fs::write(built.join(format!("lib{library}-0a.rlib")), library).unwrap();
        }
        let (aside, target) = (folder.path().join("aside"), folder.path().join("target"));
        let error = place(&built, &aside, &target).unwrap_err();
        assert_eq!(error.to_string(), "cargo built no compiler_builtins");
        assert!(!target.exists());
        fs::write(built.join("libcompiler_builtins-0b.rlib"), "").unwrap();
        place(&built, &aside, &target).unwrap();
        assert_eq!(
            fs::read(target.join("lib/libcore-0a.rlib")).unwrap(),
            b"core"
        );
    }
}
