//! The command line of `ixnicd`, and its log.

mod function;
mod impairment;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use log::LevelFilter;

pub(crate) use function::FunctionOptions;
pub(crate) use impairment::ImpairmentOptions;

/// Serves an emulated Intel 82599 to a virtual machine over vfio-user.
///
/// Prints `ready SOCKET` once a client may connect. Ends when the client disconnects, or on SIGTERM
/// or SIGINT. With `--function` it serves several machines, a device each, until it is told to stop.
#[derive(Debug, Parser)]
#[command(name = "ixnicd", version)]
pub(crate) struct Options {
    /// Unix socket to listen on; it is created, and removed in the end.
    #[arg(long, value_name = "PATH", required_unless_present = "function")]
    pub(crate) socket: Option<PathBuf>,

    /// Serve several devices behind a switch whose uplink is what they are plugged into: once for each,
    /// `socket=PATH,mac=ADDRESS`, perhaps with `vlan=ID` (its frames are tagged with it), `queues=N`,
    /// `doorbells=mapped`, `control-socket=PATH`, and `spoof-check=off` (it may use any source address).
    /// With `kind=vf` it is a virtual function: its VLAN is the port's and unknown to it, it has one or two
    /// queues, and with `trust=on` it may choose addresses and VLANs that nobody else has.
    /// A device waits for the next client when one leaves.
    #[arg(long, value_name = "KEY=VALUE,...", conflicts_with_all = ["socket", "access_vlan", "pcap",
          "control_socket", "doorbells", "queues", "mac", "no_msix", "kind", "trust"])]
    pub(crate) function: Vec<FunctionOptions>,

    /// What the device is plugged into.
    #[command(flatten)]
    pub(crate) plugged: Plugged,

    /// Put what the device is plugged into behind an access port of this VLAN: the device has to
    /// speak tagged frames, the other side does not see them.
    #[arg(long, value_name = "VLAN", value_parser = clap::value_parser!(u16).range(1..=4094))]
    pub(crate) access_vlan: Option<u16>,

    /// MAC address of the device.
    #[arg(long, value_name = "ADDRESS", default_value = "52:54:00:82:59:99")]
    pub(crate) mac: Mac,

    /// Write all frames to this file in the pcap format.
    #[arg(long, value_name = "FILE")]
    pub(crate) pcap: Option<PathBuf>,

    /// Unix socket for requests while it runs: a client sends a line and gets a line, `ok` with an answer
    /// or `refused` and why. `capture tcp and port 7` is followed by pcapng for as long as the client
    /// stays, `impair {"loss": 0.01}` changes the wire. Created, and removed in the end.
    #[arg(long, value_name = "PATH")]
    pub(crate) control_socket: Option<PathBuf>,

    /// Whether the guest rings doorbells by messages, or by stores into shared memory, which cannot
    /// wake a sleeping device: for guests that poll, on hosts with cores to spare.
    #[arg(long, value_enum, default_value_t = Doorbells::Trapped)]
    pub(crate) doorbells: Doorbells,

    /// How long the device looks for what comes next, where it came soon before, until it sleeps and has to be
    /// woken: 250 if nobody says and the host has more than one processor, otherwise 0, which is not at all.
    /// It gives way to whoever needs the processor. Mapped doorbells have a time of their own.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(..=10_000))]
    pub(crate) spin_us: Option<u64>,

    /// Receive and transmit queues that the device has: 64 if nobody says, of a virtual function 2, which are
    /// all that it can have.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=128))]
    pub(crate) queues: Option<u32>,

    /// Whether the device is a physical function or a virtual one of an 82599, whose owner `ixnicd` then is, or
    /// an X540.
    #[arg(long, value_enum, default_value_t = Kind::Pf)]
    pub(crate) kind: Kind,

    /// The guest of a virtual function may choose its addresses and VLANs.
    #[arg(long)]
    pub(crate) trust: bool,

    /// Offer interrupts by MSI only, and not by MSI-X as well: for drivers that know no more.
    #[arg(long)]
    pub(crate) no_msix: bool,

    /// What the wire does to frames.
    #[command(flatten)]
    pub(crate) impairment: ImpairmentOptions,

    /// What to log on standard error: off, error, warn, info (with statistics in the end), debug,
    /// trace.
    #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = level)]
    pub(crate) log: LevelFilter,
}

/// What is at the other end of the wire.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("plug").required(true))]
pub(crate) struct Plugged {
    /// TAP interface that the device is plugged into.
    #[arg(long, value_name = "NAME", group = "plug")]
    pub(crate) tap: Option<String>,

    /// Create the TAP interface and bring it up; it vanishes in the end.
    #[arg(long, requires = "tap")]
    pub(crate) create_tap: bool,

    /// MTU of a TAP interface that is created.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, requires = "create_tap",
          value_parser = clap::value_parser!(u32).range(68..=9710))]
    pub(crate) mtu: u32,

    /// Ethernet interface whose frames it shares; a card has to be promiscuous (`ip link set NAME promisc
    /// on`), and the other end of a veth has to sum and cut by itself (`ethtool -K PEER tx off tso off gso
    /// off`).
    #[arg(long, value_name = "NAME", group = "plug")]
    pub(crate) interface: Option<String>,

    /// Unix socket of somebody who speaks QEMU's `stream` format, as passt does, without any privilege.
    #[arg(long, value_name = "PATH", group = "plug")]
    pub(crate) stream: Option<PathBuf>,

    /// Unix sockets for QEMU's `dgram` format: ours, which is created, and the other side's.
    #[arg(long, value_name = "PATH", num_args = 2, group = "plug")]
    pub(crate) dgram: Option<Vec<PathBuf>>,

    /// Lead frames that the device sends back to it.
    #[arg(long, group = "plug")]
    pub(crate) loopback: bool,
}

/// How doorbells reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Doorbells {
    /// Each is a message.
    Trapped,
    /// The pages of queue registers are shared memory.
    Mapped,
}

/// What the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A physical function: an 82599.
    Pf,
    /// A physical function: an X540, as far as drivers look.
    X540,
    /// A virtual function of one.
    Vf,
}

/// How long it looks if nobody says: a guest that answers a small request under emulation is silent for less.
const SPIN_US: u64 = 250;

impl Options {
    /// How long to look for what comes next.
    pub(crate) fn spin(&self) -> Duration {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let default_us = if processors > 1 { SPIN_US } else { 0 };
        Duration::from_micros(self.spin_us.unwrap_or(default_us))
    }

    /// Reads the command line. What is wrong with it is said in one line.
    pub(crate) fn from_command_line() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if error.use_stderr() {
                eprintln!("ixnicd: {}", one_line(&error));
                ExitCode::from(2)
            } else {
                // The help or the version was asked for; where it cannot be printed, nobody reads.
                let _ = error.print();
                ExitCode::SUCCESS
            }
        })
    }
}

/// The message of a usage error, without the usage, and with what to do.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let message: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("Usage:"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let message = message.join(" ");
    let message = message.trim_start_matches("error: ");
    format!("{message} (see `ixnicd --help`)")
}

/// A MAC address of one station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write six hexadecimal bytes, as in 52:54:00:12:34:56".to_owned();
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err("it is not the address of one station: use an even first byte".to_owned());
        }
        Ok(Self(mac))
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse()
        .map_err(|_| "use off, error, warn, info, debug or trace".to_owned())
}

/// Logs to standard error, a line each.
pub(crate) struct Logger;

impl Logger {
    pub(crate) fn install(level: LevelFilter) {
        // Fails only if there is a logger already, which then does as well.
        let _ = log::set_logger(&Self);
        log::set_max_level(level);
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_lowercase();
            eprintln!("ixnicd: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let program = ["ixnicd"].iter().chain(arguments);
        Options::try_parse_from(program).map_err(|error| one_line(&error))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_usual_command_line_is_understood() {
        let options = parse(&[
            "--socket",
            "/tmp/s",
            "--tap",
            "ix0",
            "--create-tap",
            "--mac",
            "52:54:00:0A:0b:0c",
            "--doorbells",
            "mapped",
            "--loss",
            "0.01",
            "--access-vlan",
            "100",
            "--seed",
            "7",
            "--log",
            "debug",
        ])
        .unwrap();
        assert_eq!(options.mac.0, [0x52, 0x54, 0, 0x0a, 0x0b, 0x0c]);
        assert_eq!(options.doorbells, Doorbells::Mapped);
        assert_eq!(options.impairment.impairment().unwrap().loss, 0.01);
        assert_eq!(
            (options.plugged.mtu, options.access_vlan),
            (1500, Some(100))
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let cases: [(&[&str], &str); 8] = [
            (
                &["--socket", "s", "--loopback", "--access-vlan", "4095"],
                "1..=4094",
            ),
            (&["--socket", "s"], "--tap"),
            (&["--tap", "ix0"], "--socket"),
            (
                &["--socket", "s", "--loopback", "--tap", "ix0"],
                "cannot be used with",
            ),
            (
                &["--socket", "s", "--loopback", "--loss", "2"],
                "0.01 or 1%",
            ),
            (
                &["--socket", "s", "--loopback", "--mac", "1:2"],
                "hexadecimal",
            ),
            (
                &["--socket", "s", "--loopback", "--mac", "ff:ff:ff:ff:ff:ff"],
                "one station",
            ),
            (&["--socket", "s", "--loopback", "--fast"], "--fast"),
        ];
        for (arguments, expected) in cases {
            let message = parse(arguments).unwrap_err();
            assert!(message.contains(expected), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
