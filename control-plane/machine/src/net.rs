//! Addresses of a machine and its wire, and the settings of the NIC model.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::passthrough::PciAddress;

/// The card that the guest is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicKind {
    /// Intel 82599, by `ixnicd` over vfio-user.
    Intel82599,
    /// Virtual function of an 82599, by `ixnicd` over vfio-user.
    Virtual82599,
    /// Intel 82576, by QEMU's own `igb`.
    Igb,
    /// VIRTIO network device, by QEMU.
    Virtio,
    /// A card of the host's own, by VFIO.
    Host(PciAddress),
    /// No card: the machine boots and runs its application without a wire.
    None,
}

impl NicKind {
    /// Whether `ixnicd` models it.
    pub fn is_modelled(self) -> bool {
        matches!(self, NicKind::Intel82599 | NicKind::Virtual82599)
    }
}

impl fmt::Display for NicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NicKind::Intel82599 => "82599",
            NicKind::Virtual82599 => "vf",
            NicKind::Igb => "igb",
            NicKind::Virtio => "virtio",
            NicKind::Host(address) => return address.fmt(f),
            NicKind::None => "none",
        })
    }
}

impl FromStr for NicKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "82599" => Ok(NicKind::Intel82599),
            "vf" => Ok(NicKind::Virtual82599),
            "igb" => Ok(NicKind::Igb),
            "virtio" => Ok(NicKind::Virtio),
            "none" => Ok(NicKind::None),
            _ => text.parse().map(NicKind::Host).map_err(|_| {
                let why = "use 82599, vf, igb, virtio, none, or the PCI address of a card of this \
                           machine, like 0000:03:00.0";
                bad("nic", text, why)
            }),
        }
    }
}

/// An Ethernet address of one station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2);
            *octet = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| bad("mac", text, "write six octets like 52:54:00:12:34:56"))?;
        }
        if parts.next().is_some() {
            return Err(bad("mac", text, "write six octets like 52:54:00:12:34:56"));
        }
        if octets[0] & 1 != 0 || octets == [0; 6] {
            return Err(bad(
                "mac",
                text,
                "a station needs a unicast address: make the first octet even",
            ));
        }
        Ok(MacAddress(octets))
    }
}

/// The two ends of a machine's wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Address of the dataplane.
    pub guest: Ipv4Addr,
    /// Address of the host's end, which is the dataplane's gateway.
    pub host: Ipv4Addr,
    /// Length of the subnet's prefix that both ends share.
    pub prefix_len: u8,
    /// IPv6 beside it, unless it is off.
    pub ipv6: Option<Ipv6Network>,
    /// VLAN that the dataplane belongs to. The host's end is behind an access port of it.
    pub vlan: Option<Vlan>,
    /// Ethernet address of the dataplane.
    pub mac: MacAddress,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
}

/// Least and most of [`NetworkConfig::mtu`]; IPv6 asks for at least [`IPV6_MIN_MTU`] (RFC 8200 5).
pub const MTU_RANGE: std::ops::RangeInclusive<u16> = 576..=9000;
/// Least MTU with IPv6.
pub const IPV6_MIN_MTU: u16 = 1280;

/// IPv6 of the two ends of a machine's wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Network {
    /// Address of the dataplane; without one it waits for a router's advertisement.
    pub guest: Option<Ipv6Addr>,
    /// Address of the host's end, which is the dataplane's gateway.
    pub host: Ipv6Addr,
    /// Length of the prefix that both ends share.
    pub prefix_len: u8,
    /// Whether the dataplane takes addresses and routers from router advertisements.
    pub router_advertisements: bool,
}

impl Default for Ipv6Network {
    /// A prefix of unique local addresses (RFC 4193).
    fn default() -> Self {
        Ipv6Network {
            guest: Some(Ipv6Addr::new(0xfd69, 0x7882, 0x0599, 0, 0, 0, 0, 2)),
            host: Ipv6Addr::new(0xfd69, 0x7882, 0x0599, 0, 0, 0, 0, 1),
            prefix_len: 64,
            router_advertisements: false,
        }
    }
}

impl Ipv6Network {
    /// A wire for a dataplane at `address`, written `fd00:9::2` or `fd00:9::2/64`; the host's end is the
    /// first address of the prefix, or the second one where the dataplane has the first.
    pub fn for_guest(address: &str) -> Result<Self> {
        let why = "write an address like fd00:9::2 or fd00:9::2/64";
        let refuse = |why| bad("ipv6", address, why);
        let (guest, prefix_len) = match address.split_once('/') {
            Some((guest, prefix)) => (guest, prefix.parse::<u8>().ok()),
            None => (address, Some(64)),
        };
        let guest: Ipv6Addr = guest.parse().map_err(|_| refuse(why))?;
        let prefix_len = prefix_len
            .filter(|length| (16..=126).contains(length))
            .ok_or_else(|| refuse("the prefix length has to be between 16 and 126"))?;
        if guest.is_loopback() || guest.is_multicast() || guest.to_ipv4_mapped().is_some() {
            return Err(refuse("a station needs a unicast address"));
        }
        let subnet = guest.to_bits() & u128::MAX << (128 - prefix_len);
        if guest.to_bits() == subnet {
            return Err(refuse("that is the address of all routers of the subnet"));
        }
        let first = subnet + 1;
        let host = first + u128::from(guest.to_bits() == first);
        Ok(Ipv6Network {
            guest: Some(guest),
            host: Ipv6Addr::from_bits(host),
            prefix_len,
            router_advertisements: false,
        })
    }
}

/// A VLAN, and the priority of what the dataplane sends into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// Its number, 1 to 4094.
    pub id: u16,
    /// Priority, 0 to 7.
    pub priority: u8,
}

impl FromStr for Vlan {
    type Err = Error;

    /// `100`, or `100:5` with a priority.
    fn from_str(text: &str) -> Result<Self> {
        let (id, priority) = text.split_once(':').unwrap_or((text, "0"));
        let id = id.parse().ok().filter(|id| (1..=4094).contains(id));
        let priority = priority.parse().ok().filter(|priority| *priority <= 7);
        match (id, priority) {
            (Some(id), Some(priority)) => Ok(Vlan { id, priority }),
            _ => Err(bad(
                "vlan",
                text,
                "use 1 to 4094, perhaps with a priority of 0 to 7 as in 100:5",
            )),
        }
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.priority)
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            guest: Ipv4Addr::new(10, 9, 0, 2),
            host: Ipv4Addr::new(10, 9, 0, 1),
            prefix_len: 24,
            ipv6: Some(Ipv6Network::default()),
            vlan: None,
            mac: MacAddress([0x52, 0x54, 0x00, 0x12, 0x34, 0x56]),
            mtu: 1500,
        }
    }
}

impl NetworkConfig {
    /// A wire for a dataplane at `address`, written `10.9.0.2` or `10.9.0.2/24`; the host's end is the
    /// first address of the subnet, or the second one where the dataplane has the first.
    pub fn for_guest(address: &str) -> Result<Self> {
        let (guest, prefix_len) = match address.split_once('/') {
            Some((guest, prefix)) => (guest, prefix.parse::<u8>().ok()),
            None => (address, Some(24)),
        };
        let guest: Ipv4Addr = guest.parse().map_err(|_| {
            bad(
                "ip",
                address,
                "write an IPv4 address like 10.9.0.2 or 10.9.0.2/24",
            )
        })?;
        let prefix_len = prefix_len
            .filter(|length| (8..=30).contains(length))
            .ok_or_else(|| {
                bad(
                    "ip",
                    address,
                    "the prefix length has to be between 8 and 30",
                )
            })?;
        let mask = u32::MAX << (32 - prefix_len);
        let subnet = guest.to_bits() & mask;
        if guest.to_bits() == subnet || guest.to_bits() == subnet | !mask {
            return Err(bad(
                "ip",
                address,
                "that is the subnet's own or its broadcast address",
            ));
        }
        if guest.is_loopback()
            || guest.is_multicast()
            || guest.is_unspecified()
            || guest.octets()[0] >= 240
        {
            return Err(bad(
                "ip",
                address,
                "a station needs a unicast address outside 127.0.0.0/8",
            ));
        }
        let first = subnet + 1;
        let host = if guest.to_bits() == first {
            first + 1
        } else {
            first
        };
        Ok(NetworkConfig {
            guest,
            host: Ipv4Addr::from_bits(host),
            prefix_len,
            ..NetworkConfig::default()
        })
    }
}

/// How the guest's writes to the descriptor tail registers reach the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doorbells {
    /// The doorbell pages are mapped into the guest: for a guest that polls.
    Mapped,
    /// Each write is a message: for a guest that sleeps, and for small hosts.
    Trapped,
}

impl fmt::Display for Doorbells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Doorbells::Mapped => "mapped",
            Doorbells::Trapped => "trapped",
        })
    }
}

impl FromStr for Doorbells {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "mapped" => Ok(Doorbells::Mapped),
            "trapped" => Ok(Doorbells::Trapped),
            _ => Err(bad("doorbells", text, "use mapped or trapped")),
        }
    }
}

/// Settings of `ixnicd` that the machine passes on. Those left `None` keep the model's own default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NicModelConfig {
    /// Record the wire here.
    pub pcap: Option<PathBuf>,
    /// How doorbells travel.
    pub doorbells: Option<Doorbells>,
    /// Probability that a frame is lost.
    pub loss: Option<f64>,
    /// Probability that a frame is put behind its successor.
    pub reorder: Option<f64>,
    /// Probability that a frame is delivered twice.
    pub duplicate: Option<f64>,
    /// Seed of the three above: the same seed injures the same frames.
    pub seed: Option<u64>,
    /// Further arguments, as they stand.
    pub extra_args: Vec<String>,
}

fn bad(what: &'static str, value: &str, why: &str) -> Error {
    Error::BadValue {
        what,
        value: value.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_end_is_the_first_address_that_the_guest_does_not_have() {
        let wire = NetworkConfig::for_guest("10.9.0.2").unwrap();
        assert_eq!(
            (wire.host, wire.prefix_len),
            (Ipv4Addr::new(10, 9, 0, 1), 24)
        );
        let wire = NetworkConfig::for_guest("192.168.7.1/30").unwrap();
        assert_eq!(
            (wire.host, wire.prefix_len),
            (Ipv4Addr::new(192, 168, 7, 2), 30)
        );
    }

    #[test]
    fn ipv6_ends_share_the_prefix_and_are_two() {
        let wire = Ipv6Network::for_guest("fd00:9::5").unwrap();
        assert_eq!(
            (wire.host.to_string().as_str(), wire.prefix_len),
            ("fd00:9::1", 64)
        );
        let wire = Ipv6Network::for_guest("fd00:9::1/48").unwrap();
        assert_eq!(
            (wire.host.to_string().as_str(), wire.prefix_len),
            ("fd00:9::2", 48)
        );
        for address in [
            "",
            "10.9.0.2",
            "fd00::",
            "fd00::2/127",
            "::1/64",
            "ff02::2",
            "::ffff:10.9.0.2/96",
        ] {
            let error = Ipv6Network::for_guest(address).unwrap_err();
            assert!(error.is_bad_input(), "{address}: {error}");
        }
    }

    #[test]
    fn cards_round_trip_and_unknown_ones_are_refused() {
        for text in ["82599", "vf", "igb", "virtio", "0000:03:00.0", "none"] {
            assert_eq!(text.parse::<NicKind>().unwrap().to_string(), text);
        }
        let error = "e1000".parse::<NicKind>().unwrap_err().to_string();
        assert!(error.contains("0000:03:00.0"), "{error}");
    }

    #[test]
    fn vlans_round_trip_and_impossible_ones_are_refused() {
        let vlan: Vlan = "100:5".parse().unwrap();
        assert_eq!(vlan.to_string(), "100:5");
        assert_eq!("7".parse::<Vlan>().unwrap().to_string(), "7:0");
        for text in ["", "0", "4095", "5:8", "5:", "x"] {
            assert!(text.parse::<Vlan>().is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_that_no_station_can_have_are_refused() {
        for address in [
            "",
            "10.9.0",
            "10.9.0.2/",
            "10.9.0.2/31",
            "10.9.0.2/7",
            "10.9.0.2/x",
            "10.9.0.0",
            "10.9.0.255/24",
            "127.0.0.2",
            "224.0.0.5",
            "255.1.1.1",
            "::1",
        ] {
            let error = NetworkConfig::for_guest(address).unwrap_err();
            assert!(error.is_bad_input(), "{address}: {error}");
        }
    }

    #[test]
    fn mac_round_trips_and_groups_are_refused() {
        let mac: MacAddress = "52:54:00:Ab:cd:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "53:54:00:ab:cd:01",
            "5:54:00:ab:cd:01",
            "00:00:00:00:00:00",
            "+1:54:00:ab:cd:01",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
