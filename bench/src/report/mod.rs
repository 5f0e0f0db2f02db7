//! What a run found out: printed as a table, and written as JSON with these field names.

mod load;

use std::fmt;
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use load::{AgentReport, ClientReport, LoadReport};

/// The report of a run in which everything was verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Report {
    /// `load`.
    Load(Box<LoadReport>),
    /// `echo` and `open`.
    Echo(EchoReport),
    /// `stream`.
    Stream(StreamReport),
    /// `refuse`.
    Refuse(RefuseReport),
    /// `kill`.
    Kill(KillReport),
}

/// What a closed loop of messages came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EchoReport {
    /// The server.
    pub server: SocketAddr,
    /// Connections, all open at once.
    pub connections: u64,
    /// Bytes in a message.
    pub message_bytes: u64,
    /// Time from the first connection attempt until all were open, in seconds.
    pub connect_seconds: f64,
    /// Messages measured, each echoed and verified.
    pub messages: u64,
    /// Messages before that, likewise.
    pub warmup_messages: u64,
    /// Measured time, in seconds.
    pub seconds: f64,
    /// Measured messages per second.
    pub messages_per_second: f64,
    /// Time from sending a message until its last byte is back.
    pub latency_us: Latency,
    /// CPU time of the client per time passed; near the number of threads, the client is the
    /// bottleneck.
    pub client_cpu_share: f64,
}

/// A distribution of times, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Latency {
    /// The distribution in a histogram of nanoseconds.
    pub fn from_nanoseconds(histogram: &Histogram<u64>) -> Self {
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        let quantile = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            mean: histogram.mean() / 1e3,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: us(histogram.max()),
        }
    }
}

/// What a bulk transfer in both directions came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The server.
    pub server: SocketAddr,
    /// Connections, at the same time.
    pub connections: u64,
    /// Bytes sent on each.
    pub bytes_per_connection: u64,
    /// Bytes sent on all.
    pub bytes_sent: u64,
    /// Bytes received and verified on all.
    pub bytes_received: u64,
    /// From the first byte sent to the last received or acknowledged, in seconds.
    pub seconds: f64,
    /// Bytes per second in the direction that carried more, in units of 1,000,000.
    pub megabytes_per_second: f64,
    /// Which side closed its sending direction first, if that was asked for.
    pub half_close: Option<String>,
    /// CPU time of the client per time passed.
    pub client_cpu_share: f64,
}

/// A refusal that was expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefuseReport {
    /// Who refused.
    pub server: SocketAddr,
    /// Time until the refusal, in microseconds.
    pub refused_after_us: f64,
}

/// Transfers that were reset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KillReport {
    /// The server.
    pub server: SocketAddr,
    /// Connections opened and reset.
    pub connections: u64,
    /// Bytes handed to the system on all of them.
    pub bytes_sent: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load(report) => report.fmt(out),
            Self::Echo(report) => report.fmt(out),
            Self::Stream(report) => report.fmt(out),
            Self::Refuse(report) => writeln!(
                out,
                "{} refused the connection after {:.0} us",
                report.server, report.refused_after_us
            ),
            Self::Kill(report) => writeln!(
                out,
                "{} connections to {} reset in mid-transfer, after {} bytes in all",
                report.connections, report.server, report.bytes_sent
            ),
        }
    }
}

impl fmt::Display for EchoReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency {
            mean,
            p50,
            p90,
            p99,
            p99_9,
            max,
        } = self.latency_us;
        writeln!(
            out,
            "echo {}: {} connections x {} bytes, {} messages verified in {:.2} s",
            self.server, self.connections, self.message_bytes, self.messages, self.seconds
        )?;
        writeln!(
            out,
            "{:>12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "messages/s", "mean us", "p50", "p90", "p99", "p99.9", "max", "CPU"
        )?;
        writeln!(
            out,
            "{:>12.0} {mean:>9.1} {p50:>9.1} {p90:>9.1} {p99:>9.1} {p99_9:>9.1} {max:>9.1} \
             {:>5.0} %",
            self.messages_per_second,
            100.0 * self.client_cpu_share
        )
    }
}

impl fmt::Display for StreamReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "stream {}: {} connections x {} bytes, {} bytes back and verified in {:.2} s{}",
            self.server,
            self.connections,
            self.bytes_per_connection,
            self.bytes_received,
            self.seconds,
            match &self.half_close {
                Some(side) => format!(", half-closed by the {side}"),
                None => String::new(),
            }
        )?;
        writeln!(out, "{:>12} {:>7}", "MB/s", "CPU")?;
        writeln!(
            out,
            "{:>12.1} {:>5.0} %",
            self.megabytes_per_second,
            100.0 * self.client_cpu_share
        )
    }
}
