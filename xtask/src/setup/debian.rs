//! Packages of a newer Debian release, fetched by the host's own apt into a folder of ours, with their
//! dependencies, and unpacked without being installed. The host's package database is not touched, and
//! no privilege is needed.
//!
//! apt is given a state, a cache and a source list of its own. The mirror and its transport are those
//! that the host is configured with. Signatures are checked as ever: the key ring is the host's, and if
//! that is older than the release, the newer `debian-archive-keyring` that the host's own release
//! carries, which the older keys vouch for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::child;
use crate::failure::bad_input;
use crate::interrupt;
use crate::step::Step;

/// The release that packages are taken from.
const RELEASE: &str = "trixie";
const SUITES: Suites<'_> = Suites {
    all: "trixie trixie-updates trixie-backports",
    preferred: "trixie-backports",
};
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// Folders of packages that nothing here reads.
const NOT_NEEDED: [&str; 5] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
];

/// Whether the host has apt.
pub fn has_apt() -> bool {
    ["apt-get", "dpkg-deb"]
        .iter()
        .all(|tool| ix_machine::process::find_tool(tool, "apt").is_ok())
}

/// Whether packages can be taken from Debian here; the error says why not.
pub fn check_host() -> Result<(), String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !cfg!(target_arch = "x86_64") {
        return Err("the host is not an x86-64 machine".to_owned());
    }
    if os_release(&release, "ID").as_deref() != Some("debian") || !has_apt() {
        return Err("the host is not a Debian system with apt".to_owned());
    }
    Ok(())
}

/// Fetches `packages` with all that they depend on and unpacks them into `root`, an empty folder.
/// `work` keeps what is downloaded, so that an interrupted run can go on.
pub fn unpack(step: &Step, packages: &[&str], work: &Path, root: &Path) -> Result<()> {
    let archives = download(step, packages, work)?;
    step.at(&format!("unpacking {} packages", archives.len()));
    for archive in &archives {
        extract(step, archive, root)?;
    }
    for folder in NOT_NEEDED {
        let folder = root.join(folder);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    link_merged_folders(root)
}

/// Releases with a merged /usr have these links from a package that is not unpacked here.
fn link_merged_folders(root: &Path) -> Result<()> {
    for folder in ["lib", "lib64"] {
        let link = root.join(folder);
        if !link.exists() {
            symlink(Path::new("usr").join(folder), &link)
                .with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(())
}

fn download(step: &Step, packages: &[&str], work: &Path) -> Result<Vec<PathBuf>> {
    let codename = codename();
    let mut failures = Vec::new();
    for mirror in mirrors(&codename)? {
        for keys_are_older in [false, true] {
            interrupt::check()?;
            let keyring = if keys_are_older {
                newer_keyring(step, work, &mirror, &codename)
            } else {
                Ok(PathBuf::from(KEYRING))
            };
            let attempt = keyring.and_then(|keyring| {
                let apt = PrivateApt::prepare(work, &mirror, &keyring, &SUITES)?;
                apt.update(step)?;
                apt.download(step, packages)
            });
            match attempt {
                Ok(archives) => return Ok(archives),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
    }
    interrupt::check()?;
    bail!(
        "cannot fetch {} of Debian {RELEASE}: {}",
        packages.join(" "),
        failures.join("\n")
    )
}

/// Suites of a release, and the one that wins where several have a package.
struct Suites<'a> {
    all: &'a str,
    preferred: &'a str,
}

/// apt with a state of its own.
struct PrivateApt {
    archives: PathBuf,
    options: Vec<String>,
}

impl PrivateApt {
    fn prepare(
        work: &Path,
        mirror: &str,
        keyring: &Path,
        suites: &Suites<'_>,
    ) -> Result<PrivateApt> {
        let state = work.join("state");
        let cache = work.join("cache");
        let archives = cache.join("archives");
        for folder in [state.join("lists/partial"), archives.join("partial")] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        // An empty package database makes apt fetch every dependency.
        let status = state.join("status");
        let sources = work.join("debian.sources");
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        fs::write(&sources, source_list(mirror, keyring, suites))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        let path = |path: &Path| path.display().to_string();
        let settings = [
            ("Dir::State", path(&state)),
            ("Dir::State::status", path(&status)),
            ("Dir::Cache", path(&cache)),
            ("Dir::Etc::SourceList", path(&sources)),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", "/dev/null".to_owned()),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures", "amd64".to_owned()),
            ("APT::Default-Release", suites.preferred.to_owned()),
            ("APT::Install-Recommends", "false".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            (
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled",
                "false".to_owned(),
            ),
            (
                "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled",
                "false".to_owned(),
            ),
            // The sandbox user cannot enter a home directory.
            ("APT::Sandbox::User", "root".to_owned()),
        ];
        let options = settings
            .iter()
            .flat_map(|(key, value)| ["-o".to_owned(), format!("{key}={value}")]);
        Ok(PrivateApt {
            archives,
            options: options.collect(),
        })
    }

    fn update(&self, step: &Step) -> Result<()> {
        step.at("package lists");
        // Without this, an unreachable suite is a mere warning.
        let mut command = self.command(&["update", "--error-on=any"]);
        command.args(["-o", "Acquire::Retries=2"]);
        child::capture(step, command).map(drop)
    }

    fn download(&self, step: &Step, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut simulation = self.command(&["install", "--print-uris", "-y"]);
        simulation.args(packages);
        let wanted = wanted_archives(&child::capture(step, simulation)?);
        step.at(&format!("downloading {} packages", wanted.len()));
        let mut command = self.command(&[
            "install",
            "--download-only",
            "-y",
            "-o",
            "Acquire::Retries=2",
        ]);
        command.args(packages);
        child::capture(step, command)?;
        // Named by the list and not by the folder, where older versions may lie.
        let mut found: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&self.archives).context("cannot list the downloaded packages")? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                found.push(path);
            }
        }
        let named = |path: &PathBuf| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            wanted.is_empty() || name.is_some_and(|name| wanted.contains(&name))
        };
        found.retain(named);
        if found.is_empty() || found.len() < wanted.len() {
            bail!(
                "{} of {} packages were downloaded",
                found.len(),
                wanted.len()
            );
        }
        Ok(found)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("apt-get");
        command
            .arg("-q")
            .args(&self.options)
            .args(args)
            .env("LC_ALL", "C");
        command
    }
}

/// File names from `apt-get --print-uris`: `'URI' NAME SIZE HASH`.
fn wanted_archives(output: &str) -> Vec<String> {
    output
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect()
}

fn source_list(mirror: &str, keyring: &Path, suites: &Suites<'_>) -> String {
    format!(
        "Types: deb\nURIs: {mirror}\nSuites: {}\nComponents: main\nSigned-By: {}\n",
        suites.all,
        keyring.display()
    )
}

/// The host's own release.
fn codename() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    os_release(&release, "VERSION_CODENAME").unwrap_or_else(|| RELEASE.to_owned())
}

/// Where the host takes its own release from.
fn mirrors(codename: &str) -> Result<Vec<String>> {
    let output = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(RELEASE) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ])
        .output()
        .context("cannot run apt-get")?;
    let mirrors = mirrors_of(&String::from_utf8_lossy(&output.stdout), codename);
    if mirrors.is_empty() {
        return Err(bad_input(format!(
            "apt has no source for Debian {codename}: add one to /etc/apt/sources.list"
        )));
    }
    Ok(mirrors)
}

fn mirrors_of(index_targets: &str, codename: &str) -> Vec<String> {
    let mut mirrors: Vec<String> = Vec::new();
    for line in index_targets.lines() {
        if let [release, "main", uri] = line.split(' ').collect::<Vec<_>>()[..]
            && release == codename
            && !mirrors.iter().any(|known| known == uri)
        {
            mirrors.push(uri.to_owned());
        }
    }
    mirrors
}

/// The key ring of the mirror's copy of the host's own release, whose signature the host's keys vouch
/// for; unpacked and not installed.
fn newer_keyring(step: &Step, work: &Path, mirror: &str, codename: &str) -> Result<PathBuf> {
    let work = work.join("keyring");
    let suites = Suites {
        all: &format!("{codename} {codename}-updates"),
        preferred: &format!("{codename}-updates"),
    };
    let apt = PrivateApt::prepare(&work, mirror, Path::new(KEYRING), &suites)?;
    apt.update(step)?;
    let root = work.join("root");
    for archive in apt.download(step, &[KEYRING_PACKAGE])? {
        extract(step, &archive, &root)?;
    }
    let keyring = root.join(KEYRING.trim_start_matches('/'));
    if !keyring.exists() {
        bail!("the package {KEYRING_PACKAGE} has no {KEYRING}");
    }
    Ok(keyring)
}

fn extract(step: &Step, archive: &Path, root: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(archive).arg(root);
    child::capture(step, command).map(drop)
}

/// A value of `os-release`, without its quotes.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_values_lose_their_quotes() {
        let text =
            "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(os_release(text, "ID").as_deref(), Some("debian"));
        assert_eq!(os_release(text, "VERSION_ID").as_deref(), Some("12"));
        assert_eq!(os_release(text, "VERSION"), None);
    }

    #[test]
    fn the_mirror_is_the_one_of_the_hosts_release() {
        let targets = "bookworm main http://mirror.example/debian/\n\
                       bookworm-security main http://mirror.example/debian-security/\n\
                       bookworm contrib http://mirror.example/debian/\n\
                       nodistro main http://elsewhere.example/node/\n\
                       bookworm main http://mirror.example/debian/\n";
        assert_eq!(
            mirrors_of(targets, "bookworm"),
            ["http://mirror.example/debian/"]
        );
        assert!(mirrors_of(targets, "trixie").is_empty());
    }

    #[test]
    fn archives_are_named_by_apt() {
        let output = "Reading package lists...\n'http://m/p/a_1%2b2_amd64.deb' a_1%2b2_amd64.deb 123 SHA256:0\n";
        assert_eq!(wanted_archives(output), ["a_1%2b2_amd64.deb"]);
    }

    #[test]
    fn sources_name_the_key_ring() {
        let list = source_list(
            "http://mirror.example/debian",
            Path::new("/keys.gpg"),
            &SUITES,
        );
        assert!(list.contains("\nSigned-By: /keys.gpg\n"), "{list}");
        assert!(!list.contains("rusted"), "{list}");
    }
}
