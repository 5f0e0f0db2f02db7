//! The report of `ixload load`.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Latency;
pub use crate::protocol::Tally;

/// What a load came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// The server.
    pub server: SocketAddr,
    /// What was spoken: echo, text or binary.
    pub protocol: String,
    /// What carried it: sockets or engine.
    pub transport: String,
    /// Connections open at once: those that were asked for, or that could be opened in the time for it.
    pub connections: u64,
    /// Requests of each that may be under way.
    pub depth: u32,
    /// Requests on a connection before it is closed, if it is.
    pub requests_per_connection: Option<u64>,
    /// Time from the first connection attempt until all were open, in seconds.
    pub connect_seconds: f64,
    /// Measured time, in seconds.
    pub seconds: f64,
    /// Requests per second that were to be sent, in an open loop.
    pub offered_per_second: Option<f64>,
    /// Replies that ended in the measured time, each verified.
    pub requests: u64,
    /// Such replies per second.
    pub requests_per_second: f64,
    /// The same in each of the parts that were asked for.
    pub requests_per_second_by_part: Vec<f64>,
    /// Bytes of requests and of replies per second, in units of 1,000,000.
    pub megabytes_sent_per_second: f64,
    /// See `megabytes_sent_per_second`.
    pub megabytes_received_per_second: f64,
    /// Connections opened per second, beside those at the beginning.
    pub connections_per_second: f64,
    /// Requests of an open loop that were due but found no connection free until the end. They count in
    /// the latency with the time that they had waited by then.
    pub never_sent: u64,
    /// GETs and SETs.
    pub answers: Tally,
    /// From when a request was due to the end of its reply; absent if the client was the bottleneck.
    pub latency_us: Option<Latency>,
    /// From the SYN to the opened connection, of those opened in the measured time.
    pub connect_us: Option<Latency>,
    /// What a client with a connection of its own saw beside the load.
    pub agent: Option<AgentReport>,
    /// How this program was doing.
    pub client: ClientReport,
}

/// What the latency agent saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Its replies in the measured time.
    pub requests: u64,
    /// As for the load.
    pub latency_us: Option<Latency>,
}

/// The load of the client itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// Its threads.
    pub threads: u64,
    /// Share of the time that the busiest of them was on a processor.
    pub busy: f64,
    /// Share of the time that it waited for one.
    pub kept_waiting: f64,
    /// How late requests of an open loop were sent by its own fault, at the 99th percentile.
    pub late_us: f64,
    /// Frames that its own engine could not send for want of room; they are sent again later.
    pub frames_lost: u64,
    /// Why the figures are its own rather than the server's, if they are.
    pub bottleneck: Option<String>,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{} {} over {}: {} connections, {} requests verified in {:.2} s",
            self.protocol,
            self.server,
            self.transport,
            self.connections,
            self.requests,
            self.seconds
        )?;
        let bound = if self.client.bottleneck.is_some() {
            ">="
        } else {
            ""
        };
        writeln!(out, "  {bound}{:.0} requests/s", self.requests_per_second)?;
        if let Some(offered) = self.offered_per_second {
            writeln!(
                out,
                "  offered {offered:.0} requests/s, {} never sent",
                self.never_sent
            )?;
        }
        if self.requests_per_connection.is_some() {
            writeln!(out, "  {:.0} connections/s", self.connections_per_second)?;
        }
        let Tally { hits, misses, sets } = self.answers;
        if self.answers != Tally::default() {
            writeln!(out, "  {hits} GETs found, {misses} did not; {sets} SETs")?;
        }
        let agent = self.agent.as_ref().and_then(|agent| agent.latency_us);
        let rows = [
            ("latency", self.latency_us),
            ("connect", self.connect_us),
            ("agent", agent),
        ];
        write_latencies(out, &rows)?;
        writeln!(
            out,
            "  client: busy {:.0} %, waiting for a processor {:.0} %, late {:.0} us (p99)",
            100.0 * self.client.busy,
            100.0 * self.client.kept_waiting,
            self.client.late_us
        )?;
        match (&self.client.bottleneck, self.latency_us) {
            (None, _) => Ok(()),
            (Some(reason), Some(_)) => writeln!(out, "  NOT THE SERVER'S LATENCIES: {reason}"),
            (Some(reason), None) => writeln!(
                out,
                "  latencies are withheld, since the client was the bottleneck: {reason}; give it a \
                 processor of its own, more --threads or less load, or see them with --force"
            ),
        }
    }
}

fn write_latencies(out: &mut fmt::Formatter<'_>, rows: &[(&str, Option<Latency>)]) -> fmt::Result {
    if rows.iter().all(|(_, latency)| latency.is_none()) {
        return Ok(());
    }
    writeln!(
        out,
        "  {:<8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  us",
        "", "mean", "p50", "p90", "p99", "p99.9", "max"
    )?;
    for (name, latency) in rows {
        let Some(Latency {
            mean,
            p50,
            p90,
            p99,
            p99_9,
            max,
        }) = latency
        else {
            continue;
        };
        writeln!(
            out,
            "  {name:<8} {mean:>9.1} {p50:>9.1} {p90:>9.1} {p99:>9.1} {p99_9:>9.1} {max:>9.1}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bottleneck: Option<&str>, latency_us: Option<Latency>) -> LoadReport {
        LoadReport {
            server: "127.0.0.1:7".parse().expect("an address"),
            protocol: "echo".to_owned(),
            transport: "sockets".to_owned(),
            connections: 1,
            depth: 1,
            requests_per_connection: None,
            connect_seconds: 0.1,
            seconds: 1.0,
            offered_per_second: None,
            requests: 5000,
            requests_per_second: 5000.0,
            requests_per_second_by_part: vec![5000.0],
            megabytes_sent_per_second: 0.0,
            megabytes_received_per_second: 0.0,
            connections_per_second: 0.0,
            never_sent: 0,
            answers: Tally::default(),
            latency_us,
            connect_us: None,
            agent: None,
            client: ClientReport {
                threads: 1,
                busy: 0.97,
                kept_waiting: 0.0,
                late_us: 0.0,
                frames_lost: 0,
                bottleneck: bottleneck.map(str::to_owned),
            },
        }
    }

    const LATENCY: Latency = Latency {
        mean: 11.0,
        p50: 10.0,
        p90: 12.0,
        p99: 15.0,
        p99_9: 20.0,
        max: 30.0,
    };

    #[test]
    fn the_servers_figures_are_shown_plainly() {
        let text = report(None, Some(LATENCY)).to_string();
        assert!(
            text.contains("\n  5000 requests/s\n") && text.contains("p99.9"),
            "{text}"
        );
    }

    #[test]
    fn a_client_that_was_the_bottleneck_says_so_and_bounds_the_throughput() {
        let text = report(Some("it was busy"), None).to_string();
        assert!(text.contains(">=5000 requests/s"), "{text}");
        assert!(
            text.contains("withheld") && text.contains("it was busy"),
            "{text}"
        );
        assert!(!text.contains("p99.9"), "{text}");
        let forced = report(Some("it was busy"), Some(LATENCY)).to_string();
        assert!(forced.contains("NOT THE SERVER'S LATENCIES"), "{forced}");
    }
}
