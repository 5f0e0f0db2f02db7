//! What this host is in IPv6: its addresses, its routers and the MTU of its link, and how all that
//! comes about, from the configuration and from router advertisements (RFC 4862). No packets here;
//! those are in `ndp`.

use crate::address::IpAddress;
use crate::config::Config;
use crate::ipv6::header::{IPV6, LEAST_MTU};
use crate::ipv6::mld::Reports;
use crate::ipv6::ndp_message::{PrefixInformation, RouterAdvertisement};
use crate::ipv6::own_addresses::{Lifetimes, OwnAddresses};
use crate::ipv6::routers::Routers;
use crate::neighborhood::{Neighborhood, News};
use crate::wheel::NEVER;
use crate::wire::TCP;
use ix_hal::Instant;

/// Router solicitations until an answer comes, and the time between them (RFC 4861 10).
const MOST_SOLICITATIONS: u8 = 3;
const SOLICITATION_INTERVAL: u64 = 4_000_000_000;
/// How soon other engines are told again what did not fit into a mailbox.
const TELL_INTERVAL: u64 = 100_000_000;
const SECOND: u64 = 1_000_000_000;

/// The host in IPv6.
pub(crate) struct Ipv6Host {
    /// Whether IPv6 is spoken at all.
    pub is_on: bool,
    /// Own addresses.
    pub own: OwnAddresses,
    /// Routers and on-link prefixes.
    pub routers: Routers,
    /// Bytes of IP packet that fit in a frame, as far as routers allow.
    pub mtu: u16,
    /// What is to be said about multicast groups.
    pub reports: Reports,
    /// A router solicitation is to be sent.
    pub solicitation_due: bool,
    /// Prefixes, routers and addresses that were advertised and found no room.
    pub refused: u64,
    mac: [u8; 6],
    link_mtu: u16,
    /// Another engine hears what comes to all of the host, and tells this one.
    is_told: bool,
    takes_advertisements: bool,
    solicitations: u8,
    solicit_at: u64,
    /// When the other engines are to be told how things stand.
    tell_at: u64,
    /// What another engine is telling, until it has told all of it.
    heard: Heard,
}

/// What was told since `News::HostBegins`: enough to know what is no longer true.
struct Heard {
    news: [News; MOST_NEWS],
    count: usize,
}

/// The most that is told at once.
const MOST_NEWS: usize = crate::ipv6::own_addresses::MOST_ADDRESSES
    + crate::ipv6::routers::MOST_ROUTERS
    + crate::ipv6::routers::MOST_PREFIXES;

impl Ipv6Host {
    /// The host as configured. One that hears of everything from another engine begins with nothing.
    pub fn new(config: &Config, now: Instant) -> Self {
        // Without IPv6 it may be less, and matters to nobody.
        let link_mtu = config.mtu.max(LEAST_MTU);
        let ipv6 = config.ipv6.unwrap_or_default();
        let mut host = Self {
            is_on: config.ipv6.is_some(),
            own: OwnAddresses::new(ipv6.duplicate_probes),
            routers: Routers::new(),
            mtu: link_mtu,
            reports: Reports::none(),
            solicitation_due: false,
            refused: 0,
            mac: config.mac,
            link_mtu,
            is_told: matches!(config.neighborhood, Neighborhood::Listener(_)),
            takes_advertisements: ipv6.router_advertisements,
            solicitations: 0,
            solicit_at: now.0,
            tell_at: NEVER,
            heard: Heard {
                news: [News::HostEnds; MOST_NEWS],
                count: 0,
            },
        };
        if !host.is_on || host.is_told {
            host.takes_advertisements = false;
            return host;
        }
        let len = ipv6.prefix.min(128);
        if let Some(address) = ipv6.address {
            let address = IpAddress::from(address);
            host.own.add(now, address, len, Lifetimes::INFINITE);
            host.routers.learn_prefix(address, len, NEVER);
        }
        let link_local = IpAddress::link_local(config.mac);
        host.own.add(now, link_local, 64, Lifetimes::INFINITE);
        host.reports = Reports::of_joining(now);
        if let Some(gateway) = ipv6.gateway {
            host.routers.learn_router(now, gateway.into(), NEVER);
        }
        if matches!(config.neighborhood, Neighborhood::Speaker(_)) {
            host.tell_at = now.0;
        }
        host
    }

    /// Most payload of a segment without options that fits our MTU.
    pub fn mss(&self) -> u16 {
        self.mtu - (IPV6 + TCP) as u16
    }

    /// Does what time brings; whether flows have to look for their way again.
    pub fn advance(&mut self, now: Instant) -> bool {
        let has_changed = self.own.advance(now) | self.routers.advance(now);
        self.reports.advance(now);
        let is_asking = self.takes_advertisements && self.solicitations < MOST_SOLICITATIONS;
        if is_asking && now.0 >= self.solicit_at && self.link_local_in_use().is_some() {
            self.solicitations += 1;
            self.solicit_at = now.0 + SOLICITATION_INTERVAL;
            self.solicitation_due = true;
        }
        has_changed
    }

    /// Whether something is to be sent.
    pub fn has_output(&self) -> bool {
        self.solicitation_due || self.own.has_probe() || self.reports.due.is_some()
    }

    /// When [`Ipv6Host::advance`] has to be called next, or the others told.
    pub fn deadline(&self) -> u64 {
        if !self.is_on {
            return NEVER;
        }
        let tables = self.own.deadline().min(self.routers.deadline());
        let is_asking = self.takes_advertisements && self.solicitations < MOST_SOLICITATIONS;
        let solicit_at = match is_asking && self.link_local_in_use().is_some() {
            true => self.solicit_at,
            false => NEVER,
        };
        let tables = tables.min(self.reports.deadline());
        tables.min(solicit_at).min(self.tell_at)
    }

    /// Whether this engine answers for the host.
    pub fn hears_alone(&self) -> bool {
        self.is_on && !self.is_told
    }

    /// Own link-local address, once it is in use.
    pub fn link_local_in_use(&self) -> Option<IpAddress> {
        let mut in_use = self.own.in_use().map(|(address, ..)| address);
        in_use.find(|address| address.is_link_local())
    }

    /// Takes over what a router advertises, if that is wanted; whether it was.
    pub fn advertised(
        &mut self,
        now: Instant,
        router: IpAddress,
        advertisement: &RouterAdvertisement<'_>,
    ) -> bool {
        if !self.takes_advertisements {
            return false;
        }
        let RouterAdvertisement {
            lifetime_s,
            mtu,
            prefixes,
            ..
        } = *advertisement;
        let until = now.0 + u64::from(lifetime_s) * SECOND;
        let mut is_known = self.routers.learn_router(now, router, until);
        self.refused += u64::from(!is_known);
        // One that is no default router does not end the search for one (RFC 4861 6.3.7).
        is_known &= lifetime_s != 0;
        if is_known {
            self.solicitations = MOST_SOLICITATIONS;
        }
        let fitting =
            mtu.filter(|mtu| (u32::from(LEAST_MTU)..=u32::from(self.link_mtu)).contains(mtu));
        self.mtu = fitting.map_or(self.mtu, |mtu| mtu as u16);
        for prefix in prefixes.take(crate::ipv6::routers::MOST_PREFIXES) {
            self.take_prefix(now, &prefix);
        }
        true
    }

    /// RFC 4861 6.3.4 and RFC 4862 5.5.3.
    fn take_prefix(&mut self, now: Instant, information: &PrefixInformation) {
        let PrefixInformation { prefix, len, .. } = *information;
        if prefix.is_link_local() || prefix.is_multicast() {
            return;
        }
        let end = |seconds: u32| match seconds {
            u32::MAX => NEVER - 1,
            _ => now.0 + u64::from(seconds) * SECOND,
        };
        let lifetimes = Lifetimes {
            preferred_until: end(information.preferred_s.min(information.valid_s)),
            valid_until: end(information.valid_s),
        };
        if information.is_on_link {
            let is_known = self
                .routers
                .learn_prefix(prefix, len, lifetimes.valid_until);
            self.refused += u64::from(!is_known);
        }
        let is_sound = information.preferred_s <= information.valid_s && len == 64;
        if !information.is_autonomous || !is_sound {
            return;
        }
        let address = prefix.with_interface(self.mac);
        if !self.own.refresh(now, address, lifetimes) && information.valid_s != 0 {
            let is_added = self.own.add(now, address, len, lifetimes);
            self.refused += u64::from(!is_added);
        }
    }

    /// Another one has an address that we wanted; whether that was so.
    pub fn is_duplicate(&mut self, address: IpAddress) -> bool {
        self.own.is_tentative(address) && self.own.remove(address)
    }

    /// The other engines are to be told how things stand.
    pub fn must_tell(&mut self, now: Instant) {
        self.tell_at = now.0;
    }

    /// Whether that is to be done now.
    pub fn is_to_tell(&self, now: Instant) -> bool {
        self.tell_at <= now.0
    }

    /// Whether all were told; otherwise it is tried again later.
    pub fn told(&mut self, now: Instant, is_all: bool) {
        self.tell_at = match is_all {
            true => NEVER,
            false => now.0 + TELL_INTERVAL,
        };
    }

    /// Everything that the other engines are told.
    pub fn news(&self) -> impl Iterator<Item = News> {
        let own = self.own.in_use();
        let own = own.map(|(address, prefix, is_deprecated)| News::Own {
            address,
            prefix,
            is_deprecated,
        });
        let routers = self.routers.routers();
        let routers = routers.map(|address| News::Router { address });
        let prefixes = self.routers.prefixes();
        let prefixes = prefixes.map(|(address, len)| News::Prefix { address, len });
        let begin = core::iter::once(News::HostBegins { mtu: self.mtu });
        let middle = own.chain(routers).chain(prefixes);
        begin.chain(middle).chain(core::iter::once(News::HostEnds))
    }

    /// Takes over what another engine tells; whether flows have to look for their way again.
    pub fn hear(&mut self, now: Instant, news: News) -> bool {
        match news {
            News::Claim(_) => return false,
            News::HostBegins { mtu } => {
                self.mtu = mtu.clamp(LEAST_MTU, self.link_mtu);
                self.heard.count = 0;
                return false;
            }
            News::HostEnds => return self.forget_unheard(),
            News::Own {
                address,
                prefix,
                is_deprecated,
            } => {
                // It was asked for already.
                self.own.add_asked_for(now, address, prefix);
                self.own.set_deprecated(address, is_deprecated);
            }
            News::Router { address } => {
                self.routers.learn_router(now, address, NEVER);
            }
            News::Prefix { address, len } => {
                self.routers.learn_prefix(address, len, NEVER);
            }
        }
        if let Some(place) = self.heard.news.get_mut(self.heard.count) {
            *place = news;
            self.heard.count += 1;
        }
        false
    }

    fn forget_unheard(&mut self) -> bool {
        let heard = &self.heard.news[..self.heard.count];
        let is_own = |it: IpAddress| {
            let mut heard = heard.iter();
            heard.any(|news| matches!(news, News::Own { address, .. } if *address == it))
        };
        let is_router = |address| heard.contains(&News::Router { address });
        let is_prefix = |address, len| heard.contains(&News::Prefix { address, len });
        self.own.retain(is_own) | self.routers.retain(is_router, is_prefix)
    }
}
