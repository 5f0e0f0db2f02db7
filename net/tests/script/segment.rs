//! Segments of a script: building them, and comparing what was sent, through `smoltcp::wire`, so
//! that the engine's own reading and writing of headers is checked by another implementation.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, IpProtocol, Ipv4Packet,
    Ipv6Packet, TcpOption, TcpPacket, TcpSeqNumber,
};

/// The scripted peer, and the engine.
const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
/// The same over IPv6.
pub const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const LOCAL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Its port.
pub const PEER_PORT: u16 = 40_000;
/// The peer's initial sequence number: close to the wrap, so that streams cross it.
const PEER_ISS: u32 = 0xffff_fc18;
const ETHERNET: usize = 14;

/// What a script runs over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    Ipv4,
    Ipv6,
}

impl Family {
    /// The peer's address.
    pub fn peer(self) -> IpAddr {
        match self {
            Self::Ipv4 => PEER.into(),
            Self::Ipv6 => PEER6.into(),
        }
    }

    /// The engine's address.
    pub fn local(self) -> IpAddr {
        match self {
            Self::Ipv4 => LOCAL.into(),
            Self::Ipv6 => LOCAL6.into(),
        }
    }

    /// Where the TCP header starts in a frame.
    fn headers(self) -> usize {
        match self {
            Self::Ipv4 => 34,
            Self::Ipv6 => 54,
        }
    }
}

/// The byte at a position of the peer's stream.
pub fn peer_byte(position: u64) -> u8 {
    (position as u8).wrapping_mul(31).wrapping_add(7)
}

/// What has been learnt of the engine's side.
#[derive(Default)]
pub struct Numbers {
    /// The family of all segments.
    pub family: Family,
    iss: Option<u32>,
    port: Option<u16>,
    /// The engine opens the connection: its port is to be learnt too.
    pub connects: bool,
    timestamp: u32,
}

impl Numbers {
    /// Nothing is learnt yet.
    pub fn of(family: Family) -> Self {
        Self {
            family,
            ..Self::default()
        }
    }

    /// What an ICMP error quotes at least of the engine's segment with that number.
    pub fn first_bytes_of(&self, seq: u32) -> Vec<u8> {
        let seq = self.iss.unwrap_or(0).wrapping_add(seq);
        let ports = [self.port(), PEER_PORT];
        let ports = ports.into_iter().flat_map(u16::to_be_bytes);
        ports.chain(seq.to_be_bytes()).collect()
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(super::PORT)
    }
}

/// A question by which the engine learns the peer's MAC address.
pub fn introduction(family: Family) -> Vec<u8> {
    match family {
        Family::Ipv4 => arp_request(),
        Family::Ipv6 => neighbor_solicitation(),
    }
}

fn neighbor_solicitation() -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(LOCAL6.octets());
    message.extend([1, 1]);
    message.extend(PEER_MAC);
    Icmpv6Packet::new_unchecked(&mut message).fill_checksum(&PEER6, &LOCAL6);
    let mut frame = [LOCAL_MAC, PEER_MAC].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(PEER6.octets());
    frame.extend(LOCAL6.octets());
    frame.extend(message);
    frame
}

fn arp_request() -> Vec<u8> {
    let mut frame = [LOCAL_MAC, PEER_MAC].concat();
    frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&PEER_MAC);
    frame.extend_from_slice(&PEER.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&LOCAL.octets());
    frame
}

/// Whether a frame is about who is where: ARP, or ICMPv6, perhaps behind hop-by-hop options, which
/// scripts speak of in no other way.
pub fn is_discovery(frame: &[u8]) -> bool {
    let is_icmpv6 = matches!(frame.get(20), Some(58 | 0));
    frame.get(12..14) == Some(&[8, 6]) || frame.get(12..14) == Some(&[0x86, 0xdd]) && is_icmpv6
}

/// Writes Ethernet and IP header of the peer into a frame.
fn emit_headers(frame: &mut [u8], family: Family, codepoint: u8) {
    let total = frame.len();
    let mut ethernet = EthernetFrame::new_unchecked(&mut *frame);
    ethernet.set_dst_addr(EthernetAddress(LOCAL_MAC));
    ethernet.set_src_addr(EthernetAddress(PEER_MAC));
    if family == Family::Ipv6 {
        ethernet.set_ethertype(EthernetProtocol::Ipv6);
        let mut ip = Ipv6Packet::new_unchecked(&mut frame[ETHERNET..]);
        ip.set_version(6);
        ip.set_traffic_class(codepoint);
        ip.set_payload_len((total - family.headers()) as u16);
        ip.set_hop_limit(64);
        ip.set_next_header(IpProtocol::Tcp);
        ip.set_src_addr(PEER6);
        ip.set_dst_addr(LOCAL6);
        return;
    }
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut ip = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
    ip.set_version(4);
    ip.set_header_len(20);
    ip.set_total_len((total - ETHERNET) as u16);
    ip.set_hop_limit(64);
    ip.set_next_header(IpProtocol::Tcp);
    ip.set_ecn(codepoint);
    ip.set_src_addr(PEER);
    ip.set_dst_addr(LOCAL);
    ip.fill_checksum();
}

/// The TCP segment in a frame of the engine, and its ECN codepoint.
fn tcp_of(frame: &[u8], family: Family) -> Result<(&[u8], u8), String> {
    let ethernet = EthernetFrame::new_checked(frame).map_err(|_| "a short frame")?;
    let packet = &frame[ETHERNET..];
    match (family, ethernet.ethertype()) {
        (Family::Ipv4, EthernetProtocol::Ipv4) => {
            let ip = Ipv4Packet::new_checked(packet).map_err(|_| "a bad IPv4 header")?;
            let is_right = ip.verify_checksum() && (ip.src_addr(), ip.dst_addr()) == (LOCAL, PEER);
            let whole = usize::from(ip.total_len()) == packet.len();
            (is_right && whole)
                .then_some((&packet[20..], ip.ecn()))
                .ok_or("a wrong IPv4 header".into())
        }
        (Family::Ipv6, EthernetProtocol::Ipv6) => {
            let ip = Ipv6Packet::new_checked(packet).map_err(|_| "a bad IPv6 header")?;
            let is_right = (ip.src_addr(), ip.dst_addr()) == (LOCAL6, PEER6);
            (is_right && ip.total_len() == packet.len() && ip.next_header() == IpProtocol::Tcp)
                .then_some((&packet[40..], ip.traffic_class() & 3))
                .ok_or("a wrong IPv6 header".into())
        }
        (_, other) => Err(format!("sent a frame of {other}")),
    }
}

/// What a script says of a segment; numbers are relative to the initial ones.
#[derive(Default)]
pub struct Fields {
    control: String,
    seq: Option<u32>,
    ack: Option<u32>,
    len: Option<u32>,
    window: Option<u16>,
    mss: Option<u16>,
    window_scale: Option<u8>,
    sack_permitted: bool,
    timestamps: Option<(Option<u32>, Option<u32>)>,
    /// How far behind the engine's latest timestamp the echo is, if it is not given as a number.
    echo_age: u32,
    sack: Vec<(u32, u32)>,
    port: Option<u16>,
    /// The ECN codepoint of the packet.
    codepoint: u8,
    /// Options that must not be there.
    absent: Vec<String>,
}

impl Fields {
    /// Reads the words behind the arrow.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let mut fields = Self {
            control: words.first().ok_or("control bits are missing")?.to_string(),
            ..Self::default()
        };
        let mut words = words[1..].iter();
        while let Some(word) = words.next() {
            let mut next = || words.next().copied().ok_or(format!("{word} needs a value"));
            match *word {
                "seq" => fields.seq = Some(number(next()?)?),
                "ack" => fields.ack = Some(number(next()?)?),
                "len" => fields.len = Some(number(next()?)?),
                "win" => fields.window = Some(number(next()?)? as u16),
                "mss" => fields.mss = Some(number(next()?)? as u16),
                "ws" => fields.window_scale = Some(number(next()?)? as u8),
                "sackok" => fields.sack_permitted = true,
                "ect" => fields.codepoint = 2,
                "ce" => fields.codepoint = 3,
                "ts" => {
                    let value = wild(next()?)?;
                    let echo = next()?;
                    if let Some(age) = echo.strip_prefix("*-") {
                        fields.echo_age = number(age)?;
                        fields.timestamps = Some((value, None));
                    } else {
                        fields.timestamps = Some((value, wild(echo)?));
                    }
                }
                "port" => fields.port = Some(number(next()?)? as u16),
                "no" => fields.absent.push(next()?.to_string()),
                "sack" => fields.sack.push(range(next()?)?),
                _ => return Err(format!("{word} is no field of a segment")),
            }
        }
        Ok(fields)
    }

    /// The frame that the peer sends.
    pub fn build(&self, numbers: &mut Numbers) -> Vec<u8> {
        let mut options = Vec::new();
        self.emit_options(&mut options, numbers);
        let len = self.len.unwrap_or(0) as usize;
        let family = numbers.family;
        let headers = family.headers();
        let mut frame = vec![0; headers + 20 + options.len() + len];
        emit_headers(&mut frame, family, self.codepoint);
        let mut tcp = TcpPacket::new_unchecked(&mut frame[headers..]);
        let seq = self.seq.unwrap_or(0);
        tcp.set_src_port(self.port.unwrap_or(PEER_PORT));
        tcp.set_dst_port(numbers.port());
        tcp.set_seq_number(TcpSeqNumber(PEER_ISS.wrapping_add(seq) as i32));
        let ack = self
            .ack
            .map_or(0, |ack| numbers.iss.unwrap_or(0).wrapping_add(ack));
        tcp.set_ack_number(TcpSeqNumber(ack as i32));
        tcp.set_header_len((20 + options.len()) as u8);
        tcp.set_syn(self.control.contains('S'));
        tcp.set_fin(self.control.contains('F'));
        tcp.set_rst(self.control.contains('R'));
        tcp.set_psh(self.control.contains('P'));
        tcp.set_ack(self.control.contains('.'));
        tcp.set_ece(self.control.contains('E'));
        tcp.set_cwr(self.control.contains('W'));
        tcp.set_window_len(self.window.unwrap_or(60_000));
        let payload = headers + 20 + options.len();
        frame[headers + 20..payload].copy_from_slice(&options);
        for (at, byte) in frame[payload..].iter_mut().enumerate() {
            // The stream begins behind the SYN.
            *byte = peer_byte(u64::from(seq.wrapping_sub(1)) + at as u64);
        }
        let (peer, local) = (family.peer().into(), family.local().into());
        TcpPacket::new_unchecked(&mut frame[headers..]).fill_checksum(&peer, &local);
        frame
    }

    fn emit_options(&self, bytes: &mut Vec<u8>, numbers: &Numbers) {
        if let Some(mss) = self.mss {
            bytes.extend_from_slice(&[2, 4]);
            bytes.extend_from_slice(&mss.to_be_bytes());
        }
        if let Some(scale) = self.window_scale {
            bytes.extend_from_slice(&[1, 3, 3, scale]);
        }
        if self.sack_permitted {
            bytes.extend_from_slice(&[1, 1, 4, 2]);
        }
        if let Some((value, echo)) = self.timestamps {
            bytes.extend_from_slice(&[1, 1, 8, 10]);
            bytes.extend_from_slice(&value.unwrap_or(0).to_be_bytes());
            let latest = numbers.timestamp.wrapping_sub(self.echo_age);
            bytes.extend_from_slice(&echo.unwrap_or(latest).to_be_bytes());
        }
        if !self.sack.is_empty() {
            bytes.extend_from_slice(&[1, 1, 5, 2 + 8 * self.sack.len() as u8]);
            let iss = numbers.iss.unwrap_or(0);
            for (left, right) in &self.sack {
                bytes.extend_from_slice(&iss.wrapping_add(*left).to_be_bytes());
                bytes.extend_from_slice(&iss.wrapping_add(*right).to_be_bytes());
            }
        }
    }
}

/// What a script expects of a segment.
pub struct Expected(Fields);

impl Expected {
    /// Reads the words behind the arrow.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        Fields::parse(words).map(Self)
    }

    /// Compares a frame with what was expected: control bits, and every field that is given.
    pub fn check(&self, frame: &[u8], numbers: &mut Numbers) -> Result<(), String> {
        let got = read(frame, numbers)?;
        let wanted = &self.0;
        let is_payload_right = wanted.len.unwrap_or(0) == got.len.unwrap_or(0);
        let has = |name: &str| match name {
            "mss" => got.mss.is_some(),
            "ws" => got.window_scale.is_some(),
            "sackok" => got.sack_permitted,
            "ts" => got.timestamps.is_some(),
            "sack" => !got.sack.is_empty(),
            "ect" => got.codepoint != 0,
            _ => true,
        };
        let echo = |fields: &Fields| fields.timestamps.and_then(|(_, echo)| echo);
        let is_right = wanted.control == got.control
            && is_payload_right
            && agrees(wanted.seq, got.seq)
            && agrees(wanted.ack, got.ack)
            && agrees(wanted.window, got.window)
            && agrees(wanted.mss, got.mss)
            && agrees(wanted.window_scale, got.window_scale)
            && (!wanted.sack_permitted || got.sack_permitted)
            && (wanted.codepoint == 0 || wanted.codepoint == got.codepoint)
            && (wanted.timestamps.is_none() || got.timestamps.is_some())
            && agrees(echo(wanted), echo(&got))
            && (wanted.sack.is_empty() || wanted.sack == got.sack)
            && !wanted.absent.iter().any(|name| has(name));
        is_right
            .then_some(())
            .ok_or_else(|| format!("sent {}", text(frame, numbers)))
    }
}

/// Reads a frame that the engine sent, and learns its numbers from a SYN.
fn read(frame: &[u8], numbers: &mut Numbers) -> Result<Fields, String> {
    let (segment, codepoint) = tcp_of(frame, numbers.family)?;
    let tcp = TcpPacket::new_checked(segment).map_err(|_| "a bad TCP header")?;
    let (peer, local) = (numbers.family.peer().into(), numbers.family.local().into());
    if !tcp.verify_checksum(&local, &peer) {
        return Err("a wrong TCP checksum".into());
    }
    let raw_seq = tcp.seq_number().0 as u32;
    if tcp.syn() {
        numbers.iss.get_or_insert(raw_seq);
        if numbers.connects {
            numbers.port.get_or_insert(tcp.src_port());
        }
    }
    let bits = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.ack(), '.'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
    ];
    let is_reset = tcp.rst() && !tcp.ack();
    let mut fields = Fields {
        control: bits
            .iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, name)| *name)
            .collect(),
        // A RST out of the blue is numbered absolutely.
        seq: Some(raw_seq.wrapping_sub(numbers.iss.unwrap_or(0))),
        ack: Some((tcp.ack_number().0 as u32).wrapping_sub(if is_reset { 0 } else { PEER_ISS })),
        len: Some(tcp.payload().len() as u32),
        window: Some(tcp.window_len()),
        codepoint,
        ..Fields::default()
    };
    read_options(tcp.options(), &mut fields, numbers)?;
    check_payload(tcp.payload(), fields.seq.unwrap_or(0))?;
    Ok(fields)
}

fn read_options(bytes: &[u8], fields: &mut Fields, numbers: &mut Numbers) -> Result<(), String> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (next, option) = TcpOption::parse(rest).map_err(|_| "malformed options")?;
        match option {
            TcpOption::EndOfList => break,
            TcpOption::MaxSegmentSize(mss) => fields.mss = Some(mss),
            TcpOption::WindowScale(scale) => fields.window_scale = Some(scale),
            TcpOption::SackPermitted => fields.sack_permitted = true,
            TcpOption::TimeStamp { tsval, tsecr } => {
                numbers.timestamp = tsval;
                fields.timestamps = Some((Some(tsval), Some(tsecr)));
            }
            TcpOption::SackRange(ranges) => {
                let relative = |edge: u32| edge.wrapping_sub(PEER_ISS);
                let ranges = ranges.iter().flatten();
                fields.sack = ranges.map(|(a, b)| (relative(*a), relative(*b))).collect();
            }
            _ => {}
        }
        rest = next;
    }
    Ok(())
}

/// Our stream is the application's memory, whose bytes count up.
fn check_payload(payload: &[u8], seq: u32) -> Result<(), String> {
    for (at, byte) in payload.iter().enumerate() {
        let position = u64::from(seq.wrapping_sub(1)) + at as u64;
        if *byte != (position % 65_536) as u8 {
            return Err(format!("sent a wrong byte at {position}"));
        }
    }
    Ok(())
}

/// A frame as a script would write it.
pub fn text(frame: &[u8], numbers: &Numbers) -> String {
    let mut numbers = Numbers {
        iss: numbers.iss,
        family: numbers.family,
        ..Numbers::default()
    };
    match read(frame, &mut numbers) {
        Err(error) => error,
        Ok(fields) => {
            let mut text = format!(
                "{} seq {} ack {} len {} win {}",
                fields.control,
                fields.seq.unwrap_or(0),
                fields.ack.unwrap_or(0),
                fields.len.unwrap_or(0),
                fields.window.unwrap_or(0)
            );
            let mut add = |name: &str, value: Option<String>| {
                if let Some(value) = value {
                    text += &format!(" {name} {value}");
                }
            };
            add("mss", fields.mss.map(|mss| mss.to_string()));
            add("ws", fields.window_scale.map(|scale| scale.to_string()));
            add("sackok", fields.sack_permitted.then(String::new));
            add("ts", fields.timestamps.map(|pair| format!("{pair:?}")));
            add("ect", (fields.codepoint != 0).then(String::new));
            for block in fields.sack {
                add("sack", Some(format!("{}-{}", block.0, block.1)));
            }
            text
        }
    }
}

fn agrees<T: PartialEq>(wanted: Option<T>, got: Option<T>) -> bool {
    wanted.is_none() || wanted == got
}

fn number(word: &str) -> Result<u32, String> {
    // Negative numbers lie before the initial one.
    match word.strip_prefix('-') {
        Some(word) => number(word).map(u32::wrapping_neg),
        None => word.parse().map_err(|_| format!("{word} is no number")),
    }
}

fn wild(word: &str) -> Result<Option<u32>, String> {
    if word == "*" {
        Ok(None)
    } else {
        number(word).map(Some)
    }
}

fn range(word: &str) -> Result<(u32, u32), String> {
    let (left, right) = word.split_once('-').ok_or("a block is LEFT-RIGHT")?;
    Ok((number(left)?, number(right)?))
}
