//! The command line of `ixload load`.

use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Target, bytes, seconds, seconds_or_none};

/// `ixload load`.
#[derive(Clone, Debug, Args)]
pub struct Load {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: Target,
    /// What is spoken.
    #[arg(long, value_name = "PROTOCOL", default_value = "echo")]
    pub protocol: Protocol,
    /// Bytes in a message of the echo protocol (k, M and G stand for KiB, MiB and GiB).
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = bytes)]
    pub size: NonZeroU64,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shape: Shape,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub items: Items,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub from: From,
    /// Measure for so long, in seconds.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    pub duration: Duration,
    /// Report the throughput of so many equal parts of that time, too.
    #[arg(long, value_name = "N", default_value = "1")]
    pub parts: NonZeroU32,
    /// Load for so long before measuring, in seconds.
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds_or_none)]
    pub warmup: Duration,
    /// Show latencies even if they were taken while the client was the bottleneck; they are marked.
    #[arg(long)]
    pub force: bool,
    /// Write the report to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the latencies to a file, as an interval log of HdrHistogram.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Messages that come back; each byte is verified.
    Echo,
    /// memcached's text protocol; each byte of each value is verified.
    Text,
    /// memcached's binary protocol, likewise.
    Binary,
}

/// How many connections, and when they send.
#[derive(Clone, Debug, Args)]
pub struct Shape {
    /// Connections, all opened before the first request.
    #[arg(long, value_name = "N", default_value = "16")]
    pub connections: NonZeroU64,
    /// Open connections for so long at most, in seconds, and go on with those that are open then.
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub opening: Option<Duration>,
    /// Threads that share the connections.
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroU64,
    /// Requests of one connection that may be under way (pipelining).
    #[arg(long, value_name = "N", default_value = "1")]
    pub depth: NonZeroU32,
    /// Requests under way on all connections together, which take turns; on every one unless given.
    #[arg(long, value_name = "N", conflicts_with_all = ["depth", "requests_per_connection", "rate"])]
    pub at_once: Option<NonZeroU64>,
    /// Requests on a connection before it is closed and another one opened; no limit unless given.
    #[arg(long, value_name = "N")]
    pub requests_per_connection: Option<NonZeroU64>,
    /// How connections end, also those that are open in the end.
    #[arg(long, value_name = "HOW", default_value = "reset")]
    pub close: Close,
    /// Send so many requests a second in all, whether replies come or not (open loop). A closed loop
    /// unless given.
    #[arg(long, value_name = "REQUESTS/S", value_parser = rate)]
    pub rate: Option<f64>,
    /// How the requests of an open loop are spread over time.
    #[arg(long, value_name = "HOW", default_value = "poisson")]
    pub arrivals: Arrivals,
    /// Beside the load, measure by so many requests a second on a connection of their own, one at a time,
    /// as mutilate's agents do.
    #[arg(long, value_name = "REQUESTS/S", value_parser = rate)]
    pub agent: Option<f64>,
    /// Seed of everything that is random.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Close {
    /// By RST, which leaves nothing behind in either side's tables.
    Reset,
    /// By FIN.
    Fin,
}

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// Independently of each other: gaps are exponentially distributed.
    Poisson,
    /// In equal gaps.
    Uniform,
}

/// What is asked for in memcached's protocols.
#[derive(Clone, Debug, Args)]
pub struct Items {
    /// Sizes of keys and values, and the share of GETs.
    #[arg(long, value_name = "WORKLOAD", default_value = "etc")]
    pub workload: Workload,
    /// Share of GETs among the requests, 0 to 1; the rest are SETs. The workload's own unless given.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub get_share: Option<f64>,
    /// Keys, all of which are set before anything else.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub keys: NonZeroU64,
    /// Exponent of the zipfian popularity of keys; 0 makes all equally popular.
    #[arg(long, value_name = "S", default_value = "0.99", value_parser = exponent)]
    pub zipf: f64,
    /// Bytes of a key in the fixed workload, 16 to 250.
    #[arg(long, value_name = "BYTES", default_value = "32",
          value_parser = clap::value_parser!(u16).range(16..=250))]
    pub key_size: u16,
    /// Bytes of a value in the fixed workload, at most 1,000,000.
    #[arg(long, value_name = "BYTES", default_value = "32",
          value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub value_size: u32,
    /// Leave the keys as they are on the server; they must hold what an earlier run of this program set.
    #[arg(long)]
    pub no_preload: bool,
}

/// A mix of requests, by the pool of Facebook's that it was measured on (Atikoglu et al. 2012).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// The general pool: mostly small values, some large ones, one SET in 31 requests.
    Etc,
    /// User accounts: short keys, values of two bytes, one SET in 500 requests.
    Usr,
    /// --key-size and --value-size, GETs alone.
    Fixed,
}

/// Where connections come from.
#[derive(Clone, Debug, Args)]
pub struct From {
    /// What carries the bytes.
    #[arg(long, value_name = "TRANSPORT", default_value = "sockets")]
    pub transport: Transport,
    /// Local addresses to take turns with, as 10.9.0.16-10.9.0.31: one has about 28,000 ports. With sockets
    /// they must be this host's (`ip route add local 10.9.0.16/28 dev lo`), with the engine nobody's, and
    /// one for each thread at least.
    #[arg(long, value_name = "FIRST-LAST", required_if_eq("transport", "engine"))]
    pub sources: Option<Sources>,
    /// Interface that the engine sends and receives at.
    #[arg(long, value_name = "INTERFACE", default_value = "ix0")]
    pub device: String,
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// Linux's TCP.
    Sockets,
    /// The TCP/IP engine of the dataplane, in this process, on a packet socket: at a fraction of Linux's
    /// cost, so that a small machine can saturate a server.
    Engine,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The first one.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
}

impl Sources {
    /// How many there are.
    pub fn count(&self) -> u64 {
        u64::from(self.last.to_bits() - self.first.to_bits()) + 1
    }

    /// The address of connection `number`: they take turns.
    pub fn of(&self, number: u64) -> IpAddr {
        let offset = (number % self.count()) as u32;
        Ipv4Addr::from_bits(self.first.to_bits() + offset).into()
    }

    /// The addresses of thread number `thread` of so many.
    pub fn share(&self, thread: u64, threads: u64) -> Vec<Ipv4Addr> {
        let addresses = self.first.to_bits()..=self.last.to_bits();
        let own = addresses.skip(thread as usize).step_by(threads as usize);
        own.map(Ipv4Addr::from_bits).collect()
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |text: &str| {
            text.parse::<Ipv4Addr>()
                .map_err(|_| format!("`{text}` is no IPv4 address"))
        };
        let (first, last) = (address(first)?, address(last)?);
        if first > last {
            return Err(format!("{last} is before {first}"));
        }
        Ok(Self { first, last })
    }
}

fn rate(text: &str) -> Result<f64, String> {
    number(
        text,
        |rate| rate > 0.0 && rate <= 1e9,
        "more than 0, at most 1e9",
    )
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |share| (0.0..=1.0).contains(&share), "from 0 to 1")
}

fn exponent(text: &str) -> Result<f64, String> {
    number(
        text,
        |exponent| (0.0..=10.0).contains(&exponent),
        "from 0 to 10",
    )
}

fn number(text: &str, is_good: impl Fn(f64) -> bool, range: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match is_good(number) {
        true => Ok(number),
        false => Err(format!("must be {range}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns() {
        let sources: Sources = "10.9.0.254-10.9.1.1".parse().expect("a range");
        let turns: Vec<_> = (0..5)
            .map(|number| sources.of(number).to_string())
            .collect();
        assert_eq!(
            turns,
            [
                "10.9.0.254",
                "10.9.0.255",
                "10.9.1.0",
                "10.9.1.1",
                "10.9.0.254"
            ]
        );
        let shares = [sources.share(0, 3), sources.share(2, 3)];
        assert_eq!(shares.map(|share| share.len()), [2, 1]);
        assert_eq!("10.9.0.3".parse::<Sources>().expect("one").count(), 1);
        for text in ["", "10.9.0.3-10.9.0.2", "10.9.0-10.9.1", "::1"] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_have_ranges() {
        assert_eq!(rate("1e3"), Ok(1000.0));
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("x").is_err());
        assert_eq!((share("0"), share("1")), (Ok(0.0), Ok(1.0)));
        assert!(share("1.1").is_err() && exponent("-1").is_err());
    }
}
