//! A server under test, booted, and its client.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ix_insns::exchange::Application;
use ix_linux_guest::LinuxGuest;
use ix_linux_guest::image::Contents;
use ix_load::report::{LoadReport, Report};
use ix_machine::{Artifacts, Machine, MachineConfig};

use crate::{Run, client};

/// How long a boot may take on a loaded machine.
const BOOT_TIMEOUT: Duration = Duration::from_secs(90);
/// How long the client may take to open its connections, and to end, beside what it is given for that.
const OPENING_BUDGET: Duration = Duration::from_secs(120);
/// Addresses that nobody has, for the client's own engine: each has some 60,000 ports.
const ENGINE_ADDRESSES: &str = "10.9.0.64-10.9.0.71";
/// Best tuning of the Linux guest (BASELINE.md): no mitigations, no zeroing of pages, no audit or
/// security modules, the TSC as the clock.
const LINUX_COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 mitigations=off nokaslr \
    random.trust_cpu=on no_timer_check net.ifnames=0 init_on_alloc=0 audit=0 lsm= selinux=0 apparmor=0 \
    clocksource=tsc tsc=reliable";

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// The dataplane.
    Ours,
    /// Debian's kernel with its `ixgbe`.
    Linux,
}

impl System {
    /// Both, ours first.
    pub const BOTH: [System; 2] = [System::Ours, System::Linux];

    /// What the reader reads.
    pub fn name(self) -> &'static str {
        match self {
            System::Ours => "this dataplane",
            System::Linux => "Linux guest",
        }
    }
}

/// A booted server.
pub struct Bed {
    guest: Guest,
    server: String,
}

enum Guest {
    Ours(Box<Machine>),
    Linux(Box<LinuxGuest>),
}

/// A load for `ixload`.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Its arguments, beside what follows from the rest.
    pub arguments: &'a str,
    /// See there.
    pub transport: Transport,
    /// Measured parts, of the length of a point each, with the same connections.
    pub parts: u8,
    /// How long it may open connections, before those that are open have to do.
    pub opening: Option<Duration>,
}

/// What the client's bytes go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The host's TCP.
    Sockets,
    /// The project's engine in the client.
    Engine,
}

impl Transport {
    /// Both.
    pub const BOTH: [Transport; 2] = [Transport::Sockets, Transport::Engine];

    /// What the reader reads.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Sockets => "sockets",
            Transport::Engine => "engine",
        }
    }
}

impl Bed {
    /// Boots an echo server of that system, after `change` has had its way with its machine.
    pub fn boot(system: System, change: impl FnOnce(&mut MachineConfig)) -> Result<Self> {
        Self::boot_application(system, Application::Echo, change)
    }

    /// The same for another application.
    pub fn boot_application(
        system: System,
        application: Application,
        change: impl FnOnce(&mut MachineConfig),
    ) -> Result<Self> {
        let bed = match system {
            System::Ours => Self::boot_ours(application, change)?,
            System::Linux => Self::boot_linux(application, change)?,
        };
        bed.widen_ports()?;
        Ok(bed)
    }

    /// Lets the host, whose address is one, have many connections in one run after the other: those of
    /// the last one are in TIME-WAIT.
    fn widen_ports(&self) -> Result<()> {
        let netns = self.machine().netns();
        let netns = netns.context("the machine has no network namespace")?;
        let written = netns.run(|| {
            fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?;
            fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1")
        })?;
        written.context("cannot widen the range of local ports")
    }

    fn boot_ours(
        application: Application,
        change: impl FnOnce(&mut MachineConfig),
    ) -> Result<Self> {
        let mut config = MachineConfig::new(&Artifacts::of_workspace(), application.name());
        change(&mut config);
        let machine = Machine::start(&config)?;
        machine.wait_for_line(&format!("ix: app: {}", application.name()), BOOT_TIMEOUT)?;
        Ok(Self {
            guest: Guest::Ours(Box::new(machine)),
            server: format!("{}:{}", config.network.guest, application.port()),
        })
    }

    fn boot_linux(
        application: Application,
        change: impl FnOnce(&mut MachineConfig),
    ) -> Result<Self> {
        let mut guest = best_linux(change)?;
        serve(&mut guest, application)?;
        Ok(Self {
            server: format!("{}:{}", guest.address(), application.port()),
            guest: Guest::Linux(Box::new(guest)),
        })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        match &self.guest {
            Guest::Ours(machine) => machine,
            Guest::Linux(guest) => guest.machine(),
        }
    }

    /// Runs `ixload load` on the server.
    pub fn load(&self, run: Run, arguments: &str, transport: Transport) -> Result<LoadReport> {
        self.carry(
            run,
            Load {
                arguments,
                transport,
                parts: 1,
                opening: None,
            },
        )
    }

    /// The same for any load.
    pub fn carry(&self, run: Run, load: Load) -> Result<LoadReport> {
        let folder = tempfile::tempdir().context("cannot create a folder for a report")?;
        let json = folder.path().join("report.json");
        let program = Artifacts::of_workspace().load_program();
        let mut command = self.machine().command(&program)?;
        let seconds = run.options.seconds();
        let (measured, warmup) = (seconds * f64::from(load.parts), seconds / 4.0);
        command
            .args(["load", "--force", "--timeout", "30"])
            .args(["--connect", &self.server])
            .args(["--duration", &measured.to_string()])
            .args(["--parts", &load.parts.to_string()])
            .args(["--warmup", &warmup.to_string()])
            .arg("--json")
            .arg(&json)
            .args(load.arguments.split_whitespace());
        if load.transport == Transport::Engine {
            command.args(["--transport", "engine", "--sources", ENGINE_ADDRESSES]);
        }
        if let Some(opening) = load.opening {
            command.args(["--opening", &opening.as_secs_f64().to_string()]);
        }
        // Connections are closed twice as fast as they are opened.
        let opening = OPENING_BUDGET + 2 * load.opening.unwrap_or_default();
        let budget = opening + Duration::from_secs_f64(measured + warmup);
        client::run(&mut command, folder.path(), budget, run.check).with_context(|| {
            let (what, by) = (load.arguments, load.transport.name());
            format!("ixload {what}, by {by}, against {}", self.server)
        })?;
        match serde_json::from_str(&fs::read_to_string(&json)?)? {
            Report::Load(report) => Ok(*report),
            _ => bail!("ixload wrote another report"),
        }
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        match self.guest {
            Guest::Ours(machine) => {
                let report = machine.stop();
                ensure!(
                    report.is_success(),
                    "the dataplane did not survive: {report}"
                );
            }
            Guest::Linux(guest) => guest.try_stop()?,
        }
        Ok(())
    }
}

/// A Linux guest in its best tuning: `tuned_linux`, and sockets that look at the queue themselves for a
/// while before they wait.
pub fn best_linux(change: impl FnOnce(&mut MachineConfig)) -> Result<LinuxGuest> {
    let mut guest = tuned_linux(change)?;
    guest.try_run(
        "echo 50 > /proc/sys/net/core/busy_poll; echo 50 > /proc/sys/net/core/busy_read",
    )?;
    Ok(guest)
}

/// A tuned Linux guest, with its interface up.
pub fn tuned_linux(change: impl FnOnce(&mut MachineConfig)) -> Result<LinuxGuest> {
    let contents = Contents {
        servers: true,
        memcached: true,
        ..Contents::default()
    };
    let mut guest = LinuxGuest::try_boot(contents, |config| {
        config.foreign_command_line = Some(LINUX_COMMAND_LINE.to_owned());
        change(config);
    })?;
    guest.try_configure()?;
    Ok(guest)
}

/// Starts Linux's server: `ixload`'s echo, a thread on epoll for each processor, or Debian's memcached with one thread that
/// serves, as much memory for items as ours, and no threads beside it that tidy up.
pub fn serve(guest: &mut LinuxGuest, application: Application) -> Result<()> {
    let (address, port) = (guest.address(), application.port());
    let server = match application {
        Application::Echo => format!(
            "ixload serve-echo --listen {address}:{port} --threads $(grep -c ^processor /proc/cpuinfo)"
        ),
        Application::Memcached => format!(
            "memcached -u root -l {address} -p {port} -U 0 -t 1 -m 64 -c 8192 \
             -o no_lru_crawler,no_lru_maintainer,no_slab_reassign"
        ),
    };
    guest.try_serve(&server, port)
}
