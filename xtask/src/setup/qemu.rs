//! The private QEMU: Debian's newest, in the cache folder, with its own loader, libraries and firmware,
//! so that it runs on a host whose libraries are older.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ix_machine::qemu::{MINIMUM, Qemu, cache_folder, private_folder, private_program};

use crate::failure::bad_input;
use crate::setup::{debian, remove};
use crate::step::Step;

const PACKAGE: &str = "qemu-system-x86";

/// Starts the program that lies beside it in `root`. It finds itself, so that the folder can be moved.
const WRAPPER: &str = r#"#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
libraries=$root/usr/lib/x86_64-linux-gnu
export QEMU_MODULE_DIR="$libraries/qemu"
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" \
    "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
"#;

/// Installs a private QEMU unless there is one that will do.
pub fn install() -> Result<()> {
    Step::run("setup: QEMU", |step| {
        let missing = match Qemu::locate() {
            Ok(qemu) => return Ok(((), format!("{} is present", qemu.version))),
            Err(error) => error,
        };
        if std::env::var_os(ix_machine::qemu::QEMU_VARIABLE).is_some_and(|value| !value.is_empty())
        {
            return Err(missing.into());
        }
        debian::check_host().map_err(|why| {
            bad_input(format!(
                "{why}, so QEMU {MINIMUM} or newer with vfio-user-pci has to be installed by hand: \
                 use your distribution's package {PACKAGE} if it is new enough, else build QEMU, and set IX_QEMU"
            ))
        })?;
        let qemu = unpack(step)?;
        Ok((
            (),
            format!(
                "installed {} in {}",
                qemu.version,
                private_folder().display()
            ),
        ))
    })
}

/// Builds the folder aside and renames it when it works.
fn unpack(step: &Step) -> Result<Qemu> {
    let cache = cache_folder();
    let work = cache.join("apt");
    let aside = cache.join("qemu.new");
    remove(&aside)?;
    let root = aside.join("root");
    fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
    debian::unpack(step, &[PACKAGE], &work, &root)?;
    write_wrapper(&aside)?;
    step.at("trying it");
    Qemu::examine(&private_program(&aside))
        .map_err(|why| anyhow!("the unpacked QEMU will not do: {why}"))?;
    let folder = private_folder();
    remove(&folder)?;
    fs::rename(&aside, &folder).with_context(|| format!("cannot create {}", folder.display()))?;
    remove(&work)?;
    Qemu::examine(&private_program(&folder))
        .map_err(|why| anyhow!("the private QEMU will not do: {why}"))
}

fn write_wrapper(folder: &Path) -> Result<PathBuf> {
    let wrapper = private_program(folder);
    fs::write(&wrapper, WRAPPER)
        .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", wrapper.display()))?;
    Ok(wrapper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_wrapper_passes_arguments_on_from_wherever_it_lies() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("with space");
        let libraries = folder.join("root/usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&libraries).unwrap();
        let loader = libraries.join("ld-linux-x86-64.so.2");
        fs::write(
            &loader,
            "#!/bin/sh\nfor word in \"$@\"; do echo \"$word\"; done\n",
        )
        .unwrap();
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o755)).unwrap();
        let wrapper = write_wrapper(&folder).unwrap();
        let output = Command::new(wrapper).args(["-m", "1 G"]).output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = output.lines().collect();
        assert_eq!(words[0], "--library-path");
        assert_eq!(Path::new(words[1]), libraries);
        assert_eq!(words[words.len() - 2..], ["-m", "1 G"]);
    }
}
