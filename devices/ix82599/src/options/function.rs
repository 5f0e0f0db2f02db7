//! A function of several, as the command line describes it.

use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use ix82599::model::{Card, VIRTUAL_QUEUES, VirtualConfig};
use ix82599::wire::PortRule;

use super::{Doorbells, Kind, Mac};

/// VLANs that a frame can be of (IEEE 802.1Q 9.6).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;
const QUEUES: std::ops::RangeInclusive<u32> = 1..=128;
/// Queues that a physical function has if nobody says.
pub(super) const DEFAULT_QUEUES: u32 = 64;

/// A device of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FunctionOptions {
    pub(crate) socket: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) is_trusted: bool,
    pub(crate) mac: Mac,
    pub(crate) vlan: Option<u16>,
    pub(crate) queues: u32,
    pub(crate) doorbells: Doorbells,
    pub(crate) control_socket: Option<PathBuf>,
    pub(crate) spoof_check: bool,
}

impl FunctionOptions {
    /// Who may speak at its port.
    pub(crate) fn rule(&self) -> PortRule {
        PortRule {
            mac: self.spoof_check.then_some(self.mac.0),
            vlan: self.vlan,
            port_tags: self.kind == Kind::Vf,
        }
    }

    /// What the owner decides about a virtual function, if it is one.
    pub(crate) fn virtual_function(&self) -> Option<VirtualConfig> {
        (self.kind == Kind::Vf).then_some(VirtualConfig {
            trusted: self.is_trusted,
            port_vlan: self.vlan.is_some(),
        })
    }
}

impl FromStr for FunctionOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut socket, mut mac, mut queues) = (None, None, None);
        let mut options = Self {
            socket: PathBuf::new(),
            kind: Kind::Pf,
            is_trusted: false,
            mac: Mac([0; 6]),
            vlan: None,
            queues: DEFAULT_QUEUES,
            doorbells: Doorbells::Trapped,
            control_socket: None,
            spoof_check: true,
        };
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is no key=value"))?;
            let wrong = |what: &str| format!("{key} is `{value}`: use {what}");
            match key {
                "socket" => socket = Some(PathBuf::from(value)),
                "mac" => mac = Some(value.parse::<Mac>().map_err(|why| format!("mac: {why}"))?),
                "vlan" => {
                    let vlan = value.parse().ok().filter(|vlan| VLANS.contains(vlan));
                    options.vlan = Some(vlan.ok_or_else(|| wrong("1 to 4094"))?);
                }
                "queues" => {
                    let number = value.parse().ok().filter(|queues| QUEUES.contains(queues));
                    queues = Some(number.ok_or_else(|| wrong("1 to 128"))?);
                }
                "kind" => {
                    options.kind =
                        Kind::from_str(value, false).map_err(|_| wrong("pf, vf or x540"))?;
                }
                "trust" => options.is_trusted = switch(value).ok_or_else(|| wrong("on or off"))?,
                "doorbells" => {
                    options.doorbells = Doorbells::from_str(value, false)
                        .map_err(|_| wrong("mapped or trapped"))?;
                }
                "control-socket" => options.control_socket = Some(PathBuf::from(value)),
                "spoof-check" => {
                    options.spoof_check = switch(value).ok_or_else(|| wrong("on or off"))?;
                }
                _ => {
                    return Err(format!(
                        "`{key}` is unknown: `ixnicd --help` lists the keys"
                    ));
                }
            }
        }
        options.socket = socket.ok_or("a function needs socket=PATH")?;
        options.mac = mac.ok_or("a function needs mac=ADDRESS")?;
        options.queues = options.kind.queues(queues)?;
        if options.is_trusted && options.kind != Kind::Vf {
            return Err("trust is for a virtual function: add kind=vf".to_owned());
        }
        Ok(options)
    }
}

impl Kind {
    /// The card that it is a function of.
    pub(crate) fn card(self) -> Card {
        match self {
            Self::Pf | Self::Vf => Card::I82599,
            Self::X540 => Card::X540,
        }
    }

    /// The queues of a function of which somebody may have said how many it has.
    pub(crate) fn queues(self, said: Option<u32>) -> Result<u32, String> {
        match (self, said) {
            (Self::Pf | Self::X540, _) => Ok(said.unwrap_or(DEFAULT_QUEUES)),
            (Self::Vf, None) => Ok(VIRTUAL_QUEUES),
            (Self::Vf, Some(queues)) if queues <= VIRTUAL_QUEUES => Ok(queues),
            (Self::Vf, Some(_)) => Err(format!(
                "a virtual function has at most {VIRTUAL_QUEUES} queues"
            )),
        }
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_described_by_pairs() {
        let text = "socket=/run/a,mac=52:54:00:00:00:01,vlan=100,queues=4,doorbells=mapped,\
                    control-socket=/run/c,spoof-check=off";
        let options: FunctionOptions = text.parse().unwrap();
        assert_eq!(options.socket, PathBuf::from("/run/a"));
        assert_eq!((options.queues, options.doorbells), (4, Doorbells::Mapped));
        let anybody = PortRule {
            mac: None,
            vlan: Some(100),
            port_tags: false,
        };
        assert_eq!(options.rule(), anybody);
        let short: FunctionOptions = "socket=a,mac=52:54:00:00:00:01".parse().unwrap();
        assert_eq!(short.rule().mac, Some([0x52, 0x54, 0, 0, 0, 1]));
        assert_eq!((short.queues, short.virtual_function()), (64, None));
    }

    #[test]
    fn a_virtual_function_has_few_queues_and_a_port_that_tags() {
        let text = "socket=a,mac=52:54:00:00:00:01,kind=vf,vlan=7,trust=on";
        let options: FunctionOptions = text.parse().unwrap();
        let decided = VirtualConfig {
            trusted: true,
            port_vlan: true,
        };
        assert_eq!(options.virtual_function(), Some(decided));
        assert_eq!((options.queues, options.rule().port_tags), (2, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = "socket=a,mac=52:54:00:00:00:01";
        for (text, expected) in [
            ("mac=52:54:00:00:00:01".to_owned(), "socket=PATH"),
            ("socket=a".to_owned(), "mac=ADDRESS"),
            (format!("{good},vlan=0"), "1 to 4094"),
            (format!("{good},queues=129"), "1 to 128"),
            (format!("{good},doorbells=loud"), "mapped or trapped"),
            (format!("{good},spoof-check=maybe"), "on or off"),
            (format!("{good},trust=on"), "kind=vf"),
            (format!("{good},kind=vf,queues=4"), "at most 2"),
            (format!("{good},kind=xf"), "pf, vf or x540"),
            (format!("{good},fast=1"), "`fast` is unknown"),
            (format!("{good},x"), "no key=value"),
            ("socket=a,mac=1".to_owned(), "hexadecimal"),
        ] {
            let error = text.parse::<FunctionOptions>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
