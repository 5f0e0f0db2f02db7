//! Debian packages: fetched with the host's own apt from wherever that is configured to look, and
//! unpacked, never installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Fetches `roots` and what they depend on, as far as `follow` likes the name, directly or through
/// others of those, and unpacks all of it into `tree`.
pub fn unpack(roots: &[&str], follow: impl Fn(&str) -> bool, tree: &Path) -> Result<()> {
    let mut packages = closure(roots, &follow)?;
    if packages.len() == roots.len() {
        run(Command::new("apt-get").args(["-qq", "update"])).context("apt's lists are empty")?;
        packages = closure(roots, &follow)?;
    }
    ensure!(
        packages.len() > roots.len(),
        "apt does not know {}; this test needs Debian's apt",
        roots.join(" or ")
    );
    println!("fetching {}", packages.join(", "));
    let work = tempfile::tempdir().context("cannot create a temporary folder")?;
    run(Command::new("apt-get")
        .args(["-qq", "download"])
        .args(&packages)
        .current_dir(&work))?;
    for archive in fs::read_dir(&work)? {
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(archive?.path())
            .arg(tree))?;
    }
    Ok(())
}

/// `roots` and those that they depend on and `follow` likes.
fn closure(roots: &[&str], follow: &impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut found: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
    let mut seen = 0;
    while let Some(package) = found.get(seen) {
        let output = Command::new("apt-cache")
            .args(["depends", "--important", package])
            .stderr(Stdio::null())
            .output()
            .context("apt-cache does not start: this test needs Debian's apt")?;
        for dependency in dependencies(&String::from_utf8_lossy(&output.stdout)) {
            if follow(dependency) && !found.iter().any(|known| known == dependency) {
                found.push(dependency.to_owned());
            }
        }
        seen += 1;
    }
    Ok(found)
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

/// Runs a tool to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
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
    Ok(())
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
