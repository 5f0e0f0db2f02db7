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
    fn endpoints_print_as_usual() {
        let address = IpAddress::from_ipv4(0x0a00_0002);
        assert_eq!(Endpoint { address, port: 80 }.to_string(), "10.0.0.2:80");
        let address = IpAddress::from_words(0xfe80_0000_0000_0000, 1);
        assert_eq!(Endpoint { address, port: 80 }.to_string(), "[fe80::1]:80");
    }
}
