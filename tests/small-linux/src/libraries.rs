//! Which shared libraries a program needs, as its own loader sees it: programs of the host, and those
//! of another Debian, with a loader and libraries of their own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// What a program from another distribution needs in order to start here.
#[derive(Clone, Debug)]
pub struct PrivateLibraries {
    /// The dynamic loader.
    pub loader: PathBuf,
    /// Folders for the loader's `--library-path`.
    pub directories: Vec<PathBuf>,
}

impl PrivateLibraries {
    /// The loader and the library folders of an unpacked tree of amd64 packages.
    pub fn of_tree(tree: &Path) -> Result<Self> {
        let directories = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"]
            .map(|folder| tree.join(folder))
            .into_iter()
            .filter(|folder| folder.is_dir())
            .collect::<Vec<_>>();
        let loader = directories
            .iter()
            .map(|folder| folder.join("ld-linux-x86-64.so.2"))
            .find(|loader| loader.exists())
            .with_context(|| format!("no loader in {}: libc6 is missing", tree.display()))?;
        Ok(Self {
            loader,
            directories,
        })
    }

    /// The library whose name begins with `name`, whatever version follows.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        for directory in &self.directories {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let matches = entry.file_name().to_string_lossy().starts_with(name);
                if matches && entry.path().is_file() {
                    return Ok(entry.path());
                }
            }
        }
        bail!("no library {name} among the packages")
    }
}

/// The command that starts `program`, which options for its loader precede.
pub fn command(
    program: &Path,
    private: Option<&PrivateLibraries>,
    loader_options: &[&str],
) -> Command {
    let Some(private) = private else {
        return Command::new(program);
    };
    let folders: Vec<OsString> = private
        .directories
        .iter()
        .map(|folder| folder.clone().into_os_string())
        .collect();
    let mut command = Command::new(&private.loader);
    command
        .arg("--library-path")
        .arg(folders.join(":".as_ref()))
        .args(loader_options)
        .arg(program);
    command
}

/// The files that the loader would map for `program`, itself included.
pub fn needed(program: &Path, private: Option<&PrivateLibraries>) -> Result<Vec<PathBuf>> {
    let mut command = command(program, private, &["--list"]);
    if private.is_none() {
        // What ldd does: the loader prints what it would map, and does not start the program.
        command.env("LD_TRACE_LOADED_OBJECTS", "1");
    }
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && !text.contains("not found"),
        "libraries of {} are missing: {text}{}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text.lines().filter_map(listed_path).collect())
}

/// The path in a line of the loader's list: `name => /path (0x..)`, or `/path (0x..)` for itself.
fn listed_path(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
    let path = path.split(" (").next().unwrap_or(path);
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::listed_path;
    use std::path::Path;

    #[test]
    fn list_lines_yield_their_paths() {
        let cases = [
            (
                "\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)",
                Some("/lib/x/libc.so.6"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)",
                Some("/lib64/ld-linux-x86-64.so.2"),
            ),
            (
                "\t/lib64/ld-linux-x86-64.so.2 => /own/ld-linux-x86-64.so.2 (0x1)",
                Some("/own/ld-linux-x86-64.so.2"),
            ),
            ("\tlinux-vdso.so.1 (0x00007ffd)", None),
        ];
        for (line, path) in cases {
            assert_eq!(listed_path(line).as_deref(), path.map(Path::new), "{line}");
        }
    }
}
