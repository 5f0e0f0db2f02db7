//! Which IPv6 destinations are on-link, and through whom the others are reached (RFC 4861 5.1, 5.2):
//! prefixes and default routers, configured or advertised, in bounded tables with lifetimes.

use crate::address::IpAddress;
use crate::wheel::NEVER;
use alloc::vec::Vec;
use ix_hal::Instant;

/// Most routers and most on-link prefixes. When full, further ones are not believed.
pub(crate) const MOST_ROUTERS: usize = 4;
pub(crate) const MOST_PREFIXES: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Router {
    address: IpAddress,
    until: u64,
    /// It did not answer when it was asked last: others come first (RFC 4861 6.3.6).
    is_silent: bool,
}

#[derive(Clone, Copy, Debug)]
struct Prefix {
    address: IpAddress,
    len: u8,
    until: u64,
}

/// Both tables.
pub(crate) struct Routers {
    routers: Vec<Router>,
    prefixes: Vec<Prefix>,
}

impl Routers {
    /// Nothing but the link itself is known.
    pub fn new() -> Self {
        let mut routers = Self {
            routers: Vec::with_capacity(MOST_ROUTERS),
            prefixes: Vec::with_capacity(MOST_PREFIXES),
        };
        let link_local = IpAddress::from_words(0xfe80 << 48, 0);
        routers.learn_prefix(link_local, 10, NEVER);
        routers
    }

    /// The neighbour through which a destination is reached.
    pub fn next_hop(&self, destination: IpAddress) -> Option<IpAddress> {
        if self.is_on_link(destination) {
            return Some(destination);
        }
        let answering = self.routers.iter().find(|router| !router.is_silent);
        let router = answering.or(self.routers.first())?;
        Some(router.address)
    }

    /// Whether an address is that of a neighbour.
    pub fn is_on_link(&self, address: IpAddress) -> bool {
        let mut prefixes = self.prefixes.iter();
        prefixes.any(|prefix| prefix.address.shares_prefix(address, prefix.len))
    }

    /// Whether an address is that of a default router.
    pub fn is_router(&self, address: IpAddress) -> bool {
        self.routers.iter().any(|router| router.address == address)
    }

    /// A router is there until then, or not if that is past; `false` if there is no room for it.
    pub fn learn_router(&mut self, now: Instant, address: IpAddress, until: u64) -> bool {
        let is_full = self.routers.len() == MOST_ROUTERS;
        let known = self.routers.iter_mut().find(|it| it.address == address);
        match known {
            // A configured one stays.
            Some(router) if router.until == NEVER => router.is_silent = false,
            Some(router) => (router.until, router.is_silent) = (until, false),
            None if until <= now.0 => return true,
            None if is_full => return false,
            None => self.routers.push(Router {
                address,
                until,
                is_silent: false,
            }),
        }
        self.advance(now);
        true
    }

    /// A prefix is on-link until then; `false` if there is no room for it.
    pub fn learn_prefix(&mut self, address: IpAddress, len: u8, until: u64) -> bool {
        let is_full = self.prefixes.len() == MOST_PREFIXES;
        let mut prefixes = self.prefixes.iter_mut();
        let known = prefixes.find(|it| it.len == len && it.address.shares_prefix(address, len));
        match known {
            Some(prefix) if prefix.until == NEVER => {}
            Some(prefix) => prefix.until = until,
            None if is_full => return false,
            None => self.prefixes.push(Prefix {
                address,
                len,
                until,
            }),
        }
        true
    }

    /// A router did not answer: the others come first, and when none has answered each of them gets
    /// another chance, beginning with the next.
    pub fn went_silent(&mut self, address: IpAddress) {
        let found = self.routers.iter().position(|it| it.address == address);
        let Some(index) = found else {
            return;
        };
        self.routers[index].is_silent = true;
        if self.routers.iter().all(|router| router.is_silent) {
            self.routers.rotate_left(index);
            self.routers.rotate_left(1);
            for router in &mut self.routers {
                router.is_silent = false;
            }
        }
    }

    /// Forgets what is no longer true; whether there was anything.
    pub fn advance(&mut self, now: Instant) -> bool {
        let before = self.routers.len() + self.prefixes.len();
        self.routers.retain(|router| router.until > now.0);
        self.prefixes.retain(|prefix| prefix.until > now.0);
        self.routers.len() + self.prefixes.len() != before
    }

    /// When [`Routers::advance`] has to be called next.
    pub fn deadline(&self) -> u64 {
        let routers = self.routers.iter().map(|router| router.until);
        let prefixes = self.prefixes.iter().map(|prefix| prefix.until);
        routers.chain(prefixes).min().unwrap_or(NEVER)
    }

    /// The routers.
    pub fn routers(&self) -> impl Iterator<Item = IpAddress> {
        self.routers.iter().map(|router| router.address)
    }

    /// The on-link prefixes and their lengths.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpAddress, u8)> {
        let prefixes = self.prefixes.iter();
        prefixes.map(|prefix| (prefix.address, prefix.len))
    }

    /// Keeps those routers and prefixes only for which this holds; whether any is gone.
    pub fn retain(
        &mut self,
        mut router: impl FnMut(IpAddress) -> bool,
        mut prefix: impl FnMut(IpAddress, u8) -> bool,
    ) -> bool {
        let before = self.routers.len() + self.prefixes.len();
        self.routers.retain(|it| router(it.address));
        self.prefixes.retain(|it| prefix(it.address, it.len));
        self.routers.len() + self.prefixes.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    fn address(text: &str) -> IpAddress {
        text.parse::<Ipv6Addr>().expect("an address").into()
    }

    #[test]
    fn neighbours_are_reached_directly_and_others_through_a_router_that_answers() {
        let mut table = Routers::new();
        let [near, far] = [address("2001:db8::9"), address("2400::9")];
        let [first, second] = [address("fe80::1"), address("fe80::2")];
        assert_eq!(table.next_hop(first), Some(first));
        assert_eq!((table.next_hop(near), table.next_hop(far)), (None, None));
        table.learn_prefix(address("2001:db8::"), 64, NEVER);
        table.learn_router(Instant(0), first, 100);
        table.learn_router(Instant(0), second, 50);
        assert_eq!(table.next_hop(near), Some(near));
        assert_eq!(table.next_hop(far), Some(first));
        table.went_silent(first);
        assert_eq!(table.next_hop(far), Some(second));
        table.went_silent(second);
        assert_ne!(table.next_hop(far), Some(second), "the other one again");
        assert_eq!(table.deadline(), 50);
        assert!(table.advance(Instant(50)));
        assert_eq!(table.next_hop(far), Some(first));
        assert!(table.learn_router(Instant(60), first, 60));
        assert_eq!(table.next_hop(far), None, "a lifetime of zero");
    }

    #[test]
    fn tables_have_room_for_so_many_and_what_is_configured_stays() {
        let mut table = Routers::new();
        let configured = address("fe80::1");
        table.learn_router(Instant(0), configured, NEVER);
        for low in 2..=MOST_ROUTERS as u64 {
            let router = IpAddress::from_words(configured.high, low);
            assert!(table.learn_router(Instant(0), router, 100));
        }
        assert!(!table.learn_router(Instant(0), address("fe80::99"), 100));
        assert!(table.learn_router(Instant(0), configured, 0));
        assert!(table.is_router(configured));
        for high in 1..MOST_PREFIXES as u64 {
            assert!(table.learn_prefix(IpAddress::from_words(high, 0), 64, 100));
        }
        assert!(!table.learn_prefix(IpAddress::from_words(99, 0), 64, 100));
        assert!(table.learn_prefix(IpAddress::from_words(1, 7), 64, 200));
    }
}
