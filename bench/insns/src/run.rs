//! One measurement from power-on to power-off: boots a machine under `-icount` with the
//! plugin in it, loads it, and takes samples while nothing is under way.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ix_load::options::load::Close;
use ix_machine::accel::{Accel, AccelChoice};
use ix_machine::qemu::{Qemu, Version};
use ix_machine::{Artifacts, Machine, MachineConfig, MemorySize};
use tempfile::TempDir;

use crate::baseline::Point;
use crate::client::{Check, Client, Opening};
use crate::crowd::Crowd;
use crate::exchange::{Application, Exchange};
use crate::hold::Held;
use crate::profile::Profile;
use crate::sample::Sampler;
use crate::work::{Window, Work};

/// Boot under `-icount`, on a loaded machine.
pub(crate) const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const SAMPLER_TIMEOUT: Duration = Duration::from_secs(10);

/// Windows at each number of connections; the median one counts, so that what the host does to a
/// single one, such as a delayed client and so an acknowledgement of its own, does not.
const WINDOWS: usize = 3;

/// Memory for each elastic thread, as far as it is more than what a machine has anyway.
const MIB_PER_THREAD: u64 = 64;

/// Rounds in a window, by number of connections.
const fn rounds(connections: u64) -> u64 {
    if connections == 1 { 1_000 } else { 60 }
}

/// Rounds of the slow window, and the time between them: far more polling than work.
const SLOW_ROUNDS: u64 = 25;
const SLOW_PAUSE: Duration = Duration::from_millis(20);
/// How many times longer it may become.
const LONGEST_PAUSE: u32 = 8;
/// The same after rounds of connections, in whose handshakes the guest waits for the client.
const SLOW_CONNECT_PAUSE: Duration = Duration::from_millis(150);

/// The result of one kind of request at one number of connections.
pub struct Measured {
    /// What was asked for.
    pub exchange: Exchange,
    /// Instructions per request, of the median window.
    pub point: Point,
    /// Those of each window.
    pub windows: Vec<Point>,
    /// Requests in each window.
    pub requests: u64,
    /// The median window by address, and its empty polls.
    pub work: Work,
}

impl Measured {
    fn new(exchange: Exchange, connections: u64, requests: u64, works: Vec<Work>) -> Self {
        let point = |work: &Work| Point {
            connections,
            kernel: work.kernel(),
            user: work.user(),
        };
        let windows = works.iter().map(point).collect();
        let work = median(works);
        Self {
            exchange,
            point: point(&work),
            windows,
            requests,
            work,
        }
    }

    /// Which functions of the application and the kernel below it the instructions are of.
    pub fn profile(&self, application: Application) -> Result<Profile> {
        Ok(Profile::new(&self.work, &crate::images(application)?))
    }
}

/// Boots once and measures everything that can be asked for at each of `connections`.
pub fn measure(
    plugin: &Path,
    application: Application,
    connections: &[u16],
    check: Check,
) -> Result<Vec<Measured>> {
    let mut bed = Bed::start(plugin, application, 1)?;
    let mut all = Vec::new();
    for &count in connections {
        let measured = bed.requests(count, check);
        all.extend(measured.with_context(|| bed.last_words())?);
    }
    bed.stop()?;
    Ok(all)
}

/// Builds the plugin for `qemu` and returns its path.
pub fn build_plugin(qemu: &Qemu) -> Result<PathBuf> {
    const USER_POINTERS_SINCE: Version = Version {
        major: 11,
        minor: 0,
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace.join("target"),
        |directory| workspace.join(directory),
    );
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "ix-insns-plugin",
        ])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(&workspace);
    if qemu.version < USER_POINTERS_SINCE {
        command.args(["--features", "api-4"]);
    }
    let status = command
        .status()
        .context("cannot start cargo to build the plugin")?;
    ensure!(
        status.success(),
        "cargo could not build the plugin ({status})"
    );
    let plugin = target.join("release/libix_insns_plugin.so");
    plugin
        .canonicalize()
        .with_context(|| format!("no plugin at {}", plugin.display()))
}

fn machine_config(
    plugin: &Path,
    socket: &Path,
    application: Application,
    threads: u32,
    clock: Clock,
) -> Result<MachineConfig> {
    let mut config = machine(application);
    config.cpus = threads;
    config.memory = config
        .memory
        .max(MemorySize::from_mib(MIB_PER_THREAD * u64::from(threads)));
    config.accel = AccelChoice::Fixed(Accel::Tcg);
    // A guest that halts under icount jumps ahead in its own time, and its timers with it. Polling and
    // without a limit on the application's time in user mode, it also leaves the APIC's timer alone,
    // which QEMU cannot read under icount ("Bad icount read").
    for (key, value) in [("poll", "on"), ("limit_ms", "off")] {
        config
            .kernel_options
            .push((key.to_owned(), value.to_owned()));
    }
    config.qemu_args = counting_args(plugin, socket, clock)?;
    Ok(config)
}

/// What the guest takes for time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Its own instructions (`-icount`): counts repeat, but whatever waits for a time waits for long.
    Instructions,
    /// Its own instructions, and the host's clock while it halts: for a guest that halts when it has nothing
    /// to do. Its timers would else expire one after the other while it waits for the client.
    InstructionsUnlessHalted,
    /// The host's clock: timers expire between requests as they do in earnest.
    Host,
}

/// Arguments of QEMU that have the plugin count, and serve its counters at `socket`.
pub fn counting_args(plugin: &Path, socket: &Path, clock: Clock) -> Result<Vec<String>> {
    let plugin = format!("{},socket={}", option_value(plugin)?, option_value(socket)?);
    let count = ["-plugin", &plugin];
    let time: &[&str] = match clock {
        Clock::Instructions => &["-icount", "shift=0,sleep=off"],
        Clock::InstructionsUnlessHalted => &["-icount", "shift=0,sleep=on"],
        Clock::Host => &[],
    };
    let arguments = time.iter().chain(&count);
    Ok(arguments.map(|&argument| argument.to_owned()).collect())
}

/// A machine with that application.
pub(crate) fn machine(application: Application) -> MachineConfig {
    let mut config = MachineConfig::new(&Artifacts::of_workspace(), application.name());
    // The host's router solicitations and group reports would be counted too.
    config.network.ipv6 = None;
    config
}

/// A path as QEMU's option parser reads it: a comma is doubled.
fn option_value(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(path.replace(',', ",,"))
}

/// A machine that is counted.
pub struct Bed {
    machine: Machine,
    application: Application,
    sampler: Sampler,
    server: SocketAddr,
    config: MachineConfig,
    /// Of the plugin's socket.
    _folder: TempDir,
}

impl Bed {
    /// Boots it with so many elastic threads.
    pub fn start(plugin: &Path, application: Application, threads: u32) -> Result<Self> {
        Self::start_changed(plugin, application, threads, Clock::Instructions, |_| {})
    }

    /// The same with this clock, after `change` has had its way with the machine.
    pub fn start_changed(
        plugin: &Path,
        application: Application,
        threads: u32,
        clock: Clock,
        change: impl FnOnce(&mut MachineConfig),
    ) -> Result<Self> {
        let folder =
            tempfile::tempdir().context("cannot create a folder for the plugin's socket")?;
        let socket = folder.path().join("insns");
        let mut config = machine_config(plugin, &socket, application, threads, clock)?;
        change(&mut config);
        let server = SocketAddr::from((config.network.guest, application.port()));
        let machine = Machine::start(&config)?;
        machine.wait_for_line(&format!("ix: app: {}", application.name()), BOOT_TIMEOUT)?;
        let sampler = Sampler::connect(&socket, SAMPLER_TIMEOUT).context("the plugin is silent")?;
        Ok(Self {
            machine,
            application,
            sampler,
            server,
            config,
            _folder: folder,
        })
    }

    /// The addresses of host and guest.
    pub fn addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        let network = &self.config.network;
        (network.host, network.guest)
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Where its application listens.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// A client with so many connections.
    pub fn client(&self, connections: usize) -> Result<Client> {
        self.on_wire(|| Client::connect(self.server, connections))
    }

    /// A client with a connection from each of these ports.
    pub fn client_from(&self, ports: &[u16]) -> Result<Client> {
        let host = self.config.network.host;
        self.on_wire(|| Client::connect_from(host, ports, self.server))
    }

    fn on_wire<T>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T>
    where
        T: Send,
    {
        let namespace = self.machine.netns().context("the machine has no wire")?;
        namespace.run(act)?
    }

    /// Measures each kind of request on so many connections.
    pub fn requests(&mut self, connections: u16, check: Check) -> Result<Vec<Measured>> {
        let mut client = self.client(connections.into())?;
        let rounds = rounds(connections.into());
        let exchanges = self.application.exchanges().iter();
        exchanges
            .map(|&exchange| self.measure(&mut client, exchange, rounds, check))
            .collect()
    }

    /// Measures connections that are opened, have one echo, and end in this way.
    pub fn connections(
        &mut self,
        connections: u16,
        close: Close,
        rounds: u64,
        check: Check,
    ) -> Result<Measured> {
        let server = self.server;
        let act = |machine: &Machine| connect_round(server, connections, close, machine, check);
        let count = u64::from(connections);
        let works = self.measure_rounds(count, rounds, SLOW_CONNECT_PAUSE, act)?;
        Ok(Measured::new(Exchange::Echo, count, rounds * count, works))
    }

    /// Measures one kind of request with this client, in windows of so many rounds.
    pub fn measure(
        &mut self,
        client: &mut Client,
        exchange: Exchange,
        rounds: u64,
        check: Check,
    ) -> Result<Measured> {
        let connections = client.connections() as u64;
        client.speak(exchange);
        let act = |machine: &Machine| round(client, machine, check);
        let works = self.measure_rounds(connections, rounds, SLOW_PAUSE, act)?;
        Ok(Measured::new(
            exchange,
            connections,
            rounds * connections,
            works,
        ))
    }

    /// Measures echoes of a crowd, in windows of so many rounds.
    pub fn measure_crowd(
        &mut self,
        crowd: &mut Crowd,
        rounds: u64,
        check: Check,
    ) -> Result<Measured> {
        let (connections, active) = (crowd.connections() as u64, crowd.active() as u64);
        let act = |machine: &Machine| crowd.round(machine, check);
        let works = self.measure_rounds(active, rounds, SLOW_PAUSE, act)?;
        Ok(Measured::new(
            Exchange::Echo,
            connections,
            rounds * active,
            works,
        ))
    }

    /// Measures rounds of so many requests each, in windows of so many rounds; those of the slow window are
    /// so far apart, or farther if the host is so slow that the guest polls much within rounds already.
    fn measure_rounds(
        &mut self,
        requests_per_round: u64,
        rounds: u64,
        slow_pause: Duration,
        mut act: impl FnMut(&Machine) -> Result<()>,
    ) -> Result<Vec<Work>> {
        let requests = rounds * requests_per_round;
        let machine = &self.machine;
        let mut window = || (0..rounds).try_for_each(|_| act(machine));
        window().context("while warming up")?;
        let mut samples = vec![self.sampler.sample()?];
        for _ in 0..WINDOWS {
            window()?;
            samples.push(self.sampler.sample()?);
        }
        let code = crate::images(self.application)?;
        let mut pause = slow_pause;
        loop {
            let before = self.sampler.sample()?;
            for _ in 0..SLOW_ROUNDS {
                act(machine)?;
                thread::sleep(pause);
            }
            let slow = Window {
                counts: self.sampler.sample()?.since(&before),
                requests: SLOW_ROUNDS * requests_per_round,
            };
            let works = samples.windows(2).map(|pair| {
                let counts = pair[1].since(&pair[0]);
                Work::extract(&Window { counts, requests }, &slow, |address| {
                    code.is_pause(address)
                })
            });
            match works.collect::<Result<_>>() {
                Err(_) if pause < slow_pause * LONGEST_PAUSE => pause *= 2,
                works => return works,
            }
        }
    }

    /// What the guest said last, for an error's sake.
    pub fn last_words(&self) -> String {
        format!(
            "the guest's last lines: {:#?}",
            self.machine.console().last_lines()
        )
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        let report = self.machine.stop();
        ensure!(
            report.is_success(),
            "the machine did not survive the measurement: {report}"
        );
        Ok(())
    }
}

/// One request on each connection. A single one takes its way undisturbed; of several, the guest
/// finds all at once.
pub fn round(client: &mut Client, machine: &Machine, check: Check) -> Result<()> {
    let connections = client.connections() as u64;
    if connections == 1 {
        client.send_all()?;
    } else {
        let held = Held::stop(machine)?;
        client.send_all()?;
        held.release_after(connections)?;
    }
    client.receive_all(check)
}

/// So many connections, each of which is opened, has one request, and ends. The guest finds all SYNs
/// at once, all requests, and all FINs; it must know the client's MAC address already.
pub fn connect_round(
    server: SocketAddr,
    connections: u16,
    close: Close,
    machine: &Machine,
    check: Check,
) -> Result<()> {
    let namespace = machine.netns().context("the machine has no wire")?;
    let held = Held::stop(machine)?;
    let opening = namespace.run(move || Opening::begin(server, connections.into()))??;
    held.release_after(connections.into())?;
    let mut client = opening.complete()?;
    round(&mut client, machine, check)?;
    match close {
        Close::Reset => client.reset(),
        Close::Fin => {
            let held = Held::stop(machine)?;
            client.shut_down()?;
            held.release_after(connections.into())?;
            client.wait_for_end(check)
        }
    }
}

/// The one with the middle total.
fn median(mut works: Vec<Work>) -> Work {
    works.sort_by(|one, other| one.total().total_cmp(&other.total()));
    works.swap_remove(works.len() / 2)
}
