//! The kernel command line: `key=value` words, then `--` and the application's arguments.
//!
//! Unknown keys, repeated keys and values out of range are refused: a dataplane that silently runs
//! with another configuration than the one asked for is worse than one that does not start.

mod limit;
mod nic;
mod tcp;

use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use ix_abi::boot::ARGUMENTS_MAX;
use ix_net::Ipv6Config;
use ix_nic::VlanTag;
use log::LevelFilter;
use thiserror::Error;

pub use limit::{Overstay, UserLimit};
pub use nic::NicChoice;
pub use tcp::TcpOptions;

/// What the command line may set. The addresses are mandatory with a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    /// `ip=10.9.0.2/24`: own address and prefix length.
    pub address: Option<([u8; 4], u8)>,
    /// `gw=10.9.0.1`: next hop for destinations outside of the prefix.
    pub gateway: Option<[u8; 4]>,
    /// `ip6=fd00:9::2/64`: own IPv6 address and prefix length.
    pub address6: Option<(Ipv6Addr, u8)>,
    /// `gateway6=fd00:9::1`: next hop for IPv6 destinations outside of the prefix.
    pub gateway6: Option<Ipv6Addr>,
    /// `ra=on`: take IPv6 addresses and routers from router advertisements.
    pub router_advertisements: bool,
    /// `vlan=100` or `vlan=100:5`: VLAN of all frames, and the priority of those sent.
    pub vlan: Option<VlanTag>,
    /// `mtu=1500`: largest IP packet in bytes.
    pub mtu: u16,
    /// `log=warn`: least important messages that are printed; `off` to `trace`.
    pub log: LevelFilter,
    /// `batch=64`: most frames taken from the NIC in one cycle.
    pub batch: u8,
    /// `poll=on`: never halt.
    pub poll: Poll,
    /// `spin_us=50`: how long to poll in vain before halting, in microseconds.
    pub spin_us: u32,
    /// `granted=`: how many threads serve at first, all unless set; the others start parked.
    pub granted: Option<u32>,
    /// `background=1`: how many of the processors run background threads, the last 0 or 1.
    pub background: usize,
    /// `nic=auto`: which network device to drive.
    pub nic: NicChoice,
    /// How TCP behaves.
    pub tcp: TcpOptions,
    /// `connections=`: how many each thread has tables for; by its memory unless given.
    pub connections: Option<u32>,
    /// How long the application may stay in user mode.
    pub limit: UserLimit,
    /// `trespass=on`: thread 0 reads what is private to another one, to show what the kernel makes of
    /// that.
    pub trespass: bool,
    /// Everything behind ` -- `, words parted by white space.
    pub arguments: &'a str,
}

/// What the kernel does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Poll for [`Options::spin_us`], then halt until the NIC interrupts.
    Adaptive,
    /// Poll without end.
    Always,
}

/// Why a command line was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandLineError<'a> {
    /// Not text.
    #[error("the command line is not UTF-8")]
    NotText,
    /// A word without `=`.
    #[error("`{0}` on the command line is no key=value; application arguments go behind ` -- `")]
    NoValue(&'a str),
    /// A key that does not exist.
    #[error("unknown key `{0}` on the command line; known are {KEYS} {tcp}", tcp = TcpOptions::KEYS)]
    UnknownKey(&'a str),
    /// A key given twice.
    #[error("`{0}` is given twice on the command line")]
    Repeated(&'a str),
    /// A value that the key does not take.
    #[error("`{0}={1}` on the command line: expected {2}")]
    Value(&'a str, &'a str, &'static str),
    /// Arguments that do not fit into the boot block.
    #[error("the application's arguments take {0} bytes, the limit is {ARGUMENTS_MAX}")]
    Arguments(usize),
    /// An MTU that IPv6 cannot be spoken with.
    #[error("`mtu={0}` on the command line: IPv6 needs 1280 bytes; leave ip6, gateway6 and ra out")]
    MtuWithoutIpv6(u16),
    /// A gateway of a family that is off.
    #[error("`gateway6` on the command line without `ip6` or `ra=on`")]
    GatewayWithoutAddress,
    /// A NIC without an address.
    #[error("no ip=ADDRESS/PREFIX on the command line; only nic=none goes without")]
    NoAddress,
}

/// What IPv6 asks of a link (RFC 8200 5).
const IPV6_MIN_MTU: u16 = 1280;
const MAX_MTU: u16 = 9000;
const ON_OR_OFF: &str = "on or off";
const KEYS: &str = "ip gw ip6 gateway6 ra vlan mtu log batch poll spin_us granted background \
     nic connections limit_ms overstay trespass";

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            address: None,
            gateway: None,
            address6: None,
            gateway6: None,
            router_advertisements: false,
            vlan: None,
            mtu: 1500,
            log: LevelFilter::Info,
            batch: 64,
            poll: Poll::Adaptive,
            spin_us: 50,
            granted: None,
            background: 0,
            nic: NicChoice::Any,
            tcp: TcpOptions::default(),
            connections: None,
            limit: UserLimit::default(),
            trespass: false,
            arguments: "",
        }
    }
}

impl<'a> Options<'a> {
    /// Reads and checks a whole command line.
    pub fn parse(line: &'a [u8]) -> Result<Self, CommandLineError<'a>> {
        let line = core::str::from_utf8(line).map_err(|_| CommandLineError::NotText)?;
        let (keys, arguments) = split_arguments(line);
        let mut options = Self {
            arguments,
            ..Self::default()
        };
        for (index, word) in keys.split_ascii_whitespace().enumerate() {
            let (key, value) = word
                .split_once('=')
                .ok_or(CommandLineError::NoValue(word))?;
            let mut earlier = keys.split_ascii_whitespace().take(index);
            if earlier.any(|word| word.split_once('=').is_some_and(|(other, _)| other == key)) {
                return Err(CommandLineError::Repeated(key));
            }
            options.set(key, value)?;
        }
        if options.address.is_none() && options.nic != NicChoice::None {
            return Err(CommandLineError::NoAddress);
        }
        options.check_ipv6()?;
        let bytes = options
            .arguments()
            .map(|word| word.len() + 1)
            .sum::<usize>();
        if bytes > ARGUMENTS_MAX {
            return Err(CommandLineError::Arguments(bytes));
        }
        Ok(options)
    }

    /// IPv6 of the engine, which is on with an address, or with router advertisements to get one
    /// from.
    pub fn ipv6(&self) -> Option<Ipv6Config> {
        if self.address6.is_none() && !self.router_advertisements {
            return None;
        }
        let default = Ipv6Config::default();
        Some(Ipv6Config {
            address: self.address6.map(|(address, _)| address),
            prefix: self.address6.map_or(default.prefix, |(_, prefix)| prefix),
            gateway: self.gateway6,
            router_advertisements: self.router_advertisements,
            ..default
        })
    }

    /// Own IPv4 address and prefix length. Without an address there is no network either: loopback
    /// names no host.
    pub fn address_and_prefix(&self) -> (Ipv4Addr, u8) {
        let (address, prefix) = self.address.unwrap_or(([127, 0, 0, 1], 32));
        (Ipv4Addr::from(address), prefix)
    }

    /// Where the machine can be reached, in words.
    pub fn place(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            write!(f, "{}", self.address_and_prefix().0)?;
            if let Some((address, _)) = self.address6 {
                write!(f, " and {address}")?;
            }
            if self.router_advertisements {
                f.write_str(" and where a router says")?;
            }
            if let Some(vlan) = self.vlan {
                write!(f, " in VLAN {}", vlan.id())?;
            }
            Ok(())
        })
    }

    fn check_ipv6(&self) -> Result<(), CommandLineError<'a>> {
        match self.ipv6() {
            Some(_) if self.mtu < IPV6_MIN_MTU => Err(CommandLineError::MtuWithoutIpv6(self.mtu)),
            None if self.gateway6.is_some() => Err(CommandLineError::GatewayWithoutAddress),
            _ => Ok(()),
        }
    }

    /// The application's arguments one by one.
    pub fn arguments(&self) -> impl Iterator<Item = &'a str> {
        self.arguments.split_ascii_whitespace()
    }

    fn set(&mut self, key: &'a str, value: &'a str) -> Result<(), CommandLineError<'a>> {
        let expected = |what| move || CommandLineError::Value(key, value, what);
        match key {
            "ip" => {
                let address = address_and_prefix(value);
                let address = address.ok_or_else(expected("an address like 10.9.0.2/24"))?;
                self.address = Some(address);
            }
            "gw" => {
                let gateway = ipv4(value).ok_or_else(expected("an address like 10.9.0.1"))?;
                self.gateway = Some(gateway);
            }
            "ip6" => {
                let address = ipv6_and_prefix(value);
                let address = address.ok_or_else(expected("an address like fd00:9::2/64"))?;
                self.address6 = Some(address);
            }
            "gateway6" => {
                let gateway = ipv6(value).ok_or_else(expected("an address like fd00:9::1"))?;
                self.gateway6 = Some(gateway);
            }
            "ra" => self.router_advertisements = switch(value).ok_or_else(expected(ON_OR_OFF))?,
            "vlan" => {
                let range = expected("a VLAN of 1 to 4094, perhaps with `:` and priority 0 to 7");
                self.vlan = Some(vlan(value).ok_or_else(range)?);
            }
            "mtu" => {
                let range = expected("576 to 9000 bytes");
                self.mtu = number(value, 576, u32::from(MAX_MTU)).ok_or_else(range)? as u16;
            }
            "log" => {
                let levels = "off, error, warn, info, debug or trace";
                self.log = value.parse().map_err(|_| expected(levels)())?;
            }
            "batch" => {
                self.batch = number(value, 1, 64).ok_or_else(expected("1 to 64 frames"))? as u8;
            }
            "poll" => {
                self.poll = match switch(value).ok_or_else(expected(ON_OR_OFF))? {
                    true => Poll::Always,
                    false => Poll::Adaptive,
                }
            }
            "spin_us" => {
                let most = expected("0 to 1000000 us");
                self.spin_us = number(value, 0, 1_000_000).ok_or_else(most)?;
            }
            "granted" => {
                let threads = expected("1 to 64 threads");
                self.granted = Some(number(value, 1, 64).ok_or_else(threads)?);
            }
            "background" => {
                let range = expected("0 or 1 processors");
                self.background = number(value, 0, 1).ok_or_else(range)? as usize;
            }
            "nic" => self.nic = NicChoice::parse(value).ok_or_else(expected(NicChoice::NAMES))?,
            "connections" => {
                let range = expected("1024 to 4194304 connections");
                self.connections = Some(number(value, 1024, 1 << 22).ok_or_else(range)?);
            }
            "limit_ms" => {
                let range = expected(UserLimit::TIMES);
                self.limit.time = limit::time(value).ok_or_else(range)?;
            }
            "overstay" => {
                let names = expected(UserLimit::ANSWERS);
                self.limit.overstay = limit::overstay(value).ok_or_else(names)?;
            }
            "trespass" => self.trespass = switch(value).ok_or_else(expected(ON_OR_OFF))?,
            _ => self.tcp.set(key, value)?,
        }
        Ok(())
    }
}

/// Parts the line at the first word that is `--`.
fn split_arguments(line: &str) -> (&str, &str) {
    let bytes = line.as_bytes();
    let blank = |at: Option<&u8>| at.is_none_or(u8::is_ascii_whitespace);
    for (at, _) in line.match_indices("--") {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        if blank(before) && blank(bytes.get(at + 2)) {
            return (&line[..at], &line[at + 2..]);
        }
    }
    (line, "")
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

fn vlan(value: &str) -> Option<VlanTag> {
    let (id, priority) = value.split_once(':').unwrap_or((value, "0"));
    VlanTag::new(number(id, 1, 4094)? as u16, number(priority, 0, 7)? as u8)
}

fn number(value: &str, least: u32, most: u32) -> Option<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| digits)?;
    (least <= number && number <= most).then_some(number)
}

fn ipv4(value: &str) -> Option<[u8; 4]> {
    let address: Ipv4Addr = value.parse().ok()?;
    let usable = !(address.is_unspecified() || address.is_broadcast() || address.is_multicast());
    usable.then_some(address.octets())
}

fn address_and_prefix(value: &str) -> Option<([u8; 4], u8)> {
    let (address, prefix) = value.split_once('/')?;
    Some((ipv4(address)?, number(prefix, 1, 32)? as u8))
}

fn ipv6(value: &str) -> Option<Ipv6Addr> {
    let address: Ipv6Addr = value.parse().ok()?;
    let usable = !(address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address.to_ipv4_mapped().is_some());
    usable.then_some(address)
}

fn ipv6_and_prefix(value: &str) -> Option<(Ipv6Addr, u8)> {
    let (address, prefix) = value.split_once('/')?;
    Some((ipv6(address)?, number(prefix, 1, 128)? as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ix_hal::Duration;
    use proptest::prelude::*;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    #[test]
    fn a_full_line_sets_everything() {
        let line = b"ip=10.9.0.2/24 gw=10.9.0.1 ip6=fd00:9::2/48 gateway6=fe80::1 ra=on \
            vlan=100:5 mtu=1400 log=debug batch=32 poll=on spin_us=7 granted=2 \
            background=1 nic=82599 rto_min_us=500 connections=1000000 limit_ms=25 overstay=kill \
            trespass=on \
            -- --port 7 --x";
        let options = Options::parse(line).unwrap();
        assert_eq!(options.address, Some(([10, 9, 0, 2], 24)));
        assert_eq!(options.gateway, Some([10, 9, 0, 1]));
        let expected = Ipv6Config {
            address: Some("fd00:9::2".parse().unwrap()),
            prefix: 48,
            gateway: Some("fe80::1".parse().unwrap()),
            router_advertisements: true,
            ..Ipv6Config::default()
        };
        assert_eq!(options.ipv6(), Some(expected));
        assert_eq!(options.vlan, VlanTag::new(100, 5));
        let place = "10.9.0.2 and fd00:9::2 and where a router says in VLAN 100";
        assert_eq!(options.place().to_string(), place);
        assert_eq!((options.mtu, options.batch, options.spin_us), (1400, 32, 7));
        assert_eq!(options.log, LevelFilter::Debug);
        assert_eq!(options.poll, Poll::Always);
        assert_eq!((options.granted, options.background), (Some(2), 1));
        assert_eq!(options.tcp.rto_min_us, Some(500));
        assert_eq!(options.connections, Some(1_000_000));
        let limit = UserLimit {
            time: Some(Duration::from_millis(25)),
            overstay: Overstay::Kill,
        };
        assert_eq!((options.limit, options.trespass), (limit, true));
        assert_eq!(
            options.arguments().collect::<Vec<_>>(),
            ["--port", "7", "--x"]
        );
    }

    #[test]
    fn the_address_is_mandatory_only_with_a_nic() {
        assert_eq!(Options::parse(b""), Err(CommandLineError::NoAddress));
        let options = Options::parse(b" nic=none --").unwrap();
        assert_eq!(
            (options.nic, options.arguments().count()),
            (NicChoice::None, 0)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let message = |line: &str| Options::parse(line.as_bytes()).unwrap_err().to_string();
        for (line, part) in [
            ("ip=10.9.0.2", "`ip=10.9.0.2`"),
            ("ip=10.9.0.2/33", "expected an address"),
            ("ip=0.0.0.0/8", "expected an address"),
            ("ip=10.9.0.2/24 gw=10.9.0", "`gw=10.9.0`"),
            ("mtu=9001", "576 to 9000"),
            ("ip6=fd00:9::2", "fd00:9::2/64"),
            ("ip6=ff02::1/64", "fd00:9::2/64"),
            ("ip6=::ffff:10.9.0.2/64", "fd00:9::2/64"),
            ("ip=10.9.0.2/24 gateway6=fe80::1", "without `ip6`"),
            ("ip=10.9.0.2/24 ra=on mtu=1279", "IPv6 needs 1280"),
            ("vlan=0", "1 to 4094"),
            ("vlan=4095", "1 to 4094"),
            ("vlan=5:8", "1 to 4094"),
            ("ra=1", "on or off"),
            ("batch=0", "1 to 64"),
            ("batch=+1", "1 to 64"),
            ("poll=yes", "on or off"),
            ("nic=e1000", "auto, 82599, vf, igb"),
            ("log=loud", "off, error"),
            ("spin_us=1000001", "spin_us"),
            ("granted=0", "1 to 64 threads"),
            ("background=2", "0 or 1 processors"),
            ("limit_ms=0", "1 to 60000 ms, or off"),
            ("overstay=ignore", "warn or kill"),
            ("rto_min_us=15", "rto_min_us"),
            ("congestion=bbr", "newreno, cubic or dctcp"),
            ("connections=1000", "1024 to 4194304"),
            ("cpus=4", "unknown key `cpus`"),
            ("quiet", "`quiet`"),
            ("mtu=1500 mtu=1500", "`mtu` is given twice"),
        ] {
            let text = message(line);
            assert!(text.contains(part), "{line}: {text}");
        }
        assert_eq!(Options::parse(b"\xff"), Err(CommandLineError::NotText));
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let line = format!("nic=none -- {}", "x".repeat(ARGUMENTS_MAX - 1));
        assert!(Options::parse(line.as_bytes()).is_ok());
        let line = format!("nic=none -- {}", "x".repeat(ARGUMENTS_MAX));
        assert_eq!(
            Options::parse(line.as_bytes()),
            Err(CommandLineError::Arguments(ARGUMENTS_MAX + 1))
        );
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Options::parse(&line);
        }

        #[test]
        fn no_text_makes_it_panic(words in prop::collection::vec("(ip6?|gw|mtu|vlan|--|log|é)=?[0-9:./x-]{0,6}", 0..8)) {
            let line: String = words.join(" ");
            if let Ok(options) = Options::parse(line.as_bytes()) {
                prop_assert!((576..=9000).contains(&options.mtu));
            }
        }
    }
}
