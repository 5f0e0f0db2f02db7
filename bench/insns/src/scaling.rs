//! Whether a request costs more where more elastic threads serve: each of them has the same number of
//! connections, so that batches are the same, and what is left is what threads cost each other.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ixgbe::{Rss, Steering};
use serde::Serialize;

use crate::baseline::Point;
use crate::client::Check;
use crate::exchange::Application;
use crate::report::median;
use crate::run::{Bed, Measured};

/// The most that a request may cost more on the largest number of threads than on the smallest.
pub const TOLERANCE: f64 = 0.03;

/// Connections of each thread.
const CONNECTIONS: usize = 16;

/// Requests in a window, about.
const REQUESTS: u64 = 8_000;

/// The first port that connections are opened from.
const FIRST_PORT: u16 = 20_000;

/// The cost of a request by number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Scaling {
    rows: Vec<Row>,
}

/// The cost of a request at one number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    /// Elastic threads, each on a processor of its own.
    threads: u32,
    /// Instructions per request, over all threads: medians of the boots, each by itself.
    #[serde(flatten)]
    point: Point,
    /// Kernel and user instructions.
    total: f64,
    /// Relative difference to the smallest number of threads.
    growth: f64,
}

impl Scaling {
    /// Boots `boots` times with each number of elastic threads, and measures.
    pub fn measure(
        plugin: &Path,
        application: Application,
        threads: &[u32],
        boots: u8,
        check: Check,
    ) -> Result<Self> {
        let mut numbers = threads.to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        let measured = numbers.into_iter().map(|threads| {
            let points =
                (0..boots).map(|_| Ok(measure_once(plugin, application, threads, check)?.point));
            Ok((threads, points.collect::<Result<Vec<_>>>()?))
        });
        Ok(Self::new(&measured.collect::<Result<Vec<_>>>()?))
    }

    /// Brings together what was measured, by ascending number of threads.
    fn new(measured: &[(u32, Vec<Point>)]) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        for (threads, points) in measured {
            let median_of =
                |value: fn(&Point) -> f64| median(&points.iter().map(value).collect::<Vec<_>>());
            let point = Point {
                connections: points[0].connections,
                kernel: median_of(|point| point.kernel),
                user: median_of(|point| point.user),
            };
            let total = point.total();
            let fewest = rows.first().map_or(total, |row| row.total);
            rows.push(Row {
                threads: *threads,
                point,
                total,
                growth: total / fewest - 1.0,
            });
        }
        Self { rows }
    }

    /// A sentence for each number of threads that makes a request cost too much more.
    pub fn excesses(&self) -> Vec<String> {
        let above = self.rows.iter().filter(|row| row.growth > TOLERANCE);
        let sentence = |row: &Row| {
            format!(
                "{} threads: {:.0} instructions per request, {:+.1} % of what it is on {}",
                row.threads,
                row.total,
                100.0 * row.growth,
                self.rows[0].threads
            )
        };
        above.map(sentence).collect()
    }

    /// The table.
    pub fn render(&self) -> String {
        let mut text = format!(
            "Guest instructions per request on several threads, {CONNECTIONS} connections each\n\
             threads  connections   kernel    user    total  growth\n"
        );
        for row in &self.rows {
            text += &format!(
                "{:7} {:12} {:8.0} {:7.0} {:8.0} {:+5.1} %\n",
                row.threads,
                row.point.connections,
                row.point.kernel,
                row.point.user,
                row.total,
                100.0 * row.growth
            );
        }
        text
    }
}

/// What a request costs on so many threads, in one boot.
pub fn measure_once(
    plugin: &Path,
    application: Application,
    threads: u32,
    check: Check,
) -> Result<Measured> {
    let mut bed = Bed::start(plugin, application, threads)?;
    let measured = measure_last(&mut bed, application, threads, check)
        .with_context(|| bed.last_words())
        .with_context(|| format!("on {threads} threads"))?;
    bed.stop()?;
    Ok(measured)
}

/// Of the last kind of request, for which those before it prepare.
fn measure_last(
    bed: &mut Bed,
    application: Application,
    threads: u32,
    check: Check,
) -> Result<Measured> {
    let (host, guest) = bed.addresses();
    let ports = ports(host, (guest, application.port()), threads)?;
    let rounds = (REQUESTS / ports.len() as u64).max(1);
    let mut client = bed.client_from(&ports)?;
    let exchanges = application.exchanges().iter();
    let measured = exchanges.map(|&exchange| bed.measure(&mut client, exchange, rounds, check));
    let mut measured = measured.collect::<Result<Vec<_>>>()?;
    measured.pop().context("nothing was asked for")
}

/// Ports of the host whose connections the card deals out evenly.
fn ports(host: Ipv4Addr, guest: (Ipv4Addr, u16), threads: u32) -> Result<Vec<u16>> {
    let steering = Steering::new(&Rss::even(threads));
    let mut missing = vec![CONNECTIONS; threads as usize];
    let ports = (FIRST_PORT..=u16::MAX).filter(|&port| {
        let queue = steering.queue_of_tcp((host.to_bits(), port), (guest.0.to_bits(), guest.1));
        let missing = &mut missing[usize::from(queue)];
        let is_wanted = *missing > 0;
        *missing -= usize::from(is_wanted);
        is_wanted
    });
    let ports: Vec<u16> = ports.take(CONNECTIONS * threads as usize).collect();
    let all = CONNECTIONS * threads as usize;
    ensure!(
        ports.len() == all,
        "of {all} connections only {} have a port",
        ports.len()
    );
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(kernel: f64) -> Point {
        Point {
            connections: 16,
            kernel,
            user: 300.0,
        }
    }

    #[test]
    fn each_thread_gets_as_many_connections() {
        let [host, guest] = [1, 2].map(|last| Ipv4Addr::new(10, 9, 0, last));
        let port_of_guest = 11211;
        for threads in [1, 3, 16] {
            let steering = Steering::new(&Rss::even(threads));
            let mut counts = vec![0; threads as usize];
            for port in ports(host, (guest, port_of_guest), threads).unwrap() {
                let to = (guest.to_bits(), port_of_guest);
                let queue = steering.queue_of_tcp((host.to_bits(), port), to);
                counts[usize::from(queue)] += 1;
            }
            assert_eq!(counts, vec![CONNECTIONS; threads as usize]);
        }
    }

    #[test]
    fn growth_is_against_the_fewest_threads_and_of_medians() {
        let scaling = Scaling::new(&[
            (1, vec![point(700.0), point(900.0), point(690.0)]),
            (4, vec![point(729.0)]),
            (16, vec![point(731.0)]),
        ]);
        assert_eq!(scaling.rows[0].total, 1_000.0);
        let excesses = scaling.excesses();
        assert_eq!(excesses.len(), 1, "{excesses:?}");
        assert!(excesses[0].starts_with("16 threads: 1031 "), "{excesses:?}");
        assert!(scaling.render().contains("+2.9 %"));
    }
}
