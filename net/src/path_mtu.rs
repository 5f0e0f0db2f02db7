//! What is known of paths that are narrower than our own link (RFC 1191, RFC 8201): a small table by
//! destination. It is only written after an ICMP error was matched with a connection, and forgets
//! after ten minutes, so that a path that has become wider is found out (RFC 1191 6.3).

use crate::address::IpAddress;
use ix_hal::Instant;

/// Destinations remembered. One that falls on the place of another takes it.
const ENTRIES: usize = 64;
/// How long a narrow path is believed in, in nanoseconds.
const LIFETIME: u64 = 600 * 1_000_000_000;
/// No path is taken for narrower: links that are, nobody has seen (RFC 1191 7.1 knows of none), and a
/// forged error could make us send crumbs.
const LEAST: u16 = 296;
/// Nor a path of IPv6 than every link for it must take (RFC 8201 4).
const LEAST6: u16 = crate::ipv6::header::LEAST_MTU;
/// Sizes that paths often have (RFC 1191 7), for routers that do not say which (a next-hop MTU of
/// 0).
const PLATEAUS: [u16; 7] = [8166, 4352, 2002, 1492, 1006, 508, LEAST];

#[derive(Clone, Copy, Default)]
struct Entry {
    destination: IpAddress,
    mtu: u16,
    expires: u64,
}

/// The table.
pub(crate) struct PathMtus {
    entries: [Entry; ENTRIES],
    is_empty: bool,
}

impl PathMtus {
    /// Nothing is known.
    pub fn new() -> Self {
        Self {
            entries: [Entry::default(); ENTRIES],
            is_empty: true,
        }
    }

    /// Takes note of the MTU of a path; returns what is to be believed of it.
    pub fn learn(&mut self, now: Instant, destination: IpAddress, mtu: u16) -> u16 {
        let mtu = mtu.max(match destination.ipv4() {
            Some(_) => LEAST,
            None => LEAST6,
        });
        self.is_empty = false;
        self.entries[place(destination)] = Entry {
            destination,
            mtu,
            expires: now.0.saturating_add(LIFETIME),
        };
        mtu
    }

    /// The MTU of the path to a destination, if it is known to be narrow.
    #[inline]
    pub fn get(&self, now: Instant, destination: IpAddress) -> Option<u16> {
        if self.is_empty {
            return None;
        }
        let entry = &self.entries[place(destination)];
        (entry.destination == destination && now.0 < entry.expires).then_some(entry.mtu)
    }
}

/// The size that a path takes which did not take a packet of `len` bytes and says it takes
/// `reported`; `None` if that makes no sense.
pub(crate) fn narrower(len: u16, reported: u16) -> Option<u16> {
    match reported {
        0 => PLATEAUS.into_iter().find(|&plateau| plateau < len),
        _ => (reported < len).then_some(reported),
    }
}

/// The same over IPv6, where every router says which size, and one that every link takes is no news.
pub(crate) fn narrower6(len: u32, reported: u32) -> Option<u16> {
    let is_news = (u32::from(LEAST6)..len).contains(&reported);
    u16::try_from(reported).ok().filter(|_| is_news)
}

fn place(destination: IpAddress) -> usize {
    let word = destination.low ^ destination.high.rotate_left(32);
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_path_is_remembered_for_ten_minutes() {
        let mut paths = PathMtus::new();
        let [one, other] = [1, 2].map(IpAddress::from_ipv4);
        assert_eq!(paths.get(Instant(0), one), None);
        assert_eq!(paths.learn(Instant(0), one, 1400), 1400);
        assert_eq!(paths.get(Instant(LIFETIME - 1), one), Some(1400));
        assert_eq!(paths.get(Instant(LIFETIME), one), None);
        assert_eq!(paths.get(Instant(0), other), None);
        assert_eq!(paths.learn(Instant(0), other, 68), LEAST);
    }

    #[test]
    fn what_is_not_narrower_makes_no_sense() {
        assert_eq!(narrower(1500, 1400), Some(1400));
        assert_eq!(narrower(1500, 1500), None);
        assert_eq!(narrower(1500, 9000), None);
        assert_eq!(narrower(1500, 0), Some(1492));
        assert_eq!(narrower(1492, 0), Some(1006));
        assert_eq!(narrower(1006, 0), Some(508));
        assert_eq!(narrower(296, 0), None);
        assert_eq!(narrower6(1500, 1280), Some(1280));
        for reported in [0, 1279, 1500, 9000, 1 << 20] {
            assert_eq!(narrower6(1500, reported), None);
        }
    }
}
