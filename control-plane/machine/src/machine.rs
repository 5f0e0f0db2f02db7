//! The handle of a running machine.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::accel::Accel;
use crate::config::MachineConfig;
use crate::console::{Console, NoLine};
use crate::error::{Error, Result};
use crate::exit::ExitReport;
use crate::netns::Netns;
use crate::places;
use crate::qemu::Qemu;
use crate::qmp::Qmp;
use crate::supervisor::{Started, Supervised};

/// How long an answer on QEMU's control socket may take.
const QMP_TIMEOUT: Duration = Duration::from_secs(5);
/// From the console's end to the report of the machine's.
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);

/// A running machine. Dropping it stops it and removes all that it stood on.
#[derive(Debug)]
pub struct Machine {
    started: Started,
    console: Console,
    stopper: Stopper,
    end: Arc<End>,
    supervisor: Option<JoinHandle<()>>,
}

/// Stops a machine from another thread, such as one that waits for signals.
#[derive(Debug, Clone)]
pub struct Stopper {
    control: Arc<UnixStream>,
}

/// The end of a machine, once it has come and everything is removed.
#[derive(Debug, Default)]
struct End {
    report: Mutex<Option<ExitReport>>,
    changed: Condvar,
}

impl Machine {
    /// Starts a machine and returns when its guest runs; see [`Machine::wait_for_line`] for more.
    pub fn start(config: &MachineConfig) -> Result<Machine> {
        let console = Console::default();
        let end = Arc::new(End::default());
        let (control, watched) = UnixStream::pair().map_err(Error::io("create a socket pair"))?;
        let (tell, result) = mpsc::channel();
        let supervisor = {
            let (config, console, end) = (config.clone(), console.clone(), Arc::clone(&end));
            thread::spawn(move || match Supervised::start(&config, &console) {
                Ok((supervised, started)) => {
                    // The owner has been waiting since it spawned this thread.
                    let _ = tell.send(Ok(started));
                    let mut report = supervised.run(&watched);
                    report.places = places::of_end(&config, &console, &report.cause);
                    end.publish(report);
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                }
            })
        };
        let result = result.recv();
        let started = match result {
            Ok(Ok(started)) => started,
            Ok(Err(error)) => {
                // Waits until what a failed start had made is removed.
                let _ = supervisor.join();
                return Err(error);
            }
            Err(mpsc::RecvError) => match supervisor.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("the supervisor reports before it returns"),
            },
        };
        let stopper = Stopper {
            control: Arc::new(control),
        };
        Ok(Machine {
            started,
            console,
            stopper,
            end,
            supervisor: Some(supervisor),
        })
    }

    /// Its name on this host; the run directory and the namespace have it too.
    pub fn name(&self) -> &str {
        &self.started.name
    }

    /// The accelerator that was chosen.
    pub fn accel(&self) -> Accel {
        self.started.accel
    }

    /// The QEMU that runs it.
    pub fn qemu(&self) -> &Qemu {
        &self.started.qemu
    }

    /// The namespace with the host's end of its wire, if it has one.
    pub fn netns(&self) -> Option<&Netns> {
        self.started.netns.as_ref()
    }

    /// A command that will run at the host's end of the wire, or on the host if there is no wire.
    pub fn command(&self, program: &Path) -> Result<Command> {
        match self.netns() {
            Some(netns) => netns.command(program),
            None => Ok(Command::new(program)),
        }
    }

    /// Process ids of QEMU and of the NIC model.
    pub fn pids(&self) -> (u32, Option<u32>) {
        (self.started.qemu_pid, self.started.nic_pid)
    }

    /// Where its wire can be listened to, if it has one.
    pub fn wire_socket(&self) -> Option<&Path> {
        self.started.wire_socket.as_deref()
    }

    /// The serial console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// First console line that contains `needle`; a machine that ends instead is an error that says how.
    pub fn wait_for_line(&self, needle: &str, timeout: Duration) -> Result<String> {
        match self.console.wait_for(needle, timeout) {
            Ok(line) => Ok(line),
            Err(NoLine::Timeout) => Err(Error::ConsoleTimeout {
                needle: needle.to_owned(),
                timeout,
                last_lines: self.console.last_lines(),
            }),
            Err(NoLine::Closed) => match self.wait(REPORT_TIMEOUT) {
                Some(report) => Err(Error::MachineEnded {
                    waiting_for: needle.to_owned(),
                    report: Box::new(report),
                }),
                None => Err(Error::Qmp(
                    "the console closed, but QEMU goes on".to_owned(),
                )),
            },
        }
    }

    /// Executes a command on QEMU's control socket.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        Qmp::connect(&self.started.qmp_socket, QMP_TIMEOUT)?.execute(command, arguments)
    }

    /// Waits for its end, at most `timeout`. After a report nothing of it is left on the host.
    pub fn wait(&self, timeout: Duration) -> Option<ExitReport> {
        self.end.wait(timeout)
    }

    /// Something that can stop it from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Stops it, if it still runs, and says how it ended.
    pub fn stop(mut self) -> ExitReport {
        self.finish();
        self.end
            .wait(Duration::ZERO)
            .unwrap_or_else(|| unreachable!("the supervisor has reported"))
    }

    fn finish(&mut self) {
        self.stopper.stop();
        if let Some(supervisor) = self.supervisor.take()
            && let Err(panic) = supervisor.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Stopper {
    /// Asks the machine to stop; does nothing if it has ended.
    pub fn stop(&self) {
        // A closed socket means that the machine has ended.
        let _ = (&*self.control).write_all(b"s");
    }
}

impl End {
    fn publish(&self, report: ExitReport) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        self.changed.notify_all();
    }

    fn wait(&self, timeout: Duration) -> Option<ExitReport> {
        let deadline = Instant::now() + timeout;
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if report.is_some() || left.is_zero() {
                return report.clone();
            }
            let waited = self.changed.wait_timeout(report, left);
            report = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
