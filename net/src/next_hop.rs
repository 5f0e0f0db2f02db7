//! The way to a destination: whose MAC address is needed, who says that it is whose, and who waits
//! for it. One cache serves ARP and neighbour discovery; with several engines one of them hears what
//! the others are told.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::flow::{FlowKey, OWN_IPV4};
use crate::list::{List, WAITING};
use crate::neighbor::Request;
use crate::neighborhood::{Claim, How, LOOK_INTERVAL, Mailbox, Neighborhood, News, WAIT_INTERVAL};
use crate::tcp::connection::{Flags, State};
use core::net::Ipv4Addr;
use ix_hal::{Instant, Transmit};
use smoltcp::wire::ArpOperation;

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

impl Engine {
    /// The neighbour through which a destination is reached.
    #[inline(always)]
    pub(crate) fn next_hop(&self, destination: IpAddress) -> Option<IpAddress> {
        let Some(destination) = destination.ipv4() else {
            return self.ipv6.routers.next_hop(destination);
        };
        if (destination ^ self.local.address) & self.local.mask == 0 {
            return Some(IpAddress::from_ipv4(destination));
        }
        self.local.gateway.map(IpAddress::from_ipv4)
    }

    /// The address of ours to talk to a destination from, and its number.
    pub(crate) fn own_address_for(&self, destination: IpAddress) -> Option<(u32, IpAddress)> {
        match destination.ipv4() {
            Some(_) => Some((OWN_IPV4, IpAddress::from_ipv4(self.local.address))),
            None => self.ipv6.own.select(destination),
        }
    }

    /// Our address in a flow, unless it is no longer ours.
    pub(crate) fn own_address(&self, key: &FlowKey) -> Option<IpAddress> {
        match key.own() {
            OWN_IPV4 => Some(IpAddress::from_ipv4(self.local.address)),
            number => self.ipv6.own.get(number),
        }
    }

    /// Whether an address is one of ours.
    pub(crate) fn is_own(&self, address: IpAddress) -> bool {
        match address.ipv4() {
            Some(address) => address == self.local.address,
            None => self.ipv6.own.number(address).is_some(),
        }
    }

    /// Takes note of where a neighbour is, and tells the other engines, which cannot hear it.
    pub(crate) fn believe(&mut self, now: Instant, claim: Claim) {
        self.take_claim(now, claim);
        if let Neighborhood::Speaker(mailboxes) = self.config.neighborhood {
            let told = |mailbox: &&Mailbox| mailbox.put(News::Claim(claim));
            let untold = mailboxes.iter().filter(|mailbox| !told(mailbox)).count();
            self.counters.arp_untold += untold as u64;
        }
    }

    fn take_claim(&mut self, now: Instant, Claim { address, mac, how }: Claim) {
        let waiting = match (how, mac) {
            (
                How::Advertised {
                    solicited,
                    overrides,
                },
                _,
            ) => self
                .neighbors
                .advertised(now, address, mac, solicited, overrides),
            (_, Some(mac)) => self.neighbors.heard(now, address, mac, how == How::Asked),
            (_, None) => return,
        };
        self.counters.arp_evictions = self.neighbors.evictions;
        self.wake_waiting(waiting);
    }

    /// Takes note of what was told, and looks again sooner if an answer is awaited.
    fn listen_to_speaker(&mut self, now: Instant) {
        let Neighborhood::Listener(mailbox) = self.config.neighborhood else {
            return;
        };
        while let Some(news) = mailbox.take() {
            if let News::Claim(claim) = news {
                self.take_claim(now, claim);
            } else if self.ipv6.is_on && self.ipv6.hear(now, news) {
                self.neighbors.change_epoch();
            }
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
    pub(crate) fn wake_waiting(&mut self, mut waiting: List<WAITING>) {
        while let Some(index) = waiting.front() {
            waiting.remove(&mut self.connections, index);
            self.connections[index]
                .flags
                .remove(Flags::AWAITING_NEIGHBOR);
            self.mark_dirty(index);
        }
    }

    /// Asks, asks again, and gives up on neighbours; announces the own address; lets own addresses and routers come and go.
    pub(crate) fn neighbor_timers(&mut self, now: Instant) {
        self.listen_to_speaker(now);
        while let Some((address, waiting)) = self.neighbors.expire(now) {
            if self.ipv6.routers.is_router(address) {
                self.ipv6.routers.went_silent(address);
                if self.next_hop_is_another(address) {
                    self.wake_waiting(waiting);
                    continue;
                }
            }
            self.fail_waiting(now, waiting);
        }
        self.counters.arp_failures = self.neighbors.failures;
        self.schedule_listening(now);
        if let Some(next) = self.announcements.deadline() {
            self.neighbors.requests_due |= next <= now.0;
            self.neighbors.deadline = self.neighbors.deadline.min(next);
        }
        if self.ipv6.is_on {
            if self.ipv6.advance(now) {
                self.ipv6_changed(now);
            }
            self.schedule_ipv6(now);
        }
    }

    /// Whether there is another router than this one.
    fn next_hop_is_another(&self, router: IpAddress) -> bool {
        let mut routers = self.ipv6.routers.routers();
        routers.any(|other| other != router)
    }

    fn fail_waiting(&mut self, now: Instant, mut waiting: List<WAITING>) {
        while let Some(index) = waiting.front() {
            waiting.remove(&mut self.connections, index);
            let connection = &mut self.connections[index];
            connection.flags.remove(Flags::AWAITING_NEIGHBOR);
            if connection.state > State::Dead {
                connection.flags.insert(Flags::NEIGHBOR_FAILED);
                self.arm_timer(now, index, now.0);
            }
        }
    }

    /// Own addresses, prefixes or routers are no longer what they were: flows look again whether
    /// theirs are, and the other engines are told.
    pub(crate) fn ipv6_changed(&mut self, now: Instant) {
        self.neighbors.change_epoch();
        if matches!(self.config.neighborhood, Neighborhood::Speaker(_)) {
            self.ipv6.must_tell(now);
        }
        self.schedule_ipv6(now);
    }

    /// Sees to it that what is due in IPv6 is done in time, and tells the other engines if that is.
    pub(crate) fn schedule_ipv6(&mut self, now: Instant) {
        if self.ipv6.is_to_tell(now) {
            self.tell_host(now);
        }
        self.neighbors.requests_due |= self.ipv6.has_output();
        let deadline = self.neighbors.deadline.min(self.ipv6.deadline());
        self.neighbors.deadline = deadline;
    }

    fn tell_host(&mut self, now: Instant) {
        let Neighborhood::Speaker(mailboxes) = self.config.neighborhood else {
            return;
        };
        let mut is_all = true;
        for mailbox in mailboxes {
            is_all &= self.ipv6.news().all(|news| mailbox.put(news));
        }
        self.ipv6.told(now, is_all);
    }

    /// Sends the announcements and requests that are due, as far as the TX ring takes them.
    pub(crate) fn send_neighbor_requests<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
    ) {
        // Perhaps another engine has asked already.
        self.listen_to_speaker(cx.now);
        self.schedule_listening(cx.now);
        self.announce_address(cx);
        while cx.tx.header().is_some()
            && let Some(Request { address, mac }) = self.neighbors.take_request()
        {
            match address.ipv4() {
                Some(target) => {
                    self.counters.arp_out_requests += 1;
                    let mac = mac.unwrap_or(BROADCAST);
                    self.send_arp(cx, ArpOperation::Request, mac, Ipv4Addr::from_bits(target));
                }
                None => self.solicit(cx, address, mac),
            }
        }
        if self.ipv6.is_on {
            self.send_own_discovery(cx);
        }
    }
}
