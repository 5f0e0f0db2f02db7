//! `cargo xtask run`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use ix_machine::{
    AccelChoice, Artifacts, CpuModel, Doorbells, Ipv6Choice, LogLevel, MTU_RANGE, MacAddress,
    Machine, MachineConfig, MemorySize, NetworkConfig, NicKind, Vlan,
};

use crate::command::image;
use crate::interrupt;
use crate::step::{Step, say};
use crate::workspace;

/// What the kernel says when the application can be reached.
const SERVING: &str = "ix: serving";
/// What it says at the end of boot when there is no wire to serve.
const UP: &str = "ix: kernel up";
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// How soon a Ctrl-C is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Boot a machine and leave it serving until Ctrl-C.
///
/// It is reached from a network namespace of its own; the command prints how. Ctrl-C stops the virtual
/// machine and the NIC model, and removes the namespace.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    machine: MachineArgs,
    /// Do not install or build anything first.
    #[arg(long)]
    no_build: bool,
}

/// Flags that describe a machine.
#[derive(Debug, clap::Args)]
pub struct MachineArgs {
    /// Application to run: the name of a folder in apps/.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    app: String,
    /// Virtual CPUs.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ix_machine::config::MAX_CPUS)))]
    cpus: u32,
    /// One virtual CPU more, for background threads of the application.
    #[arg(long)]
    background: bool,
    /// Guest memory, like 512M or 5G; 512M unless given, or what memcached needs for its -m.
    #[arg(long, value_name = "SIZE")]
    memory: Option<MemorySize>,
    /// Who executes the guest: auto, kvm or tcg. auto takes KVM if a small guest finishes on it.
    #[arg(long, value_name = "ACCEL", default_value = "auto")]
    accel: AccelChoice,
    /// CPU model of QEMU, such as qemu64; the richest one unless given.
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Network card: 82599, vf (a virtual function of one), igb, virtio, none, or one of this machine by its PCI address, like 0000:03:00.0.
    #[arg(long, value_name = "NIC", default_value = "82599")]
    nic: NicKind,
    /// The dataplane's address, like 10.9.0.2 or 10.9.0.2/24.
    #[arg(long, value_name = "ADDRESS", default_value = "10.9.0.2/24", value_parser = NetworkConfig::for_guest)]
    ip: NetworkConfig,
    /// The dataplane's IPv6 address, like fd69:7882:599::2 or fd69:7882:599::2/64; `off` for IPv4 alone,
    /// `ra` to wait for a router's advertisement.
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv6Choice::default())]
    ipv6: Ipv6Choice,
    /// VLAN that the dataplane belongs to, perhaps with the priority of its frames as in 100:5.
    #[arg(long, value_name = "VLAN")]
    vlan: Option<Vlan>,
    /// Largest IP packet in bytes, 576 to 9000.
    #[arg(long, value_name = "BYTES", default_value_t = 1500,
          value_parser = clap::value_parser!(u16).range(i64::from(*MTU_RANGE.start())..=i64::from(*MTU_RANGE.end())))]
    mtu: u16,
    /// The dataplane's Ethernet address.
    #[arg(long, value_name = "MAC")]
    mac: Option<MacAddress>,
    /// Port to serve, handed to the application as its first argument.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Record the wire in this file.
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// How writes to the card's tail registers travel: mapped or trapped.
    #[arg(long, value_name = "WAY")]
    doorbells: Option<Doorbells>,
    /// Keep polling when idle, for the lowest latency.
    #[arg(long)]
    poll: bool,
    /// A further key of the kernel's command line, such as congestion=dctcp; a wrong one makes the kernel
    /// say which there are.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    option: Vec<(String, String)>,
    /// What the kernel and the NIC model say: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: LogLevel,
    /// Further arguments of the application.
    #[arg(last = true, value_name = "ARGUMENT")]
    app_args: Vec<String>,
}

/// The application that stores items.
pub const MEMCACHED: &str = "memcached";
/// The port that it serves.
pub const MEMCACHED_PORT: u16 = 11211;
fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl MachineArgs {
    /// The configuration that these flags describe.
    fn config(&self, artifacts: &Artifacts) -> MachineConfig {
        let mut config = MachineConfig::new(artifacts, &self.app);
        config.cpus = self.cpus + u32::from(self.background);
        config.memory = self
            .memory
            .unwrap_or_else(|| MemorySize::for_application(&self.app, &self.app_args, self.cpus));
        config.accel = self.accel;
        if let Some(model) = &self.cpu {
            config.cpu_model = CpuModel::Named(model.clone());
        }
        config.nic = self.nic;
        config.network = self.ip.clone();
        config.network.ipv6 = self.ipv6.0.clone();
        config.network.vlan = self.vlan;
        config.network.mtu = self.mtu;
        if let Some(mac) = self.mac {
            config.network.mac = mac;
        }
        config.nic_model.pcap = self.pcap.clone();
        config.nic_model.doorbells = self.doorbells;
        config.log_level = self.log;
        if self.poll {
            config
                .kernel_options
                .push(("poll".to_owned(), "on".to_owned()));
        }
        if self.background {
            config
                .kernel_options
                .push(("background".to_owned(), "1".to_owned()));
        }
        config.kernel_options.extend(self.option.iter().cloned());
        config
            .app_args
            .extend(self.port.map(|port| port.to_string()));
        config.app_args.extend(self.app_args.iter().cloned());
        config
    }
}

pub fn run(args: &Args) -> Result<()> {
    let flags = &args.machine;
    if !args.no_build {
        workspace::app_package(&flags.app)?;
        crate::setup::run()?;
        image::build(Some(&flags.app))?;
    }
    let mut config = flags.config(&workspace::artifacts());
    config.echo_console = true;
    let machine = boot(&config)?;
    explain(&machine, &config, flags);
    let report = loop {
        if let Some(report) = machine.wait(POLL) {
            break report;
        }
        if interrupt::requested() {
            say("");
            Step::run("run: stopping", |_| {
                let report = machine.stop();
                Ok(((), report.to_string()))
            })?;
            return Ok(());
        }
    };
    if report.is_success() {
        say(&format!("run: {report}"));
        return Ok(());
    }
    Err(anyhow!("{report}"))
}

/// Starts a machine and waits until it serves; a Ctrl-C meanwhile stops it.
pub fn boot(config: &MachineConfig) -> Result<Machine> {
    Step::run("machine: booting", |step| {
        let machine = Machine::start(config)?;
        let needle = if config.nic == NicKind::None {
            UP
        } else {
            SERVING
        };
        let deadline = Instant::now() + BOOT_TIMEOUT;
        loop {
            interrupt::check()?;
            step.at(&machine.console().last_lines().pop().unwrap_or_default());
            match machine.wait_for_line(needle, POLL) {
                Ok(_) => break,
                Err(ix_machine::Error::ConsoleTimeout { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
        }
        let how = format!(
            "{} serves, by {} {}",
            machine.name(),
            machine.accel(),
            machine.qemu().version
        );
        Ok((machine, how))
    })
}

/// Prints how the machine is reached.
fn explain(machine: &Machine, config: &MachineConfig, flags: &MachineArgs) {
    let Some(netns) = machine.netns() else {
        say(&match config.nic {
            NicKind::Host(address) => format!(
                "run: the dataplane is {} on the wire of {address}; Ctrl-C stops it",
                config.network.guest
            ),
            _ => "run: without a network card; Ctrl-C stops it".to_owned(),
        });
        return;
    };
    let inside = format!("ip netns exec {}", netns.name());
    let guest = config.network.guest;
    let (port, load) = usual_load(flags);
    let program = workspace::artifacts().load_program();
    let program = program.display();
    say(&format!(
        "run: the dataplane is {guest}; reach it from its network namespace, as root:\n  \
         {inside} ping {guest}\n  \
         {inside} nc {guest} {port}\n  \
         {inside} {program} {load} --connect {guest}:{port}"
    ));
    if let Some(guest6) = config.network.ipv6.as_ref().and_then(|ipv6| ipv6.guest) {
        say(&format!(
            "  {inside} ping {guest6}\n  \
             {inside} {program} {load} --connect [{guest6}]:{port}"
        ));
    }
    say("run: Ctrl-C stops it");
}

/// The port that the application serves, and a load for it.
fn usual_load(flags: &MachineArgs) -> (u16, &'static str) {
    match flags.app.as_str() {
        MEMCACHED => (MEMCACHED_PORT, "load --protocol text --connections 64"),
        _ => {
            let load = "echo --connections 64 --messages 1000 --size 64";
            (flags.port.unwrap_or(7), load)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        machine: MachineArgs,
    }

    fn config(line: &str) -> MachineConfig {
        let words = ["run"].into_iter().chain(line.split_whitespace());
        Cli::parse_from(words)
            .machine
            .config(&Artifacts::at("/images"))
    }

    #[test]
    fn the_default_machine_is_the_documented_one() {
        let config = config("");
        assert_eq!(config.app, PathBuf::from("/images/echo.elf"));
        assert_eq!((config.cpus, config.memory.mib()), (1, 512));
        assert_eq!(config.network, NetworkConfig::default());
        assert!(config.app_args.is_empty() && config.kernel_options.is_empty());
    }

    #[test]
    fn memory_is_what_the_application_needs_unless_it_is_given() {
        let memory = |line: &str| config(line).memory.mib();
        assert_eq!(memory("--app memcached -- -m 512"), 1465);
        assert_eq!(memory("--app memcached --memory 3G -- -m 512"), 3072);
    }

    #[test]
    fn ipv6_may_be_off_or_left_to_a_router() {
        assert_eq!(config("--ipv6 off").network.ipv6, None);
        let ipv6 = config("--ipv6 ra").network.ipv6.expect("IPv6 is on");
        assert!(ipv6.guest.is_none() && ipv6.router_advertisements);
    }

    #[test]
    fn flags_end_up_in_the_configuration() {
        let config = config(
            "--app kv --cpus 2 --memory 5G --accel tcg --cpu qemu64 --ip 192.168.1.9/16 \
             --ipv6 fd00:9::7/48 --vlan 100:5 --mtu 9000 --mac 52:54:00:00:00:09 --port 11 --pcap w.pcap --doorbells trapped --poll --log debug --option ecn=off -- --fast 1",
        );
        assert_eq!(config.app, PathBuf::from("/images/kv.elf"));
        assert_eq!(config.cpu_model, CpuModel::Named("qemu64".to_owned()));
        assert_eq!(config.network.guest.to_string(), "192.168.1.9");
        assert_eq!(config.network.mac.to_string(), "52:54:00:00:00:09");
        let guest6 = config.network.ipv6.and_then(|ipv6| ipv6.guest);
        assert_eq!(
            guest6.map(|guest| guest.to_string()).as_deref(),
            Some("fd00:9::7")
        );
        assert_eq!(
            config.network.vlan,
            Some(Vlan {
                id: 100,
                priority: 5
            })
        );
        assert_eq!(config.network.mtu, 9000);
        assert_eq!(config.app_args, ["11", "--fast", "1"]);
        assert_eq!(
            config.kernel_options,
            [("poll", "on"), ("ecn", "off")].map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(config.nic_model.doorbells, Some(Doorbells::Trapped));
    }
}
