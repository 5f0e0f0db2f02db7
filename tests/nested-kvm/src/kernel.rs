//! The outer machine's Linux: Debian's cloud kernel and the modules of KVM, taken from the packages
//! with apt and unpacked in the cache folder, never installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The package that leads to the current kernel: it depends on the packages of one version, by
/// Debian's release one for all (`linux-image-6.1.0-56-cloud-amd64`) or several.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// How packages of that kernel, and only those, are called.
const PACKAGES: (&str, &str) = ("linux-", "-cloud-amd64");

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
    find(&directory).with_context(|| {
        format!(
            "{} is incomplete: remove it, and it is fetched anew",
            directory.display()
        )
    })
}

fn find(directory: &Path) -> Result<Linux> {
    let mut tree = Tree::default();
    tree.add(directory)?;
    let image = tree.image.take().context("no kernel image (vmlinuz)")?;
    let mut modules = Modules {
        tree,
        names: Vec::new(),
        contents: Vec::new(),
    };
    modules.add(MODULE)?;
    Ok(Linux {
        image,
        modules: modules.contents,
    })
}

/// Unpacks the kernel's packages to `directory`, which appears only when it is complete.
fn download(directory: &Path) -> Result<()> {
    let packages = packages()?;
    println!("nested-kvm: fetching {}", packages.join(", "));
    let parent = directory.parent().expect("a folder in the cache");
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    run(Command::new("apt-get")
        .args(["-qq", "download"])
        .args(&packages)
        .current_dir(&work))?;
    let tree = work.path().join("tree");
    for archive in fs::read_dir(&work)? {
        run(Command::new("dpkg-deb")
            .arg("-x")
            .arg(archive?.path())
            .arg(&tree))?;
    }
    fs::rename(&tree, directory)
        .with_context(|| format!("cannot move the kernel to {}", directory.display()))
}

/// The packages that the current kernel consists of.
fn packages() -> Result<Vec<String>> {
    let mut packages = closure(META_PACKAGE)?;
    if packages.is_empty() {
        run(Command::new("apt-get").args(["-qq", "update"])).context("apt's lists are empty")?;
        packages = closure(META_PACKAGE)?;
    }
    ensure!(
        !packages.is_empty(),
        "apt does not know {META_PACKAGE}; this test needs Debian's apt"
    );
    Ok(packages)
}

/// The kernel's packages that `package` depends on, directly or through others of them.
fn closure(package: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut unseen = vec![package.to_owned()];
    while let Some(package) = unseen.pop() {
        let output = Command::new("apt-cache")
            .args(["depends", "--important", &package])
            .stderr(Stdio::null())
            .output()
            .context("apt-cache does not start: the nested KVM test needs Debian's apt")?;
        for dependency in kernel_dependencies(&String::from_utf8_lossy(&output.stdout)) {
            if !found.contains(&dependency) {
                found.push(dependency.clone());
                unseen.push(dependency);
            }
        }
    }
    Ok(found)
}

/// The kernel's packages in the output of `apt-cache depends`.
fn kernel_dependencies(listing: &str) -> Vec<String> {
    let (start, end) = PACKAGES;
    let names = listing
        .lines()
        .filter_map(|line| line.trim().split_once("Depends: "));
    let names = names.map(|(_, name)| name.to_owned());
    names
        .filter(|name| name.starts_with(start) && name.ends_with(end))
        .collect()
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

/// What is in the unpacked packages. Releases differ in where the image lies (`boot`, or beside the
/// modules), and in whether modules lie below `lib` or `usr/lib`, compressed or not.
#[derive(Default)]
struct Tree {
    image: Option<PathBuf>,
    modules: BTreeMap<String, PathBuf>,
}

impl Tree {
    fn add(&mut self, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                self.add(&entry.path())?;
            } else if name.starts_with("vmlinuz") {
                self.image = Some(entry.path());
            } else if let Some((stem, _)) = name.split_once(".ko") {
                self.modules.insert(module_name(stem), entry.path());
            }
        }
        Ok(())
    }
}

/// File names have `-` where module names have `_`.
fn module_name(text: &str) -> String {
    text.replace('-', "_")
}

/// Modules collected in the order in which they have to be loaded.
struct Modules {
    tree: Tree,
    names: Vec<String>,
    contents: Vec<Vec<u8>>,
}

impl Modules {
    fn add(&mut self, name: &str) -> Result<()> {
        let name = module_name(name);
        if self.names.contains(&name) {
            return Ok(());
        }
        let path = self
            .tree
            .modules
            .get(&name)
            .with_context(|| format!("no module {name}"))?;
        let contents = read_module(path)?;
        for dependency in dependencies(&contents) {
            self.add(&dependency)?;
        }
        self.names.push(name);
        self.contents.push(contents);
        Ok(())
    }
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
    use super::*;

    #[test]
    fn only_the_kernels_own_packages_are_followed() {
        let listing = "linux-image-7.3.4+deb13-cloud-amd64\n  PreDepends: linux-base\n \
             |Depends: dracut\n  Depends: linux-binary-7.3.4+deb13-cloud-amd64\n  \
             Depends: linux-modules-7.3.4+deb13-cloud-amd64\n";
        assert_eq!(
            kernel_dependencies(listing),
            [
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "linux-modules-7.3.4+deb13-cloud-amd64"
            ]
        );
    }

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
