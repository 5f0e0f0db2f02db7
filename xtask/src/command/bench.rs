//! `cargo xtask bench`.

mod callgrind;
mod memcached;
mod moves;
mod net;
mod nic;

use anyhow::Result;
use clap::Subcommand;
use ix_insns::exchange::Application;

use crate::command::image;
use crate::interrupt;
use crate::step::say;

/// Measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum What {
    /// Count guest instructions per request, of echo or of memcached, exactly, and compare with the
    /// baseline.
    ///
    /// The guest runs under -icount, where counts repeat to a percent; the time it takes says
    /// nothing. A total more than 3 % above bench/insns/baseline.toml fails, and so does one on several
    /// elastic threads that is more than 3 % above that on the fewest.
    Insns(ix_insns::Options),
    /// Time the phases of granting an elastic thread with flow groups, and of taking it back; count the
    /// instructions of a move.
    ///
    /// Times are this host's, under connections that are open and verified meanwhile. Counts are taken in
    /// process, under callgrind, and are the same each time.
    Migrate(ix_insns::migrate::Options),
    /// Measure this dataplane and a Linux guest side by side, and draw the evaluation of the IX paper.
    ///
    /// Needs root, for the network namespaces, and Debian's apt for the guest. Writes report.html and
    /// report.json.
    Figures(ix_figures::Options),
    /// Count instructions per 64-byte request-response, and per connection set up and torn down.
    ///
    /// In process, under callgrind: in the engine, in smoltcp, and, if Debian's liblwip-dev is there,
    /// in lwIP. All of them are played the same trace. The same programs and compilers give the same
    /// counts each time.
    Net(net::Options),
    /// Count what a request costs apps/memcached in user mode, and what it would in another design.
    ///
    /// In process, under callgrind: the application and libix, without the kernel (`bench insns` counts that,
    /// too). Then the application's table, which all threads share, beside one that they have parts of, on keys
    /// that are popular by Zipf's law. Only the times at the end depend on the machine.
    Memcached(memcached::Options),
    /// Time frames through the NIC model and its driver in one process, and a Linux guest with the model.
    ///
    /// In process: one queue, batches of 64, doorbells that are calls or stores; processor time a frame.
    /// The guest has the model and then QEMU's igb: iperf3 both ways, and 64-byte requests. Times are this
    /// host's.
    Nic(nic::Options),
}

pub fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::Net(options) => net::run(options),
        What::Nic(options) => nic::run(options),
        What::Memcached(options) => memcached::run(options),
        What::Insns(options) => {
            crate::setup::run()?;
            image::build(Some(options.app.name()))?;
            ix_insns::bench(options, interrupt::check)
        }
        What::Figures(options) => {
            if !options.no_build {
                crate::setup::run()?;
                image::build(None)?;
            }
            ix_figures::bench(ix_figures::Run {
                options,
                check: interrupt::check,
                say,
            })
        }
        What::Migrate(options) => {
            let moves = moves::Moves::build()?;
            let count = |groups, connections| moves.count(groups, connections);
            if !options.counts_only {
                crate::setup::run()?;
                image::build(Some(Application::Echo.name()))?;
            }
            ix_insns::migrate::bench(options, &count, interrupt::check)
        }
    }
}
