//! The host's tools that put up a wire and start its programs: `ip`, `nsenter`, `setpriv`.

use std::process::Command;

use anyhow::Result;
use ix_machine::process::find_tool;

use crate::child;
use crate::failure::bad_input;
use crate::setup::debian;
use crate::step::Step;

const TOOLS: [(&str, &str); 3] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
];

/// Installs the packages of missing tools from the host's own sources.
pub fn install() -> Result<()> {
    Step::run("setup: network tools", |step| {
        let missing: Vec<&str> = TOOLS
            .iter()
            .filter(|(tool, package)| find_tool(tool, package).is_err())
            .map(|(_, package)| *package)
            .collect();
        if missing.is_empty() {
            return Ok(((), "present".to_owned()));
        }
        let packages = missing.join(" ");
        if !rustix::process::geteuid().is_root() || !debian::has_apt() {
            return Err(bad_input(format!(
                "install the packages {packages}, for example by `apt-get install {packages}` as root"
            )));
        }
        child::capture(step, apt(&["update"]))?;
        let mut install = apt(&["install", "-y", "--no-install-recommends", "--no-upgrade"]);
        install.args(&missing);
        child::capture(step, install)?;
        Ok(((), format!("installed {packages}")))
    })
}

fn apt(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .arg("-q")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
