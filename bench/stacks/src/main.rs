//! What a request costs in different TCP/IP stacks: one recorded trace of a peer's segments is played
//! to each of them, and callgrind counts the instructions of [`play::counted`].
//!
//! `record` makes a trace ([`trace`], [`record`]); `play` hands it to the engine ([`engine`]) or to
//! smoltcp ([`smol`]). lwIP has a player of its own in C, `lwip/player.c`. `cargo xtask bench net` runs
//! them all; `README.md` says what is compared.

#![forbid(unsafe_code)]

mod engine;
mod play;
mod record;
mod smol;
mod trace;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

/// Plays one recorded trace to several TCP/IP stacks.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a trace.
    Record {
        /// Where to.
        file: PathBuf,
        #[command(flatten)]
        plan: record::Plan,
    },
    /// Play a trace to a stack; run it under callgrind to count.
    Play {
        /// To which stack.
        stack: Stack,
        /// The trace.
        file: PathBuf,
        /// Most counted steps.
        #[arg(long, default_value_t = usize::MAX)]
        steps: usize,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stack {
    /// The engine of this project.
    Engine,
    /// smoltcp's interface and sockets.
    Smoltcp,
}

fn main() -> Result<()> {
    match Arguments::parse().what {
        What::Record { file, plan } => fs::write(&file, record::record(&plan))
            .with_context(|| format!("cannot write {}", file.display())),
        What::Play { stack, file, steps } => {
            let bytes =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let trace = trace::Trace::parse(&bytes)?;
            match stack {
                Stack::Engine => play::play(&trace, steps, engine::Player::new(&trace)),
                Stack::Smoltcp => play::play(&trace, steps, smol::Player::new(&trace)),
            }
        }
    }
}
