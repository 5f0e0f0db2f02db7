//! How long it takes to grant an elastic thread with its flow groups and to take it back, phase by
//! phase, while connections are open: `cargo xtask bench migrate`. Of this host's time, that is; a
//! command is answered when the last of its connections is served at the new place. Beside it, how many
//! instructions a move takes, which the caller counts.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use ix_channel::Command;
use serde::Serialize;

use crate::client::{Check, Client};
use crate::crew::{Crew, GROUPS, PATIENCE, THREADS};
use crate::exchange::Application;
use crate::run;

/// Numbers of groups that move at once.
const MOVED_GROUPS: [usize; 3] = [1, 16, 64];

/// What to measure, and what to do with the result.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Connections that are open meanwhile: 1,1000 unless said, and 10000 with --counts-only
    #[arg(long, value_name = "N,...", value_delimiter = ',',
          value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: Vec<u16>,
    /// Grants that are timed
    #[arg(long, value_name = "N", default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    pub grants: u16,
    /// Also write the result to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Only count instructions: no machine is started
    #[arg(long)]
    pub counts_only: bool,
}

impl Options {
    fn connections(&self) -> &[u16] {
        match (&*self.connections, self.counts_only) {
            ([], false) => &[1, 1_000],
            ([], true) => &[1, 1_000, 10_000],
            (told, _) => told,
        }
    }
}

/// The phases of a move, each a cycle of one of the threads, in order.
pub const PHASES: [&str; 7] = [
    "ask",
    "promise",
    "redirect",
    "pack",
    "hand over",
    "unpack",
    "end",
];

/// Instructions of a move, all of whose connections are in its flow groups. Both threads' together,
/// without the cycles in which they wait, and without the application's.
#[derive(Clone, Debug, Serialize)]
pub struct Instructions {
    phases: [u64; PHASES.len()],
    all: u64,
    /// Without any connection.
    empty: u64,
    /// What they may be.
    aim: u64,
    /// For each connection.
    pub each: f64,
}

/// Instructions that a move may take without its connections, and for each of them.
const AIM: u64 = 50_000;
const AIM_EACH: u64 = 200;

impl Instructions {
    /// Of so many connections.
    pub fn new(phases: [u64; PHASES.len()], empty: u64, connections: u16) -> Self {
        let all = phases.iter().sum();
        Self {
            phases,
            all,
            empty,
            aim: AIM + AIM_EACH * u64::from(connections),
            each: (all as f64 - empty as f64) / f64::from(connections),
        }
    }
}

/// Counts the instructions of a move of so many flow groups with so many connections.
pub type Count<'a> = &'a dyn Fn(usize, u16) -> Result<Instructions>;

/// What was measured with some connections open.
#[derive(Serialize)]
struct Row {
    /// Connections that were open.
    open: u16,
    /// Flow groups that went over and came back: those that most frames came for.
    groups: usize,
    /// On a machine, whose connections are in all groups.
    times: Option<Times>,
    /// Of a move of all of them in so many groups.
    instructions: Instructions,
}

/// How long each phase took, in microseconds: medians.
#[derive(Serialize)]
struct Times {
    /// Connections that went along.
    moved: u64,
    /// From the command until the parked thread answers.
    run_us: u128,
    /// Until it serves the groups.
    give_us: u128,
    /// A request and its reply on each open connection.
    replies_us: u128,
    /// Until the groups are back.
    give_back_us: u128,
    /// Until the thread has nothing left and halts.
    park_us: u128,
}

/// Measures with the images that `cargo xtask image` has built, and prints.
///
/// `check` is asked again and again; an error from it ends the run.
pub fn bench(options: &Options, count: Count<'_>, check: Check) -> Result<()> {
    let mut rows = Vec::new();
    for &open in options.connections() {
        let times = match options.counts_only {
            true => [const { None }; MOVED_GROUPS.len()],
            false => times(options, open, check)?.map(Some),
        };
        for (groups, times) in MOVED_GROUPS.into_iter().zip(times) {
            rows.push(Row {
                open,
                groups,
                times,
                instructions: count(groups, open)?,
            });
        }
    }
    print!("{}", render(&rows));
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&rows)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Starts a machine, and measures with so many connections open.
fn times(options: &Options, open: u16, check: Check) -> Result<[Times; MOVED_GROUPS.len()]> {
    let folder = tempfile::tempdir().context("cannot create a folder for sockets")?;
    let crew = Crew::start(run::machine(Application::Echo), folder.path())?;
    let mut client = crew.client(open.into())?;
    exchange(&mut client, check)?;
    let mut measure = |groups| time(&crew, &mut client, groups, options.grants, check);
    let [few, some, many] = MOVED_GROUPS;
    let times = [measure(few)?, measure(some)?, measure(many)?];
    crew.stop()?;
    Ok(times)
}

/// A request and its reply on each connection.
fn exchange(client: &mut Client, check: Check) -> Result<()> {
    client.send_all()?;
    client.receive_all(check)
}

/// Grants and revokes again and again.
fn time(
    crew: &Crew,
    client: &mut Client,
    count: usize,
    grants: u16,
    check: Check,
) -> Result<Times> {
    let groups = busiest(crew, count)?;
    let before = connections_moved(crew)?;
    let mut phases = [const { Vec::new() }; 5];
    for _ in 0..grants {
        let mut at = Instant::now();
        let mut times = Vec::new();
        let mut lap = || {
            times.push(at.elapsed().as_micros());
            at = Instant::now();
        };
        crew.execute(1, Command::Run)?;
        lap();
        crew.execute(0, Command::Give { groups, to: 1 })?;
        lap();
        exchange(client, check)?;
        lap();
        crew.execute(1, Command::Give { groups, to: 0 })?;
        lap();
        crew.execute(1, Command::Park { to: 0 })?;
        lap();
        for (phase, time) in phases.iter_mut().zip(times) {
            phase.push(time);
        }
    }
    let moved = connections_moved(crew)? - before;
    let [run_us, give_us, replies_us, give_back_us, park_us] = phases.map(median);
    Ok(Times {
        moved: moved / (2 * u64::from(grants)),
        run_us,
        give_us,
        replies_us,
        give_back_us,
        park_us,
    })
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The groups of the first thread that most frames came for, a bit each.
fn busiest(crew: &Crew, count: usize) -> Result<u128> {
    let groups = (0..GROUPS).filter_map(|number| Some((crew.page().group(number)?, number)));
    let mut groups: Vec<_> = groups.filter(|(group, _)| group.owner == 0).collect();
    let owned = groups.len();
    ensure!(owned >= count, "thread 0 has {owned} flow groups");
    groups.sort_by_key(|(group, number)| (std::cmp::Reverse(group.frames), *number));
    let chosen = groups[..count].iter();
    Ok(chosen.fold(0, |mask, (_, number)| mask | 1 << number))
}

/// Connections that have moved so far. Threads report now and then, so this waits until what has left
/// has come, and no report changes it any more.
fn connections_moved(crew: &Crew) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    loop {
        thread::sleep(Duration::from_millis(300));
        let reports = (0..THREADS as usize).filter_map(|thread| crew.page().thread(thread));
        let (came, left) = reports.fold((0, 0), |(came, left), report| {
            (came + report.migrated_in, left + report.migrated_out)
        });
        if came == left && last == Some(came) {
            return Ok(came);
        }
        ensure!(
            Instant::now() < deadline,
            "{left} connections left, {came} came"
        );
        last = Some(came);
    }
}

/// The table.
fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "             medians on this host, us                                instructions\n",
    );
    text += &format!(
        "{:>6} {:>7} {:>6} {:>6} {:>8} {:>8} {:>10} {:>7}  ",
        "open", "groups", "moved", "run", "give", "replies", "give back", "park"
    );
    for phase in PHASES {
        text += &format!("{phase:>10}");
    }
    text += &format!("{:>10}{:>10}{:>8}\n", "together", "aim", "each");
    for row in rows {
        text += &format!("{:6} {:7} ", row.open, row.groups);
        text += &match &row.times {
            Some(times) => format!(
                "{:6} {:6} {:8} {:8} {:10} {:7}  ",
                times.moved,
                times.run_us,
                times.give_us,
                times.replies_us,
                times.give_back_us,
                times.park_us
            ),
            None => format!(
                "{:>6} {:>6} {:>8} {:>8} {:>10} {:>7}  ",
                "-", "-", "-", "-", "-", "-"
            ),
        };
        for count in row.instructions.phases {
            text += &format!("{count:10}");
        }
        let Instructions { all, aim, each, .. } = row.instructions;
        text += &format!("{all:10}{aim:10}{each:8.0}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_costs_what_it_costs_without_connections_and_so_much_for_each() {
        let counted = Instructions::new([100, 200, 300, 5_000, 400, 6_000, 500], 2_500, 10);
        assert_eq!((counted.all, counted.each), (12_500, 1_000.0));
        assert_eq!(counted.aim, 52_000);
        let row = Row {
            open: 10,
            groups: 16,
            times: None,
            instructions: counted,
        };
        let table = render(&[row]);
        let [heading, line] = [1, 2].map(|at| table.lines().nth(at).expect("three lines"));
        assert_eq!(heading.len(), line.len(), "{table}");
        assert!(
            line.trim_end().ends_with("12500     52000    1000"),
            "{table}"
        );
    }
}
