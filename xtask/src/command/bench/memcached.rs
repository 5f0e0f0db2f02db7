//! `cargo xtask bench memcached`: the programs of bench/memcached under callgrind, whose README says what
//! they do.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::callgrind;
use crate::child;
use crate::step::{Step, say};
use crate::workspace;

const PACKAGE: &str = "ix-memcached-bench";
/// Rounds that are counted are those that the longer of two runs has more.
const ROUNDS: [u64; 2] = [20, 60];
/// What `requests` is asked, by number of connections: at one, a round is short.
const CONNECTIONS: [(u64, u64); 2] = [(64, 1), (1, 16)];

/// How to measure and report.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Numbers of threads to compare the designs on.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8, 16])]
    threads: Vec<u64>,
    /// Requests of each of two threads that are timed; 0 for no times.
    #[arg(long, default_value_t = 500_000)]
    timed_requests: u64,
    /// Print JSON, as the last line.
    #[arg(long)]
    json: bool,
}

/// What one request costs.
struct Cost {
    request: &'static str,
    connections: u64,
    instructions: f64,
}

/// What one request costs in each design.
struct Designs {
    threads: u64,
    shared: f64,
    partitioned: f64,
    /// Part of the requests that the busiest owner of keys serves, relative to an equal part.
    imbalance: f64,
}

pub fn run(options: &Options) -> Result<()> {
    callgrind::require()?;
    let programs = Programs::build()?;
    let mut costs = Vec::new();
    for request in ["get", "miss", "set"] {
        for (connections, more) in CONNECTIONS {
            costs.push(programs.cost(request, connections, more)?);
        }
    }
    let threads = options.threads.iter();
    let designs = threads.map(|&threads| programs.designs(threads));
    let designs = designs.collect::<Result<Vec<_>>>()?;
    let times = match options.timed_requests {
        0 => None,
        requests => Some(programs.times(requests)?),
    };
    match options.json {
        true => say(&report(&costs, &designs, times.as_ref()).to_string()),
        false => tables(&costs, &designs, times.as_ref()),
    }
    Ok(())
}

/// The folder with the programs.
struct Programs(PathBuf);

impl Programs {
    fn build() -> Result<Self> {
        Step::run("build", |step| {
            let mut command = workspace::cargo(&["build", "-p", PACKAGE]);
            command.args(["--profile", workspace::BARE_PROFILE]);
            child::capture(step, command)?;
            let folder = workspace::target_folder().join(workspace::BARE_PROFILE);
            Ok((Self(folder), PACKAGE.to_owned()))
        })
    }

    /// What a request costs on so many connections, in rounds that are `more` times as many as usual.
    fn cost(&self, request: &'static str, connections: u64, more: u64) -> Result<Cost> {
        Step::run(format!("{request}, {connections} connections"), |step| {
            let words = |rounds: u64| {
                let numbers = [connections, rounds * more].map(|number| number.to_string());
                [
                    vec!["requests".to_owned(), request.to_owned()],
                    numbers.into(),
                ]
                .concat()
            };
            let functions = ["*counted_round*", "*run_io*"];
            let instructions = self.each(step, &functions, words)?;
            let cost = Cost {
                request,
                connections,
                instructions,
            };
            Ok((cost, format!("{instructions:.0} instructions")))
        })
    }

    fn designs(&self, threads: u64) -> Result<Designs> {
        Step::run(format!("designs, {threads} threads"), |step| {
            let count = |design: &str| {
                let words = |rounds: u64| {
                    let numbers = [threads, rounds].map(|number| number.to_string());
                    let names = ["designs", "turns", design].map(str::to_owned);
                    [names.to_vec(), numbers.to_vec()].concat()
                };
                self.each(step, &["*counted_*"], words)
            };
            let mut command = Command::new(self.0.join("designs"));
            command.args(["balance", &threads.to_string()]);
            let imbalance = child::capture(step, command)?;
            let designs = Designs {
                threads,
                shared: count("shared")?,
                partitioned: count("partitioned")?,
                imbalance: imbalance.trim().parse().context("`designs balance`")?,
            };
            let (shared, parts) = (designs.shared, designs.partitioned);
            Ok((designs, format!("{shared:.0} shared, {parts:.0} in parts")))
        })
    }

    /// Instructions for each answer, of those that come with more rounds.
    fn each(
        &self,
        step: &Step,
        functions: &[&str],
        words: impl Fn(u64) -> Vec<String>,
    ) -> Result<f64> {
        let mut counted = [(0, 0); 2];
        for (rounds, counted) in ROUNDS.into_iter().zip(&mut counted) {
            let words = words(rounds);
            let (printed, collected) = callgrind::count_toggled(step, functions, |command| {
                command.arg(self.0.join(&words[0])).args(&words[1..]);
            })?;
            let answers = answers(&printed)
                .with_context(|| format!("it did not say what was answered:\n{printed}"))?;
            *counted = (answers, collected);
        }
        let [(fewer, short), (more, long)] = counted;
        ensure!(
            more > fewer && long > short,
            "more rounds are not more work"
        );
        Ok((long - short) as f64 / (more - fewer) as f64)
    }

    /// Requests a second on two threads, for each design.
    fn times(&self, requests: u64) -> Result<Value> {
        Step::run("designs, timed", |step| {
            let mut command = Command::new(self.0.join("designs"));
            command.args(["times", "2", &requests.to_string(), "5"]);
            let times: Value = serde_json::from_str(&child::capture(step, command)?)?;
            Ok((times, "2 threads".to_owned()))
        })
    }
}

/// Reads `N answers` at the beginning of a line.
fn answers(printed: &str) -> Option<u64> {
    let words = printed.lines().map(|line| line.split(' '));
    words
        .filter_map(|mut words| Some((words.next()?, words.next()?)))
        .find_map(|(number, name)| number.parse().ok().filter(|_| name == "answers"))
}

fn report(costs: &[Cost], designs: &[Designs], times: Option<&Value>) -> Value {
    let cost = |cost: &Cost| {
        json!({
            "request": cost.request,
            "connections": cost.connections,
            "instructions": cost.instructions,
        })
    };
    let design = |design: &Designs| {
        json!({
            "threads": design.threads,
            "shared": design.shared,
            "partitioned": design.partitioned,
            "imbalance": design.imbalance,
        })
    };
    json!({
        "requests": costs.iter().map(cost).collect::<Vec<_>>(),
        "designs": designs.iter().map(design).collect::<Vec<_>>(),
        "requests_a_second_on_two_threads": times,
    })
}

fn tables(costs: &[Cost], designs: &[Designs], times: Option<&Value>) {
    say(&format!(
        "{:<12} {:>11} {:>12}",
        "request", "connections", "instructions"
    ));
    for cost in costs {
        let (connections, instructions) = (cost.connections, cost.instructions);
        say(&format!(
            "{:<12} {connections:>11} {instructions:>12.0}",
            cost.request
        ));
    }
    say(&format!(
        "\n{:>7} {:>12} {:>12} {:>20}",
        "threads", "shared", "in parts", "the busiest part"
    ));
    for design in designs {
        say(&format!(
            "{:>7} {:>12.0} {:>12.0} {:>18.2} x",
            design.threads, design.shared, design.partitioned, design.imbalance
        ));
    }
    if let Some(times) = times {
        say(
            "\nrequests a second on two threads: the middle of five runs, the slowest and the fastest",
        );
        for design in ["shared", "partitioned"] {
            say(&format!("{design:<12} {}", spread(&times[design])));
        }
    }
}

/// The middle of some rates, and both ends.
fn spread(rates: &Value) -> String {
    let rates = rates.as_array().into_iter().flatten();
    let mut rates: Vec<u64> = rates.filter_map(Value::as_u64).collect();
    rates.sort_unstable();
    match rates[..] {
        [] => "none".to_owned(),
        [slowest, .., fastest] => {
            let middle = rates[rates.len() / 2];
            format!("{middle:>12} {slowest:>12} {fastest:>12}")
        }
        [only] => only.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_middle_and_two_ends() {
        let text = spread(&json!([30, 10, 50, 20, 40]));
        let words: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(words, ["30", "10", "50"]);
    }

    #[test]
    fn answers_are_found_among_what_valgrind_says() {
        let printed = "==7== Collected : 5\n3840 answers of 114 bytes\n==7== \n";
        assert_eq!(answers(printed), Some(3840));
        assert_eq!(answers("1280 answers\n"), Some(1280));
        assert_eq!(answers("many answers"), None);
    }
}
