//! `cargo xtask demo --scenario elastic`: a load rises and falls, and the policy `elastic` grants and
//! revokes hardware threads after it.
//!
//! Hardware threads are made up here (`emulate_cores`), since few machines have five to spare, so that
//! what is shown is the decisions and that no request is lost by them, not what more threads achieve.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ix_machine::AccelChoice;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::child;
use crate::interrupt;
use crate::step::{Step, say};
use crate::workspace;

/// How the load changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// It rises and falls, as over a day.
    Diurnal,
    /// It is low, high, low, high, and low.
    Square,
    /// It is high for a moment.
    Spike,
}

impl Shape {
    /// Connections of each phase, one after the other, and its seconds.
    fn phases(self) -> &'static [(u32, u32)] {
        match self {
            Shape::Diurnal => &[(1, 6), (8, 6), (32, 6), (64, 6), (16, 6), (1, 6), (1, 6)],
            Shape::Square => &[(1, 5), (64, 8), (1, 9), (64, 8), (1, 9)],
            Shape::Spike => &[(1, 8), (64, 2), (1, 12)],
        }
    }
}
const NAME: &str = "demo";
/// How often the policy's decisions are asked for.
const PERIOD: Duration = Duration::from_millis(250);
/// How long the daemon may take to answer for the first time.
const DAEMON_PATIENCE: Duration = Duration::from_secs(30);

/// What is fit for a machine whose processors are emulated: there, even a short queue is late, and
/// the load may change every few seconds.
const POLICY: &str = "
[policy]
mode = 'elastic'
min = 1
max = 4
grow_queue = 2.0
shrink_queue = 0.5
grow_hold_ms = 1500
shrink_hold_ms = 3000
";

/// Shows it. What `wire` has is further keys of the definition; `record` names a file for what the policy
/// sees.
pub fn run(accel: AccelChoice, wire: &str, shape: Shape, record: Option<&Path>) -> Result<()> {
    let plane = Step::run("control plane: starting", |_| {
        Ok((
            Plane::start()?,
            "with five made-up hardware threads".to_owned(),
        ))
    })?;
    let definition = plane.folder.join("demo.toml");
    let text = format!(
        "name = '{NAME}'\napp = 'echo'\nargs = ['7']\nthreads = 4\ngranted = 1\n\
         accel = '{accel}'\n{wire}{POLICY}"
    );
    fs::write(&definition, text).context("cannot write the demo's definition")?;
    let view = Step::run("machine: booting", |_| {
        let view = plane.ask(&["run", &definition.to_string_lossy()])?;
        Ok((view, "serves on 1 of its 4 threads".to_owned()))
    })?;
    let netns = view["netns"].as_str().context("the machine has no wire")?;
    let over = AtomicBool::new(false);
    let (phases, changes) = thread::scope(|scope| {
        let watcher = scope.spawn(|| plane.watch(&over));
        let phases = shape.phases().iter().map(|it| plane.phase(netns, *it));
        let phases: Result<Vec<Phase>> = phases.collect();
        over.store(true, Ordering::Relaxed);
        let changes = watcher.join().map_err(|_| anyhow!("the watcher failed"))?;
        Ok::<_, anyhow::Error>((phases?, changes?))
    })?;
    if let Some(file) = record {
        let loads = plane
            .folder
            .join("run/dataplanes")
            .join(NAME)
            .join("loads.csv");
        fs::copy(&loads, file).with_context(|| format!("cannot copy {}", loads.display()))?;
    }
    say("");
    say("connections  requests/s  p99 us  threads at the end");
    for phase in &phases {
        let Phase {
            connections,
            rate,
            p99_us,
            threads,
        } = phase;
        say(&format!(
            "{connections:11}  {rate:10.0}  {p99_us:6.0}  {threads}"
        ));
    }
    say(&format!(
        "demo: {changes} changes, all requests answered and verified"
    ));
    if changes == 0 && shape != Shape::Spike {
        bail!("the load was too small for the policy to change anything: is the machine idle?");
    }
    Ok(())
}

/// What a phase came to.
struct Phase {
    connections: u32,
    rate: f64,
    p99_us: f64,
    threads: usize,
}

/// A daemon in a folder of its own, and what it runs; all gone when dropped.
struct Plane {
    folder: PathBuf,
    daemon: Child,
    started: Instant,
}

impl Plane {
    fn start() -> Result<Plane> {
        let folder = std::env::temp_dir().join(format!("ix-demo-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let artifacts = workspace::artifacts();
        let text = format!(
            "folder = {:?}\nartifacts = {:?}\nemulate_cores = 5\nreserved = '0'\n\
             record_loads = true\n",
            folder.join("run"),
            artifacts.folder(),
        );
        let config = folder.join("ixcpd.toml");
        fs::write(&config, text).context("cannot write the daemon's configuration")?;
        let log = fs::File::create(folder.join("log")).context("cannot make the daemon's log")?;
        // A Ctrl-C is for this program, which then stops everything in order.
        let daemon = Command::new(artifacts.daemon())
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .context("cannot start ixcpd")?;
        let plane = Plane {
            folder,
            daemon,
            started: Instant::now(),
        };
        while let Err(error) = plane.ask(&["ps"]) {
            if plane.started.elapsed() > DAEMON_PATIENCE {
                return Err(error.context("ixcpd does not answer"));
            }
            interrupt::check()?;
            thread::sleep(PERIOD);
        }
        Ok(plane)
    }

    /// What `ixctl` answers.
    fn ask(&self, words: &[&str]) -> Result<Value> {
        let output = Command::new(workspace::artifacts().control_program())
            .arg("--socket")
            .arg(self.folder.join("run/ixcpd.sock"))
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .output()
            .context("cannot run ixctl")?;
        if !output.status.success() {
            // It says what is wrong on one of both, and of a dataplane that has ended how it did.
            let said = [output.stderr, output.stdout].concat();
            bail!("{}", String::from_utf8_lossy(&said).trim());
        }
        match &output.stdout[..] {
            [] => Ok(Value::Null),
            json => serde_json::from_slice(json).context("ixctl's answer makes no sense"),
        }
    }

    /// Loads the dataplane over so many connections.
    fn phase(&self, netns: &str, (connections, seconds): (u32, u32)) -> Result<Phase> {
        say(&format!("demo: {connections} connections for {seconds} s"));
        let seconds = seconds.to_string();
        let report = self.folder.join("report.json");
        let mut load = Command::new("ip");
        load.args(["netns", "exec", netns])
            .arg(workspace::artifacts().load_program())
            .args(["echo", "--connect", "10.9.0.2:7", "--duration", &seconds])
            .args(["--connections", &connections.to_string(), "--json"])
            .arg(&report)
            .stdout(Stdio::null());
        child::run(load).context("the load failed")?;
        let report: Value = serde_json::from_slice(&fs::read(report)?)?;
        Ok(Phase {
            connections,
            rate: report["messages_per_second"].as_f64().unwrap_or_default(),
            p99_us: report["latency_us"]["p99"].as_f64().unwrap_or_default(),
            threads: self.threads()?,
        })
    }

    fn threads(&self) -> Result<usize> {
        let views = self.ask(&["ps"])?;
        let cores = views[0]["cores"]
            .as_array()
            .context("the dataplane is gone")?;
        Ok(cores.iter().filter(|core| !core.is_null()).count())
    }

    /// Prints a line for each decision to grow or shrink until it is `over`, and counts those that were
    /// carried out.
    fn watch(&self, over: &AtomicBool) -> Result<usize> {
        let (mut last_ms, mut changes) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            let decisions = self.ask(&["policy", NAME, "explain"])?;
            for decision in decisions.as_array().into_iter().flatten() {
                let at_ms = decision["at_ms"].as_u64().unwrap_or_default();
                let action = decision["action"].as_str().unwrap_or_default();
                if at_ms <= last_ms || action == "keep" {
                    continue;
                }
                last_ms = at_ms;
                let reason = decision["reason"].as_str().unwrap_or_default();
                changes += usize::from(!reason.contains("not done"));
                let seconds = self.started.elapsed().as_secs_f64();
                let had = &decision["granted"];
                say(&format!("  {seconds:5.1} s  {action:6} at {had}: {reason}"));
            }
            thread::sleep(PERIOD);
        }
        Ok(changes)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if let Err(error) = self.ask(&["stop", NAME]) {
            say(&format!("demo: {error}"));
        }
        // It may have ended, which the wait finds out.
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            say(&format!(
                "demo: cannot remove {}: {error}",
                self.folder.display()
            ));
        }
    }
}
