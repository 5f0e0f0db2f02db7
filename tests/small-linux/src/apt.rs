//! apt: the host's own, or one with a state of its own for another Debian release. Nothing is installed,
//! the host's package database is not touched, and no privilege is needed.
//!
//! For another release, apt gets a state, a cache and a source list in a folder. The mirror and its
//! transport are those that the host is configured with. Signatures are checked as ever: the key ring
//! is the host's, and if that is older than the release, the newer `debian-archive-keyring` that the
//! host's own release carries, which the older keys vouch for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// Runs a program to its end and returns what it printed; anything but success is an error.
pub type Runner<'a> = &'a dyn Fn(Command) -> Result<String>;

/// Suites of a release, and the one that wins where several have a package.
#[derive(Clone, Copy, Debug)]
pub struct Suites<'a> {
    /// All of them, separated by blanks.
    pub all: &'a str,
    /// The one that wins.
    pub preferred: &'a str,
}

/// apt as the host has it, or with a state of its own.
#[derive(Debug)]
pub struct Apt {
    archives: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// The host's apt, whatever it is configured with.
    pub fn of_host() -> Self {
        Self {
            archives: PathBuf::new(),
            options: Vec::new(),
        }
    }

    /// An apt that knows the packages of `suites` and nothing else, with its state in `work`.
    pub fn of_suites(suites: &Suites<'_>, work: &Path, run: Runner<'_>) -> Result<Self> {
        let codename = codename()?;
        let mut failures = Vec::new();
        for mirror in mirrors(&codename)? {
            for keys_are_older in [false, true] {
                let keyring = if keys_are_older {
                    newer_keyring(work, &mirror, &codename, run)
                } else {
                    Ok(PathBuf::from(KEYRING))
                };
                let attempt = keyring.and_then(|keyring| {
                    let apt = Self::prepare(work, &mirror, &keyring, suites)?;
                    apt.update(run)?;
                    Ok(apt)
                });
                match attempt {
                    Ok(apt) => return Ok(apt),
                    Err(error) => failures.push(format!("{error:#}")),
                }
            }
        }
        bail!(
            "cannot get the package lists of {}: {}",
            suites.all,
            failures.join("\n")
        )
    }

    fn prepare(work: &Path, mirror: &str, keyring: &Path, suites: &Suites<'_>) -> Result<Self> {
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
        Ok(Self {
            archives,
            options: options.collect(),
        })
    }

    /// Gets the package lists.
    pub fn update(&self, run: Runner<'_>) -> Result<()> {
        // Without this, an unreachable suite is a mere warning.
        let mut command = self.command("apt-get", &["update", "--error-on=any"]);
        command.args(["-o", "Acquire::Retries=2"]);
        run(command).map(drop)
    }

    /// Fetches `packages` of another release with all that they depend on, and returns the archives.
    /// What an earlier run fetched is not fetched again.
    pub fn fetch_all(&self, packages: &[&str], run: Runner<'_>) -> Result<Vec<PathBuf>> {
        let mut simulation = self.command("apt-get", &["install", "--print-uris", "-y"]);
        simulation.args(packages);
        let wanted = wanted_archives(&run(simulation)?);
        let install = ["install", "--download-only", "-y"];
        let mut command = self.command("apt-get", &install);
        command.args(["-o", "Acquire::Retries=2"]).args(packages);
        run(command)?;
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
        ensure!(
            !found.is_empty() && found.len() >= wanted.len(),
            "{} of {} packages were downloaded",
            found.len(),
            wanted.len()
        );
        Ok(found)
    }

    /// One of apt's programs, quiet and in English.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-q")
            .args(&self.options)
            .args(arguments)
            .env("LC_ALL", "C");
        command
    }
}

/// Unpacks an archive into `tree`.
pub fn extract(archive: &Path, tree: &Path, run: Runner<'_>) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.arg("-x").arg(archive).arg(tree);
    run(command).map(drop)
}

/// Whether packages of another release can be taken from where the host takes its own; the error says
/// why not.
pub fn check_host() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the host is not an x86-64 machine"
    );
    mirrors(&codename()?).map(drop)
}

/// The host's own release.
fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ensure!(
        os_release(&release, "ID").as_deref() == Some("debian"),
        "the host is not a Debian system"
    );
    os_release(&release, "VERSION_CODENAME").context("/etc/os-release names no release")
}

/// A value of `os-release`, without its quotes.
fn os_release(text: &str, key: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
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
    ensure!(
        !mirrors.is_empty(),
        "apt has no source for Debian {codename}: add one to /etc/apt/sources.list"
    );
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
fn newer_keyring(work: &Path, mirror: &str, codename: &str, run: Runner<'_>) -> Result<PathBuf> {
    let work = work.join("keyring");
    let suites = Suites {
        all: &format!("{codename} {codename}-updates"),
        preferred: &format!("{codename}-updates"),
    };
    let apt = Apt::prepare(&work, mirror, Path::new(KEYRING), &suites)?;
    apt.update(run)?;
    let root = work.join("root");
    for archive in apt.fetch_all(&[KEYRING_PACKAGE], run)? {
        extract(&archive, &root, run)?;
    }
    let keyring = root.join(KEYRING.trim_start_matches('/'));
    ensure!(
        keyring.exists(),
        "the package {KEYRING_PACKAGE} has no {KEYRING}"
    );
    Ok(keyring)
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
        let suites = Suites {
            all: "trixie trixie-updates",
            preferred: "trixie",
        };
        let list = source_list(
            "http://mirror.example/debian",
            Path::new("/keys.gpg"),
            &suites,
        );
        assert!(list.contains("\nSigned-By: /keys.gpg\n"), "{list}");
        assert!(!list.contains("rusted"), "{list}");
    }
}
