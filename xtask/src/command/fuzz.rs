//! `cargo xtask fuzz`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::child;
use crate::failure::bad_input;
use crate::step::{Step, say};
use crate::workspace;

/// The compilation target, which has to be named so that build scripts are not instrumented.
const HOST: &str = "x86_64-unknown-linux-gnu";
/// Edge coverage with the operands of comparisons, as libFuzzer wants it, and address sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares \
                     -Zsanitizer=address";
/// Longest input, in bytes.
const INPUT_MAX: &str = "1500";
/// An input that takes longer is a finding, in seconds.
const INPUT_TIMEOUT: &str = "20";
/// How often the log is looked at.
const POLL: Duration = Duration::from_secs(1);

/// Fuzz the engine (any frames, any calls between any frames, segments that nearly fit), the NIC model
/// (any messages of a client, anything that a guest does), and the kernel's loader (any application).
///
/// Needs a nightly toolchain and a C++ compiler. The inputs that a run finds stay below the target
/// folder and are where the next one begins; those in fuzz/corpus come with the sources and are replayed
/// by the test command. Ends with exit code 1 at the first finding, and says how to repeat it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this target; all, one after the other, by default.
    #[arg(value_enum)]
    target: Option<Target>,
    /// How long, for each target.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
    /// Run this one input instead.
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// Do not fuzz, but replace fuzz/corpus by the fewest inputs found so far that reach as much.
    #[arg(long, conflicts_with = "input")]
    distill: bool,
}

/// What is fuzzed, a program each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// Any bytes as frames.
    Frames,
    /// Any calls by the application, between any frames.
    Calls,
    /// Segments that nearly fit live connections, between calls.
    Segments,
    /// Any messages of a client to the NIC model, with any files.
    Messages,
    /// Any registers, rings, frames and doorbells of a guest of the NIC model.
    Guest,
    /// Any bytes as an application for the kernel.
    Elf,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Frames => "frames",
            Target::Calls => "calls",
            Target::Segments => "segments",
            Target::Messages => "messages",
            Target::Guest => "guest",
            Target::Elf => "elf",
        }
    }

    /// The inputs that come with the sources.
    fn corpus(self) -> PathBuf {
        workspace::root().join("fuzz/corpus").join(self.name())
    }

    /// Those that were found here.
    fn found(self) -> PathBuf {
        folder().join(self.name())
    }

    fn program(self) -> PathBuf {
        folder()
            .join("build")
            .join(HOST)
            .join("release")
            .join(self.name())
    }
}

/// Where fuzzing keeps what it builds and finds.
fn folder() -> PathBuf {
    workspace::target_folder().join("fuzz")
}

pub fn run(args: &Args) -> Result<()> {
    require_nightly()?;
    build()?;
    let targets: Vec<Target> = match args.target {
        Some(target) => vec![target],
        None => Target::value_variants().to_vec(),
    };
    for target in targets {
        match &args.input {
            Some(input) => run_input(target, input)?,
            None if args.distill => distill(target)?,
            None => fuzz(target, args.minutes)?,
        }
    }
    Ok(())
}

fn require_nightly() -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "rustc", "--version"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if status.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(bad_input(
        "fuzzing needs a nightly toolchain, for coverage and address sanitizer: install it by \
         `rustup toolchain install nightly --profile minimal`",
    ))
}

/// Builds the programs, instrumented.
fn build() -> Result<()> {
    Step::run("fuzz: build", |step| {
        let mut command = Command::new("rustup");
        command
            .args([
                "run",
                "nightly",
                "cargo",
                "build",
                "--release",
                "--target",
                HOST,
            ])
            .args(["--manifest-path", "fuzz/Cargo.toml"])
            .current_dir(workspace::root())
            .env("CARGO_TARGET_DIR", folder().join("build"))
            .env("RUSTFLAGS", FLAGS)
            // The cargo that runs this program must not lend its compiler.
            .env_remove("RUSTC")
            .env_remove("CARGO");
        child::capture(step, command)
            .context("libFuzzer is compiled with it: is there a C++ compiler (g++)?")?;
        Ok(((), "address sanitizer, edge coverage".to_owned()))
    })
}

fn fuzz(target: Target, minutes: u32) -> Result<()> {
    fs::create_dir_all(target.found()).context("cannot make a folder for inputs")?;
    let log = folder().join(format!("{}.log", target.name()));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    say(&format!("fuzz: {} writes {}", target.name(), log.display()));
    let mut command = Command::new(target.program());
    command
        .arg(format!("-max_total_time={}", u64::from(minutes) * 60))
        .arg(format!("-max_len={INPUT_MAX}"))
        .arg(format!("-timeout={INPUT_TIMEOUT}"))
        .arg(format!(
            "-artifact_prefix={}/{}-",
            folder().display(),
            target.name()
        ))
        .arg("-print_final_stats=1")
        .args([target.found(), target.corpus()])
        .stdout(Stdio::null())
        .stderr(file);
    Step::run(format!("fuzz: {}", target.name()), |step| {
        let outcome = watch(step, &log, || child::run(command));
        crate::interrupt::check()?;
        let text = fs::read_to_string(&log).unwrap_or_default();
        match outcome {
            Ok(()) => Ok(((), summary(&text))),
            Err(_) => bail!("{}", finding(target, &log, &text)),
        }
    })
}

/// Does `work` while the last line of the log that tells of progress is shown.
fn watch<T>(step: &Step, log: &Path, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let text = fs::read_to_string(log).unwrap_or_default();
                step.at(progress(&text));
                thread::sleep(POLL);
            }
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}

/// The last line that tells of progress.
fn progress(log: &str) -> &str {
    let mut lines = log.lines().rev();
    lines
        .find(|line| line.starts_with('#') && line.contains("cov:"))
        .unwrap_or("starts")
}

/// Runs and coverage of a run that has found nothing.
fn summary(log: &str) -> String {
    let number_behind = |line: &str, word: &str| {
        let (_, rest) = line.split_once(word)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let runs = log
        .lines()
        .find_map(|line| number_behind(line, "stat::number_of_executed_units:"));
    let coverage = number_behind(progress(log), "cov:");
    match (runs, coverage) {
        (Some(runs), Some(edges)) => format!("no finding in {runs} runs, {edges} edges reached"),
        _ => "no finding".to_owned(),
    }
}

/// What was found, and how to see it again.
fn finding(target: Target, log: &Path, text: &str) -> String {
    let input = text
        .lines()
        .find_map(|line| line.split_once("Test unit written to "))
        .map_or("none was written", |(_, path)| path.trim());
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let message: Vec<&str> = lines.by_ref().take(2).collect();
    format!(
        "a finding in {}: {}\nthe log: {}\nagain: cargo xtask fuzz {} --input {input}",
        target.name(),
        message.join(" "),
        log.display(),
        target.name()
    )
}

fn run_input(target: Target, input: &Path) -> Result<()> {
    let mut command = Command::new(target.program());
    command.arg(input);
    child::run(command)
}

/// Replaces a corpus by the fewest inputs that reach what all known ones do.
fn distill(target: Target) -> Result<()> {
    Step::run(format!("fuzz: distill {}", target.name()), |step| {
        let fresh = folder().join(format!("{}-distilled", target.name()));
        if fresh.exists() {
            fs::remove_dir_all(&fresh).context("cannot remove what an earlier run left")?;
        }
        fs::create_dir_all(&fresh).context("cannot make a folder for inputs")?;
        let mut command = Command::new(target.program());
        command
            .args(["-merge=1", "-use_counters=0", "-use_cmp=0"])
            .arg(format!("-max_len={INPUT_MAX}"))
            .arg(&fresh)
            .args([target.corpus(), target.found()]);
        child::capture(step, command)?;
        let count = replace(&fresh, &target.corpus())?;
        Ok(((), format!("{count} inputs")))
    })
}

/// Moves the files of `fresh` to `corpus`, in place of those that are there.
fn replace(fresh: &Path, corpus: &Path) -> Result<usize> {
    for entry in fs::read_dir(corpus).context("cannot read the corpus")? {
        fs::remove_file(entry?.path()).context("cannot remove an input")?;
    }
    let mut count = 0;
    for entry in fs::read_dir(fresh).context("cannot read the distilled corpus")? {
        let entry = entry?;
        // The first half of the hash is name enough.
        let name = entry
            .file_name()
            .to_string_lossy()
            .chars()
            .take(16)
            .collect::<String>();
        fs::copy(entry.path(), corpus.join(name)).context("cannot copy an input")?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 11 corp: 1/1b\n\
        #800\tNEW    cov: 345 ft: 900 corp: 7/99b lim: 4\n\
        stat::number_of_executed_units: 12345\n";

    #[test]
    fn progress_and_summary_are_read_from_the_log() {
        assert!(progress(LOG).starts_with("#800"));
        assert_eq!(progress(""), "starts");
        assert_eq!(summary(LOG), "no finding in 12345 runs, 345 edges reached");
        assert_eq!(summary(""), "no finding");
    }

    #[test]
    fn a_finding_says_how_to_repeat_it() {
        let log = "thread '<unnamed>' panicked at net/src/a.rs:1:2:\nmbufs are left\nmore\n\
            artifact_prefix='x'; Test unit written to /t/fuzz/calls-crash-1\n";
        let text = finding(Target::Calls, Path::new("/t/fuzz/calls.log"), log);
        assert!(text.contains("mbufs are left"), "{text}");
        assert!(text.ends_with("cargo xtask fuzz calls --input /t/fuzz/calls-crash-1"));
    }
}
