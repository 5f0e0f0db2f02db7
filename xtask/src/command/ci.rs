//! `cargo xtask ci`.

use anyhow::{Context, Result};

use crate::child;
use crate::command::test;
use crate::step::say;
use crate::workspace;

/// What continuous integration runs: the formatting check, clippy with warnings denied for the host and
/// for the bare builds, and all tests.
#[derive(Debug, clap::Args)]
pub struct Args {}

const DENY_WARNINGS: [&str; 3] = ["--", "-D", "warnings"];

pub fn run(_: &Args) -> Result<()> {
    crate::setup::run()?;
    let packages: Vec<String> = workspace::apps()?
        .into_iter()
        .map(|(_, package)| package)
        .collect();
    let mut host = workspace::cargo(&["clippy", "--workspace", "--all-targets"]);
    host.args(DENY_WARNINGS);
    let mut kernel = workspace::cargo_kernel("clippy");
    kernel.args(DENY_WARNINGS);
    let mut apps = workspace::cargo_apps("clippy", &packages);
    apps.args(DENY_WARNINGS);
    for (what, command) in [
        ("formatting", workspace::cargo(&["fmt", "--all", "--check"])),
        ("clippy on the host's code", host),
        ("clippy on the kernel", kernel),
        ("clippy on the applications", apps),
    ] {
        say(&format!("ci: {what}"));
        child::run(command).with_context(|| format!("ci: {what} failed"))?;
    }
    test::run(&test::Args::everything())
}
