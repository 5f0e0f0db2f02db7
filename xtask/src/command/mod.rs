//! The subcommands, one file each.

mod bench;
mod ci;
mod demo;
mod fuzz;
mod image;
mod run;
mod setup;
mod sim;
mod test;

use anyhow::Result;
use clap::Subcommand;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Setup(setup::Args),
    Image(image::Args),
    Run(run::Args),
    Demo(demo::Args),
    Test(test::Args),
    Sim(sim::Args),
    Fuzz(fuzz::Args),
    Bench(bench::Args),
    Ci(ci::Args),
}

impl Command {
    /// Does it.
    pub fn run(self) -> Result<()> {
        match self {
            Command::Setup(args) => setup::run(&args),
            Command::Image(args) => image::run(&args),
            Command::Run(args) => run::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Test(args) => test::run(&args),
            Command::Sim(args) => sim::run(&args),
            Command::Fuzz(args) => fuzz::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Ci(args) => ci::run(&args),
        }
    }
}
