//! `cargo xtask image`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::step::Step;
use crate::workspace::{self, Built, KERNEL_PACKAGE};

/// Host programs of a machine: package, program, and its name among the artifacts.
const HOST_PROGRAMS: [(&str, &str); 2] = [("ix82599", "ixnicd"), ("ix-load", "ixload")];
/// Programs of the control plane, in the same way.
const CONTROL_PROGRAMS: [(&str, &str); 2] = [("ixcpd", "ixcpd"), ("ixctl", "ixctl")];

/// Build the kernel, the applications, the NIC model, the load generator and the control plane into
/// target/ix.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build only this application, from the folder of this name in apps/.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    build(args.app.as_deref())?;
    build_control_plane()
}

/// Builds everything that a machine needs, with `app` alone or with all applications.
pub fn build(app: Option<&str>) -> Result<()> {
    let apps = match app {
        Some(name) => vec![(name.to_owned(), workspace::app_package(name)?)],
        None => workspace::apps()?,
    };
    let artifacts = workspace::artifacts();
    fs::create_dir_all(artifacts.folder())
        .with_context(|| format!("cannot create {}", artifacts.folder().display()))?;
    Step::run("image: kernel", |step| {
        let built = workspace::build(step, workspace::cargo_kernel("build"))?;
        place(&built, KERNEL_PACKAGE, None, &artifacts.kernel())
    })?;
    Step::run("image: applications", |step| {
        let packages: Vec<String> = apps.iter().map(|(_, package)| package.clone()).collect();
        let built = workspace::build(step, workspace::cargo_apps("build", &packages))?;
        for (name, package) in &apps {
            place(&built, package, None, &artifacts.app(name))?;
        }
        let names: Vec<&str> = apps.iter().map(|(name, _)| name.as_str()).collect();
        Ok(((), names.join(", ")))
    })?;
    build_host_programs()
}

/// Builds what stands beside a machine, for kernels that are not ours.
pub fn build_host_programs() -> Result<()> {
    build_programs("image: host programs", &HOST_PROGRAMS)
}

/// Builds the daemon that starts such machines, and its client.
pub fn build_control_plane() -> Result<()> {
    build_programs("image: control plane", &CONTROL_PROGRAMS)
}

fn build_programs(what: &str, programs: &[(&str, &str)]) -> Result<()> {
    Step::run(what, |step| {
        let mut command = workspace::cargo(&["build", "--release"]);
        for (package, _) in programs {
            command.args(["-p", package]);
        }
        let built = workspace::build(step, command)?;
        let artifacts = workspace::artifacts();
        let folder = artifacts.folder();
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for (package, program) in programs {
            let to = folder.join(program);
            place(&built, package, Some(program), &to)?;
        }
        let names: Vec<&str> = programs.iter().map(|(_, program)| *program).collect();
        Ok(((), names.join(", ")))
    })
}

/// Copies the program that `package` made, aside first, since an older one may be running.
fn place(built: &[Built], package: &str, name: Option<&str>, to: &Path) -> Result<((), String)> {
    let program = built
        .iter()
        .find(|built| built.package == package && name.is_none_or(|name| built.name == name))
        .ok_or_else(|| {
            anyhow!(
                "cargo built no program {} in {package}",
                name.unwrap_or_default()
            )
        })?;
    let aside = to.with_extension(format!("new-{}", std::process::id()));
    fs::copy(&program.path, &aside)
        .and_then(|_| fs::rename(&aside, to))
        .with_context(|| format!("cannot copy {} to {}", program.path.display(), to.display()))?;
    Ok(((), format!("{}", to.display())))
}
