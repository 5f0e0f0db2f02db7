//! Sorting frames by protocol, and IPv4 packets on their way up. IPv6 is in `ipv6`.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::flow;
use crate::icmp::Unreachable;
use crate::packet::Packet;
use crate::quick::QuickSegment;
use crate::tcp::header::Ipv4;
use crate::wire::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4Packet, PROTOCOL_ICMP,
    PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Segment, be16, ipv4_checksum_is_good,
};
use core::net::Ipv4Addr;
use ix_hal::{MbufId, RxChecksum, RxFrame, Transmit};

impl Engine {
    /// Sorts a frame by protocol and hands it, with its mbuf, to the right part.
    #[inline(never)]
    pub(crate) fn frame_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
    ) {
        if self.is_foreign(cx, frame.mbuf) {
            return;
        }
        if bytes.get(12..14) == Some(&ETHERTYPE_IPV6.to_be_bytes())
            && self.predicted_frame6(cx, &frame, bytes)
        {
            return;
        }
        match self.tcp_segment(frame.checksum, bytes) {
            Some(segment) if self.is_for_another(&frame, &segment) => {
                self.set_segment_aside(cx, frame, &segment);
            }
            Some(segment) => self.any_segment_arrives(cx, frame.mbuf, &segment),
            None => self.other_frame_arrives(cx, frame, bytes),
        }
    }

    /// A TCP segment in a frame of the usual shape that the fast path did not predict; `index` is what
    /// the flow table has first for its hash.
    #[inline(never)]
    pub(crate) fn quick_segment_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        index: u32,
        quick: QuickSegment<'_>,
    ) {
        if self.is_foreign(cx, frame.mbuf)
            || self.predicted_end::<Ipv4, _, _, _>(cx, frame.mbuf, index, &quick)
        {
            return;
        }
        match quick.segment() {
            Some(segment) if self.is_for_another(&frame, &segment) => {
                self.set_segment_aside(cx, frame, &segment);
            }
            Some(segment) if index == flow::NOTHING => {
                self.counters.tcp_in_segments += 1;
                cx.pool.give(frame.mbuf);
                self.stranger_arrives(cx, &segment, None);
            }
            Some(segment) => self.any_segment_arrives(cx, frame.mbuf, &segment),
            None => self.other_frame_arrives(cx, frame, quick.frame()),
        }
    }

    /// A TCP segment in any other frame, or for a flow that is in the flow table.
    #[inline(never)]
    fn any_segment_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        segment: &Segment<'_>,
    ) {
        self.segment_arrives(cx, mbuf, segment);
    }

    /// Whether a buffer is none that the engine has a record for; gives it back if so.
    #[inline]
    fn is_foreign<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
    ) -> bool {
        let is_foreign = mbuf.0 as usize >= self.rx.len();
        if is_foreign {
            self.counters.rx_foreign_mbuf += 1;
            cx.pool.give(mbuf);
        }
        is_foreign
    }

    /// The TCP segment for us in a frame, if there is one and all is well with it.
    fn tcp_segment<'a>(&self, checksum: RxChecksum, bytes: &'a [u8]) -> Option<Segment<'a>> {
        let ethernet = bytes.first_chunk::<ETHERNET>()?;
        if ethernet[..6] != self.local.mac {
            return None;
        }
        match be16(ethernet, 12) {
            ETHERTYPE_IPV4 => {}
            ETHERTYPE_IPV6 => return self.tcp_segment6(checksum, bytes),
            _ => return None,
        }
        let packet = Ipv4Packet::parse(bytes)?;
        if packet.destination != self.local.address
            || packet.protocol != PROTOCOL_TCP
            || packet.is_fragment
        {
            return None;
        }
        let whole = Packet::of_ipv4(&packet);
        let is_good = match checksum {
            RxChecksum::Good => true,
            RxChecksum::Bad => false,
            RxChecksum::Ipv4Good => whole.tcp_checksum_is_good(bytes),
            RxChecksum::Unchecked => {
                ipv4_checksum_is_good(bytes, &packet) && whole.tcp_checksum_is_good(bytes)
            }
        };
        if !is_good {
            return None;
        }
        Segment::parse(bytes, &whole)
    }

    /// Deals with a frame that holds no good TCP segment for us: answers it, or counts why not.
    fn other_frame_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
    ) {
        let kept = self.sort_other_frame(cx, frame, bytes);
        if !kept {
            cx.pool.give(frame.mbuf);
        }
    }

    /// Returns whether the mbuf was kept.
    fn sort_other_frame<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
    ) -> bool {
        let counters = &mut self.counters;
        let Some(ethernet) = bytes.first_chunk::<ETHERNET>() else {
            counters.eth_unknown += 1;
            return false;
        };
        let is_unicast = ethernet[..6] == self.local.mac;
        if !is_unicast && ethernet[0] & 1 == 0 {
            counters.eth_other_host += 1;
            return false;
        }
        match be16(ethernet, 12) {
            ETHERTYPE_ARP => self.arp_arrives(cx, &bytes[ETHERNET..]),
            ETHERTYPE_IPV4 => return self.other_packet_arrives(cx, frame, bytes, is_unicast),
            ETHERTYPE_IPV6 if self.ipv6.is_on => {
                return self.packet6_arrives(cx, frame, bytes, is_unicast);
            }
            _ => counters.eth_unknown += 1,
        }
        false
    }

    /// An IPv4 packet that is not a good TCP segment for us. Returns whether the mbuf was kept.
    fn other_packet_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
        is_unicast: bool,
    ) -> bool {
        let counters = &mut self.counters;
        counters.ip_in_receives += 1;
        let Some(packet) = Ipv4Packet::parse(bytes) else {
            counters.ip_in_header_errors += 1;
            return false;
        };
        if frame.checksum == RxChecksum::Bad {
            counters.rx_bad_checksum += 1;
            return false;
        }
        if frame.checksum == RxChecksum::Unchecked && !ipv4_checksum_is_good(bytes, &packet) {
            counters.ip_in_checksum_errors += 1;
            return false;
        }
        if packet.destination != self.local.address || !is_unicast {
            counters.ip_in_address_errors += 1;
            return false;
        }
        if packet.is_fragment {
            return self.fragment_arrives(cx, frame.mbuf, bytes, &packet);
        }
        self.deliver_packet(cx, frame, bytes, &Packet::of_ipv4(&packet))
    }

    /// A whole packet to us, of either family, by a way on which few come. Returns whether the mbuf
    /// was kept.
    pub(crate) fn deliver_packet<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        // The NIC has seen no ports, and hence not chosen the thread by them.
        if frame.rss_hash == 0
            && self.config.sharing.is_some()
            && let Some(group) = self.group_elsewhere(bytes, packet)
        {
            return self.set_aside(frame, group, packet);
        }
        self.dispatch(cx, frame, bytes, packet)
    }

    /// The same, where this is the thread that the packet is for.
    pub(crate) fn dispatch<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        match packet.protocol {
            PROTOCOL_UDP => return self.datagram_arrives(cx, &frame, bytes, packet),
            PROTOCOL_ICMP if !packet.is_ipv6() => {
                return self.icmp_arrives(cx, frame.mbuf, bytes, packet);
            }
            PROTOCOL_ICMPV6 if packet.is_ipv6() => {
                return self.icmp6_arrives(cx, frame.mbuf, bytes, packet);
            }
            PROTOCOL_TCP
                if frame.checksum != RxChecksum::Good && !packet.tcp_checksum_is_good(bytes) =>
            {
                self.counters.tcp_in_checksum_errors += 1;
            }
            PROTOCOL_TCP => match Segment::parse(bytes, packet) {
                Some(segment) => {
                    self.any_segment_arrives(cx, frame.mbuf, &segment);
                    return true;
                }
                None => self.counters.tcp_in_errors += 1,
            },
            // Over IPv6, no other gets as far as this.
            _ => {
                self.counters.ip_in_unknown_protocols += 1;
                self.send_unreachable(cx, Unreachable::Protocol, bytes, packet);
            }
        }
        false
    }

    /// Whether an address can be that of a single host elsewhere.
    #[inline(always)]
    pub(crate) fn is_host(&self, address: IpAddress) -> bool {
        match address.ipv4() {
            Some(address) => self.is_ipv4_host(address),
            None => self.is_ipv6_host(address),
        }
    }

    fn is_ipv6_host(&self, address: IpAddress) -> bool {
        // `::`, the loopback address, and what else of `::/96` once meant IPv4.
        let is_reserved = address.high == 0 && address.low >> 32 == 0;
        !is_reserved && !address.is_multicast() && !self.is_own(address)
    }

    /// Whether an IPv4 address can be that of a single host.
    #[inline(always)]
    pub(crate) fn is_ipv4_host(&self, address: u32) -> bool {
        let address_type = Ipv4Addr::from_bits(address);
        address >> 24 != 0
            && !address_type.is_multicast()
            && !address_type.is_broadcast()
            && !address_type.is_loopback()
            && address != self.local.broadcast
    }
}
