//! Figure 7: guest instructions per request, kernel and user together, by QEMU's `-icount`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ix_insns::client::Client;
use ix_insns::exchange::Application;
use ix_insns::run;
use ix_insns::sample::Sampler;
use ix_linux_guest::LinuxGuest;
use ix_machine::qemu::Qemu;
use tempfile::TempDir;

use crate::Run;
use crate::bed::{serve_echo, tuned_linux};
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::targets::{Goal, Measured};

/// How long the plugin may take to answer.
const SAMPLER_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds of requests in Linux's window, and of connections in either's.
const ROUNDS: u64 = 20;
const CONNECT_ROUNDS: u64 = 10;
/// Connections that saturate.
const CONNECTIONS: u16 = 64;
/// Where the echo server listens.
const ECHO_PORT: u16 = 7;

/// What is counted, from left to right.
const WORK: [&str; 3] = [
    "echo, 1 connection",
    "echo, 64 connections",
    "connect + 1 message + close",
];

/// Instructions of each kind of work, a list of one number for each boot.
type Counted = [Vec<f64>; 3];

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let plugin = run::build_plugin(&Qemu::locate()?)?;
    let (mut ours, mut linux) = (Counted::default(), Counted::default());
    for boot in 1..=run.options.repetitions {
        (run.say)(&format!(
            "figure 7: boot {boot} of {}",
            run.options.repetitions
        ));
        add(&mut ours, count_ours(run, &plugin)?);
        add(&mut linux, LinuxBed::boot(&plugin)?.count(run)?);
    }
    let [_, echo, connect] = [0, 1, 2].map(|kind: usize| {
        let ours = Measured::new(Spread::of(&ours[kind]));
        ours.beside(Spread::of(&linux[kind]))
    });
    report.reach(Goal::EchoShare, echo.clone());
    report.reach(Goal::EchoInstructions, echo);
    report.reach(Goal::ConnectInstructions, connect);
    let series = |name: &str, counted: &Counted| Series {
        name: name.to_owned(),
        points: (1..)
            .zip(counted)
            .zip(WORK)
            .map(|((x, counts), work)| Point {
                x: f64::from(x),
                y: Spread::of(counts),
                note: Some(work.to_owned()),
            })
            .collect(),
    };
    report.figures.push(Figure {
        number: 7,
        title: "Guest instructions per request".to_owned(),
        caption: "Kernel and user together, empty polls taken out. 1: echo of 64 bytes on one connection, \
                  2: on 64 connections whose requests are there at once, 3: a connection, one message and \
                  RST, 64 at once.".to_owned(),
        x: Axis::linear("kind of work"),
        y: Axis::logarithmic("guest instructions"),
        series: vec![series("this dataplane", &ours), series("Linux guest", &linux)],
    });
    Ok(())
}

fn add(all: &mut Counted, boot: [f64; 3]) {
    for (list, count) in all.iter_mut().zip(boot) {
        list.push(count);
    }
}

fn count_ours(run: Run, plugin: &std::path::Path) -> Result<[f64; 3]> {
    let mut echo = run::Bed::start(plugin, Application::Echo, 1)?;
    let mut measured = echo.requests(1, run.check)?;
    measured.extend(echo.requests(CONNECTIONS, run.check)?);
    measured.push(echo.connections(CONNECTIONS, CONNECT_ROUNDS, run.check)?);
    echo.stop()?;
    let totals: Vec<f64> = measured.iter().map(|it| it.point.total()).collect();
    totals
        .try_into()
        .map_err(|_| anyhow!("echo has another number of kinds of request"))
}

/// The Linux guest with the plugin in it. It halts when idle, so that there are no polls to take out.
struct LinuxBed {
    guest: LinuxGuest,
    sampler: Sampler,
    server: SocketAddr,
    /// Of the plugin's socket.
    _folder: TempDir,
}

impl LinuxBed {
    fn boot(plugin: &std::path::Path) -> Result<Self> {
        let folder =
            tempfile::tempdir().context("cannot create a folder for the plugin's socket")?;
        let socket = folder.path().join("insns");
        let arguments = run::counting_args(plugin, &socket)?;
        let mut guest = tuned_linux(|config| config.qemu_args.extend(arguments))?;
        serve_echo(&mut guest)?;
        Ok(Self {
            sampler: Sampler::connect(&socket, SAMPLER_TIMEOUT).context("the plugin is silent")?,
            server: (guest.address(), ECHO_PORT).into(),
            guest,
            _folder: folder,
        })
    }

    fn count(mut self, run: Run) -> Result<[f64; 3]> {
        let one = self.requests(1, run)?;
        let many = self.requests(CONNECTIONS, run)?;
        let connects = self.connections(run)?;
        self.guest.try_stop()?;
        Ok([one, many, connects])
    }

    fn requests(&mut self, connections: u16, run: Run) -> Result<f64> {
        let server = self.server;
        let mut client = self
            .guest
            .inside(|| Client::connect(server, connections.into()))?;
        let rounds = ROUNDS * if connections == 1 { 10 } else { 1 };
        let machine = self.guest.machine();
        for _ in 0..rounds {
            run::round(&mut client, machine, run.check)?;
        }
        let before = self.sampler.sample()?;
        for _ in 0..rounds {
            run::round(&mut client, machine, run.check)?;
        }
        let counts = self.sampler.sample()?.since(&before);
        Ok(counts.total() as f64 / (rounds * u64::from(connections)) as f64)
    }

    fn connections(&mut self, run: Run) -> Result<f64> {
        let server = self.server;
        let machine = self.guest.machine();
        let round = || run::connect_round(server, CONNECTIONS, machine, run.check);
        round()?;
        let before = self.sampler.sample()?;
        (0..CONNECT_ROUNDS).try_for_each(|_| round())?;
        let counts = self.sampler.sample()?.since(&before);
        Ok(counts.total() as f64 / (CONNECT_ROUNDS * u64::from(CONNECTIONS)) as f64)
    }
}
