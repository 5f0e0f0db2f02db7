//! Sorting frames by protocol; ARP; the way to a destination.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::icmp::Unreachable;
use crate::list::{List, WAITING};
use crate::neighbor::Request;
use crate::neighborhood::{Claim, LOOK_INTERVAL, Neighborhood, WAIT_INTERVAL};
use crate::reassembly::{Assembly, DatagramKey, Fate, Piece};
use crate::tcp::connection::{Flags, State};
use crate::wire::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, Ipv4Fragment, Ipv4Packet, PROTOCOL_ICMP, PROTOCOL_TCP,
    PROTOCOL_UDP, Segment, be16, ipv4_checksum_is_good, put16, tcp_checksum_is_good,
};
use core::net::Ipv4Addr;
use ix_hal::{Instant, MbufId, RxChecksum, RxFrame, Transmit, TxChecksum, TxFrame};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

/// Bytes of an ARP packet for Ethernet and IPv4.
const ARP: usize = 28;
const BROADCAST: [u8; 6] = [0xff; 6];

impl Engine {
    /// Sorts a frame by protocol and hands it, with its mbuf, to the right part.
    #[inline(never)]
    pub(crate) fn frame_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
    ) {
        match self.tcp_segment(frame.checksum, bytes) {
            Some(segment) => self.segment_arrives(cx, frame.mbuf, &segment),
            None => self.other_frame_arrives(cx, frame, bytes),
        }
    }

    /// The TCP segment for us in a frame, if there is one and all is well with it.
    fn tcp_segment<'a>(&self, checksum: RxChecksum, bytes: &'a [u8]) -> Option<Segment<'a>> {
        let ethernet = bytes.first_chunk::<ETHERNET>()?;
        if ethernet[..6] != self.local.mac || be16(ethernet, 12) != ETHERTYPE_IPV4 {
            return None;
        }
        let packet = Ipv4Packet::parse(bytes)?;
        if packet.destination != self.local.address
            || packet.protocol != PROTOCOL_TCP
            || packet.is_fragment
        {
            return None;
        }
        let is_good = match checksum {
            RxChecksum::Good => true,
            RxChecksum::Bad => false,
            RxChecksum::Ipv4Good => tcp_checksum_is_good(bytes, &packet),
            RxChecksum::Unchecked => {
                ipv4_checksum_is_good(bytes, &packet) && tcp_checksum_is_good(bytes, &packet)
            }
        };
        if !is_good {
            return None;
        }
        Segment::parse(bytes, &packet)
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
        self.deliver_packet(cx, frame, bytes, &packet)
    }

    /// A whole IPv4 packet to us that is not a good TCP segment. Returns whether the mbuf was kept.
    fn deliver_packet<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        bytes: &[u8],
        packet: &Ipv4Packet,
    ) -> bool {
        let counters = &mut self.counters;
        match packet.protocol {
            PROTOCOL_UDP => return self.datagram_arrives(cx, &frame, bytes, packet),
            PROTOCOL_ICMP => return self.icmp_arrives(cx, frame.mbuf, bytes, packet),
            PROTOCOL_TCP
                if frame.checksum != RxChecksum::Good && !tcp_checksum_is_good(bytes, packet) =>
            {
                counters.tcp_in_checksum_errors += 1;
            }
            PROTOCOL_TCP => counters.tcp_in_errors += 1,
            _ => {
                counters.ip_in_unknown_protocols += 1;
                self.send_unreachable(cx, Unreachable::Protocol, bytes, packet);
            }
        }
        false
    }

    /// Keeps a fragment if it is of use. Returns whether it did.
    fn fragment_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Ipv4Packet,
    ) -> bool {
        self.counters.ip_fragments += 1;
        let fragment = Ipv4Fragment::parse(bytes);
        let key = DatagramKey {
            source: packet.source,
            identification: fragment.identification,
            protocol: packet.protocol,
        };
        let piece = Piece {
            mbuf,
            offset: packet.payload as u16,
            // At most 65,528; `arrives` refuses what does not fit into a buffer.
            at: fragment.at as u16,
            len: (packet.end - packet.payload) as u16,
        };
        let buffer_bytes = cx.pool.geometry().size();
        let fate =
            self.reassembly
                .arrives(cx.now, key, piece, fragment.is_last, buffer_bytes, |mbuf| {
                    cx.pool.give(mbuf)
                });
        self.counters.ip_reassembly_evictions = self.reassembly.evictions;
        self.counters.ip_fragments_dropped += u64::from(fate != Fate::Kept);
        self.counters.ip_reassembly_overlaps += u64::from(fate == Fate::Overlaps);
        fate == Fate::Kept
    }

    /// Whether [`Engine::take_assembly`] has something to give.
    #[inline]
    pub fn has_assembly(&self) -> bool {
        self.reassembly.has_complete
    }

    /// Takes a datagram whose fragments are all in. The caller makes the copies that it asks for,
    /// and hands it back to [`Engine::assembled`].
    pub fn take_assembly(&mut self) -> Option<Assembly> {
        self.reassembly.take()
    }

    /// Takes in a datagram put together; `bytes` is the frame in its buffer. Pushes at most 4
    /// events, for which there must be room.
    pub fn assembled<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        assembly: &Assembly,
        bytes: &[u8],
    ) {
        self.counters.ip_reassembled += 1;
        for piece in assembly.others() {
            cx.pool.give(piece.mbuf);
        }
        let packet = Ipv4Packet {
            payload: assembly.payload(),
            end: bytes.len(),
            protocol: assembly.key.protocol,
            source: assembly.key.source,
            destination: self.local.address,
            is_fragment: false,
        };
        let frame = RxFrame {
            mbuf: assembly.mbuf(),
            len: bytes.len() as u16,
            checksum: RxChecksum::Ipv4Good,
            rss_hash: 0,
        };
        if packet.protocol == PROTOCOL_TCP
            && tcp_checksum_is_good(bytes, &packet)
            && let Some(segment) = Segment::parse(bytes, &packet)
        {
            self.segment_arrives(cx, frame.mbuf, &segment);
        } else if !self.deliver_packet(cx, frame, bytes, &packet) {
            cx.pool.give(frame.mbuf);
        }
    }

    /// Gives up datagrams whose fragments do not come.
    pub(crate) fn expire_fragments<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        let expired = self.reassembly.expire(cx.now, |mbuf| cx.pool.give(mbuf));
        self.counters.ip_reassembly_timeouts += expired;
        self.counters.ip_fragments_dropped += expired;
    }

    /// Whether an IPv4 address can be that of a single host.
    pub(crate) fn is_host(&self, address: u32) -> bool {
        let is_own_broadcast = address & self.local.mask == self.local.address & self.local.mask
            && address | self.local.mask == u32::MAX
            && self.local.mask < 0xffff_fffe;
        let address_type = Ipv4Addr::from_bits(address);
        address >> 24 != 0
            && !address_type.is_multicast()
            && !address_type.is_broadcast()
            && !address_type.is_loopback()
            && !is_own_broadcast
    }

    /// The neighbour through which a destination is reached.
    pub(crate) fn next_hop(&self, destination: IpAddress) -> Option<IpAddress> {
        let destination = destination.ipv4()?;
        if (destination ^ self.local.address) & self.local.mask == 0 {
            return Some(IpAddress::from_ipv4(destination));
        }
        self.local.gateway.map(IpAddress::from_ipv4)
    }

    fn arp_arrives<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, bytes: &[u8]) {
        let parsed = ArpPacket::new_checked(bytes).and_then(|packet| ArpRepr::parse(&packet));
        let Ok(ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(mac),
            source_protocol_addr: source,
            target_protocol_addr: target,
            ..
        }) = parsed
        else {
            self.counters.arp_ignored += 1;
            return;
        };
        let is_for_us = target.to_bits() == self.local.address;
        // A probe (RFC 5227) has no source address yet: nothing to learn, but an answer to give.
        let is_believable = mac[0] & 1 == 0
            && mac != [0; 6]
            && source.to_bits() != self.local.address
            && (self.is_host(source.to_bits()) || source.is_unspecified());
        let is_request = operation == ArpOperation::Request;
        if !is_believable || !(is_for_us || source == target) {
            self.counters.arp_ignored += 1;
            return;
        }
        if !source.is_unspecified() {
            let waiting = self
                .neighbors
                .heard(cx.now, source.into(), mac, is_for_us && is_request);
            self.counters.arp_evictions = self.neighbors.evictions;
            self.wake_waiting(waiting);
            self.tell(Claim {
                address: source.to_bits(),
                mac,
                asked: is_for_us && is_request,
            });
        }
        if is_for_us && is_request {
            self.counters.arp_in_requests += 1;
            self.send_arp(cx, ArpOperation::Reply, mac, source);
        }
    }

    /// Tells the other engines of this address what they cannot hear.
    fn tell(&mut self, claim: Claim) {
        let Neighborhood::Speaker(mailboxes) = self.config.neighborhood else {
            return;
        };
        for mailbox in mailboxes {
            if !mailbox.put(claim) {
                self.counters.arp_untold += 1;
            }
        }
    }

    /// Takes note of what was told, and looks again sooner if an answer is awaited.
    fn listen_to_speaker(&mut self, now: Instant) {
        let Neighborhood::Listener(mailbox) = self.config.neighborhood else {
            return;
        };
        while let Some(claim) = mailbox.take() {
            let address = IpAddress::from_ipv4(claim.address);
            let waiting = self.neighbors.heard(now, address, claim.mac, claim.asked);
            self.counters.arp_evictions = self.neighbors.evictions;
            self.wake_waiting(waiting);
        }
    }

    /// When to listen again: soon while an answer is awaited.
    fn schedule_listening(&mut self, now: Instant) {
        if matches!(self.config.neighborhood, Neighborhood::Listener(_)) {
            let interval = match self.neighbors.is_asking() {
                true => WAIT_INTERVAL,
                false => LOOK_INTERVAL,
            };
            self.neighbors.deadline = self.neighbors.deadline.min((now + interval).0);
        }
    }

    /// Connections that waited for a neighbour's address may send now.
    fn wake_waiting(&mut self, mut waiting: List<WAITING>) {
        while let Some(index) = waiting.front() {
            waiting.remove(&mut self.connections, index);
            self.connections[index]
                .flags
                .remove(Flags::AWAITING_NEIGHBOR);
            self.mark_dirty(index);
        }
    }

    /// Asks, asks again, and gives up on neighbours.
    pub(crate) fn neighbor_timers(&mut self, now: Instant) {
        self.listen_to_speaker(now);
        while let Some(mut waiting) = self.neighbors.expire(now) {
            while let Some(index) = waiting.front() {
                waiting.remove(&mut self.connections, index);
                let connection = &mut self.connections[index];
                connection.flags.remove(Flags::AWAITING_NEIGHBOR);
                if connection.state > State::Dead {
                    connection.flags.insert(Flags::NEIGHBOR_FAILED);
                    self.arm_timer(index, now.0);
                }
            }
        }
        self.counters.arp_failures = self.neighbors.failures;
        self.schedule_listening(now);
    }

    /// Sends the requests that are due, as far as the TX ring takes them.
    pub(crate) fn send_neighbor_requests<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
    ) {
        // Perhaps another engine has asked already.
        self.listen_to_speaker(cx.now);
        self.schedule_listening(cx.now);
        while cx.tx.header().is_some()
            && let Some(Request { address, mac }) = self.neighbors.take_request()
        {
            let Some(target) = address.ipv4() else {
                continue;
            };
            self.counters.arp_out_requests += 1;
            let mac = mac.unwrap_or(BROADCAST);
            self.send_arp(cx, ArpOperation::Request, mac, Ipv4Addr::from_bits(target));
        }
    }

    fn send_arp<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        operation: ArpOperation,
        mac: [u8; 6],
        target: Ipv4Addr,
    ) {
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return;
        };
        room[..6].copy_from_slice(&mac);
        room[6..12].copy_from_slice(&self.local.mac);
        put16(room, 12, ETHERTYPE_ARP);
        let is_request = operation == ArpOperation::Request;
        let repr = ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr: EthernetAddress(self.local.mac),
            source_protocol_addr: self.config.ipv4,
            target_hardware_addr: EthernetAddress(if is_request { [0; 6] } else { mac }),
            target_protocol_addr: target,
        };
        let mut packet = ArpPacket::new_unchecked(&mut room[ETHERNET..ETHERNET + ARP]);
        repr.emit(&mut packet);
        cx.tx.send(&TxFrame {
            header_len: (ETHERNET + ARP) as u16,
            fragments: &[],
            checksum: TxChecksum::None,
            segment_size: 0,
            release: None,
        });
    }
}
