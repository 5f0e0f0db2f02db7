//! `cargo xtask bench net`: one trace, three TCP/IP stacks, and callgrind. What is compared, and how, is
//! in bench/stacks/README.md.

mod report;
mod stacks;

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::callgrind;
use crate::step::{Step, say};
use report::Row;
use stacks::{Player, Programs};

/// Bytes of Ethernet, IPv4 and TCP header.
const HEADERS: u32 = 14 + 20 + 20;
/// Bytes of the timestamps option with its padding.
const TIMESTAMPS: u32 = 12;
/// Bytes of a response.
const RESPONSE: u32 = 64;

/// How to measure and report.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 100_000])]
    connections: Vec<u32>,
    /// Only the engine of this project.
    #[arg(long)]
    engine_only: bool,
    /// Print JSON, as the last line.
    #[arg(long)]
    json: bool,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Request-responses; so many requests arrive together.
    Exchange { batch: u32 },
    /// The same where responses are acknowledged by segments of their own, in batches too, with silence
    /// between the two.
    Silent { batch: u32 },
    /// Set-up and teardown of one further connection after the other.
    Churn,
    /// Steps in which nothing arrives: what of the others is the step and not the request.
    Nothing,
}

/// One trace.
#[derive(Debug, Clone, Copy)]
struct Plan {
    work: Work,
    connections: u32,
    has_timestamps: bool,
}

/// Traces of a number of connections. With timestamps is how Linux talks to the engine; the others are
/// compared without, since lwIP's package has none.
fn plans(connections: u32) -> Vec<Plan> {
    let mut works = vec![Work::Exchange { batch: 1 }, Work::Churn, Work::Nothing];
    if connections >= 1_000 {
        works.insert(1, Work::Exchange { batch: 16 });
        works.insert(2, Work::Silent { batch: 16 });
    }
    let plan = |work| {
        [true, false].map(|has_timestamps| Plan {
            work,
            connections,
            has_timestamps,
        })
    };
    works.into_iter().flat_map(plan).collect()
}

/// Rounds of a plan that a stack plays: fewer where each goes through all connections.
fn rounds(player: Player, plan: &Plan) -> u32 {
    let all = match plan.work {
        Work::Exchange { batch } | Work::Silent { batch } => 16_000 / batch,
        Work::Churn | Work::Nothing => 1_000,
    };
    let work = match player {
        Player::Engine => 1,
        Player::Lwip => plan.connections / 500,
        Player::Smoltcp => plan.connections / 25,
    };
    let fewest = if plan.work == Work::Churn { 2 } else { 4 };
    (all / work.max(1)).max(fewest)
}

pub fn run(options: &Options) -> Result<()> {
    callgrind::require()?;
    let programs = Programs::build(options.engine_only)?;
    let mut rows = Vec::new();
    for &connections in &options.connections {
        for plan in plans(connections) {
            let trace = programs.record(&plan, rounds(Player::Engine, &plan))?;
            for player in programs.players(&plan) {
                rows.push(measure(&programs, player, &plan, &trace)?);
            }
            std::fs::remove_file(&trace)
                .with_context(|| format!("cannot remove {}", trace.display()))?;
        }
    }
    if options.json {
        say(&report::json(&rows).to_string());
    } else {
        say(&report::table(&rows));
        if let Some(missing) = programs.missing() {
            say(missing);
        }
    }
    Ok(())
}

/// Plays a trace to a stack.
fn measure(programs: &Programs, player: Player, plan: &Plan, trace: &Path) -> Result<Row> {
    let rounds = rounds(player, plan);
    let (steps, segments, replies) = match plan.work {
        Work::Exchange { batch } => (rounds, rounds * batch, rounds * batch),
        Work::Silent { batch } => (2 * rounds, 2 * rounds * batch, rounds * batch),
        // SYN, ACK, FIN, ACK; answered are the first and the third.
        Work::Churn => (4 * rounds, 4 * rounds, 2 * rounds),
        Work::Nothing => (rounds, 0, 0),
    };
    Step::run(
        format!("{} {}", player.name(), report::describe(plan)),
        |step| {
            let (printed, collected) = callgrind::count(step, player.counted(), |command| {
                programs.add(command, player, trace, steps);
            })?;
            let mut expected = format!("{steps} steps, {segments} segments, {replies} replies of ");
            if let Work::Exchange { .. } | Work::Silent { .. } = plan.work {
                // Each of them a response, and not some other answer.
                let each = HEADERS + u32::from(plan.has_timestamps) * TIMESTAMPS + RESPONSE;
                expected += &format!("{} bytes", replies * each);
            }
            if !printed.lines().any(|line| line.starts_with(&expected)) {
                bail!(
                    "{} did not do what it was to ({expected}):\n{printed}",
                    player.name()
                );
            }
            let times = match plan.work {
                Work::Exchange { .. } | Work::Silent { .. } => replies,
                Work::Churn | Work::Nothing => rounds,
            };
            let row = Row {
                player,
                plan: *plan,
                times,
                instructions: collected as f64 / f64::from(times),
            };
            Ok((row, format!("{:.1} instructions", row.instructions)))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_that_go_through_all_connections_play_fewer_rounds() {
        let plan = |connections, work| Plan {
            work,
            connections,
            has_timestamps: false,
        };
        let exchange = plan(100_000, Work::Exchange { batch: 1 });
        assert_eq!(rounds(Player::Engine, &exchange), 16_000);
        assert_eq!(rounds(Player::Lwip, &exchange), 80);
        assert_eq!(rounds(Player::Smoltcp, &exchange), 4);
        assert_eq!(rounds(Player::Smoltcp, &plan(100_000, Work::Churn)), 2);
        assert_eq!(rounds(Player::Smoltcp, &plan(1, Work::Churn)), 1_000);
    }
}
