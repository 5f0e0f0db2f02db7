//! The control plane in the outer machine, as its users run it: the daemon starts a dataplane, a client
//! at the other end of its wire exchanges messages with it, and Linux says where its virtual CPUs run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ix_nested_kvm::protocol::{Served, Vcpu};
use serde_json::Value;

/// How long the daemon may take to answer.
const DAEMON_PATIENCE: Duration = Duration::from_secs(60);
/// How the client is asked to load the dataplane.
const LOAD: [&str; 6] = ["--connections", "8", "--messages", "50", "--timeout", "60"];
/// Where the client writes its report.
const REPORT: &str = "/run/load.json";

/// Has the daemon in `programs` start a dataplane, and a client use it.
pub fn serve(programs: &Path) -> Result<Served> {
    let plane = ControlPlane::start(programs)?;
    plane.ixctl(&["run", "echo", "--name", "kv", "--", "7"])?;
    let view = plane.view()?;
    let accelerator = text(&view, "accel")?.to_owned();
    let messages = plane.load(text(&view, "netns")?)?;
    let vcpus = vcpus(&view)?;
    plane.ixctl(&["stop", "kv"])?;
    Ok(Served {
        accelerator,
        messages,
        vcpus,
    })
}

/// A daemon; dropping it ends it.
struct ControlPlane {
    programs: PathBuf,
    daemon: Child,
}

impl ControlPlane {
    fn start(programs: &Path) -> Result<Self> {
        let daemon = command(&programs.join("ixcpd"))
            .spawn()
            .context("cannot start ixcpd")?;
        let plane = Self {
            programs: programs.to_owned(),
            daemon,
        };
        let deadline = Instant::now() + DAEMON_PATIENCE;
        while let Err(error) = plane.ixctl(&["ps"]) {
            ensure!(Instant::now() < deadline, "ixcpd does not answer: {error}");
            sleep(Duration::from_millis(100));
        }
        Ok(plane)
    }

    /// What `ixctl` prints, having done what it was told.
    fn ixctl(&self, words: &[&str]) -> Result<String> {
        output(command(&self.programs.join("ixctl")).args(words))
    }

    /// The one dataplane, as `ixctl ps` shows it.
    fn view(&self) -> Result<Value> {
        let mut all: Value = serde_json::from_str(&self.ixctl(&["--json", "ps"])?)?;
        all.get_mut(0)
            .map(Value::take)
            .context("ixctl lists no dataplane")
    }

    /// Messages that came back as they were sent.
    fn load(&self, netns: &str) -> Result<u64> {
        let mut client = command(Path::new("/usr/bin/nsenter"));
        client
            .arg(format!("--net=/run/netns/{netns}"))
            .arg("--")
            .arg(self.programs.join("ixload"))
            .args(["echo", "--connect", "10.9.0.2:7", "--json", REPORT])
            .args(LOAD);
        output(&mut client)?;
        let report: Value = serde_json::from_slice(&fs::read(REPORT)?)?;
        let messages = report.get("messages").and_then(Value::as_u64);
        messages.context("the client's report has no messages")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Both fail only if it is gone already, which is what is wanted.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Where Linux may run the thread of each virtual CPU.
fn vcpus(view: &Value) -> Result<Vec<Vcpu>> {
    let process = view["vm_pid"].as_u64().context("there is no machine")?;
    let cores = view["cores"].as_array().context("no list of cores")?;
    let mut vcpus = Vec::new();
    for (number, core) in cores.iter().enumerate() {
        let granted = core.as_u64().context("an elastic thread is parked")?;
        vcpus.push(Vcpu {
            granted: u32::try_from(granted)?,
            allowed: allowed(process, &format!("CPU {number}/KVM"))?,
        });
    }
    Ok(vcpus)
}

/// Where Linux may run the thread called `name` of a process (proc(5), `Cpus_allowed_list`).
fn allowed(process: u64, name: &str) -> Result<String> {
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        if field(&status, "Name:") == Some(name) {
            let list = field(&status, "Cpus_allowed_list:");
            return list.map(str::to_owned).context("no list of CPUs");
        }
    }
    anyhow::bail!("QEMU has no thread called {name}")
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

fn text<'a>(view: &'a Value, field: &str) -> Result<&'a str> {
    let text = view[field].as_str();
    text.with_context(|| format!("the dataplane has no {field}: {view}"))
}

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env("PATH", "/usr/bin")
        .env("HOME", "/run")
        .stdin(Stdio::null());
    command
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
