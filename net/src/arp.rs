//! ARP for Ethernet and IPv4 (RFC 826, RFC 5227).

use crate::config::Config;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::neighborhood::{Claim, How, Neighborhood};
use crate::next_hop::BROADCAST;
use crate::wire::{ETHERNET, ETHERTYPE_ARP, put16};
use core::net::Ipv4Addr;
use ix_hal::{Instant, Transmit, TxChecksum, TxFrame};
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

/// Bytes of an ARP packet for Ethernet and IPv4.
const ARP: usize = 28;
/// Time between two announcements (RFC 5227 1.1).
const ANNOUNCE_INTERVAL: u64 = 2_000_000_000;

/// Announcements of the own address that are still to be made (RFC 5227 2.3).
#[derive(Debug)]
pub(crate) struct Announcements {
    left: u8,
    /// When the next one is due.
    next: u64,
}

impl Announcements {
    /// All that `config` asks for, from now on.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let is_told = matches!(config.neighborhood, Neighborhood::Listener(_));
        Self {
            left: if is_told {
                0
            } else {
                config.ipv4_announcements
            },
            next: now.0,
        }
    }

    /// When there is one to make.
    pub(crate) fn deadline(&self) -> Option<u64> {
        (self.left > 0).then_some(self.next)
    }

    /// Whether one is due, which then is made.
    fn take(&mut self, now: Instant) -> bool {
        let is_due = self.left > 0 && self.next <= now.0;
        if is_due {
            self.left -= 1;
            self.next = now.0 + ANNOUNCE_INTERVAL;
        }
        is_due
    }
}

impl Engine {
    /// Announces the own address if it is time, and the TX ring has room.
    pub(crate) fn announce_address<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        if cx.tx.header().is_some() && self.announcements.take(cx.now) {
            self.counters.arp_out_announcements += 1;
            let request = ArpOperation::Request;
            self.send_arp(cx, request, BROADCAST, self.config.ipv4);
        }
    }

    /// An ARP packet: answers it if it asks for us, and learns from it.
    pub(crate) fn arp_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        bytes: &[u8],
    ) {
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
            && (self.is_ipv4_host(source.to_bits()) || source.is_unspecified());
        let is_request = operation == ArpOperation::Request;
        if !is_believable || !(is_for_us || source == target) {
            self.counters.arp_ignored += 1;
            return;
        }
        if !source.is_unspecified() {
            let claim = Claim {
                address: source.into(),
                mac: Some(mac),
                how: match is_for_us && is_request {
                    true => How::Asked,
                    false => How::Announced,
                },
            };
            self.believe(cx.now, claim);
        }
        if is_for_us && is_request {
            self.counters.arp_in_requests += 1;
            self.send_arp(cx, ArpOperation::Reply, mac, source);
        }
    }

    /// Sends a request or a reply.
    pub(crate) fn send_arp<T: Transmit, E: Events>(
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
