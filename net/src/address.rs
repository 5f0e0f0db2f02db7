//! Network addresses as the engine keeps them: 16 bytes for both families, so that one flow key,
//! one table and one set of calls serve IPv4 and IPv6.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First bits of an IPv4-mapped IPv6 address (RFC 4291 2.5.5.2), in the low word.
const MAPPED: u64 = 0xffff_0000_0000;

/// An IPv6 address, or an IPv4 one in its mapped form `::ffff:a.b.c.d`, as two big-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IpAddress {
    /// First eight bytes.
    pub high: u64,
    /// Last eight bytes.
    pub low: u64,
}

impl IpAddress {
    /// The address in the two words that the ABI uses.
    #[inline]
    pub const fn from_words(high: u64, low: u64) -> Self {
        Self { high, low }
    }

    /// An IPv4 address given as a big-endian number.
    #[inline]
    pub const fn from_ipv4(address: u32) -> Self {
        Self {
            high: 0,
            low: MAPPED | address as u64,
        }
    }

    /// The IPv4 address as a big-endian number, unless this is an IPv6 address.
    #[inline]
    pub const fn ipv4(self) -> Option<u32> {
        if self.high == 0 && self.low >> 32 == MAPPED >> 32 {
            Some(self.low as u32)
        } else {
            None
        }
    }
}

/// What only IPv6 addresses have.
impl IpAddress {
    /// All bits, as one big-endian number.
    pub(crate) const fn bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// The link-local address of a station (RFC 4291 2.5.6, appendix A).
    pub(crate) fn link_local(mac: [u8; 6]) -> Self {
        Self::from_words(0xfe80 << 48, 0).with_interface(mac)
    }

    /// A prefix of 64 bits with the interface identifier that a MAC address makes (RFC 2464 4).
    pub(crate) fn with_interface(self, mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        let low = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        Self::from_words(self.high, low)
    }

    /// The group that is asked who has this address (RFC 4291 2.7.1).
    pub(crate) fn solicited_node(self) -> Self {
        Self::from_words(0xff02 << 48, 0x1_ff00_0000 | self.low & 0xff_ffff)
    }

    /// The MAC address of a multicast group (RFC 2464 7).
    pub(crate) fn multicast_mac(self) -> [u8; 6] {
        let [.., a, b, c, d] = self.low.to_be_bytes();
        [0x33, 0x33, a, b, c, d]
    }

    /// Whether this is a multicast group.
    pub(crate) fn is_multicast(self) -> bool {
        self.high >> 56 == 0xff
    }

    /// Whether this is a link-local address.
    pub(crate) fn is_link_local(self) -> bool {
        self.high >> 54 == 0xfe80 >> 6
    }

    /// `::`
    pub(crate) fn is_unspecified(self) -> bool {
        self == Self::UNSPECIFIED
    }

    /// Scope by the numbers of RFC 4291 2.7: 2 is link-local, 14 global.
    pub(crate) fn scope(self) -> u8 {
        match self.is_multicast() {
            true => (self.high >> 48 & 15) as u8,
            false if self.is_link_local() => 2,
            false => 14,
        }
    }

    /// Whether the first `len` bits are those of another address.
    pub(crate) fn shares_prefix(self, other: Self, len: u8) -> bool {
        (self.bits() ^ other.bits()).leading_zeros() >= u32::from(len)
    }

    /// The source of one who has no address yet.
    pub(crate) const UNSPECIFIED: Self = Self::from_words(0, 0);
    /// All nodes on the link.
    pub(crate) const ALL_NODES: Self = Self::from_words(0xff02 << 48, 1);
    /// All routers on the link.
    pub(crate) const ALL_ROUTERS: Self = Self::from_words(0xff02 << 48, 2);
}

impl From<Ipv6Addr> for IpAddress {
    fn from(address: Ipv6Addr) -> Self {
        let bits = address.to_bits();
        Self::from_words((bits >> 64) as u64, bits as u64)
    }
}

impl From<Ipv4Addr> for IpAddress {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_ipv4(address.to_bits())
    }
}

impl From<IpAddress> for IpAddr {
    fn from(address: IpAddress) -> Self {
        match address.ipv4() {
            Some(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            None => IpAddr::V6(Ipv6Addr::from_bits(
                u128::from(address.high) << 64 | u128::from(address.low),
            )),
        }
    }
}

impl fmt::Display for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// Network address.
    pub address: IpAddress,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.ipv4() {
            Some(_) => write!(f, "{}:{}", self.address, self.port),
            None => write!(f, "[{}]:{}", self.address, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ipv4_is_kept_in_its_mapped_form() {
        let address = IpAddress::from(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(address.ipv4(), Some(0x0a00_0002));
        assert_eq!(
            (address.high, address.low),
            ix_abi::ipv4_to_words(0x0a00_0002)
        );
        assert_eq!(IpAddress::from_words(1, address.low).ipv4(), None);
    }

    #[test]
    fn addresses_and_groups_follow_from_the_mac_address() {
        let own = IpAddress::link_local([2, 0, 0, 0x12, 0x34, 0x56]);
        assert_eq!(own.to_string(), "fe80::ff:fe12:3456");
        let group = own.solicited_node();
        assert_eq!(group.to_string(), "ff02::1:ff12:3456");
        assert_eq!(group.multicast_mac(), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!((own.scope(), group.scope()), (2, 2));
        assert!(own.is_link_local() && !group.is_link_local());
    }

    #[test]
    fn endpoints_print_as_usual() {
        let address = IpAddress::from_ipv4(0x0a00_0002);
        assert_eq!(Endpoint { address, port: 80 }.to_string(), "10.0.0.2:80");
        let address = IpAddress::from_words(0xfe80_0000_0000_0000, 1);
        assert_eq!(Endpoint { address, port: 80 }.to_string(), "[fe80::1]:80");
    }
}
