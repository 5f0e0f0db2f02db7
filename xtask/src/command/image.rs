//! `cargo xtask image`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use crate::step::Step;
use crate::workspace::{self, Built, KERNEL_PACKAGE};

/// Host programs of a machine: package, program, and its name among the artifacts.
const HOST_PROGRAMS: [(&str, &str); 2] = [("ix82599", "ixnicd"), ("ix-load", "ixload")];

/// Build the kernel, the applications, the NIC model and the load generator into target/ix.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Build only this application, from the folder of this name in apps/.
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
}

pub fn run(args: &Args) -> Result<()> {
    build(args.app.as_deref())
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
    Step::run("image: host programs", |step| {
        let mut command = workspace::cargo(&["build", "--release"]);
        for (package, _) in HOST_PROGRAMS {
            command.args(["-p", package]);
        }
        let built = workspace::build(step, command)?;
        for (package, program) in HOST_PROGRAMS {
            place(
                &built,
                package,
                Some(program),
                &artifacts.folder().join(program),
            )?;
        }
        Ok(((), HOST_PROGRAMS.map(|(_, program)| program).join(", ")))
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
