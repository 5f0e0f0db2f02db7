//! Which frames an observer wants: a small language.
//!
//! ```text
//! filter  = [ or ]                 nothing: every frame
//! or      = and { "or" and }
//! and     = not { "and" not }
//! not     = "not" not | "(" or ")" | test
//! test    = "arp" | "ip" | "ip6" | "icmp" | "icmp6" | "tcp" | "udp" | "proto" NUMBER
//!         | [ "src" | "dst" ] "host" ADDRESS | [ "src" | "dst" ] "port" NUMBER
//! ```
//!
//! Words mean what they mean to tcpdump; `proto` is a protocol or next header of IP, `host` also an
//! address that ARP is about, `port` one of TCP or UDP. Fragments after the first have no ports. One
//! VLAN tag is looked through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are looked through.
const MAX_EXTENSIONS: usize = 8;

/// Most words of a filter.
const MAX_WORDS: usize = 128;
/// Most levels of parentheses and `not`.
const MAX_DEPTH: usize = 16;

/// Which frames are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Option<Node>);

/// What is wrong with a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A word where another one has to be.
    #[error("`{found}` instead of {wanted}")]
    Unexpected {
        /// The word.
        found: String,
        /// What could be there.
        wanted: &'static str,
    },
    /// It ends too early.
    #[error("it ends where {0} has to follow")]
    Ends(&'static str),
    /// It is longer or deeper than anybody needs.
    #[error("it has more than {MAX_WORDS} words, or more than {MAX_DEPTH} levels")]
    TooLarge,
}

const TEST: &str = "arp, ip, ip6, icmp, icmp6, tcp, udp, proto, host, port, src, dst, not or (";

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// [`FilterError`].
    pub fn parse(text: &str) -> Result<Filter, FilterError> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        if words.is_empty() {
            return Ok(Filter(None));
        }
        if words.len() > MAX_WORDS {
            return Err(FilterError::TooLarge);
        }
        let mut parser = Parser { words: &words };
        let node = parser.or(0)?;
        match parser.words.first() {
            None => Ok(Filter(Some(node))),
            Some(word) => Err(unexpected(word, "`and`, `or` or the end")),
        }
    }

    /// Whether it wants `frame`.
    pub fn wants(&self, frame: &[u8]) -> bool {
        let Some(node) = &self.0 else { return true };
        node.is_true(&Fields::of(frame))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Test(Test),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    EtherType(u16),
    Protocol(u8),
    /// A protocol of one version of IP.
    ProtocolOf(u16, u8),
    Host(Side, IpAddr),
    Port(Side, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
    Either,
}

impl Node {
    fn is_true(&self, fields: &Fields) -> bool {
        match self {
            Node::Test(test) => test.is_true(fields),
            Node::Not(node) => !node.is_true(fields),
            Node::And(a, b) => a.is_true(fields) && b.is_true(fields),
            Node::Or(a, b) => a.is_true(fields) || b.is_true(fields),
        }
    }
}

impl Test {
    fn is_true(self, fields: &Fields) -> bool {
        match self {
            Test::EtherType(ethertype) => fields.ethertype == ethertype,
            Test::Protocol(protocol) => fields.protocol == Some(protocol),
            Test::ProtocolOf(ethertype, protocol) => {
                fields.ethertype == ethertype && fields.protocol == Some(protocol)
            }
            Test::Host(side, host) => side.has(fields.hosts, host),
            Test::Port(side, port) => side.has(fields.ports, port),
        }
    }
}

impl Side {
    fn has<T: PartialEq>(self, pair: Option<(T, T)>, value: T) -> bool {
        let Some((source, destination)) = pair else {
            return false;
        };
        match self {
            Side::Source => source == value,
            Side::Destination => destination == value,
            Side::Either => source == value || destination == value,
        }
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn or(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.and(depth)?;
        while self.skip("or") {
            node = Node::Or(Box::new(node), Box::new(self.and(depth)?));
        }
        Ok(node)
    }

    fn and(&mut self, depth: usize) -> Result<Node, FilterError> {
        let mut node = self.not(depth)?;
        while self.skip("and") {
            node = Node::And(Box::new(node), Box::new(self.not(depth)?));
        }
        Ok(node)
    }

    fn not(&mut self, depth: usize) -> Result<Node, FilterError> {
        if depth > MAX_DEPTH {
            return Err(FilterError::TooLarge);
        }
        if self.skip("not") {
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.skip("(") {
            let node = self.or(depth + 1)?;
            return match self.next("`)`")? {
                ")" => Ok(node),
                word => Err(unexpected(word, "`)`")),
            };
        }
        Ok(Node::Test(self.test()?))
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        Ok(match self.next(TEST)? {
            "arp" => Test::EtherType(ETHERTYPE_ARP),
            "ip" => Test::EtherType(ETHERTYPE_IPV4),
            "ip6" => Test::EtherType(ETHERTYPE_IPV6),
            "icmp" => Test::ProtocolOf(ETHERTYPE_IPV4, ICMP),
            "icmp6" => Test::ProtocolOf(ETHERTYPE_IPV6, ICMPV6),
            "tcp" => Test::Protocol(TCP),
            "udp" => Test::Protocol(UDP),
            "proto" => Test::Protocol(self.value("a number from 0 to 255")?),
            "src" => return self.side(Side::Source),
            "dst" => return self.side(Side::Destination),
            "host" => Test::Host(Side::Either, self.value("an address")?),
            "port" => Test::Port(Side::Either, self.value("a number from 0 to 65535")?),
            word => return Err(unexpected(word, TEST)),
        })
    }

    fn side(&mut self, side: Side) -> Result<Test, FilterError> {
        Ok(match self.next("`host` or `port`")? {
            "host" => Test::Host(side, self.value("an address")?),
            "port" => Test::Port(side, self.value("a number from 0 to 65535")?),
            word => return Err(unexpected(word, "`host` or `port`")),
        })
    }

    fn value<T: std::str::FromStr>(&mut self, wanted: &'static str) -> Result<T, FilterError> {
        let word = self.next(wanted)?;
        word.parse().map_err(|_| unexpected(word, wanted))
    }

    fn next(&mut self, wanted: &'static str) -> Result<&'a str, FilterError> {
        let (word, rest) = self.words.split_first().ok_or(FilterError::Ends(wanted))?;
        self.words = rest;
        Ok(word)
    }

    fn skip(&mut self, word: &str) -> bool {
        let is_next = self.words.first() == Some(&word);
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }
}

fn unexpected(found: &str, wanted: &'static str) -> FilterError {
    FilterError::Unexpected {
        found: found.to_owned(),
        wanted,
    }
}

/// What filters look at; what a frame does not have, or has only in part, is not there.
#[derive(Debug, Default)]
struct Fields {
    ethertype: u16,
    protocol: Option<u8>,
    hosts: Option<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
}

impl Fields {
    fn of(frame: &[u8]) -> Fields {
        let mut fields = Fields::default();
        let Some(mut ethertype) = word(frame, 12) else {
            return fields;
        };
        let mut offset = 14;
        if ethertype == ETHERTYPE_VLAN {
            ethertype = word(frame, 16).unwrap_or(0);
            offset = 18;
        }
        fields.ethertype = ethertype;
        let packet = frame.get(offset..).unwrap_or_default();
        // A header that is cut off leaves the fields behind it empty.
        let _ = match ethertype {
            ETHERTYPE_ARP => fields.arp(packet),
            ETHERTYPE_IPV4 => fields.ipv4(packet),
            ETHERTYPE_IPV6 => fields.ipv6(packet),
            _ => None,
        };
        fields
    }

    /// RFC 826, for Ethernet and IPv4: sender and target.
    fn arp(&mut self, packet: &[u8]) -> Option<()> {
        self.hosts = Some((ipv4_at(packet, 14)?, ipv4_at(packet, 24)?));
        Some(())
    }

    fn ipv4(&mut self, packet: &[u8]) -> Option<()> {
        self.hosts = Some((ipv4_at(packet, 12)?, ipv4_at(packet, 16)?));
        let protocol = packet[9];
        self.protocol = Some(protocol);
        let fragment_offset = word(packet, 6)? & 0x1fff;
        let header = usize::from(packet[0] & 0xf) * 4;
        if fragment_offset == 0 {
            self.transport(protocol, packet.get(header..)?);
        }
        Some(())
    }

    fn ipv6(&mut self, packet: &[u8]) -> Option<()> {
        self.hosts = Some((ipv6_at(packet, 8)?, ipv6_at(packet, 24)?));
        let (mut protocol, mut offset) = (packet[6], 40);
        for _ in 0..MAX_EXTENSIONS {
            self.protocol = Some(protocol);
            let next = || packet.get(offset).copied();
            let units = || packet.get(offset + 1).map(|units| usize::from(*units));
            match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    (protocol, offset) = (next()?, offset + 8 + 8 * units()?);
                }
                FRAGMENT => {
                    let is_first = word(packet, offset + 2)? & 0xfff8 == 0;
                    (protocol, offset) = (next()?, offset + 8);
                    if !is_first {
                        self.protocol = Some(protocol);
                        return None;
                    }
                }
                _ => {
                    self.transport(protocol, packet.get(offset..)?);
                    break;
                }
            }
        }
        Some(())
    }

    fn transport(&mut self, protocol: u8, segment: &[u8]) {
        if matches!(protocol, TCP | UDP) {
            self.ports = word(segment, 0).zip(word(segment, 2));
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn ipv4_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn ipv6_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An Ethernet header, perhaps with a VLAN tag, before `packet`.
    fn frame(vlan: bool, ethertype: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        if vlan {
            frame.extend([0x81, 0x00, 0, 5]);
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(packet);
        frame
    }

    /// From 10.0.0.1:1000 to 10.0.0.2:7.
    fn ipv4(protocol: u8, fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0x03, 0xe8, 0, 7, 0, 0, 0, 0]);
        frame(false, ETHERTYPE_IPV4, &packet)
    }

    /// The same between fd00::1 and fd00::2, behind destination options and perhaps in a fragment.
    fn ipv6(protocol: u8, fragment: Option<u16>) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, DESTINATION_OPTIONS, 64];
        for last in [1, 2] {
            packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).octets());
        }
        let behind = fragment.map_or(protocol, |_| FRAGMENT);
        packet.extend([behind, 0, 1, 4, 0, 0, 0, 0]);
        if let Some(offset) = fragment {
            packet.extend([protocol, 0]);
            packet.extend(offset.to_be_bytes());
            packet.extend([0; 4]);
        }
        packet.extend([0x03, 0xe8, 0, 7, 0, 0, 0, 0]);
        frame(true, ETHERTYPE_IPV6, &packet)
    }

    fn arp() -> Vec<u8> {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 2, 2, 2, 2, 2, 10, 0, 0, 1];
        packet.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        frame(false, ETHERTYPE_ARP, &packet)
    }

    fn wants(text: &str, frame: &[u8]) -> bool {
        Filter::parse(text).unwrap().wants(frame)
    }

    #[test]
    fn words_mean_what_they_say() {
        let (tcp, udp) = (ipv4(TCP, 0), ipv6(UDP, None));
        for (text, of_tcp, of_udp, of_arp) in [
            ("", true, true, true),
            ("arp", false, false, true),
            ("ip", true, false, false),
            ("ip6", false, true, false),
            ("tcp", true, false, false),
            ("udp", false, true, false),
            ("icmp or icmp6", false, false, false),
            ("proto 17", false, true, false),
            ("port 7", true, true, false),
            ("src port 7", false, false, false),
            ("dst port 7 and src port 1000", true, true, false),
            ("host 10.0.0.2", true, false, true),
            ("src host 10.0.0.2", false, false, false),
            ("dst host fd00::2", false, true, false),
            ("not (tcp or arp)", false, true, false),
            ("not tcp and not arp", false, true, false),
            ("tcp and port 8 or arp", false, false, true),
        ] {
            assert_eq!(wants(text, &tcp), of_tcp, "{text}");
            assert_eq!(wants(text, &udp), of_udp, "{text}");
            assert_eq!(wants(text, &arp()), of_arp, "{text}");
        }
        assert!(wants("icmp", &ipv4(ICMP, 0)) && !wants("icmp6", &ipv4(ICMP, 0)));
        assert!(wants("icmp6", &ipv6(ICMPV6, None)));
    }

    #[test]
    fn fragments_after_the_first_have_no_ports() {
        assert!(wants("tcp and port 7", &ipv4(TCP, 0x2000)));
        assert!(wants("tcp and not port 7", &ipv4(TCP, 0x2001)));
        assert!(wants("udp and port 7", &ipv6(UDP, Some(1))));
        assert!(wants("udp and not port 7", &ipv6(UDP, Some(8))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (text, part) in [
            ("frogs", "`frogs` instead of arp, ip"),
            ("port", "ends where a number from 0 to 65535"),
            ("port 65536", "`65536` instead of"),
            ("host x", "`x` instead of an address"),
            ("tcp and", "ends where arp, ip"),
            ("tcp udp", "`udp` instead of `and`"),
            ("( tcp", "ends where `)`"),
            ("src tcp", "`tcp` instead of `host` or `port`"),
            (&"not ".repeat(40), "levels"),
            (&"tcp or ".repeat(80), "words"),
        ] {
            let error = Filter::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_frame_gets_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..128), kind in 0..3usize) {
            let mut bytes = bytes;
            if bytes.len() >= 14 {
                let kinds = [ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP];
                bytes[12..14].copy_from_slice(&kinds[kind].to_be_bytes());
            }
            let filter = Filter::parse("port 7 or host 10.0.0.1 or icmp6").unwrap();
            filter.wants(&bytes);
        }
    }
}
