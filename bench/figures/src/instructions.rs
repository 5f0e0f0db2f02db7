//! Figure 7: guest instructions per request, kernel and user together, by QEMU's `-icount`.

use std::net::SocketAddr;

use anyhow::{Result, anyhow};
use ix_insns::client::Client;
use ix_insns::exchange::Application;
use ix_insns::run;
use ix_machine::qemu::Qemu;

use crate::Run;
use crate::counted::CountedLinux;
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::targets::{Goal, Measured};

/// Rounds of requests in Linux's window, and of connections in either's.
const ROUNDS: u64 = 20;
const ROUNDS_OF_ONE: u64 = 200;
const CONNECT_ROUNDS: u64 = 10;
/// Connections that saturate.
const CONNECTIONS: u16 = 64;

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
        add(&mut linux, count_linux(run, &plugin)?);
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

fn count_linux(run: Run, plugin: &std::path::Path) -> Result<[f64; 3]> {
    let (mut linux, server) = CountedLinux::boot_echo(plugin, |_| {})?;
    let one = requests(&mut linux, server, 1, ROUNDS_OF_ONE, run)?;
    let many = requests(&mut linux, server, CONNECTIONS, ROUNDS, run)?;
    let all = CONNECT_ROUNDS * u64::from(CONNECTIONS);
    let connects = linux.count(all, |machine| {
        (0..CONNECT_ROUNDS)
            .try_for_each(|_| run::connect_round(server, CONNECTIONS, machine, run.check))
    })?;
    linux.stop()?;
    Ok([one, many, connects])
}

fn requests(
    linux: &mut CountedLinux,
    server: SocketAddr,
    connections: u16,
    rounds: u64,
    run: Run,
) -> Result<f64> {
    let connect = || Client::connect(server, connections.into());
    let mut client = linux.guest().try_inside(connect)??;
    linux.count(rounds * u64::from(connections), |machine| {
        (0..rounds).try_for_each(|_| run::round(&mut client, machine, run.check))
    })
}
