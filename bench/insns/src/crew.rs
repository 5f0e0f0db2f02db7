//! An echo machine of two elastic threads, of which the second one starts parked, and who commands
//! them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ix_channel::{Command, Commander, ControlPage, Doorbells, Ivshmem};
use ix_machine::{ControlChannel, Machine, MachineConfig};

use crate::client::Client;
use crate::exchange::Application;
use crate::run::BOOT_TIMEOUT;

/// Flow groups: entries of the redirection table.
pub const GROUPS: usize = 128;
/// How long a command may take under emulation.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Elastic threads of the machine.
pub const THREADS: u32 = 2;

/// The machine, its control page, and its commander.
pub struct Crew {
    machine: Machine,
    server: SocketAddr,
    page: Arc<ControlPage>,
    commander: Commander,
}

impl Crew {
    /// Starts a machine with a control page in `folder`, and waits until both threads have begun.
    pub fn start(mut config: MachineConfig, folder: &Path) -> Result<Self> {
        let page = Arc::new(ControlPage::create(&folder.join("page"))?);
        let doorbells = Arc::new(Doorbells::new(THREADS as usize)?);
        let socket = folder.join("ivshmem");
        Ivshmem::bind(&socket, Arc::clone(&page), Arc::clone(&doorbells))?.spawn();
        config.cpus = THREADS;
        config.control = Some(ControlChannel {
            socket,
            vectors: THREADS,
        });
        let granted = ("granted".to_owned(), "1".to_owned());
        config.kernel_options.push(granted);
        let application = Application::Echo;
        let server = SocketAddr::from((config.network.guest, application.port()));
        let machine = Machine::start(&config)?;
        machine.wait_for_line(&format!("ix: app: {}", application.name()), BOOT_TIMEOUT)?;
        let crew = Self {
            commander: Commander::new(Arc::clone(&page), doorbells),
            machine,
            server,
            page,
        };
        crew.wait_for_all()?;
        Ok(crew)
    }

    fn wait_for_all(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let has_begun = |thread| {
            let report = self.page.thread(thread);
            report.is_some_and(|report| report.rounds > 0)
        };
        while !(0..THREADS as usize).all(has_begun) {
            ensure!(Instant::now() < deadline, "not all threads have begun");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Connections to its echo service.
    pub fn client(&self, connections: usize) -> Result<Client> {
        let namespace = self.machine.netns().context("the machine has no wire")?;
        namespace.run(|| Client::connect(self.server, connections))?
    }

    /// What it says of itself.
    pub fn page(&self) -> &ControlPage {
        &self.page
    }

    /// Has a thread execute a command.
    pub fn execute(&self, thread: usize, command: Command) -> Result<()> {
        let done = self.commander.execute(thread, command, PATIENCE);
        done.with_context(|| format!("thread {thread}, {command:?}"))?;
        Ok(())
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        let report = self.machine.stop();
        ensure!(report.is_success(), "the machine did not survive: {report}");
        Ok(())
    }
}
