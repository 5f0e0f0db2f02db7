//! The programs that play a trace, one for each stack.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Plan, Work};
use crate::child;
use crate::step::Step;
use crate::workspace;

const PACKAGE: &str = "ix-stacks";
/// Where Debian's liblwip-dev puts its headers.
const LWIP_INCLUDE: &str = "/usr/include/lwip";
const MISSING: &str = "lwIP is not measured: the library or a C compiler is not there \
                       (apt-get install liblwip-dev gcc)";

/// A stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Player {
    Engine,
    Smoltcp,
    Lwip,
}

impl Player {
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Smoltcp => "smoltcp",
            Self::Lwip => "lwip",
        }
    }

    /// The function whose instructions are counted.
    pub fn counted(self) -> &'static str {
        match self {
            Self::Engine | Self::Smoltcp => "ix_stacks::play::counted*",
            Self::Lwip => "counted",
        }
    }
}

/// The programs that there are.
pub struct Programs {
    stacks: PathBuf,
    lwip: Option<PathBuf>,
    is_engine_only: bool,
    folder: PathBuf,
}

impl Programs {
    /// Builds them.
    pub fn build(is_engine_only: bool) -> Result<Self> {
        let folder = workspace::target_folder().join("stacks");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let stacks = Step::run("build", |step| {
            let profile = workspace::BARE_PROFILE;
            let command = workspace::cargo(&["build", "-p", PACKAGE, "--profile", profile]);
            child::capture(step, command)?;
            let path = workspace::target_folder().join(profile).join(PACKAGE);
            Ok((path, PACKAGE.to_owned()))
        })?;
        let lwip = match !is_engine_only && has_lwip() {
            true => Some(build_lwip(&folder)?),
            false => None,
        };
        Ok(Self {
            stacks,
            lwip,
            is_engine_only,
            folder,
        })
    }

    /// What to say about a stack that cannot be measured.
    pub fn missing(&self) -> Option<&'static str> {
        (self.lwip.is_none() && !self.is_engine_only).then_some(MISSING)
    }

    /// The stacks that a trace is played to.
    pub fn players(&self, plan: &Plan) -> Vec<Player> {
        let mut players = vec![Player::Engine];
        let is_for_all = matches!(plan.work, Work::Exchange { .. } | Work::Churn);
        if !self.is_engine_only && !plan.has_timestamps && is_for_all {
            // Adding a socket goes through all that there are: minutes, each time.
            let is_quick = plan.connections <= 10_000 || plan.work != Work::Exchange { batch: 16 };
            players.extend(is_quick.then_some(Player::Smoltcp));
            players.extend(self.lwip.is_some().then_some(Player::Lwip));
        }
        players
    }

    /// Records a trace; returns its file.
    pub fn record(&self, plan: &Plan, rounds: u32) -> Result<PathBuf> {
        let file = self.folder.join("trace");
        let mut command = Command::new(&self.stacks);
        command.arg("record").arg(&file);
        command.args(["--connections", &plan.connections.to_string()]);
        command.args(["--rounds", &rounds.to_string()]);
        match plan.work {
            Work::Exchange { batch } => command.args(["--batch", &batch.to_string()]),
            Work::Silent { batch } => command.args(["--silent", "--batch", &batch.to_string()]),
            Work::Churn => command.arg("--churn"),
            Work::Nothing => command.args(["--batch", "0"]),
        };
        if plan.has_timestamps {
            command.arg("--timestamps");
        }
        child::run(command)?;
        Ok(file)
    }

    /// Adds the program that plays so many steps of a trace to a command line.
    pub fn add(&self, command: &mut Command, player: Player, trace: &Path, steps: u32) {
        let steps = steps.to_string();
        match (player, &self.lwip) {
            (Player::Lwip, Some(program)) => command.arg(program).arg(trace).arg(steps),
            _ => command
                .arg(&self.stacks)
                .args(["play", player.name()])
                .arg(trace)
                .args(["--steps", &steps]),
        };
    }
}

fn has_lwip() -> bool {
    let mut compiler = Command::new("cc");
    compiler.arg("--version");
    Path::new(LWIP_INCLUDE).join("lwip/tcp.h").exists()
        && compiler
            .output()
            .is_ok_and(|output| output.status.success())
}

fn build_lwip(folder: &Path) -> Result<PathBuf> {
    Step::run("build lwIP's player", |step| {
        let program = folder.join("lwip");
        let mut command = Command::new("cc");
        command
            .args([
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-I",
                LWIP_INCLUDE,
                "-o",
            ])
            .arg(&program)
            .arg(workspace::root().join("bench/stacks/lwip/player.c"))
            .arg("-llwip");
        child::capture(step, command)?;
        Ok((program, "liblwip".to_owned()))
    })
}
