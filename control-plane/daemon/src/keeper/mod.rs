//! The keeper of a dataplane: a process that owns its virtual machine, its control page and its
//! doorbells, like the shim beside a container. It outlives the daemon that started it, and does what
//! the daemon says on a Unix socket ([`protocol`]): tell how the machine is, have a thread execute a
//! command, pin virtual CPUs, stop.
//!
//! It ends when the machine does, after writing down how. Who kills it kills the machine with it:
//! the machine's processes die with their owner.

pub mod client;
pub mod protocol;
mod vcpus;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use ix_channel::{Command, CommandError, Commander, ControlPage, Doorbells, Ivshmem};
use ix_machine::{Artifacts, Machine, Stopper};

use crate::machine;
use crate::store::{End, Folder};
use protocol::{Answer, Hello, PROTOCOL, Phase, Reply, Request, Status};

/// How long a thread may take to execute a command: it may have many connections to hand over, and
/// may be one of many virtual CPUs on few real ones.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait until a thread may be able to execute a command.
const RETRY: Duration = Duration::from_millis(5);
/// How often the end of the machine is looked for.
const WAIT: Duration = Duration::from_secs(3600);
/// Longest request.
const REQUEST_BYTES: u64 = 64 << 10;

/// Keeps the dataplane of `folder` until it ends.
pub fn run(folder: &Folder, artifacts: &Artifacts) -> Result<()> {
    let lock = folder
        .lock()
        .context("cannot lock the dataplane's folder")?;
    let _lock = lock.ok_or_else(|| anyhow!("it has a keeper already"))?;
    let outcome = keep(folder, artifacts);
    let end = match &outcome {
        Ok(end) => end.clone(),
        Err(error) => End {
            success: false,
            report: format!("{error:#}"),
        },
    };
    folder
        .save_end(&end)
        .context("cannot write how the machine ended")?;
    remove_sockets(folder);
    outcome.map(drop)
}

fn keep(folder: &Folder, artifacts: &Artifacts) -> Result<End> {
    let definition = folder.definition().context("cannot read the definition")?;
    let mut config = machine::config(&definition, artifacts, folder.file("ivshmem.sock"))?;
    config.console_log = Some(folder.file("console.log"));
    let page = Arc::new(ControlPage::create(&folder.file("control"))?);
    let threads = definition.threads as usize;
    let doorbells = Arc::new(Doorbells::new(threads).context("cannot make doorbells")?);
    let ivshmem = Ivshmem::bind(
        &folder.file("ivshmem.sock"),
        Arc::clone(&page),
        Arc::clone(&doorbells),
    );
    ivshmem.context("cannot serve the control page")?.spawn();
    let kept = Arc::new(Kept {
        name: definition.name,
        folder: folder.clone(),
        commander: Commander::new(page, doorbells),
        machine: OnceLock::new(),
        vcpu_threads: OnceLock::new(),
    });
    let listener = UnixListener::bind(folder.file("keeper.sock"));
    serve(listener.context("cannot listen")?, Arc::clone(&kept));
    let machine = Machine::start(&config)?;
    let machine = kept.machine.get_or_init(|| machine);
    stop_on_signals(machine.stopper())?;
    let report = loop {
        if let Some(report) = machine.wait(WAIT) {
            break report;
        }
    };
    Ok(End {
        success: report.is_success(),
        report: report.to_string(),
    })
}

/// What connections of the daemon work with.
struct Kept {
    name: String,
    folder: Folder,
    commander: Commander,
    /// Once it has started.
    machine: OnceLock<Machine>,
    /// Once QEMU has said so.
    vcpu_threads: OnceLock<Vec<i32>>,
}

impl Kept {
    fn execute(&self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Status => Ok(Answer::Status(self.status())),
            Request::Command { thread, command } => self
                .command(thread, Command::from(command))
                .map(|value| Answer::Done { value })
                .map_err(|error| error.to_string()),
            Request::Pin { vcpus, rest } => {
                let machine = self.machine.get().ok_or("its machine is still starting")?;
                vcpus::pin(machine, &vcpus, &rest).map_err(|error| format!("{error:#}"))?;
                Ok(Answer::Done { value: 0 })
            }
            Request::Stop => {
                match self.machine.get() {
                    Some(machine) => machine.stopper().stop(),
                    None => self.give_up(),
                }
                Ok(Answer::Done { value: 0 })
            }
        }
    }

    /// Has a thread execute a command, again for a while if it says that it cannot yet: such as a thread
    /// that is to park, and still has connections on their way to another one.
    fn command(&self, thread: usize, command: Command) -> Result<u64, CommandError> {
        let deadline = Instant::now() + COMMAND_PATIENCE;
        loop {
            let result = self.commander.execute(thread, command, COMMAND_PATIENCE);
            let not_yet = CommandError::Refused(ix_abi::Error::TryAgain);
            if result != Err(not_yet) || Instant::now() > deadline {
                return result;
            }
            thread::sleep(RETRY);
        }
    }

    /// Ends before the machine has started. What there is of it dies with its owner, and the next
    /// start of any machine removes its namespace.
    fn give_up(&self) -> ! {
        let end = End {
            success: true,
            report: "stopped on request before it had started".to_owned(),
        };
        if let Err(error) = self.folder.save_end(&end) {
            log::warn!("cannot write how the machine ended: {error}");
        }
        remove_sockets(&self.folder);
        std::process::exit(0)
    }

    fn status(&self) -> Status {
        let machine = self.machine.get();
        let pids = machine.map(Machine::pids);
        Status {
            phase: match machine {
                Some(_) => Phase::Running,
                None => Phase::Starting,
            },
            accel: machine.map(|machine| machine.accel().to_string()),
            netns: machine
                .and_then(Machine::netns)
                .map(|netns| netns.name().to_owned()),
            vm_pid: pids.map(|(vm, _)| vm),
            nic_pid: pids.and_then(|(_, nic)| nic),
            wire_socket: machine.and_then(Machine::wire_socket).map(Path::to_owned),
            vcpu_threads: machine.map_or_else(Vec::new, |machine| self.vcpu_threads(machine)),
        }
    }

    /// They stay the same. Where QEMU does not answer, the next status asks again.
    fn vcpu_threads(&self, machine: &Machine) -> Vec<i32> {
        if let Some(threads) = self.vcpu_threads.get() {
            return threads.clone();
        }
        match vcpus::threads(machine) {
            Ok(threads) => self.vcpu_threads.get_or_init(|| threads).clone(),
            Err(error) => {
                log::debug!("no virtual CPUs yet: {error:#}");
                Vec::new()
            }
        }
    }
}

/// Serves each connection on a thread of its own; there are few.
fn serve(listener: UnixListener, kept: Arc<Kept>) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                if let Err(error) = converse(&stream, &kept) {
                    log::warn!("the daemon's connection: {error}");
                }
            });
        }
    });
}

fn converse(stream: &UnixStream, kept: &Kept) -> io::Result<()> {
    let hello = Hello {
        protocol: PROTOCOL,
        name: kept.name.clone(),
        pid: std::process::id(),
    };
    say(stream, &hello)?;
    let mut requests = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if requests.by_ref().take(REQUEST_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str::<Request>(&line) {
            Ok(request) => Reply::from(kept.execute(request)),
            Err(error) => Reply::Refused {
                reason: format!("the keeper does not understand the request: {error}"),
            },
        };
        say(stream, &reply)?;
    }
}

fn say(mut stream: &UnixStream, message: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// SIGTERM and SIGINT stop the machine, and with it the keeper.
fn stop_on_signals(stopper: Stopper) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .context("cannot watch for signals")?;
    thread::spawn(move || {
        for _ in signals.forever() {
            stopper.stop();
        }
    });
    Ok(())
}

/// Nobody is to connect to what is not served any more. Failures leave files in a folder that its
/// next user removes as a whole.
fn remove_sockets(folder: &Folder) {
    for socket in ["keeper.sock", "ivshmem.sock"] {
        let _ = fs::remove_file(folder.file(socket));
    }
}

/// Starts a keeper for `folder`, as a process that does not belong to this one's group, and has
/// somebody wait for its end.
pub fn spawn(folder: &Folder, program: &Path, artifacts: &Artifacts) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let log = File::create(folder.file("keeper.log"))?;
    let mut child = std::process::Command::new(program)
        .arg("keep")
        .arg("--folder")
        .arg(folder.path())
        .arg("--artifacts")
        .arg(artifacts.folder())
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    thread::spawn(move || child.wait());
    Ok(())
}
