//! The thread that owns a machine's processes: starts them, watches them as one unit of failure, and
//! takes everything down in order.
//!
//! It is a thread of its own because the processes die with the thread that started them
//! (`PR_SET_PDEATHSIG` goes by thread), and because an owner may be busy while a process dies.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::accel::Accel;
use crate::command;
use crate::config::MachineConfig;
use crate::console::Console;
use crate::error::{Error, Result};
use crate::exit::{Cause, ExitReport, words};
use crate::net::NicKind;
use crate::netns::{Netns, OwnedNetns};
use crate::process::{Process, readable};
use crate::qemu::Qemu;
use crate::qmp::Qmp;
use crate::run_dir::RunDir;

/// From the NIC model's start to its ready line.
const NIC_READY_TIMEOUT: Duration = Duration::from_secs(10);
/// From QEMU's start to the greeting on its control socket, with devices connected.
const QEMU_READY_TIMEOUT: Duration = Duration::from_secs(30);
/// From a request to quit to QEMU's end.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);
/// From SIGTERM to SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// When one of the two processes dies, the other one is given this time to end by itself, since their
/// order tells little: a socket closes before its process has ended.
const PARTNER_TIMEOUT: Duration = Duration::from_secs(1);
/// The same when it failed: the other one will not do any good any more, and may hang in the middle of
/// an exchange. It is killed then, so that both are gone within a second.
const FAILED_PARTNER_TIMEOUT: Duration = Duration::from_millis(400);

/// What the owner of a started machine needs to know.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) name: String,
    pub(crate) netns: Option<Netns>,
    pub(crate) accel: Accel,
    pub(crate) qemu: Qemu,
    pub(crate) qmp_socket: PathBuf,
    pub(crate) qemu_pid: u32,
    pub(crate) nic_pid: Option<u32>,
    pub(crate) wire_socket: Option<PathBuf>,
}

/// The processes and what they stand on; dropped in this order.
pub(crate) struct Supervised {
    qemu: Process,
    nic: Option<Process>,
    _netns: Option<OwnedNetns>,
    qmp_socket: PathBuf,
    _run_dir: RunDir,
}

impl Supervised {
    /// Starts everything and returns when QEMU runs the guest.
    pub(crate) fn start(
        config: &MachineConfig,
        console: &Console,
    ) -> Result<(Supervised, Started)> {
        config.check()?;
        let qemu_program = Qemu::locate_for(config.nic)?;
        let accel = config.accel.resolve(&qemu_program);
        let run_dir = RunDir::create()?;
        let own_socket = run_dir.join("nic.sock");
        let nic_socket = config.nic_socket.as_ref().unwrap_or(&own_socket);
        let wire_socket = run_dir.join("wire.sock");
        let qmp_socket = run_dir.join("qmp.sock");
        let (netns, nic) = match config.nic {
            NicKind::None | NicKind::Host(_) => (None, None),
            kind if kind.is_modelled() && config.nic_socket.is_some() => (None, None),
            NicKind::Intel82599 | NicKind::Virtual82599 => {
                let netns = OwnedNetns::create(run_dir.name(), command::TAP, &config.network)?;
                let nic = start_nic(config, netns.netns(), nic_socket, &wire_socket)?;
                (Some(netns), Some(nic))
            }
            NicKind::Igb | NicKind::Virtio => {
                let queues = if config.nic == NicKind::Virtio {
                    config.cpus
                } else {
                    1
                };
                let (name, network) = (run_dir.name(), &config.network);
                let netns = OwnedNetns::create_with_queues(name, command::TAP, queues, network)?;
                (Some(netns), None)
            }
        };
        let args = command::qemu_args(config, accel, &qmp_socket, nic_socket);
        let log_file = config.console_log.as_deref().map(create_log).transpose()?;
        let mut qemu = Process::spawn(
            "qemu",
            netns
                .as_ref()
                .filter(|_| nic.is_none())
                .map(OwnedNetns::netns),
            &qemu_program.program,
            &args,
            config.echo_console,
        )?;
        if let Some(serial) = qemu.take_stdout() {
            console.follow(serial, log_file, config.echo_console);
        }
        let started = Started {
            name: run_dir.name().to_owned(),
            netns: netns.as_ref().map(|owned| owned.netns().clone()),
            accel,
            qemu: qemu_program,
            qmp_socket: qmp_socket.clone(),
            qemu_pid: qemu.pid(),
            nic_pid: nic.as_ref().map(Process::pid),
            wire_socket: nic.is_some().then_some(wire_socket),
        };
        let mut supervised = Supervised {
            qemu,
            nic,
            _netns: netns,
            qmp_socket,
            _run_dir: run_dir,
        };
        supervised.await_qemu()?;
        Ok((supervised, started))
    }

    /// Watches until the machine ends or `control` becomes readable or closes, and takes it down.
    pub(crate) fn run(mut self, control: &UnixStream) -> ExitReport {
        let nic_pidfd = self.nic.as_ref().map(Process::pidfd);
        let mut watched = vec![self.qemu.pidfd(), control.as_fd()];
        watched.extend(nic_pidfd);
        let ready = readable(&watched, None);
        let cause = match ready[..] {
            [true, ..] => self.after_qemu(),
            [_, _, true] => self.after_nic(),
            _ => {
                self.stop_qemu();
                Cause::Stopped
            }
        };
        let failed = matches!(cause, Cause::Qemu(_) | Cause::NicModel(_));
        if let Some(nic) = &mut self.nic {
            if failed {
                nic.kill();
            } else if nic.wait_timeout(PARTNER_TIMEOUT).is_none() {
                nic.terminate(TERM_GRACE);
            }
        }
        ExitReport {
            cause,
            qemu_stderr: self.qemu.last_messages(),
            nic_stderr: self
                .nic
                .as_mut()
                .map(Process::last_messages)
                .unwrap_or_default(),
            places: Vec::new(),
        }
    }

    /// QEMU ended. It also aborts when its device dies, so a failure may be the NIC model's.
    fn after_qemu(&mut self) -> Cause {
        let Some(status) = self.qemu.wait_timeout(PARTNER_TIMEOUT) else {
            return Cause::Reset;
        };
        let cause = Cause::from_qemu(status);
        let nic = self
            .nic
            .as_mut()
            .filter(|_| matches!(cause, Cause::Qemu(_)));
        match nic.and_then(|nic| nic.wait_timeout(FAILED_PARTNER_TIMEOUT)) {
            Some(nic_status) if !nic_status.success() => Cause::NicModel(nic_status),
            _ => cause,
        }
    }

    /// The NIC model ended. It does so when QEMU closes its socket, so this may be QEMU's end.
    fn after_nic(&mut self) -> Cause {
        let nic_status = self
            .nic
            .as_mut()
            .and_then(|nic| nic.wait_timeout(PARTNER_TIMEOUT));
        let failed = nic_status.is_some_and(|status| !status.success());
        let patience = if failed {
            FAILED_PARTNER_TIMEOUT
        } else {
            PARTNER_TIMEOUT
        };
        let qemu_cause = self.qemu.wait_timeout(patience).map(Cause::from_qemu);
        match (qemu_cause, nic_status) {
            (Some(cause @ (Cause::Guest(_) | Cause::Reset)), _) => cause,
            (_, Some(nic_status)) => {
                self.qemu.kill();
                Cause::NicModel(nic_status)
            }
            (Some(cause), None) => cause,
            (None, None) => {
                self.stop_qemu();
                Cause::Stopped
            }
        }
    }

    fn stop_qemu(&mut self) {
        let asked = Qmp::connect(&self.qmp_socket, QUIT_TIMEOUT)
            .and_then(|mut qmp| qmp.execute("quit", serde_json::json!({})));
        if let Err(error) = &asked {
            log::debug!("quit: {error}");
        }
        if asked.is_err() || self.qemu.wait_timeout(QUIT_TIMEOUT).is_none() {
            self.qemu.terminate(TERM_GRACE);
        }
    }

    /// Waits for the greeting on the control socket, which QEMU sends when all devices are there.
    fn await_qemu(&mut self) -> Result<()> {
        let deadline = Instant::now() + QEMU_READY_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if Qmp::connect(&self.qmp_socket, left.max(Duration::from_millis(1))).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.qemu.wait_timeout(Duration::from_millis(5)) {
                // A guest may be done before the first look at the socket.
                return match Cause::from_qemu(status) {
                    Cause::Guest(_) | Cause::Reset => Ok(()),
                    _ => Err(self.ended_early(status)),
                };
            }
            if left.is_zero() {
                return Err(self.qemu_failed(format!(
                    "did not come up in {} s",
                    QEMU_READY_TIMEOUT.as_secs()
                )));
            }
        }
    }

    /// QEMU gives up when its device dies, so a failure may be the NIC model's.
    fn ended_early(&mut self, status: ExitStatus) -> Error {
        if let Some(nic) = &mut self.nic
            && let Some(nic_status) = nic.wait_timeout(PARTNER_TIMEOUT)
            && !nic_status.success()
        {
            return Error::NicModel {
                why: format!("ended with {}", words(nic_status)),
                stderr: nic.last_messages(),
            };
        }
        self.qemu_failed(format!("ended with {}", words(status)))
    }

    fn qemu_failed(&mut self, why: String) -> Error {
        Error::Qemu {
            why,
            stderr: self.qemu.last_messages(),
        }
    }
}

/// Starts the NIC model and waits for its ready line.
fn start_nic(
    config: &MachineConfig,
    netns: &Netns,
    socket: &Path,
    wire_socket: &Path,
) -> Result<Process> {
    let args = command::nic_args(config, socket, wire_socket);
    let mut nic = Process::spawn(
        "ixnicd",
        Some(netns),
        &config.nic_program,
        &args,
        config.echo_console,
    )?;
    let ready = nic.take_stdout().map(follow_nic);
    let answer = ready.map(|ready| ready.recv_timeout(NIC_READY_TIMEOUT));
    let why = match answer {
        Some(Ok(())) => return Ok(nic),
        Some(Err(RecvTimeoutError::Timeout)) => {
            format!("was not ready after {} s", NIC_READY_TIMEOUT.as_secs())
        }
        Some(Err(RecvTimeoutError::Disconnected)) | None => match nic.wait_timeout(PARTNER_TIMEOUT)
        {
            Some(status) => format!("ended with {} before it was ready", words(status)),
            None => "closed its output before it was ready".to_owned(),
        },
    };
    nic.terminate(TERM_GRACE);
    Err(Error::NicModel {
        why,
        stderr: nic.last_messages(),
    })
}

/// Reads the model's output to its end; the channel tells of the ready line, or closes without one.
fn follow_nic(stdout: ChildStdout) -> mpsc::Receiver<()> {
    let (tell, ready) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while matches!(lines.by_ref().take(4096).read_line(&mut line), Ok(length) if length > 0) {
            log::debug!("ixnicd: {}", line.trim_end());
            if line.starts_with("ready") {
                // Nobody listens any more after a timeout.
                let _ = tell.send(());
            }
            line.clear();
        }
    });
    ready
}

fn create_log(path: &Path) -> Result<File> {
    File::create(path).map_err(|source| Error::BadValue {
        what: "console log",
        value: path.display().to_string(),
        why: format!("cannot write it: {source}"),
    })
}
