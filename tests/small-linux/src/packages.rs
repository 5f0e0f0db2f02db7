//! Debian packages: fetched with the host's own apt, of the host's release from wherever that is
//! configured to look, or of another release, and unpacked, never installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::apt::{Apt, Suites, extract};

/// Which packages are meant.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Those of the host's release.
    Host,
    /// Those of another one.
    Release(Suites<'static>),
}

/// Fetches `roots` and what they depend on, as far as `follow` likes the name, directly or through
/// others of those, and unpacks all of it into `tree`.
pub fn unpack(
    source: Source,
    roots: &[&str],
    follow: impl Fn(&str) -> bool,
    tree: &Path,
) -> Result<()> {
    let work = tempfile::tempdir().context("cannot create a temporary folder")?;
    let apt = match source {
        Source::Host => Apt::of_host(),
        Source::Release(suites) => Apt::of_suites(&suites, &work.path().join("apt"), &run)?,
    };
    let mut packages = closure(&apt, roots, &follow)?;
    if packages.is_none() {
        run(apt.command("apt-get", &["update"])).context("apt's lists are empty")?;
        packages = closure(&apt, roots, &follow)?;
    }
    let packages = packages.with_context(|| {
        let roots = roots.join(" or ");
        format!("apt does not know {roots}; this test needs Debian's apt")
    })?;
    println!("fetching {}", packages.join(", "));
    let archives = work.path().join("archives");
    fs::create_dir(&archives).context("cannot create a temporary folder")?;
    let mut download = apt.command("apt-get", &["download"]);
    download.args(&packages).current_dir(&archives);
    run(download)?;
    for archive in fs::read_dir(&archives)? {
        extract(&archive?.path(), tree, &run)?;
    }
    Ok(())
}

/// `roots` and those that they depend on and `follow` likes; `None` if apt knows nothing of them.
fn closure(
    apt: &Apt,
    roots: &[&str],
    follow: &impl Fn(&str) -> bool,
) -> Result<Option<Vec<String>>> {
    let mut is_known = false;
    let mut found: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
    let mut asked = 0;
    while asked < found.len() {
        // All that the last answer added is one question: apt reads its lists anew each time.
        let mut question = apt.command("apt-cache", &["depends", "--important"]);
        question.args(&found[asked..]);
        asked = found.len();
        let output = question
            .output()
            .context("apt-cache does not start: this test needs Debian's apt")?;
        for dependency in dependencies(&String::from_utf8_lossy(&output.stdout)) {
            is_known = true;
            if follow(dependency) && !found.iter().any(|known| known == dependency) {
                found.push(dependency.to_owned());
            }
        }
    }
    Ok(is_known.then_some(found))
}

/// Names in the output of `apt-cache depends`: of alternatives, marked `|`, only the last one, and
/// no virtual packages, which are in angle brackets.
fn dependencies(listing: &str) -> impl Iterator<Item = &str> {
    let names = listing
        .lines()
        .filter_map(|line| line.trim().split_once("Depends: "));
    names
        .filter(|(kind, name)| !kind.starts_with('|') && !name.starts_with('<'))
        .map(|(_, name)| name)
}

/// Runs a tool to its end and returns what it printed.
fn run(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let diagnostics = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} failed ({}): {diagnostics}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn alternatives_and_virtual_packages_are_left_out() {
        let listing = "linux-image-7.3.4\n  PreDepends: linux-base\n |Depends: dracut\n  \
             Depends: linux-binary-7.3.4\n  Depends: <linux-initramfs-tool>\n    initramfs-tools\n";
        assert_eq!(
            dependencies(listing).collect::<Vec<_>>(),
            ["linux-base", "linux-binary-7.3.4"]
        );
    }
}
