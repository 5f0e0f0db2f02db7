//! The host's own IPv6 addresses: each is asked for before it is used (duplicate address detection,
//! RFC 4862 5.4), has lifetimes (5.5.4), and may be chosen as a source (RFC 6724 5).
//!
//! An address has a number that no other one ever gets, which stands for it in the key of a flow: a
//! flow outlives its address as a key that leads nowhere.

use crate::address::IpAddress;
use crate::wheel::NEVER;
use alloc::vec::Vec;
use ix_hal::Instant;

/// Most addresses. When full, further prefixes that routers advertise make none.
pub(crate) const MOST_ADDRESSES: usize = 8;
/// Time between probes and after the last one (RetransTimer of RFC 4861 10), in nanoseconds.
const PROBE_INTERVAL: u64 = 1_000_000_000;
/// An unauthenticated advertisement does not shorten a life to less than this (RFC 4862 5.5.3 e).
const TWO_HOURS: u64 = 7200 * 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Being asked for.
    Tentative,
    Preferred,
    /// Good for flows that have it, not for new ones if there is another.
    Deprecated,
}

/// Until when an address is preferred and valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    pub preferred_until: u64,
    pub valid_until: u64,
}

impl Lifetimes {
    /// No end.
    pub const INFINITE: Self = Self {
        preferred_until: NEVER,
        valid_until: NEVER,
    };
}

#[derive(Clone, Copy, Debug)]
struct Own {
    address: IpAddress,
    number: u32,
    prefix: u8,
    state: State,
    lifetimes: Lifetimes,
    probes: u8,
    probe_due: bool,
    /// When to probe again, or when nobody has answered.
    probe_at: u64,
}

/// The addresses.
pub(crate) struct OwnAddresses {
    entries: Vec<Own>,
    probes: u8,
    next_number: u32,
}

impl OwnAddresses {
    /// None yet; each will be asked for `probes` times.
    pub fn new(probes: u8) -> Self {
        Self {
            entries: Vec::with_capacity(MOST_ADDRESSES),
            probes,
            next_number: 1,
        }
    }

    /// The number of an address that is in use.
    #[inline]
    pub fn number(&self, address: IpAddress) -> Option<u32> {
        let found = self.entries.iter().find(|own| own.address == address)?;
        (found.state != State::Tentative).then_some(found.number)
    }

    /// The address of that number, as long as it is in use.
    pub fn get(&self, number: u32) -> Option<IpAddress> {
        let found = self.entries.iter().find(|own| own.number == number)?;
        Some(found.address)
    }

    /// Whether an address is being asked for.
    pub fn is_tentative(&self, address: IpAddress) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|own| own.address == address && own.state == State::Tentative)
    }

    /// Whether a solicited-node group is that of an address.
    pub fn is_in_group(&self, group: IpAddress) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|own| own.address.solicited_node() == group)
    }

    /// The solicited-node groups of all addresses, each once.
    pub fn groups(&self) -> impl Iterator<Item = IpAddress> {
        let groups = self.entries.iter().enumerate();
        let groups = groups.map(|(at, own)| (at, own.address.solicited_node()));
        groups.filter_map(|(at, group)| {
            let mut before = self.entries[..at].iter();
            let is_new = before.all(|own| own.address.solicited_node() != group);
            is_new.then_some(group)
        })
    }

    /// The addresses in use: their prefix lengths, and whether they are deprecated.
    pub fn in_use(&self) -> impl Iterator<Item = (IpAddress, u8, bool)> {
        let in_use = self.entries.iter();
        let in_use = in_use.filter(|own| own.state != State::Tentative);
        in_use.map(|own| (own.address, own.prefix, own.state == State::Deprecated))
    }

    /// Adds an address, unless it is there or there are too many; whether it did.
    pub fn add(
        &mut self,
        now: Instant,
        address: IpAddress,
        prefix: u8,
        lifetimes: Lifetimes,
    ) -> bool {
        let state = match self.probes {
            0 => State::Preferred,
            _ => State::Tentative,
        };
        self.push(now, address, prefix, lifetimes, state)
    }

    /// Adds an address without end that another engine has asked for, unless it is there.
    pub fn add_asked_for(&mut self, now: Instant, address: IpAddress, prefix: u8) {
        self.push(now, address, prefix, Lifetimes::INFINITE, State::Preferred);
    }

    fn push(
        &mut self,
        now: Instant,
        address: IpAddress,
        prefix: u8,
        lifetimes: Lifetimes,
        state: State,
    ) -> bool {
        let is_there = self.entries.iter().any(|own| own.address == address);
        if is_there || self.entries.len() == MOST_ADDRESSES {
            return false;
        }
        self.entries.push(Own {
            address,
            number: self.next_number,
            prefix,
            state,
            lifetimes,
            probes: 0,
            probe_due: false,
            probe_at: now.0,
        });
        self.next_number += 1;
        true
    }

    /// An advertised prefix gives the addresses that were made of it new lifetimes; whether there is
    /// one (RFC 4862 5.5.3 e).
    pub fn refresh(&mut self, now: Instant, address: IpAddress, lifetimes: Lifetimes) -> bool {
        let Some(own) = self.entries.iter_mut().find(|own| own.address == address) else {
            return false;
        };
        // A configured one has no end, whatever a router says.
        if own.lifetimes == Lifetimes::INFINITE {
            return true;
        }
        let left = own.lifetimes.valid_until.saturating_sub(now.0);
        let offered = lifetimes.valid_until.saturating_sub(now.0);
        if offered > TWO_HOURS || offered > left {
            own.lifetimes.valid_until = lifetimes.valid_until;
        } else if left > TWO_HOURS {
            own.lifetimes.valid_until = now.0 + TWO_HOURS;
        }
        own.lifetimes.preferred_until = lifetimes.preferred_until;
        true
    }

    /// Sets whether an address in use is deprecated, as somebody else has found out.
    pub fn set_deprecated(&mut self, address: IpAddress, is_deprecated: bool) {
        let mut entries = self.entries.iter_mut();
        if let Some(own) = entries.find(|own| own.address == address) {
            own.lifetimes.preferred_until = if is_deprecated { 0 } else { NEVER };
            own.state = match is_deprecated {
                true => State::Deprecated,
                false => State::Preferred,
            };
        }
    }

    /// Takes an address away; whether it was there.
    pub fn remove(&mut self, address: IpAddress) -> bool {
        let before = self.entries.len();
        self.entries.retain(|own| own.address != address);
        self.entries.len() != before
    }

    /// Keeps those only for which this holds; whether any is gone.
    pub fn retain(&mut self, mut keeps: impl FnMut(IpAddress) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|own| keeps(own.address));
        self.entries.len() != before
    }

    /// Does what time brings; whether it changed what is in use.
    pub fn advance(&mut self, now: Instant) -> bool {
        let (before, mut has_changed) = (self.entries.len(), false);
        self.entries
            .retain(|own| own.lifetimes.valid_until > now.0 || own.state == State::Tentative);
        for own in &mut self.entries {
            let state = own.state;
            own.advance(now, self.probes);
            has_changed |= own.state != state;
        }
        has_changed || self.entries.len() != before
    }

    /// When [`OwnAddresses::advance`] has to be called next.
    pub fn deadline(&self) -> u64 {
        let deadlines = self.entries.iter().map(Own::deadline);
        deadlines.min().unwrap_or(NEVER)
    }

    /// Whether a probe is to be sent.
    pub fn has_probe(&self) -> bool {
        self.entries.iter().any(|own| own.probe_due)
    }

    /// The next address to ask for.
    pub fn take_probe(&mut self, now: Instant) -> Option<IpAddress> {
        let own = self.entries.iter_mut().find(|own| own.probe_due)?;
        own.probe_due = false;
        own.probes += 1;
        own.probe_at = now.0 + PROBE_INTERVAL;
        Some(own.address)
    }

    /// The address to talk to `destination` from (RFC 6724 5, rules 1 to 3, 6 and 8; the others are
    /// about several interfaces, homes and temporary addresses).
    pub fn select(&self, destination: IpAddress) -> Option<(u32, IpAddress)> {
        let in_use = self.entries.iter();
        let in_use = in_use.filter(|own| own.state != State::Tentative);
        let best = in_use.max_by_key(|own| own.merit(destination))?;
        Some((best.number, best.address))
    }
}

impl Own {
    fn advance(&mut self, now: Instant, probes: u8) {
        if self.state == State::Tentative {
            if self.probe_due || self.probe_at > now.0 {
                return;
            }
            if self.probes < probes {
                self.probe_due = true;
                return;
            }
        }
        self.state = match self.lifetimes.preferred_until > now.0 {
            true => State::Preferred,
            false => State::Deprecated,
        };
    }

    fn deadline(&self) -> u64 {
        match self.state {
            State::Tentative if self.probe_due => NEVER,
            State::Tentative => self.probe_at,
            State::Preferred => self
                .lifetimes
                .preferred_until
                .min(self.lifetimes.valid_until),
            State::Deprecated => self.lifetimes.valid_until,
        }
    }

    /// How good a source it is, by the rules in their order.
    fn merit(&self, destination: IpAddress) -> (bool, u8, bool, bool, u32) {
        let (own, wanted) = (self.address.scope(), destination.scope());
        // The narrowest of the scopes that reach, else the widest.
        let scope = if own >= wanted { 0xff - own } else { own };
        let shared = (self.address.bits() ^ destination.bits()).leading_zeros();
        (
            self.address == destination,
            scope,
            self.state == State::Preferred,
            label(self.address) == label(destination),
            shared.min(u32::from(self.prefix)),
        )
    }
}

/// Label of the default policy table (RFC 6724 2.1), as far as its prefixes may come over a wire.
fn label(address: IpAddress) -> u8 {
    let first = address.high >> 48;
    match first {
        0x2002 => 2,
        0x2001 if address.high >> 32 == 0x2001_0000 => 5,
        0xfc00..=0xfdff => 13,
        0xfec0..=0xfeff => 11,
        0x3ffe => 12,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    const SECOND: u64 = 1_000_000_000;

    fn address(text: &str) -> IpAddress {
        text.parse::<Ipv6Addr>().expect("an address").into()
    }

    fn table(addresses: &[&str]) -> OwnAddresses {
        let mut table = OwnAddresses::new(0);
        for text in addresses {
            assert!(table.add(Instant(0), address(text), 64, Lifetimes::INFINITE));
        }
        table
    }

    #[test]
    fn address_is_used_after_its_probes_went_unanswered() {
        let mut table = OwnAddresses::new(2);
        let own = address("2001:db8::1");
        table.add(Instant(0), own, 64, Lifetimes::INFINITE);
        for second in 0..2 {
            let now = Instant(second * SECOND);
            assert!(!table.advance(now) && table.has_probe());
            assert_eq!(table.take_probe(now), Some(own));
            assert_eq!((table.take_probe(now), table.number(own)), (None, None));
            assert_eq!(table.deadline(), now.0 + SECOND);
        }
        assert!(!table.advance(Instant(2 * SECOND - 1)));
        assert!(table.is_tentative(own));
        assert!(table.advance(Instant(2 * SECOND)));
        assert_eq!((table.number(own), table.deadline()), (Some(1), NEVER));
    }

    #[test]
    fn address_is_deprecated_and_then_gone_for_good() {
        let mut table = OwnAddresses::new(0);
        let own = address("2001:db8::1");
        let lifetimes = Lifetimes {
            preferred_until: 10,
            valid_until: 20,
        };
        table.add(Instant(0), own, 64, lifetimes);
        table.advance(Instant(0));
        assert_eq!(table.deadline(), 10);
        assert!(table.advance(Instant(10)));
        assert_eq!((table.number(own), table.deadline()), (Some(1), 20));
        assert!(table.advance(Instant(20)));
        assert_eq!((table.number(own), table.get(1)), (None, None));
        table.add(Instant(30), own, 64, lifetimes);
        assert_eq!(table.get(1), None, "a new number");
    }

    #[test]
    fn advertisement_cannot_end_a_life_at_once() {
        let mut table = OwnAddresses::new(0);
        let own = address("2001:db8::1");
        let ending = |seconds| Lifetimes {
            preferred_until: seconds * SECOND,
            valid_until: seconds * SECOND,
        };
        table.add(Instant(0), own, 64, ending(86_400));
        table.advance(Instant(0));
        assert!(table.refresh(Instant(0), own, ending(10)));
        table.advance(Instant(100 * SECOND));
        assert_eq!(table.deadline(), TWO_HOURS, "valid, and deprecated");
        table.refresh(Instant(0), own, ending(90_000));
        table.advance(Instant(100 * SECOND));
        assert_eq!(table.deadline(), 90_000 * SECOND);
    }

    #[test]
    fn source_is_selected_by_scope_age_label_and_prefix() {
        let link = "fe80::1";
        let table_of = |own: &[&str]| table(own);
        let pick = |table: &OwnAddresses, to| table.select(address(to)).map(|(_, from)| from);
        let table = table_of(&[link, "2001:db8:1::1", "2001:db8:2::1", "fd00::1"]);
        assert_eq!(pick(&table, "fe80::9"), Some(address(link)));
        assert_eq!(
            pick(&table, "2001:db8:2::9"),
            Some(address("2001:db8:2::1"))
        );
        assert_eq!(pick(&table, "fd01::9"), Some(address("fd00::1")));
        let mut table = table_of(&[link, "2001:db8:1::1", "2400::1"]);
        table.set_deprecated(address("2001:db8:1::1"), true);
        assert_eq!(pick(&table, "2001:db8:1::9"), Some(address("2400::1")));
        let table = table_of(&[link]);
        assert_eq!(pick(&table, "2001:db8::9"), Some(address(link)));
        assert_eq!(table_of(&[]).select(address(link)), None);
    }

    #[test]
    fn no_more_addresses_than_there_is_room_for() {
        let mut table = OwnAddresses::new(1);
        for low in 0..MOST_ADDRESSES as u64 {
            let own = IpAddress::from_words(1 << 61, low);
            assert!(table.add(Instant(0), own, 64, Lifetimes::INFINITE));
            assert!(!table.add(Instant(0), own, 64, Lifetimes::INFINITE));
        }
        let one_more = IpAddress::from_words(1 << 61, 99);
        assert!(!table.add(Instant(0), one_more, 64, Lifetimes::INFINITE));
    }
}
