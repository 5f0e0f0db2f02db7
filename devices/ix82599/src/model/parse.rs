//! What the receive side finds out about a frame (7.1.10, 7.1.11): packet type, where the headers
//! are, and whether the checksums are right.

use ixgbe_spec::{PacketType, RxError, RxStatus};

use super::checksum;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of a VLAN tag, the value of VLNCTRL.VET after reset.
pub(super) const ETHERTYPE_VLAN: u16 = 0x8100;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const PROTOCOL_SCTP: u8 = 132;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers the parser goes through before it gives up on the rest.
const MAX_EXTENSIONS: usize = 8;

/// A transport header that the parser found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// What was found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Packet type of the write-back.
    pub(super) packet_type: PacketType,
    /// The VLAN tag, if there is one.
    pub(super) vlan: Option<u16>,
    /// Offset and version of the IP header.
    pub(super) ip: Option<Ip>,
    /// Protocol and offset of a TCP, UDP or SCTP header that is complete and not in a fragment.
    pub(super) transport: Option<(Transport, usize)>,
}

/// An IP header that is complete and consistent with the frame's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ip {
    pub(super) version: Version,
    pub(super) offset: usize,
    /// Bytes of the header, for IPv4 with options, for IPv6 with the extensions that were understood.
    header: usize,
    /// End of the datagram in the frame; what follows is padding.
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Parsed {
    /// Parses a frame of at least 14 bytes.
    pub(super) fn new(frame: &[u8]) -> Self {
        let mut parsed = Self {
            packet_type: PacketType::L2,
            vlan: None,
            ip: None,
            transport: None,
        };
        let mut offset = 14;
        let mut ethertype = word(frame, 12);
        if ethertype == Some(ETHERTYPE_VLAN) {
            parsed.vlan = word(frame, 14);
            ethertype = word(frame, 16);
            offset = 18;
        }
        match ethertype {
            Some(ETHERTYPE_IPV4) => parsed.ipv4(frame, offset),
            Some(ETHERTYPE_IPV6) => parsed.ipv6(frame, offset),
            _ => {}
        }
        parsed
    }

    fn ipv4(&mut self, frame: &[u8], offset: usize) {
        let Some(fixed) = frame.get(offset..offset + 20) else {
            return;
        };
        let header = usize::from(fixed[0] & 0xf) * 4;
        let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if fixed[0] >> 4 != 4 || header < 20 || total < header || offset + total > frame.len() {
            return;
        }
        self.ip = Some(Ip {
            version: Version::V4,
            offset,
            header,
            end: offset + total,
        });
        self.packet_type = if header > 20 {
            PacketType::IPV4 | PacketType::IPV4E
        } else {
            PacketType::IPV4
        };
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
        if !fragment {
            self.transport(fixed[9], offset + header, offset + total);
        }
    }

    fn ipv6(&mut self, frame: &[u8], offset: usize) {
        let Some(fixed) = frame.get(offset..offset + 40) else {
            return;
        };
        let end = offset + 40 + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        if fixed[0] >> 4 != 6 || end > frame.len() {
            return;
        }
        self.ip = Some(Ip {
            version: Version::V6,
            offset,
            header: 40,
            end,
        });
        self.packet_type = PacketType::IPV6;
        let (mut next, mut at) = (fixed[6], offset + 40);
        for _ in 0..MAX_EXTENSIONS {
            if ![HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS].contains(&next) {
                break;
            }
            self.packet_type |= PacketType::IPV6E;
            let Some(extension) = frame[..end].get(at..at + 8) else {
                return;
            };
            next = extension[0];
            at += 8 * (usize::from(extension[1]) + 1);
        }
        if let Some(ip) = &mut self.ip {
            ip.header = at - offset;
        }
        if next == FRAGMENT {
            self.packet_type |= PacketType::IPV6E;
        } else {
            self.transport(next, at, end);
        }
    }

    fn transport(&mut self, protocol: u8, offset: usize, end: usize) {
        let room = end.saturating_sub(offset);
        match protocol {
            PROTOCOL_TCP if room >= 20 => {
                self.packet_type |= PacketType::TCP;
                self.transport = Some((Transport::Tcp, offset));
            }
            PROTOCOL_UDP if room >= 8 => {
                self.packet_type |= PacketType::UDP;
                self.transport = Some((Transport::Udp, offset));
            }
            PROTOCOL_SCTP if room >= 12 => {
                self.packet_type |= PacketType::SCTP;
                self.transport = Some((Transport::Sctp, offset));
            }
            _ => {}
        }
    }

    /// Checks the checksums (7.1.11): which were checked, and which are wrong. That of SCTP is not.
    pub(super) fn check(&self, frame: &[u8]) -> (RxStatus, RxError) {
        let (mut status, mut error) = (RxStatus::empty(), RxError::empty());
        let Some(ip) = self.ip else {
            return (status, error);
        };
        if ip.version == Version::V4 {
            status |= RxStatus::IPCS;
            if checksum::sum(&frame[ip.offset..ip.offset + ip.header]) != 0xffff {
                error |= RxError::IPE;
            }
        }
        let Some((transport, offset)) = self.transport else {
            return (status, error);
        };
        let segment = &frame[offset..ip.end];
        let protocol = match transport {
            Transport::Tcp => PROTOCOL_TCP,
            Transport::Udp => PROTOCOL_UDP,
            Transport::Sctp => return (status, error),
        };
        if transport == Transport::Udp {
            // UDP over IPv4 without a checksum: nothing to check (7.1.11).
            if segment[6..8] == [0, 0] {
                return (status, error);
            }
            status |= RxStatus::UDPV;
        }
        status |= RxStatus::L4I;
        let pseudo = checksum::add(
            checksum::sum(ip.addresses(frame)),
            checksum::add(u16::from(protocol), segment.len() as u16),
        );
        if checksum::add(pseudo, checksum::sum(segment)) != 0xffff {
            error |= RxError::TCPE;
        }
        (status, error)
    }
}

impl Ip {
    /// Where the header ends.
    pub(super) fn header_end(&self) -> usize {
        self.offset + self.header
    }

    /// Source and destination address.
    pub(super) fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        match self.version {
            Version::V4 => &frame[self.offset + 12..self.offset + 20],
            Version::V6 => &frame[self.offset + 8..self.offset + 40],
        }
    }
}

fn word(frame: &[u8], offset: usize) -> Option<u16> {
    let bytes = frame.get(offset..offset + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ipv4_frame, ipv6_frame};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_tcp_and_udp_frames_are_good_in_both_versions() {
        for frame in [ipv4_frame(6, 33), ipv4_frame(17, 4), ipv6_frame(6, 7)] {
            let parsed = Parsed::new(&frame);
            let (status, error) = parsed.check(&frame);
            assert!(status.contains(RxStatus::L4I), "{parsed:?}");
            assert_eq!(error, RxError::empty());
        }
    }

    #[test]
    fn a_flipped_bit_is_found_in_the_header_that_has_it() {
        let mut frame = ipv4_frame(6, 33);
        frame[22] ^= 1;
        assert_eq!(Parsed::new(&frame).check(&frame).1, RxError::IPE);
        let mut frame = ipv4_frame(6, 33);
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(Parsed::new(&frame).check(&frame).1, RxError::TCPE);
    }

    #[test]
    fn a_fragment_has_no_transport_header() {
        let mut frame = ipv4_frame(6, 33);
        frame[20] = 0x20;
        let parsed = Parsed::new(&frame);
        assert_eq!(parsed.transport, None);
        assert_eq!(parsed.packet_type, PacketType::IPV4);
        assert!(!parsed.check(&frame).0.contains(RxStatus::L4I));
    }

    #[test]
    fn udp_without_checksum_is_not_checked() {
        let mut frame = ipv4_frame(17, 4);
        frame[40..42].fill(0);
        assert_eq!(Parsed::new(&frame).check(&frame).0, RxStatus::IPCS);
    }

    #[test]
    fn a_tag_moves_the_headers() {
        let mut frame = ipv4_frame(6, 33);
        frame.splice(12..12, [0x81, 0x00, 0x20, 0x64]);
        let parsed = Parsed::new(&frame);
        assert_eq!(parsed.vlan, Some(0x2064));
        assert_eq!(parsed.transport, Some((Transport::Tcp, 38)));
        assert_eq!(parsed.check(&frame).1, RxError::empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_leaving_the_frame(
            mut frame in proptest::collection::vec(any::<u8>(), 14..200),
            kind in 0..4u8,
        ) {
            match kind {
                0 => frame[12..14].copy_from_slice(&ETHERTYPE_IPV4.to_be_bytes()),
                1 => frame[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes()),
                2 => frame[12..14].copy_from_slice(&ETHERTYPE_VLAN.to_be_bytes()),
                _ => {}
            }
            if let Some(first) = frame.get_mut(14) {
                *first = if kind == 0 { 0x45 } else { 0x60 };
            }
            if frame.len() > 19 {
                frame[16..18].copy_from_slice(&40u16.to_be_bytes());
                frame[18..20].copy_from_slice(&16u16.to_be_bytes());
            }
            let parsed = Parsed::new(&frame);
            parsed.check(&frame);
        }
    }
}
