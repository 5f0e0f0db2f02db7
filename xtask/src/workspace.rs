//! The workspace, and cargo in it: host builds, and the builds that run in a guest.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use ix_machine::Artifacts;
use ix_machine::artifacts::ARTIFACTS_VARIABLE;
use serde_json::Value;

use crate::child;
use crate::failure::bad_input;
use crate::step::Step;

/// The kernel's compilation target.
pub const KERNEL_TARGET: &str = "x86_64-unknown-none";
/// The applications' compilation target.
pub const APP_TARGET: &str = "x86_64-unknown-linux-gnu";
/// The kernel's package.
pub const KERNEL_PACKAGE: &str = "kernel-dp";
/// The profile of what runs in a guest.
pub const BARE_PROFILE: &str = "bare";

const KERNEL_FLAGS: &str = "--cfg bare -Crelocation-model=static -Ccode-model=kernel \
                            -Cforce-frame-pointers=yes";
const APP_FLAGS: &str = "--cfg bare -Crelocation-model=static -Cpanic=abort \
                         -Cforce-frame-pointers=yes";

/// A program that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Name of its package.
    pub package: String,
    /// Name of the program.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR");
    let xtask = manifest.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map(Path::to_owned).unwrap_or(xtask)
}

/// Cargo's target folder.
pub fn target_folder() -> PathBuf {
    let folder =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    // Relative to where cargo is run, and that is here.
    root().join(folder)
}

/// Where images and host programs are put.
pub fn artifacts() -> Artifacts {
    Artifacts::at(target_folder().join("ix"))
}

/// Cargo, in the workspace.
pub fn cargo(args: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command.env("CARGO_TARGET_DIR", target_folder());
    command.env(ARTIFACTS_VARIABLE, artifacts().folder());
    command
}

/// Cargo for the kernel's bare build.
pub fn cargo_kernel(subcommand: &str) -> Command {
    let mut command = cargo(&[subcommand, "-p", KERNEL_PACKAGE, "--profile", BARE_PROFILE]);
    command
        .args(["--target", KERNEL_TARGET])
        .env("RUSTFLAGS", KERNEL_FLAGS);
    command
}

/// Cargo for the bare build of applications.
pub fn cargo_apps(subcommand: &str, packages: &[String]) -> Command {
    let mut command = cargo(&[
        subcommand,
        "--profile",
        BARE_PROFILE,
        "--target",
        APP_TARGET,
    ]);
    for package in packages {
        command.args(["-p", package]);
    }
    command.env("RUSTFLAGS", APP_FLAGS);
    command
}

/// Packages of the applications, in `apps/`, by their folder's name.
pub fn apps() -> Result<Vec<(String, String)>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )
    })?;
    Ok(apps_of(&metadata, &root().join("apps")))
}

fn apps_of(metadata: &Value, folder: &Path) -> Vec<(String, String)> {
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let app = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str()?);
        let name = manifest.parent()?.strip_prefix(folder).ok()?;
        Some((
            name.to_str()?.to_owned(),
            package["name"].as_str()?.to_owned(),
        ))
    };
    packages.iter().filter_map(app).collect()
}

/// Package of application `name`.
pub fn app_package(name: &str) -> Result<String> {
    let apps = apps()?;
    let found = apps.iter().find(|(app, _)| app == name);
    found.map(|(_, package)| package.clone()).ok_or_else(|| {
        let names: Vec<&str> = apps.iter().map(|(app, _)| app.as_str()).collect();
        bad_input(format!(
            "no application {name:?} in apps/: there is {}",
            names.join(", ")
        ))
    })
}

/// Runs a cargo build and returns the programs that it made.
pub fn build(step: &Step, mut command: Command) -> Result<Vec<Built>> {
    command.args(["--bins", "--message-format=json-render-diagnostics"]);
    let messages = child::capture(step, command)?;
    Ok(messages.lines().filter_map(built).collect())
}

/// Reads one of cargo's messages.
fn built(message: &str) -> Option<Built> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = PathBuf::from(message["executable"].as_str()?);
    let name = message["target"]["name"].as_str()?.to_owned();
    // Ends in `name@version` or, if folder and package are called the same, `folder#version`.
    let id = message["package_id"].as_str()?;
    let (location, version) = id.rsplit_once('#')?;
    let package = match version.split_once('@') {
        Some((package, _)) => package,
        None => location.rsplit('/').next()?,
    };
    Some(Built {
        package: package.to_owned(),
        name,
        path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","package_id":"path+file:///w/devices/nic#ix82599@0.1.0",
            "target":{"name":"ixnicd"},"executable":"/t/release/ixnicd"}"#;
        let program = built(message).unwrap();
        assert_eq!(
            (program.package.as_str(), program.name.as_str()),
            ("ix82599", "ixnicd")
        );
        assert_eq!(program.path, Path::new("/t/release/ixnicd"));
        let message = message.replace("ix82599@", "").replace("ixnicd", "nic");
        assert_eq!(built(&message).unwrap().package, "nic");
        assert_eq!(built(r#"{"reason":"build-finished","success":true}"#), None);
        assert_eq!(built("warning: unused"), None);
    }

    #[test]
    fn applications_are_the_packages_below_apps() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "echo", "manifest_path": "/w/apps/echo/Cargo.toml" },
            { "name": "ix-net", "manifest_path": "/w/net/Cargo.toml" },
        ]});
        assert_eq!(
            apps_of(&metadata, Path::new("/w/apps")),
            [("echo".to_owned(), "echo".to_owned())]
        );
    }
}
