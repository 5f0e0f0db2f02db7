//! `cargo xtask bench`.

use anyhow::Result;
use clap::Subcommand;

use crate::command::image;
use crate::interrupt;

/// Measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum What {
    /// Count guest instructions per echo request, exactly, and compare with the baseline.
    ///
    /// The guest runs under -icount, where counts repeat to a percent; the time it takes says
    /// nothing. A total more than 3 % above bench/insns/baseline.toml fails.
    Insns(ix_insns::Options),
}

pub fn run(args: &Args) -> Result<()> {
    crate::setup::run()?;
    match &args.what {
        What::Insns(options) => {
            image::build(Some(ix_insns::run::APPLICATION))?;
            ix_insns::bench(options, interrupt::check)
        }
    }
}
