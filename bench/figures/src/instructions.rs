//! Figure 7: guest instructions per request, in the kernel and in the application, by QEMU's `-icount`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use ix_insns::client::Client;
use ix_insns::exchange::{Application, Exchange};
use ix_insns::run;
use ix_load::options::load::Close;
use ix_machine::qemu::Qemu;

use crate::Run;
use crate::bed::System;
use crate::counted::{CountedLinux, Parts, WINDOWS};
use crate::report::{Axis, Figure, Point, Report, Series, Spread};
use crate::targets::{Cost, Goal, Measured};

/// Connections whose requests come one by one, and those whose requests are there all at once.
const CONNECTIONS: [u16; 2] = [1, SATURATING];
const SATURATING: u16 = 64;
/// Rounds of requests in Linux's window, and of connections in either's.
const ROUNDS: u64 = 20;
const ROUNDS_OF_ONE: u64 = 200;
const CONNECT_ROUNDS: u64 = 10;
/// How connections end.
const CLOSES: [Close; 2] = [Close::Reset, Close::Fin];

/// What is counted, in the order of the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A request on one of so many connections.
    Request(Exchange, u16),
    /// A connection that is opened, has one echo, and ends in this way; 64 at once.
    Connection(Close),
}

impl Kind {
    fn text(self) -> String {
        match self {
            Kind::Request(Exchange::Echo, connections) => format!("echo, {connections}"),
            Kind::Request(Exchange::Set, connections) => format!("SET, {connections}"),
            Kind::Request(Exchange::Get, connections) => format!("GET, {connections}"),
            Kind::Connection(Close::Reset) => "connect, RST".to_owned(),
            Kind::Connection(Close::Fin) => "connect, FIN".to_owned(),
        }
    }
}

/// Instructions of each kind, in each window of each boot.
type Counted = BTreeMap<Kind, Vec<Parts>>;

/// Where this dataplane's go, in the last boot.
type Profiles = BTreeMap<Kind, Vec<Cost>>;

/// Measures it.
pub fn measure(run: Run, report: &mut Report) -> Result<()> {
    let plugin = run::build_plugin(&Qemu::locate()?)?;
    let mut counted = [Counted::new(), Counted::new()];
    let mut profiles = Profiles::new();
    for (system, counted) in System::BOTH.into_iter().zip(&mut counted) {
        let name = system.name();
        run.attempt(report, 7, name, |_| {
            let boots = run.options.boots();
            for boot in 1..=boots {
                (run.say)(&format!("figure 7: {name}, boot {boot} of {boots}"));
                match system {
                    System::Ours => count_ours(run, &plugin, counted, &mut profiles)?,
                    System::Linux => count_linux(run, &plugin, counted)?,
                }
            }
            Ok(())
        })?;
    }
    let [ours, linux] = &counted;
    let goals = [
        (Goal::EchoShare, Kind::Request(Exchange::Echo, SATURATING)),
        (
            Goal::EchoInstructions,
            Kind::Request(Exchange::Echo, SATURATING),
        ),
        (
            Goal::GetInstructions,
            Kind::Request(Exchange::Get, SATURATING),
        ),
        (Goal::ConnectInstructions, Kind::Connection(Close::Reset)),
        (Goal::FinInstructions, Kind::Connection(Close::Fin)),
    ];
    for (goal, kind) in goals {
        let Some(of_ours) = ours.get(&kind) else {
            continue;
        };
        let profile = profiles.get(&kind).map_or(&[][..], Vec::as_slice);
        let measured = Measured::new(total(of_ours))
            .note(parts_text(of_ours))
            .profile(profile);
        let measured = match linux.get(&kind) {
            Some(of_linux) => measured.beside(total(of_linux)),
            None => measured,
        };
        report.reach(goal, measured);
    }
    report.figures.push(figure(&counted));
    Ok(())
}

fn total(parts: &[Parts]) -> Spread {
    let totals: Vec<f64> = parts.iter().map(|parts| parts.total()).collect();
    Spread::of(&totals)
}

/// The medians of both parts.
fn parts_text(parts: &[Parts]) -> String {
    let median = |part: fn(&Parts) -> f64| {
        let values: Vec<f64> = parts.iter().map(part).collect();
        Spread::of(&values).median
    };
    let (kernel, user) = (median(|parts| parts.kernel), median(|parts| parts.user));
    format!("{kernel:.0} kernel, {user:.0} user")
}

fn figure(counted: &[Counted; 2]) -> Figure {
    let kinds: BTreeSet<Kind> = counted.iter().flat_map(|it| it.keys().copied()).collect();
    let series = System::BOTH
        .into_iter()
        .zip(counted)
        .map(|(system, counted)| {
            let points = (1..).zip(&kinds).filter_map(|(x, kind)| {
                let parts = counted.get(kind)?;
                Some(Point {
                    note: Some(parts_text(parts)),
                    ..Point::new(f64::from(x), total(parts))
                })
            });
            Series::of(system, points.collect())
        });
    Figure {
        number: 7,
        title: "Guest instructions per request".to_owned(),
        caption: "Of the kernel and of the application together; the table has them apart. Echo is of 64 \
                  bytes, SET and GET are memcached's in the text protocol with keys and values of 32 bytes, \
                  each on 1 connection and on 64 whose requests are there at once; connect is a connection \
                  with one echo, 64 at once, that the client ends by RST, as in the paper, or by FIN, which \
                  is answered. Empty polls are taken out; Linux halts when it \
                  has nothing to do."
            .to_owned(),
        series: series.collect(),
        x: Axis::kinds(
            "request, connections",
            kinds.iter().map(|kind| kind.text()).collect(),
        ),
        y: Axis::logarithmic("guest instructions"),
    }
}

fn count_ours(
    run: Run,
    plugin: &Path,
    counted: &mut Counted,
    profiles: &mut Profiles,
) -> Result<()> {
    let mut add = |kind, application, measured: &run::Measured| -> Result<()> {
        let windows = measured.windows.iter().map(|window| Parts {
            kernel: window.kernel,
            user: window.user,
        });
        counted.entry(kind).or_default().extend(windows);
        profiles.insert(kind, Cost::of(&measured.profile(application)?));
        Ok(())
    };
    for application in [Application::Echo, Application::Memcached] {
        let mut bed = run::Bed::start(plugin, application, 1)?;
        for connections in CONNECTIONS {
            for measured in bed.requests(connections, run.check)? {
                let kind = Kind::Request(measured.exchange, connections);
                add(kind, application, &measured)?;
            }
        }
        if application == Application::Echo {
            for close in CLOSES {
                let measured = bed.connections(SATURATING, close, CONNECT_ROUNDS, run.check)?;
                add(Kind::Connection(close), application, &measured)?;
            }
        }
        bed.stop()?;
    }
    Ok(())
}

fn count_linux(run: Run, plugin: &Path, counted: &mut Counted) -> Result<()> {
    let mut linux = CountedLinux::boot(plugin, |_| {})?;
    let mut add = |kind, windows| counted.entry(kind).or_default().extend(windows);
    for application in [Application::Echo, Application::Memcached] {
        let server = linux.serve(application)?;
        for connections in CONNECTIONS {
            let connect = || Client::connect(server, connections.into());
            let mut client = linux.guest().try_inside(connect)??;
            for &exchange in application.exchanges() {
                client.speak(exchange);
                let windows = linux_requests(run, &mut linux, &mut client)?;
                add(Kind::Request(exchange, connections), windows);
            }
        }
        if application == Application::Echo {
            for close in CLOSES {
                let windows = linux_connections(run, &mut linux, server, close)?;
                add(Kind::Connection(close), windows);
            }
        }
    }
    linux.stop()
}

fn linux_requests(
    run: Run,
    linux: &mut CountedLinux,
    client: &mut Client,
) -> Result<[Parts; WINDOWS]> {
    let connections = client.connections() as u64;
    let rounds = match connections {
        1 => ROUNDS_OF_ONE,
        _ => ROUNDS,
    };
    linux.count(rounds * connections, |machine| {
        (0..rounds).try_for_each(|_| run::round(client, machine, run.check))
    })
}

fn linux_connections(
    run: Run,
    linux: &mut CountedLinux,
    server: SocketAddr,
    close: Close,
) -> Result<[Parts; WINDOWS]> {
    let connections = CONNECT_ROUNDS * u64::from(SATURATING);
    linux.count(connections, |machine| {
        (0..CONNECT_ROUNDS)
            .try_for_each(|_| run::connect_round(server, SATURATING, close, machine, run.check))
    })
}
