//! What can be asked of the daemon.

mod capture;
mod change;
mod impair;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use crate::client::Client;
use crate::top;

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a dataplane from its definition, and wait until it serves.
    Run {
        /// A definition in TOML, or the name of an application.
        what: String,
        /// Name of the dataplane, instead of the definition's.
        #[arg(long)]
        name: Option<String>,
        /// Elastic threads, instead of the definition's.
        #[arg(long, value_name = "N")]
        threads: Option<u32>,
        /// Those of them that serve at the start, instead of the definition's; all unless it says.
        #[arg(long, value_name = "N")]
        granted: Option<u32>,
        /// Address, instead of the definition's.
        #[arg(long, value_name = "ADDRESS")]
        ip: Option<String>,
        /// IPv6 address, `off` or `ra`, instead of the definition's.
        #[arg(long, value_name = "ADDRESS")]
        ipv6: Option<String>,
        /// VLAN, instead of the definition's.
        #[arg(long, value_name = "VLAN")]
        vlan: Option<u16>,
        /// Largest IP packet in bytes, instead of the definition's.
        #[arg(long, value_name = "BYTES")]
        mtu: Option<u16>,
        /// Return when it starts, not when it serves.
        #[arg(long)]
        no_wait: bool,
        /// Arguments of the application, instead of the definition's.
        #[arg(last = true, value_name = "ARGUMENT")]
        args: Vec<String>,
    },
    /// List dataplanes.
    Ps,
    /// Stop a dataplane, or remove what is left of one that has ended.
    Stop {
        /// Its name.
        name: String,
    },
    /// Grant hardware threads to a dataplane.
    Grant {
        /// Its name.
        name: String,
        /// How many; one unless given.
        #[arg(value_name = "N", conflicts_with = "core")]
        count: Option<u32>,
        /// This one.
        #[arg(long, value_name = "CORE")]
        core: Option<u32>,
    },
    /// Take hardware threads back from a dataplane.
    Revoke {
        /// Its name.
        name: String,
        /// How many; one unless given.
        #[arg(value_name = "N", conflicts_with = "core")]
        count: Option<u32>,
        /// This one.
        #[arg(long, value_name = "CORE")]
        core: Option<u32>,
    },
    /// Show the machine's hardware threads and who holds them.
    Cores,
    /// Show which thread serves which flow groups, and what comes for them.
    Groups {
        /// Name of the dataplane.
        name: String,
    },
    /// Move flow groups to another thread.
    Migrate {
        /// Name of the dataplane.
        name: String,
        /// Flow groups, like 0-3,17.
        groups: String,
        /// The thread that gets them.
        #[arg(long, value_name = "THREAD")]
        to: u32,
    },
    /// Show the numbers of a dataplane.
    Stats {
        /// Its name.
        name: String,
    },
    /// Watch all dataplanes; q ends it.
    Top,
    /// Show or change the policy of a dataplane.
    Policy {
        /// Its name.
        name: String,
        /// What to do; show it unless given.
        #[command(subcommand)]
        change: Option<PolicyChange>,
    },
    /// Show what a dataplane says on its console.
    Logs {
        /// Its name.
        name: String,
        /// Go on as it says more.
        #[arg(short, long)]
        follow: bool,
        /// What its keeper says instead.
        #[arg(long)]
        keeper: bool,
    },
    /// Write the frames of a dataplane to a file in the pcapng format, until Ctrl-C.
    ///
    /// A filter has the tests arp, ip, ip6, icmp, icmp6, tcp, udp, proto N, host A and port N, the last two
    /// perhaps with src or dst before them, and not, and, or and parentheses:
    /// `ixctl capture kv --pcap kv.pcapng tcp and not port 22`.
    Capture {
        /// Its name.
        name: String,
        /// The file; `-` is standard output, as in `--pcap - | tcpdump -nr -`.
        #[arg(long, value_name = "FILE")]
        pcap: PathBuf,
        /// End after so many frames.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// End after so many seconds.
        #[arg(long, value_name = "N")]
        seconds: Option<f64>,
        /// Only frames that it fits; all unless given.
        #[arg(value_name = "FILTER")]
        filter: Vec<String>,
    },
    /// Show what the wire of a dataplane does to frames, or have it harm them.
    ///
    /// For tests: lose, reorder, duplicate, damage, delay and throttle frames, the same way for the same
    /// seed: `ixctl impair kv --loss 1% --delay-us 200`, and `ixctl impair kv --off`.
    Impair {
        /// Its name.
        name: String,
        #[command(flatten)]
        changes: impair::Changes,
    },
    /// Show what has happened.
    Events {
        /// Go on as more happens.
        #[arg(short, long)]
        follow: bool,
    },
    /// Check what the control plane needs from this machine.
    Doctor,
    /// Print a script that completes commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What to do with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyChange {
    /// Show why it decided as it did.
    Explain,
    /// It keeps what it started with.
    Static,
    /// Hardware threads come and go by `grant` and `revoke`.
    Manual,
    /// It grows and shrinks with its load.
    Elastic(Bounds),
    /// It grows and shrinks with its load, and shares by weight with others that are fair.
    Fair(Bounds),
}

/// Bounds of a policy; what is not given stays.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Bounds {
    /// The fewest threads that it is left with.
    #[arg(long)]
    min: Option<u32>,
    /// The most threads that it is given.
    #[arg(long)]
    max: Option<u32>,
    /// Its share among those that are fair.
    #[arg(long)]
    weight: Option<u32>,
    /// How long a busy cycle may take before it grows, in microseconds.
    #[arg(long)]
    target_loop_us: Option<f64>,
}

/// Executes a command that needs the daemon.
pub async fn run(command: &Command, client: &Client, json: bool) -> Result<ExitCode> {
    match command {
        Command::Run {
            what,
            name,
            threads,
            granted,
            ip,
            ipv6,
            vlan,
            mtu,
            no_wait,
            args,
        } => {
            let changes = change::Overrides {
                name: name.clone(),
                threads: *threads,
                granted: *granted,
                ip: ip.clone(),
                ipv6: ipv6.clone(),
                vlan: *vlan,
                mtu: *mtu,
                args: args.clone(),
            };
            return change::run(client, what, changes, !no_wait, json).await;
        }
        Command::Ps => show::ps(client, json).await?,
        Command::Stop { name } => change::stop(client, name).await?,
        Command::Grant { name, count, core } => {
            change::grant(client, name, *count, *core, json).await?;
        }
        Command::Revoke { name, count, core } => {
            change::revoke(client, name, *count, *core, json).await?;
        }
        Command::Cores => show::cores(client, json).await?,
        Command::Groups { name } => show::groups(client, name, json).await?,
        Command::Migrate { name, groups, to } => {
            change::migrate(client, name, groups, *to, json).await?;
        }
        Command::Stats { name } => show::stats(client, name, json).await?,
        Command::Top => top::run(client).await?,
        Command::Policy { name, change: None } => show::policy(client, name, json).await?,
        Command::Policy {
            name,
            change: Some(PolicyChange::Explain),
        } => show::explain(client, name, json).await?,
        Command::Policy {
            name,
            change: Some(change),
        } => change::policy(client, name, change, json).await?,
        Command::Logs {
            name,
            follow,
            keeper,
        } => show::logs(client, name, *follow, *keeper).await?,
        Command::Capture {
            name,
            pcap,
            count,
            seconds,
            filter,
        } => {
            let limits = capture::Limits::new(*count, *seconds)?;
            capture::run(client, name, pcap, limits, &filter.join(" "), json).await?;
        }
        Command::Impair { name, changes } => impair::run(client, name, changes, json).await?,
        Command::Events { follow } => show::events(client, *follow, json).await?,
        // They need no daemon.
        Command::Doctor | Command::Completions { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}
