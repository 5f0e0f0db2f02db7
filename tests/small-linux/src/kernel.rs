//! A Linux kernel and modules of it, from Debian's packages, kept in a cache folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::{self, Source};

/// Which of Debian's kernels, and what of it.
#[derive(Clone, Copy, Debug)]
pub struct Flavour {
    /// Where it is from.
    pub source: Source,
    /// The package that leads to the current kernel: it depends on the packages of one version, by
    /// Debian's release one for all (`linux-image-6.1.0-56-cloud-amd64`) or several.
    pub meta_package: &'static str,
    /// How the names of that kernel's packages, and only of those, end after `linux-`.
    pub suffix: &'static str,
    /// The modules to load.
    pub modules: &'static [&'static str],
}

/// The file that lists what the kernel has built in, beside its modules.
const BUILTIN_LIST: &str = "modules.builtin";

/// A Linux to boot.
pub struct Linux {
    /// The bzImage.
    pub image: PathBuf,
    /// The modules, each after those that it depends on.
    pub modules: Vec<Vec<u8>>,
}

/// The Linux in the folder `directory`, fetched first if there is none.
pub fn fetch(directory: &Path, flavour: &Flavour) -> Result<Linux> {
    if !directory.exists() {
        download(directory, flavour)?;
    }
    let found = Modules::collect(directory, flavour).with_context(|| {
        format!(
            "{} is incomplete: remove it, and it is fetched anew",
            directory.display()
        )
    })?;
    Ok(Linux {
        image: found.image,
        modules: found.contents,
    })
}

/// Puts image and modules into `directory`, which appears only when it is complete.
fn download(directory: &Path, flavour: &Flavour) -> Result<()> {
    let parent = directory.parent().context("a cache folder has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let work = tempfile::tempdir_in(parent)?;
    let tree = work.path().join("tree");
    let of_kernel = |name: &str| name.starts_with("linux-") && name.ends_with(flavour.suffix);
    packages::unpack(flavour.source, &[flavour.meta_package], of_kernel, &tree)?;
    // Debian's modules fill hundreds of megabytes, of which a few are kept.
    let found = Modules::collect(&tree, flavour)?;
    let kept = work.path().join("kept");
    fs::create_dir(&kept)?;
    let others = [&found.image].into_iter().chain(&found.tree.builtin_list);
    for file in found.paths.iter().chain(others) {
        fs::rename(file, kept.join(file.file_name().unwrap_or_default()))?;
    }
    fs::rename(&kept, directory)
        .with_context(|| format!("cannot move the kernel to {}", directory.display()))
}

/// What is in the unpacked packages. Releases differ in where the image lies (`boot`, or beside the
/// modules), and in whether modules lie below `lib` or `usr/lib`, compressed or not.
#[derive(Default)]
struct Tree {
    image: Option<PathBuf>,
    modules: BTreeMap<String, PathBuf>,
    /// The list of modules that the kernel has built in, which differ between releases too.
    builtin_list: Option<PathBuf>,
    builtin: BTreeSet<String>,
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
            } else if name == BUILTIN_LIST {
                self.read_builtin(&entry.path())?;
            } else if let Some((stem, _)) = name.split_once(".ko") {
                self.modules.insert(module_name(stem), entry.path());
            }
        }
        Ok(())
    }

    /// A line each, with the path that the module would have.
    fn read_builtin(&mut self, list: &Path) -> Result<()> {
        let text =
            fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
        self.builtin.extend(text.lines().filter_map(builtin_name));
        self.builtin_list = Some(list.to_owned());
        Ok(())
    }
}

/// The module of a line of the list.
fn builtin_name(line: &str) -> Option<String> {
    let (_, file) = line.rsplit_once('/')?;
    file.strip_suffix(".ko").map(module_name)
}

/// File names have `-` where module names have `_`.
fn module_name(text: &str) -> String {
    text.replace('-', "_")
}

/// Modules collected in the order in which they have to be loaded.
struct Modules {
    tree: Tree,
    image: PathBuf,
    names: Vec<String>,
    paths: Vec<PathBuf>,
    contents: Vec<Vec<u8>>,
}

impl Modules {
    fn collect(directory: &Path, flavour: &Flavour) -> Result<Self> {
        let mut tree = Tree::default();
        tree.add(directory)?;
        let image = tree.image.take().context("no kernel image (vmlinuz)")?;
        let mut modules = Self {
            tree,
            image,
            names: Vec::new(),
            paths: Vec::new(),
            contents: Vec::new(),
        };
        for name in flavour.modules {
            modules.add(name)?;
        }
        Ok(modules)
    }

    fn add(&mut self, name: &str) -> Result<()> {
        let name = module_name(name);
        if self.names.contains(&name) || self.tree.builtin.contains(&name) {
            return Ok(());
        }
        let path = self
            .tree
            .modules
            .get(&name)
            .with_context(|| format!("no module {name}"))?
            .clone();
        let contents = read_module(&path)?;
        for dependency in dependencies(&contents) {
            self.add(&dependency)?;
        }
        self.names.push(name);
        self.paths.push(path);
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
    fn built_in_modules_are_known_by_their_names() {
        let line = "kernel/drivers/virtio/virtio-pci.ko";
        assert_eq!(builtin_name(line).as_deref(), Some("virtio_pci"));
        assert_eq!(builtin_name(""), None);
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
