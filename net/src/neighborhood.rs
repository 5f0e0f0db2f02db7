//! What the engines of one address tell each other about neighbours.
//!
//! ARP has no ports to spread by: all of it arrives at the queue of one engine, the listener for
//! all. It tells each of the others what it heard, through a mailbox from one writer to one reader.
//! The others look into theirs only when they are about to ask, while they wait for an answer, and
//! once in [`LOOK_INTERVAL`] for neighbours that moved: in between, no engine reads what another one
//! writes.

use crate::address::{Endpoint, IpAddress};
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

/// That an IPv4 address is at a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub address: u32,
    pub mac: [u8; 6],
    /// It came with a question for us, so that it is worth a new entry.
    pub asked: bool,
}

/// Claims from one engine to another one, in order.
#[derive(Default)]
pub struct Mailbox {
    written: Line,
    read: Line,
    claims: Claims,
}

/// A counter in a cache line of its own, which only one side writes.
#[derive(Default)]
#[repr(align(64))]
struct Line(AtomicU64);

/// Two words a claim: the address and whether it asked; the MAC address.
#[repr(align(64))]
struct Claims([[AtomicU64; 2]; CAPACITY]);

impl Default for Claims {
    fn default() -> Self {
        Self([const { [const { AtomicU64::new(0) }; 2] }; CAPACITY])
    }
}

impl Mailbox {
    /// Puts a claim in, or returns `false` if there is no room. For one engine only.
    pub(crate) fn put(&self, claim: Claim) -> bool {
        let written = self.written.0.load(Ordering::Relaxed);
        // Acquire: the reader is done with the place before it is written again.
        let read = self.read.0.load(Ordering::Acquire);
        if written.wrapping_sub(read) >= CAPACITY as u64 {
            return false;
        }
        let [b0, b1, b2, b3, b4, b5] = claim.mac;
        let place = &self.claims.0[written as usize % CAPACITY];
        let head = u64::from(claim.address) << 1 | u64::from(claim.asked);
        place[0].store(head, Ordering::Relaxed);
        let mac = u64::from_be_bytes([0, 0, b0, b1, b2, b3, b4, b5]);
        place[1].store(mac, Ordering::Relaxed);
        self.written
            .0
            .store(written.wrapping_add(1), Ordering::Release);
        true
    }

    /// Takes the oldest claim out. For one engine only.
    pub(crate) fn take(&self) -> Option<Claim> {
        let read = self.read.0.load(Ordering::Relaxed);
        // Acquire: what was written before the counter is seen.
        if self.written.0.load(Ordering::Acquire) == read {
            return None;
        }
        let place = &self.claims.0[read as usize % CAPACITY];
        let head = place[0].load(Ordering::Relaxed);
        let mac = place[1].load(Ordering::Relaxed);
        self.read.0.store(read.wrapping_add(1), Ordering::Release);
        let [_, _, b0, b1, b2, b3, b4, b5] = mac.to_be_bytes();
        Some(Claim {
            address: (head >> 1) as u32,
            mac: [b0, b1, b2, b3, b4, b5],
            asked: head & 1 != 0,
        })
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

/// Which local ports a connection to a peer may be opened from, beside those that are free: those
/// whose segments come back to the queue of this engine. Called with the peer, our address, which
/// is of the same family, and the local port.
#[derive(Clone, Copy)]
pub struct PortFilter(pub &'static (dyn Fn(Endpoint, IpAddress, u16) -> bool + Sync));

impl fmt::Debug for PortFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PortFilter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(n: u32) -> Claim {
        Claim {
            address: u32::MAX - n,
            mac: [2, 0xff, 0, 0, 0, n as u8],
            asked: n.is_multiple_of(3),
        }
    }

    #[test]
    fn claims_come_out_as_they_went_in_around_the_ring() {
        let mailbox = Mailbox::default();
        for round in 0..10 {
            for n in 0..50 {
                assert!(mailbox.put(claim(round + n)));
            }
            for n in 0..50 {
                assert_eq!(mailbox.take(), Some(claim(round + n)));
            }
            assert_eq!(mailbox.take(), None);
        }
    }

    #[test]
    fn a_full_mailbox_refuses_and_loses_nothing_that_it_took() {
        let mailbox = Mailbox::default();
        for n in 0..CAPACITY as u32 {
            assert!(mailbox.put(claim(n)));
        }
        assert!(!mailbox.put(claim(1)));
        assert_eq!(mailbox.take(), Some(claim(0)));
        assert!(mailbox.put(claim(99)));
    }
}
