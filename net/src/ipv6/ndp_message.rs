//! Neighbour discovery messages as bytes (RFC 4861 4): what they say, and those that we send.

use crate::address::IpAddress;
use crate::wire::{be16, be32, be64, put_address};

/// Types of ICMPv6 messages.
pub(crate) const ROUTER_SOLICITATION: u8 = 133;
pub(crate) const ROUTER_ADVERTISEMENT: u8 = 134;
pub(crate) const NEIGHBOR_SOLICITATION: u8 = 135;
pub(crate) const NEIGHBOR_ADVERTISEMENT: u8 = 136;
pub(crate) const REDIRECT: u8 = 137;

/// Bytes of the longest message that we send.
pub(crate) const LONGEST: usize = 32;

/// Types of options.
const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Somebody asks who has an address.
    Solicitation {
        target: IpAddress,
        source_mac: Option<[u8; 6]>,
    },
    /// Somebody has it.
    Advertisement {
        target: IpAddress,
        target_mac: Option<[u8; 6]>,
        is_router: bool,
        solicited: bool,
        overrides: bool,
    },
    /// A router is there.
    Router(RouterAdvertisement<'a>),
}

/// What a router says of itself and the link (RFC 4861 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouterAdvertisement<'a> {
    /// How long it is a default router, 0 if it is none.
    pub lifetime_s: u16,
    pub source_mac: Option<[u8; 6]>,
    pub mtu: Option<u32>,
    pub prefixes: Prefixes<'a>,
}

impl<'a> Message<'a> {
    /// Reads a message whose checksum is right, and which came between these addresses; `None` if it
    /// is not valid by RFC 4861 6.1.2, 7.1.1 and 7.1.2 (the hop limit is the caller's), or none of
    /// these.
    pub fn parse(bytes: &'a [u8], source: IpAddress, destination: IpAddress) -> Option<Self> {
        let (kind, code) = (*bytes.first()?, *bytes.get(1)?);
        let options_at = match kind {
            NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT => 24,
            ROUTER_ADVERTISEMENT => 16,
            _ => return None,
        };
        let options = Options::parse(bytes.get(options_at..)?)?;
        if code != 0 {
            return None;
        }
        if kind == ROUTER_ADVERTISEMENT {
            let router = RouterAdvertisement {
                lifetime_s: be16(bytes, 6),
                source_mac: options.source_mac,
                mtu: options.mtu,
                prefixes: Prefixes { rest: options.all },
            };
            return source.is_link_local().then_some(Self::Router(router));
        }
        let target = IpAddress::from_words(be64(bytes, 8), be64(bytes, 16));
        if target.is_multicast() {
            return None;
        }
        if kind == NEIGHBOR_ADVERTISEMENT {
            let flags = bytes[4];
            let solicited = flags & 0x40 != 0;
            return (!destination.is_multicast() || !solicited).then_some(Self::Advertisement {
                target,
                target_mac: options.target_mac,
                is_router: flags & 0x80 != 0,
                solicited,
                overrides: flags & 0x20 != 0,
            });
        }
        // One without an address asks for the one that it wants, and has nothing to tell.
        let is_sound = !source.is_unspecified()
            || destination == target.solicited_node() && options.source_mac.is_none();
        is_sound.then_some(Self::Solicitation {
            target,
            source_mac: options.source_mac,
        })
    }
}

/// The options of a message, all of them of some length.
struct Options<'a> {
    all: &'a [u8],
    source_mac: Option<[u8; 6]>,
    target_mac: Option<[u8; 6]>,
    mtu: Option<u32>,
}

impl<'a> Options<'a> {
    fn parse(all: &'a [u8]) -> Option<Self> {
        let mut options = Self {
            all,
            source_mac: None,
            target_mac: None,
            mtu: None,
        };
        let mut rest = all;
        while !rest.is_empty() {
            let (option, behind) = split_option(rest)?;
            let mac = || station(option[2..].first_chunk::<6>().copied());
            match option[0] {
                SOURCE_MAC => options.source_mac = mac(),
                TARGET_MAC => options.target_mac = mac(),
                MTU => options.mtu = Some(be32(option, 4)),
                _ => {}
            }
            rest = behind;
        }
        Some(options)
    }
}

/// A MAC address that can be that of a station.
fn station(mac: Option<[u8; 6]>) -> Option<[u8; 6]> {
    mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])
}

/// The first option, at least 8 bytes long, and what is behind it.
fn split_option(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::from(*bytes.get(1)?) * 8;
    match len {
        0 => None,
        _ => bytes.split_at_checked(len),
    }
}

/// The prefixes that a router advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefixes<'a> {
    rest: &'a [u8],
}

/// A prefix that a router advertises (RFC 4861 4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixInformation {
    pub prefix: IpAddress,
    pub len: u8,
    pub is_on_link: bool,
    /// Addresses may be made of it.
    pub is_autonomous: bool,
    pub valid_s: u32,
    pub preferred_s: u32,
}

impl Iterator for Prefixes<'_> {
    type Item = PrefixInformation;

    fn next(&mut self) -> Option<PrefixInformation> {
        loop {
            let (option, behind) = split_option(self.rest)?;
            self.rest = behind;
            if option[0] == PREFIX_INFORMATION && option.len() == 32 {
                return Some(PrefixInformation {
                    prefix: IpAddress::from_words(be64(option, 16), be64(option, 24)),
                    len: option[2].min(128),
                    is_on_link: option[3] & 0x80 != 0,
                    is_autonomous: option[3] & 0x40 != 0,
                    valid_s: be32(option, 4),
                    preferred_s: be32(option, 8),
                });
            }
        }
    }
}

/// A message to send, without its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Outgoing {
    /// Asks who has `target`; one without an address keeps its MAC address to itself.
    pub fn solicitation(target: IpAddress, mac: Option<[u8; 6]>) -> Self {
        let mut message = Self::new(NEIGHBOR_SOLICITATION, 24);
        put_address(&mut message.bytes, 8, target);
        message.push_mac(SOURCE_MAC, mac);
        message
    }

    /// Says that we have `target`.
    pub fn advertisement(target: IpAddress, mac: [u8; 6], is_solicited: bool) -> Self {
        let mut message = Self::new(NEIGHBOR_ADVERTISEMENT, 24);
        message.bytes[4] = if is_solicited { 0x60 } else { 0x20 };
        put_address(&mut message.bytes, 8, target);
        message.push_mac(TARGET_MAC, Some(mac));
        message
    }

    /// Asks for routers.
    pub fn router_solicitation(mac: [u8; 6]) -> Self {
        let mut message = Self::new(ROUTER_SOLICITATION, 8);
        message.push_mac(SOURCE_MAC, Some(mac));
        message
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn new(kind: u8, len: usize) -> Self {
        let mut bytes = [0; LONGEST];
        bytes[0] = kind;
        Self { bytes, len }
    }

    fn push_mac(&mut self, option: u8, mac: Option<[u8; 6]>) {
        if let Some(mac) = mac {
            self.bytes[self.len..self.len + 2].copy_from_slice(&[option, 1]);
            self.bytes[self.len + 2..self.len + 8].copy_from_slice(&mac);
            self.len += 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const PEER: IpAddress = IpAddress::from_words(0xfe80 << 48, 9);
    const OWN: IpAddress = IpAddress::from_words(0xfe80 << 48, 1);

    #[test]
    fn messages_are_read_as_they_were_written() {
        let message = Outgoing::solicitation(OWN, Some(MAC));
        let expected = Message::Solicitation {
            target: OWN,
            source_mac: Some(MAC),
        };
        let group = OWN.solicited_node();
        assert_eq!(Message::parse(message.bytes(), PEER, group), Some(expected));
        for is_solicited in [false, true] {
            let message = Outgoing::advertisement(OWN, MAC, is_solicited);
            let expected = Message::Advertisement {
                target: OWN,
                target_mac: Some(MAC),
                is_router: false,
                solicited: is_solicited,
                overrides: true,
            };
            assert_eq!(Message::parse(message.bytes(), PEER, OWN), Some(expected));
        }
    }

    #[test]
    fn messages_that_are_not_valid_are_refused() {
        let good = Outgoing::solicitation(OWN, Some(MAC));
        for len in 0..good.len {
            let is_whole = len == 24;
            let read = Message::parse(&good.bytes()[..len], PEER, OWN);
            assert_eq!(read.is_some(), is_whole, "{len} bytes");
        }
        let refuse = |at: usize, value: u8| {
            let mut bad = good;
            bad.bytes[at] = value;
            assert_eq!(Message::parse(bad.bytes(), PEER, OWN), None);
        };
        refuse(1, 1);
        refuse(8, 0xff);
        refuse(25, 0);
        let nobody = IpAddress::UNSPECIFIED;
        let group = OWN.solicited_node();
        assert_eq!(Message::parse(good.bytes(), nobody, group), None);
        let anonymous = Outgoing::solicitation(OWN, None);
        assert!(Message::parse(anonymous.bytes(), nobody, group).is_some());
        assert_eq!(Message::parse(anonymous.bytes(), nobody, OWN), None);
        let answer = Outgoing::advertisement(OWN, MAC, true);
        let all = IpAddress::ALL_NODES;
        assert_eq!(Message::parse(answer.bytes(), PEER, all), None);
    }

    #[test]
    fn router_advertisement_is_read_with_its_options() {
        let mut bytes = alloc::vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        bytes.extend([5, 1, 0, 0, 0, 0, 5, 0xdc]);
        bytes.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 7, 8, 0, 0, 0, 0]);
        bytes.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let Some(Message::Router(router)) = Message::parse(&bytes, PEER, IpAddress::ALL_NODES)
        else {
            panic!("a router advertisement");
        };
        assert_eq!(
            (router.lifetime_s, router.source_mac, router.mtu),
            (0x708, Some(MAC), Some(1500))
        );
        let expected = PrefixInformation {
            prefix: IpAddress::from_words(0x2001_0db8 << 32, 0),
            len: 64,
            is_on_link: true,
            is_autonomous: true,
            valid_s: 3600,
            preferred_s: 1800,
        };
        assert_eq!(router.prefixes.collect::<Vec<_>>(), [expected]);
        let far = IpAddress::from_words(0x2001_0db8 << 32, 9);
        assert_eq!(Message::parse(&bytes, far, IpAddress::ALL_NODES), None);
    }
}
