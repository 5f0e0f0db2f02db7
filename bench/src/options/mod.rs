//! The command line.

pub mod load;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load generator for servers of echo and memcached: verifies every byte, measures throughput and latency.
///
/// Exit code 0 if everything was verified, 1 if not, 2 for bad usage, 3 if latencies are withheld because
/// they were taken while this program was the bottleneck.
#[derive(Clone, Debug, Parser)]
#[command(name = "ixload", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Load a server, in a closed or an open loop, and measure.
    Load(Box<load::Load>),
    /// Exchange messages in a closed loop: each connection sends the next one when the last has
    /// come back.
    Echo(Echo),
    /// Send and receive at the same time, as fast as it goes.
    Stream(Stream),
    /// Open many connections, hold them all, exchange one message on each.
    Open(Open),
    /// Expect the connection to be refused.
    Refuse(Refuse),
    /// Start transfers and reset them in the middle.
    Kill(Kill),
    /// Be an echo server, on Linux.
    ServeEcho(ServeEcho),
}

/// Where to connect, and how patient to be.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The server.
    #[arg(long, value_name = "IP:PORT")]
    pub connect: SocketAddr,
    /// Give up when a connection does not move for so long, in seconds.
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
}

/// `ixload echo`.
#[derive(Clone, Debug, Args)]
pub struct Echo {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
    /// Connections, all opened before the first message.
    #[arg(long, value_name = "N", default_value = "1")]
    pub connections: NonZeroU64,
    /// Measured messages on each connection [default: 1000, or no limit with --duration].
    #[arg(long, value_name = "M")]
    pub messages: Option<NonZeroU64>,
    /// Bytes in a message (k, M and G stand for KiB, MiB and GiB).
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = bytes)]
    pub size: NonZeroU64,
    /// Measure for so long, in seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<Duration>,
    /// Exchange messages for so long before measuring, in seconds.
    #[arg(long, value_name = "S", default_value = "0", value_parser = seconds_or_none)]
    pub warmup: Duration,
    /// Threads that share the connections.
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroU64,
    /// Write the report to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `ixload stream`.
#[derive(Clone, Debug, Args)]
pub struct Stream {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "1")]
    pub connections: NonZeroU64,
    /// Bytes to send on each connection (k, M and G stand for KiB, MiB and GiB).
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = bytes)]
    pub bytes: NonZeroU64,
    /// Which side closes its sending direction while the other goes on sending.
    #[arg(long, value_name = "SIDE")]
    pub half_close: Option<Side>,
    /// Write the report to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// This side sends FIN after its last byte, and expects all bytes and then FIN.
    Client,
    /// The server sends FIN after some of the bytes; this side goes on sending all of them, and
    /// expects every one acknowledged.
    Server,
}

/// `ixload open`.
#[derive(Clone, Debug, Args)]
pub struct Open {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
    /// Connections.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub connections: NonZeroU64,
    /// Write the report to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// `ixload refuse`.
#[derive(Clone, Debug, Args)]
pub struct Refuse {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
}

/// `ixload kill`.
#[derive(Clone, Debug, Args)]
pub struct Kill {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
    /// Connections, one after the other.
    #[arg(long, value_name = "N", default_value = "1")]
    pub connections: NonZeroU64,
    /// Reset once that many bytes were sent, of which none is read.
    #[arg(long, value_name = "BYTES", default_value = "64k", value_parser = bytes)]
    pub after: NonZeroU64,
}

/// `ixload serve-echo`.
#[derive(Clone, Debug, Args)]
pub struct ServeEcho {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7777")]
    pub listen: SocketAddr,
    /// Threads that share the connections, as Linux deals them out (SO_REUSEPORT).
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroU64,
    /// Send FIN on each connection after that many bytes were echoed, and go on receiving.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub half_close_after: Option<NonZeroU64>,
}

/// A number of bytes, with an optional k, M or G.
fn bytes(text: &str) -> Result<NonZeroU64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        other => return Err(format!("`{other}` is no unit: use k, M or G")),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    let bytes = number.checked_mul(unit).ok_or("too large")?;
    NonZeroU64::new(bytes).ok_or_else(|| "must be at least 1".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    match seconds_or_none(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn bytes_have_units() {
        for (text, expected) in [
            ("1", 1),
            ("64k", 65_536),
            ("8M", 8 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(bytes(text).map(NonZeroU64::get), Ok(expected), "{text}");
        }
        for text in ["", "0", "k", "8X", "-1", "1.5M", "99999999999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_positive() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "s"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(seconds_or_none("0"), Ok(Duration::ZERO));
    }
}
