//! What the engines of one address tell each other about neighbours, and in IPv6 about the host.
//!
//! ARP and neighbour discovery have no ports to spread by: all of it arrives at the queue of one
//! engine, the listener for all. It tells each of the others what it heard, through a mailbox from
//! one writer to one reader. In IPv6 that is also which addresses the host has, which prefixes are
//! on-link and who the routers are: told as a whole, so that it can be told again.
//! The others look into theirs only when they are about to ask, while they wait for an answer, and
//! once in [`LOOK_INTERVAL`] for neighbours that moved: in between, no engine reads what another one
//! writes.

use crate::address::IpAddress;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use ix_hal::Duration;

/// How often an engine that waits for nothing looks into its mailbox.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How often an engine that waits for an answer does.
pub(crate) const WAIT_INTERVAL: Duration = Duration::from_micros(50);

/// Claims that a mailbox holds. When it is full, a claim is lost and counted, and whoever needs it
/// asks again a second later.
const CAPACITY: usize = 64;

/// An engine's place among those that share its address.
#[derive(Clone, Copy, Debug, Default)]
pub enum Neighborhood {
    /// It is the only one, and hears everything itself.
    #[default]
    Alone,
    /// It hears everything, and tells the others, who read from these.
    Speaker(&'static [Mailbox]),
    /// It hears nothing but what this holds.
    Listener(&'static Mailbox),
}

/// Places that claims leave free, so that a storm of them does not keep what is said of the host
/// itself from arriving.
const RESERVED: u64 = 28;

/// That an address is at a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub address: IpAddress,
    /// `None` if it is the one that is known.
    pub mac: Option<[u8; 6]>,
    pub how: How,
}

/// How a claim came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With a question for us, so that it is worth a new entry.
    Asked,
    /// As an answer or an announcement of ARP.
    Announced,
    /// In a neighbour advertisement with these flags (RFC 4861 4.4).
    Advertised { solicited: bool, overrides: bool },
}

/// What one engine tells another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Of a neighbour.
    Claim(Claim),
    /// What the host is in IPv6 follows, up to `HostEnds`; what is not in it is no longer true.
    HostBegins { mtu: u16 },
    /// An own address is in use.
    Own {
        address: IpAddress,
        prefix: u8,
        is_deprecated: bool,
    },
    /// A default router.
    Router { address: IpAddress },
    /// A prefix is on-link.
    Prefix { address: IpAddress, len: u8 },
    /// That was all.
    HostEnds,
}

/// News as it is kept: a tag with small numbers, a MAC address, two words of address.
type Words = [u64; 3];

const CLAIM: u64 = 1;
const HOST_BEGINS: u64 = 2;
const OWN: u64 = 3;
const ROUTER: u64 = 4;
const PREFIX: u64 = 5;
const HOST_ENDS: u64 = 6;

impl News {
    fn words(self) -> Words {
        let words = |tag: u64, small: u64, address: IpAddress| {
            [tag << 56 | small, address.high, address.low]
        };
        let none = IpAddress::default();
        match self {
            Self::Claim(Claim { address, mac, how }) => {
                let [a, b, c, d, e, f] = mac.unwrap_or([0; 6]);
                let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
                words(CLAIM, u64::from(how.bits()) << 48 | mac, address)
            }
            Self::HostBegins { mtu } => words(HOST_BEGINS, mtu.into(), none),
            Self::Own {
                address,
                prefix,
                is_deprecated,
            } => words(
                OWN,
                u64::from(is_deprecated) << 8 | u64::from(prefix),
                address,
            ),
            Self::Router { address } => words(ROUTER, 0, address),
            Self::Prefix { address, len } => words(PREFIX, len.into(), address),
            Self::HostEnds => words(HOST_ENDS, 0, none),
        }
    }

    fn of_words([head, high, low]: Words) -> Self {
        let address = IpAddress::from_words(high, low);
        match head >> 56 {
            CLAIM => {
                let [_, how, a, b, c, d, e, f] = head.to_be_bytes();
                let mac = [a, b, c, d, e, f];
                Self::Claim(Claim {
                    address,
                    mac: (mac != [0; 6]).then_some(mac),
                    how: How::of_bits(how),
                })
            }
            HOST_BEGINS => Self::HostBegins { mtu: head as u16 },
            OWN => Self::Own {
                address,
                prefix: head as u8,
                is_deprecated: head >> 8 & 1 != 0,
            },
            ROUTER => Self::Router { address },
            PREFIX => Self::Prefix {
                address,
                len: head as u8,
            },
            _ => Self::HostEnds,
        }
    }
}

impl How {
    fn bits(self) -> u8 {
        match self {
            Self::Asked => 1,
            Self::Announced => 0,
            Self::Advertised {
                solicited,
                overrides,
            } => 2 | u8::from(solicited) << 2 | u8::from(overrides) << 3,
        }
    }

    fn of_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Announced,
            1 => Self::Asked,
            _ => Self::Advertised {
                solicited: bits & 4 != 0,
                overrides: bits & 8 != 0,
            },
        }
    }
}

/// News from one engine to another one, in order.
#[derive(Default)]
pub struct Mailbox {
    written: Line,
    read: Line,
    places: Places,
}

/// A counter in a cache line of its own, which only one side writes.
#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU64);

/// A place for each of the news.
#[repr(align(64))]
struct Places([[AtomicU64; 3]; CAPACITY]);

impl Default for Places {
    fn default() -> Self {
        Self([const { [const { AtomicU64::new(0) }; 3] }; CAPACITY])
    }
}

impl Mailbox {
    /// Puts news in, or returns `false` if there is no room. For one engine only.
    pub(crate) fn put(&self, news: News) -> bool {
        let written = self.written.0.load(Ordering::Relaxed);
        // Acquire: the reader is done with the place before it is written again.
        let read = self.read.0.load(Ordering::Acquire);
        let room = CAPACITY as u64 - written.wrapping_sub(read).min(CAPACITY as u64);
        let reserved = match news {
            News::Claim(_) => RESERVED,
            _ => 0,
        };
        if room <= reserved {
            return false;
        }
        let place = &self.places.0[written as usize % CAPACITY];
        for (word, value) in place.iter().zip(news.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.written
            .0
            .store(written.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest news out. For one engine only.
    pub(crate) fn take(&self) -> Option<News> {
        let read = self.read.0.load(Ordering::Relaxed);
        // Acquire: what was written before the counter is seen.
        if self.written.0.load(Ordering::Acquire) == read {
            return None;
        }
        let place = &self.places.0[read as usize % CAPACITY];
        let words = place.each_ref().map(|word| word.load(Ordering::Relaxed));
        self.read.0.store(read.wrapping_add(1), Ordering::Release);
        Some(News::of_words(words))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox")
            .field("written", &self.written.0)
            .field("read", &self.read.0)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(n: u32) -> News {
        News::Claim(Claim {
            address: IpAddress::from_ipv4(u32::MAX - n),
            mac: Some([2, 0xff, 0, 0, 0, n as u8]),
            how: match n % 3 {
                0 => How::Asked,
                1 => How::Announced,
                _ => How::Advertised {
                    solicited: n & 1 != 0,
                    overrides: n & 2 != 0,
                },
            },
        })
    }

    #[test]
    fn claims_come_out_as_they_went_in_around_the_ring() {
        let mailbox = Mailbox::default();
        for round in 0..10 {
            for n in 0..30 {
                assert!(mailbox.put(claim(round + n)));
            }
            for n in 0..30 {
                assert_eq!(mailbox.take(), Some(claim(round + n)));
            }
            assert_eq!(mailbox.take(), None);
        }
    }

    #[test]
    fn all_other_news_comes_out_as_it_went_in() {
        let address = IpAddress::from_words(0xfe80 << 48, u64::MAX);
        let news = [
            News::HostBegins { mtu: 1400 },
            News::Own {
                address,
                prefix: 64,
                is_deprecated: true,
            },
            News::Router { address },
            News::Prefix { address, len: 128 },
            News::HostEnds,
            News::Claim(Claim {
                address,
                mac: None,
                how: How::Announced,
            }),
        ];
        let mailbox = Mailbox::default();
        for it in news {
            assert!(mailbox.put(it));
            assert_eq!(mailbox.take(), Some(it));
        }
    }

    #[test]
    fn a_mailbox_full_of_claims_has_room_for_what_the_host_is() {
        let mailbox = Mailbox::default();
        let mut claims = 0;
        while mailbox.put(claim(claims)) {
            claims += 1;
        }
        for _ in 0..RESERVED {
            assert!(mailbox.put(News::HostEnds));
        }
        assert!(!mailbox.put(News::HostEnds));
        for n in 0..claims {
            assert_eq!(mailbox.take(), Some(claim(n)));
        }
        assert_eq!(mailbox.take(), Some(News::HostEnds));
    }
}
