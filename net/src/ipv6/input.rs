//! IPv6 packets on their way up: which are for us, and which part takes them.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::ipv6::header::{Ipv6Header, Path, Problem, Start, leads_to_error, walk};
use crate::ipv6::icmp::Error6;
use crate::packet::Packet;
use crate::wire::{PROTOCOL_ICMPV6, PROTOCOL_TCP, Segment};
use ix_hal::{RxChecksum, RxFrame, Transmit};

/// Instead of the number of an own address, for packets to a group.
const GROUP: u32 = u32::MAX;

impl Engine {
    /// The TCP segment for us in a frame of IPv6 to our MAC address, if there is one without
    /// extension headers and all is well with it.
    pub(crate) fn tcp_segment6<'a>(
        &self,
        checksum: RxChecksum,
        bytes: &'a [u8],
    ) -> Option<Segment<'a>> {
        let header = Ipv6Header::parse(bytes).filter(|it| it.next_header == PROTOCOL_TCP)?;
        let own = self.ipv6.own.number(header.destination)?;
        let packet = Packet::of_ipv6(&header, own);
        let is_good = match checksum {
            RxChecksum::Good => true,
            RxChecksum::Bad => false,
            RxChecksum::Ipv4Good | RxChecksum::Unchecked => packet.tcp_checksum_is_good(bytes),
        };
        match is_good {
            true => Segment::parse(bytes, &packet),
            false => None,
        }
    }

    /// An IPv6 packet that is not such a segment. Returns whether the mbuf was kept.
    pub(crate) fn packet6_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
        is_unicast: bool,
    ) -> bool {
        self.counters.ip6_in_receives += 1;
        let Some(header) = Ipv6Header::parse(bytes) else {
            self.counters.ip6_in_header_errors += 1;
            return false;
        };
        if frame.checksum == RxChecksum::Bad {
            self.counters.rx_bad_checksum += 1;
            return false;
        }
        let own = match header.source.is_multicast() {
            true => None,
            false => self.receiver(header.destination, is_unicast),
        };
        let Some(own) = own else {
            self.counters.ip6_in_address_errors += 1;
            return false;
        };
        let packet = Packet::of_ipv6(&header, own);
        match walk(bytes, Start::of(&header)) {
            Path::Upper { protocol, at } => {
                let packet = Packet {
                    payload: at,
                    protocol,
                    ..packet
                };
                self.upper_arrives(cx, frame, bytes, &packet)
            }
            Path::Fragment(fragment) if own != GROUP => {
                self.fragment6_arrives(cx, frame.mbuf, bytes, (&header, own), &fragment)
            }
            Path::Fragment(_) => {
                self.counters.ip6_in_address_errors += 1;
                false
            }
            Path::Problem(trouble) => {
                self.count_problem(trouble.code);
                let is_unmentionable = leads_to_error(bytes, Start::of(&header));
                if is_unmentionable || own == GROUP && !trouble.even_multicast {
                    return false;
                }
                let error = Error6::Parameter(trouble.code, trouble.pointer as u32);
                self.send_error6(cx, error, frame.mbuf, bytes, &packet)
            }
            Path::Discard => {
                self.counters.ip6_in_header_errors += 1;
                false
            }
        }
    }

    fn count_problem(&mut self, code: Problem) {
        match code {
            Problem::NextHeader => self.counters.ip6_in_unknown_protocols += 1,
            _ => self.counters.ip6_in_header_errors += 1,
        }
    }

    /// The number of the address of ours that a packet is for, or [`GROUP`].
    fn receiver(&self, destination: IpAddress, is_unicast: bool) -> Option<u32> {
        if !destination.is_multicast() {
            return self.ipv6.own.number(destination).filter(|_| is_unicast);
        }
        let is_heard =
            destination == IpAddress::ALL_NODES || self.ipv6.own.is_in_group(destination);
        is_heard.then_some(GROUP)
    }

    /// A whole packet. To a group, only ICMP is spoken.
    fn upper_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        if packet.own == GROUP && packet.protocol != PROTOCOL_ICMPV6 {
            self.counters.ip6_in_address_errors += 1;
            return false;
        }
        self.deliver_packet(cx, frame, bytes, packet)
    }
}
