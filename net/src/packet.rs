//! An IP packet of either family in a frame, as the protocols above see it: whence, whither, and
//! where its payload is. What only one family has is in `wire` (IPv4) and `ipv6`.

use crate::address::IpAddress;
use crate::flow::OWN_IPV4;
use crate::ipv6::header::Ipv6Header;
#[cfg(any(test, feature = "testing"))]
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, be16};
use crate::wire::{Ipv4Packet, PROTOCOL_TCP, Segment, TCP, fold, sum};

/// A whole IP packet in a frame, all headers below the transport checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// Where the payload starts in the frame.
    pub payload: usize,
    /// Where it ends.
    pub end: usize,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Sender.
    pub source: IpAddress,
    /// Receiver.
    pub destination: IpAddress,
    /// The number of our address that the receiver is.
    pub own: u32,
}

impl Packet {
    /// A packet for the own IPv4 address.
    pub fn of_ipv4(packet: &Ipv4Packet) -> Self {
        Self {
            payload: packet.payload,
            end: packet.end,
            protocol: packet.protocol,
            source: IpAddress::from_ipv4(packet.source),
            destination: IpAddress::from_ipv4(packet.destination),
            own: OWN_IPV4,
        }
    }

    /// A packet without extension headers for the own IPv6 address of that number.
    pub fn of_ipv6(header: &Ipv6Header, own: u32) -> Self {
        Self {
            payload: header.payload,
            end: header.end,
            protocol: header.next_header,
            source: header.source,
            destination: header.destination,
            own,
        }
    }

    /// The packet that a segment to us is in.
    pub fn of_segment(segment: &Segment<'_>) -> Self {
        let header = TCP + segment.options.len();
        Self {
            payload: usize::from(segment.payload) - header,
            end: usize::from(segment.payload) + usize::from(segment.len),
            protocol: PROTOCOL_TCP,
            source: segment.key.remote,
            destination: segment.destination(),
            own: segment.key.own(),
        }
    }

    /// The packet in a frame for whomever, without extension headers; fragments are none.
    #[cfg(any(test, feature = "testing"))]
    pub fn in_frame(frame: &[u8]) -> Option<Self> {
        match be16(frame.first_chunk::<14>()?, 12) {
            ETHERTYPE_IPV4 => {
                let packet = Ipv4Packet::parse(frame).filter(|packet| !packet.is_fragment)?;
                Some(Self::of_ipv4(&packet))
            }
            ETHERTYPE_IPV6 => Some(Self::of_ipv6(&Ipv6Header::parse(frame)?, 1)),
            _ => None,
        }
    }

    /// Whether it came over IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.destination.ipv4().is_none()
    }

    /// Whether the checksum of a TCP segment in it is right.
    pub fn tcp_checksum_is_good(&self, frame: &[u8]) -> bool {
        self.checksum_is_good(frame, PROTOCOL_TCP, self.end)
    }

    /// Whether the checksum, over the pseudo-header and what comes before `end`, is right.
    pub fn checksum_is_good(&self, frame: &[u8], protocol: u8, end: usize) -> bool {
        let bytes = &frame[self.payload..end];
        let pseudo = u64::from(pseudo_sum(protocol, self.source, self.destination));
        fold(sum(bytes) + pseudo + bytes.len() as u64) == 0xffff
    }
}

/// Sum of the pseudo-header of a packet of either family, without its length (RFC 9293 3.1, RFC
/// 8200 8.1). The words of an IPv4 address in its mapped form that are none of its own are 0 and
/// 0xffff, which is as good as 0 in ones' complement.
#[inline]
pub(crate) fn pseudo_sum(protocol: u8, source: IpAddress, destination: IpAddress) -> u32 {
    let words = |word: u64| (word >> 32) + (word & 0xffff_ffff);
    let addresses = words(source.high) + words(source.low);
    let addresses = addresses + words(destination.high) + words(destination.low);
    u32::from(fold(addresses + u64::from(protocol)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pseudo_sum_of_ipv4_is_that_of_its_own_words() {
        for (source, destination) in [(0x0a00_0001, 0x0a00_0002), (1, 2), (u32::MAX, 0xfffe_0001)] {
            let short = fold(u64::from(source) + u64::from(destination) + 6);
            let [source, destination] = [source, destination].map(IpAddress::from_ipv4);
            assert_eq!(pseudo_sum(6, source, destination), u32::from(short));
        }
    }
}
