//! The outer machine's Linux: Debian's cloud kernel and the modules of KVM, taken from the package
//! with apt and unpacked beside the host's own packages, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The package whose dependency is the current kernel.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The module that provides `/dev/kvm` on an AMD processor, which is what TCG emulates.
const MODULE: &str = "kvm-amd";

/// A Linux to boot.
pub struct Linux {
    /// The bzImage.
    pub image: PathBuf,
    /// KVM's modules, each after those that it depends on.
    pub modules: Vec<Vec<u8>>,
}

/// The Linux in `cache`, fetched first if there is none.
pub fn fetch(cache: &Path) -> Result<Linux> {
    let directory = cache.join("nested-kvm/linux");
    if !directory.exists() {
        download(&directory)?;
    }
    let image = entry(&directory.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let modules = entry(&directory.join("modules"), |_| true)?;
    let mut loaded = Modules {
        root: modules,
        names: Vec::new(),
        contents: Vec::new(),
    };
    loaded.add(MODULE)?;
    Ok(Linux {
        image,
        modules: loaded.contents,
    })
}

/// Unpacks the kernel package to `directory`, which appears only when it is complete.
fn download(directory: &Path) -> Result<()> {
    let package = kernel_package()?;
    println!("nested-kvm: fetching {package}");
    let parent = directory.parent().expect("a folder in the cache");
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    run(Command::new("apt-get")
        .args(["-qq", "download", &package])
        .current_dir(&work))?;
    let archive = entry(work.path(), |name| name.ends_with(".deb"))?;
    let tree = work.path().join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&tree))?;
    // With or without the merge of /lib into /usr.
    let modules = ["usr/lib/modules", "lib/modules"].map(|path| tree.join(path));
    let modules = modules.iter().find(|path| path.exists());
    let modules = modules.with_context(|| format!("{package} has no modules"))?;
    fs::rename(modules, tree.join("modules"))?;
    fs::rename(&tree, directory)
        .with_context(|| format!("cannot move the kernel to {}", directory.display()))
}

/// The name of the current kernel package, which carries its version.
fn kernel_package() -> Result<String> {
    for attempt in 0..2 {
        let output = Command::new("apt-cache")
            .args(["depends", META_PACKAGE])
            .stderr(Stdio::null())
            .output()
            .context("apt-cache does not start: the nested KVM test needs Debian's apt")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let depends = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "));
        if let Some(package) = depends
            .into_iter()
            .find(|name| name.starts_with("linux-image-"))
        {
            return Ok(package.to_owned());
        }
        if attempt == 0 && run(Command::new("apt-get").args(["-qq", "update"])).is_err() {
            break;
        }
    }
    bail!("apt does not know {META_PACKAGE}: run `apt-get update` as root (Debian only)")
}

fn run(command: &mut Command) -> Result<()> {
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

/// The one entry of `directory` whose name is wanted.
fn entry(directory: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}: remove its folder", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!(
        "nothing suitable in {}: remove that folder, and it is fetched anew",
        directory.display()
    )
}

/// Modules collected in the order in which they have to be loaded.
struct Modules {
    root: PathBuf,
    names: Vec<String>,
    contents: Vec<Vec<u8>>,
}

impl Modules {
    fn add(&mut self, name: &str) -> Result<()> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        let path = find_module(&self.root, name)?;
        let path = path.with_context(|| format!("this kernel has no module {name}"))?;
        let contents = read_module(&path)?;
        for dependency in dependencies(&contents) {
            self.add(&dependency)?;
        }
        self.names.push(name.to_owned());
        self.contents.push(contents);
        Ok(())
    }
}

/// Looks for `name` in the tree; file names have `-` where module names may have `_`.
fn find_module(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find_module(&entry.path(), name)? {
                return Ok(Some(found));
            }
            continue;
        }
        let file_name = entry.file_name().to_string_lossy().replace('_', "-");
        if file_name
            .split_once(".ko")
            .is_some_and(|(stem, _)| stem == name.replace('_', "-"))
        {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "ko") {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let output = Command::new("xz").args(["-dc"]).arg(path).output();
    let output = output.context("cannot start xz to unpack a module: install xz-utils")?;
    ensure!(
        output.status.success(),
        "xz cannot unpack {}",
        path.display()
    );
    Ok(output.stdout)
}

/// What `depends=` in the module's `.modinfo` names.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = &module[start + KEY.len()..];
    let end = value
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(value.len());
    let names = String::from_utf8_lossy(&value[..end]).into_owned();
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::dependencies;

    #[test]
    fn depends_field_lists_modules() {
        assert_eq!(
            dependencies(b"\x7fELF..\0depends=kvm,ccp\0name=x\0"),
            ["kvm", "ccp"]
        );
        assert!(dependencies(b"\x7fELF..\0depends=\0name=x\0").is_empty());
        assert!(dependencies(b"\x7fELF").is_empty());
    }
}
