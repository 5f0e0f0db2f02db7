//! `cargo xtask demo`.

mod elastic;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use ix_machine::{AccelChoice, Ipv6Choice, MTU_RANGE, Machine, MachineConfig, NicKind, Vlan};

use elastic::Shape;

use crate::child;
use crate::command::{image, run};
use crate::failure::bad_input;
use crate::interrupt;
use crate::step::{Step, say};
use crate::workspace;

/// Largest IP packet unless given.
const MTU: u16 = 1500;
/// The port that echo serves.
const ECHO_PORT: u16 = 7;

/// Show the main job: boot the dataplane with its echo application, and load it from Linux.
///
/// 64 connections send 1,000 messages of 64 bytes each and wait for every echo, then 4 connections
/// stream 8 MiB each, first over IPv4, then over IPv6; every byte is verified. From a warm build it takes
/// less than a minute. With `--app memcached`, 16 connections ask for the items of the ETC workload, in
/// memcached's text and binary protocol.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to show.
    #[arg(long, value_enum, default_value_t = Scenario::Echo)]
    scenario: Scenario,
    /// What serves.
    #[arg(long, value_enum, default_value_t = App::Echo)]
    app: App,
    /// Who executes the guest: auto, kvm or tcg.
    #[arg(long, value_name = "ACCEL", default_value = "auto")]
    accel: AccelChoice,
    /// Network card: 82599, vf, igb or virtio.
    #[arg(long, value_name = "NIC", default_value_t = NicKind::Intel82599, value_parser = card)]
    nic: NicKind,
    /// The dataplane's IPv6 address; `off` for IPv4 alone.
    #[arg(long, value_name = "ADDRESS", default_value_t = Ipv6Choice::default())]
    ipv6: Ipv6Choice,
    /// VLAN that the dataplane belongs to, perhaps with the priority of its frames as in 100:5.
    #[arg(long, value_name = "VLAN")]
    vlan: Option<Vlan>,
    /// Largest IP packet in bytes, 576 to 9000.
    #[arg(long, value_name = "BYTES", default_value_t = MTU,
          value_parser = clap::value_parser!(u16).range(i64::from(*MTU_RANGE.start())..=i64::from(*MTU_RANGE.end())))]
    mtu: u16,
    /// How the load of the scenario `elastic` changes; diurnal unless given.
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// Record what the policy of the scenario `elastic` sees in this file.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// A card to serve over.
fn card(text: &str) -> Result<NicKind, String> {
    match text.parse() {
        Ok(NicKind::None | NicKind::Host(_)) => {
            Err("the load runs at a TAP: use 82599, vf, igb or virtio".to_owned())
        }
        Ok(nic) => Ok(nic),
        Err(error) => Err(error.to_string()),
    }
}

/// What a demo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The dataplane serves, and every byte is right.
    Echo,
    /// The load rises and falls, and the control plane grants and revokes hardware threads after it.
    Elastic,
}

/// An application that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum App {
    /// Every byte comes back.
    Echo,
    /// Items are stored and found.
    Memcached,
}

impl App {
    /// Folder of the application, and the port that it serves.
    fn name_and_port(self) -> (&'static str, u16) {
        match self {
            App::Echo => ("echo", ECHO_PORT),
            App::Memcached => (run::MEMCACHED, run::MEMCACHED_PORT),
        }
    }

    /// The loads, and their flags.
    fn loads(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            App::Echo => &ECHO_LOADS,
            App::Memcached => &MEMCACHED_LOADS,
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    if args.scenario == Scenario::Elastic && args.nic != NicKind::Intel82599 {
        let why = "--nic is of the scenario `echo` alone: leave it out";
        return Err(bad_input(why));
    }
    if args.scenario == Scenario::Echo && (args.shape.is_some() || args.record.is_some()) {
        let why = "--shape and --record are of the scenario `elastic`: add --scenario elastic";
        return Err(bad_input(why));
    }
    if args.scenario == Scenario::Elastic && args.app != App::Echo {
        return Err(bad_input(
            "the scenario `elastic` loads echo: leave --app out",
        ));
    }
    crate::setup::run()?;
    let (name, _) = args.app.name_and_port();
    image::build(Some(name))?;
    match args.scenario {
        Scenario::Echo => serve(args),
        Scenario::Elastic => {
            image::build_control_plane()?;
            let shape = args.shape.unwrap_or(Shape::Diurnal);
            elastic::run(args.accel, &wire(args), shape, args.record.as_deref())
        }
    }
}

/// The wire, in a definition's words.
fn wire(args: &Args) -> String {
    let vlan = args.vlan.map_or_else(String::new, |vlan| {
        format!("vlan = {}\nvlan_priority = {}\n", vlan.id, vlan.priority)
    });
    format!("ipv6 = '{}'\nmtu = {}\n{vlan}", args.ipv6, args.mtu)
}

fn serve(args: &Args) -> Result<()> {
    let started = Instant::now();
    let (name, _) = args.app.name_and_port();
    let mut config = MachineConfig::new(&workspace::artifacts(), name);
    config.accel = args.accel;
    config.nic = args.nic;
    config.network.ipv6 = args.ipv6.0.clone();
    config.network.vlan = args.vlan;
    config.network.mtu = args.mtu;
    let machine = run::boot(&config)?;
    for line in machine
        .console()
        .lines()
        .iter()
        .filter(|line| line.starts_with("ix: "))
    {
        say(&format!("  {line}"));
    }
    let result = loads(&machine, &config, args.app);
    if let Err(error) = result {
        // How the machine fared says more about a failed load than the load's own message.
        let report = machine.wait(Duration::from_secs(1));
        let console = machine.console().last_lines().join("\n  ");
        drop(machine);
        interrupt::check()?;
        let fate = report.map_or_else(
            || "the machine was still running".to_owned(),
            |report| report.to_string(),
        );
        return Err(error.context(format!("{fate}; its console ended with\n  {console}\n")));
    }
    Step::run("machine: stopping", |_| {
        let report = machine.stop();
        Ok(((), report.to_string()))
    })?;
    say(&format!(
        "demo: done in {:.1} s, all bytes verified",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn loads(machine: &Machine, config: &MachineConfig, app: App) -> Result<()> {
    let program = workspace::artifacts().load_program();
    for server in servers(config, app) {
        for (what, flags) in app.loads() {
            let mut command = machine.command(&program)?;
            command.args([what, "--connect", &server]).args(*flags);
            say(&format!(
                "demo: ixload {what} --connect {server} {}",
                flags.join(" ")
            ));
            child::run(command).with_context(|| format!("the {what} load failed"))?;
        }
    }
    Ok(())
}

/// The loads of echo, and their flags.
const ECHO_LOADS: [(&str, &[&str]); 2] = [
    (
        "echo",
        &["--connections", "64", "--messages", "1000", "--size", "64"],
    ),
    ("stream", &["--connections", "4", "--bytes", "8M"]),
];

/// Those of memcached. What they show is that it serves; how fast is for `bench`, hence `--force`.
const MEMCACHED_LOADS: [(&str, &[&str]); 2] = [
    (
        "load",
        &[
            "--protocol",
            "text",
            "--keys",
            "1000",
            "--duration",
            "3",
            "--force",
        ],
    ),
    (
        "load",
        &[
            "--protocol",
            "binary",
            "--keys",
            "1000",
            "--duration",
            "3",
            "--force",
        ],
    ),
];

/// Where the dataplane serves: over IPv4, then over IPv6. By the time of the latter it has found out
/// that nobody else has its address.
fn servers(config: &MachineConfig, app: App) -> Vec<String> {
    let (_, port) = app.name_and_port();
    let ipv6 = config.network.ipv6.as_ref().and_then(|ipv6| ipv6.guest);
    let ipv4 = IpAddr::from(config.network.guest);
    let addresses = [Some(ipv4), ipv6.map(IpAddr::from)].into_iter().flatten();
    addresses
        .map(|address| SocketAddr::new(address, port).to_string())
        .collect()
}
