//! Neighbour discovery (RFC 4861) and address configuration (RFC 4862) on the wire: answering who has
//! our addresses, learning from neighbours and routers, asking for our own. The cache is the same as
//! ARP's, see `neighbor`; redirects are counted and not followed, since on a link with one router
//! they only serve to divert.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::ipv6::header::IPV6;
use crate::ipv6::ndp_message::{Message, Outgoing, REDIRECT, RouterAdvertisement};
use crate::neighborhood::{Claim, How};
use crate::packet::{Packet, pseudo_sum};
use crate::wire::{ETHERNET, PROTOCOL_ICMPV6, emit_ipv6, fold, put16, sum};
use ix_hal::{Instant, Transmit, TxChecksum, TxFrame};

/// What does not come from a neighbour has been through a router, which takes one off.
const HOP_LIMIT: u8 = 255;

impl Engine {
    /// A neighbour discovery message whose checksum is right.
    pub(crate) fn discovery_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        bytes: &[u8],
        packet: &Packet,
    ) {
        let message = &bytes[packet.payload..packet.end];
        // Behind other headers, a fragment header above all, it is not believed (RFC 6980 5).
        if bytes[ETHERNET + 7] != HOP_LIMIT || packet.payload != ETHERNET + IPV6 {
            self.counters.ndp_ignored += 1;
            return;
        }
        match Message::parse(message, packet.source, packet.destination) {
            Some(Message::Solicitation { target, source_mac }) => {
                self.counters.ndp_in_solicitations += 1;
                let mut station = [0; 6];
                station.copy_from_slice(&bytes[6..12]);
                self.solicitation_arrives(cx, packet.source, target, source_mac, station);
            }
            Some(Message::Advertisement {
                target,
                target_mac,
                is_router,
                solicited,
                overrides,
            }) => {
                self.counters.ndp_in_advertisements += 1;
                let claim = Claim {
                    address: target,
                    mac: target_mac,
                    how: How::Advertised {
                        solicited,
                        overrides,
                    },
                };
                self.advertisement_arrives(cx.now, claim, is_router);
            }
            Some(Message::Router(router)) => {
                self.counters.ndp_in_routers += 1;
                self.router_arrives(cx.now, packet.source, &router);
            }
            None if message.first() == Some(&REDIRECT) => self.counters.ndp_in_redirects += 1,
            None => self.counters.ndp_ignored += 1,
        }
    }

    /// Somebody asks who has an address (RFC 4861 7.2.3, RFC 4862 5.4.3).
    fn solicitation_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        source: IpAddress,
        target: IpAddress,
        source_mac: Option<[u8; 6]>,
        station: [u8; 6],
    ) {
        if self.ipv6.own.is_tentative(target) {
            // Another one wants it too; if it only looks for the one who has it, nobody does yet.
            if source.is_unspecified() {
                self.lose_address(cx.now, target);
            }
            return;
        }
        if self.ipv6.own.number(target).is_none() {
            self.counters.ndp_ignored += 1;
            return;
        }
        if source.is_unspecified() {
            let message = Outgoing::advertisement(target, self.local.mac, false);
            let all = IpAddress::ALL_NODES;
            self.counters.ndp_out_advertisements += 1;
            self.send_discovery(cx, all.multicast_mac(), (target, all), &message);
            return;
        }
        if !self.is_host(source) {
            self.counters.ndp_ignored += 1;
            return;
        }
        // To one that is not on-link as far as we know, nothing would ever be sent directly.
        if let Some(mac) = source_mac
            && self.ipv6.routers.is_on_link(source)
        {
            let claim = Claim {
                address: source,
                mac: Some(mac),
                how: How::Asked,
            };
            self.believe(cx.now, claim);
        }
        let message = Outgoing::advertisement(target, self.local.mac, true);
        let mac = source_mac.unwrap_or(station);
        self.counters.ndp_out_advertisements += 1;
        self.send_discovery(cx, mac, (target, source), &message);
    }

    /// Somebody says who has an address (RFC 4861 7.2.5, RFC 4862 5.4.4).
    fn advertisement_arrives(&mut self, now: Instant, claim: Claim, is_router: bool) {
        if !is_router && self.ipv6.routers.is_router(claim.address) {
            // It is one no longer.
            self.ipv6.routers.learn_router(now, claim.address, now.0);
            self.ipv6_changed(now);
        }
        if self.ipv6.own.is_tentative(claim.address) {
            self.lose_address(now, claim.address);
        } else if self.is_host(claim.address) {
            self.believe(now, claim);
        } else {
            self.counters.ndp_ignored += 1;
        }
    }

    /// An address that we asked for is another one's.
    fn lose_address(&mut self, now: Instant, address: IpAddress) {
        if self.ipv6.is_duplicate(address) {
            self.counters.ndp_duplicates += 1;
            self.schedule_ipv6(now);
        }
    }

    /// A router advertises itself (RFC 4861 6.3.4).
    fn router_arrives(
        &mut self,
        now: Instant,
        router: IpAddress,
        advertisement: &RouterAdvertisement<'_>,
    ) {
        let was_router = self.ipv6.routers.is_router(router);
        if !self.ipv6.advertised(now, router, advertisement) {
            self.counters.ndp_ignored += 1;
            return;
        }
        self.counters.ndp_refused = self.ipv6.refused;
        if was_router && advertisement.lifetime_s == 0 {
            self.neighbors.change_epoch();
        }
        if let Some(mac) = advertisement.source_mac {
            let claim = Claim {
                address: router,
                mac: Some(mac),
                how: How::Asked,
            };
            self.believe(now, claim);
        }
        self.ipv6_changed(now);
    }

    /// Sends what is due: questions for our own addresses, and for routers.
    pub(crate) fn send_own_discovery<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
    ) {
        // Whoever is asked has to be in the group of the question before (RFC 4862 5.4.2).
        self.send_report(cx);
        while cx.tx.header().is_some()
            && let Some(own) = self.ipv6.own.take_probe(cx.now)
        {
            let group = own.solicited_node();
            let message = Outgoing::solicitation(own, None);
            let addresses = (IpAddress::UNSPECIFIED, group);
            self.counters.ndp_out_solicitations += 1;
            self.send_discovery(cx, group.multicast_mac(), addresses, &message);
        }
        if self.ipv6.solicitation_due
            && let Some(own) = self.ipv6.link_local_in_use()
            && cx.tx.header().is_some()
        {
            self.ipv6.solicitation_due = false;
            let routers = IpAddress::ALL_ROUTERS;
            let message = Outgoing::router_solicitation(self.local.mac);
            self.counters.ndp_out_router_solicitations += 1;
            self.send_discovery(cx, routers.multicast_mac(), (own, routers), &message);
        }
        self.schedule_ipv6(cx.now);
    }

    /// Asks for the MAC address of a neighbour: the one that it had, or the whole group (RFC 4861
    /// 7.2.2).
    pub(crate) fn solicit<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        target: IpAddress,
        mac: Option<[u8; 6]>,
    ) {
        let Some((_, own)) = self.ipv6.own.select(target) else {
            return;
        };
        let group = target.solicited_node();
        let (mac, destination) = match mac {
            Some(mac) => (mac, target),
            None => (group.multicast_mac(), group),
        };
        let message = Outgoing::solicitation(target, Some(self.local.mac));
        self.counters.ndp_out_solicitations += 1;
        self.send_discovery(cx, mac, (own, destination), &message);
    }

    fn send_discovery<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mac: [u8; 6],
        (source, destination): (IpAddress, IpAddress),
        message: &Outgoing,
    ) {
        let Some(room) = cx.tx.header() else {
            self.counters.tx_full_drops += 1;
            return;
        };
        let bytes = message.bytes();
        room[..6].copy_from_slice(&mac);
        room[6..12].copy_from_slice(&self.local.mac);
        let len = bytes.len() as u16;
        emit_ipv6(room, source, destination, PROTOCOL_ICMPV6, len);
        room[ETHERNET + 7] = HOP_LIMIT;
        let at = ETHERNET + IPV6;
        room[at..at + bytes.len()].copy_from_slice(bytes);
        let pseudo = pseudo_sum(PROTOCOL_ICMPV6, source, destination);
        let checksum = !fold(sum(bytes) + u64::from(pseudo) + u64::from(len));
        put16(room, at + 2, checksum);
        cx.tx.send(&TxFrame {
            header_len: at as u16 + len,
            fragments: &[],
            checksum: TxChecksum::None,
            segment_size: 0,
            release: None,
        });
        self.counters.icmp6_out_messages += 1;
    }
}
