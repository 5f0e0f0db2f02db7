//! A wire between two stations, with seeded faults.

use crate::testing::Random;
use crate::wire::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, PROTOCOL_ICMPV6};
use alloc::vec::Vec;
use ix_hal::Instant;

/// What a wire does to frames. Chances are in thousandths.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Chance that a frame is lost.
    pub loss: u32,
    /// The longest IP packet that passes, any if 0; longer ones vanish.
    pub longest: usize,
    /// Chance that a frame arrives twice.
    pub duplication: u32,
    /// Chance that a frame that is ECN-capable is marked (RFC 3168).
    pub marking: u32,
    /// Chance that a bit flips.
    pub corruption: u32,
    /// Chance that a frame is held back by up to `reorder_delay`.
    pub reordering: u32,
    /// Time on the wire, in nanoseconds.
    pub delay: u64,
    /// Most that is added to it at random.
    pub jitter: u64,
    /// Most that a reordered frame is held back.
    pub reorder_delay: u64,
}

impl Faults {
    /// Whether every frame arrives once, as it was sent, and in order.
    pub fn is_perfect(&self) -> bool {
        self.loss + self.duplication + self.marking + self.corruption + self.reordering == 0
    }
}

/// Frames that something was done to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Lost.
    pub lost: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Marked.
    pub marked: u64,
    /// Corrupted.
    pub corrupted: u64,
    /// Held back.
    pub reordered: u64,
}

/// One direction of a wire.
pub struct Link {
    faults: Faults,
    random: Random,
    /// In flight: when it arrives, a number to keep equal times in order, the bytes.
    flying: Vec<(u64, u64, Vec<u8>)>,
    serial: u64,
    last_arrival: u64,
    /// What was done to frames so far.
    pub tally: Tally,
}

impl Link {
    /// A wire with faults that depend on `seed` alone.
    pub fn new(faults: Faults, seed: u64) -> Self {
        Self {
            faults,
            random: Random::new(seed),
            flying: Vec::new(),
            serial: 0,
            last_arrival: 0,
            tally: Tally::default(),
        }
    }

    /// Puts a frame on the wire. ARP and ICMPv6 are spared: three lost requests rightly end a
    /// connection before it begins, and that has tests of its own.
    ///
    /// Returns what became of it, for a trace.
    pub fn send(&mut self, now: Instant, frame: Vec<u8>) -> &'static str {
        if self.faults.loss < 1000 && is_discovery(&frame) {
            self.serial += 1;
            self.flying
                .push((now.0 + self.faults.delay, self.serial, frame));
            return "";
        }
        if self.faults.longest != 0 && frame.len() > wire::ETHERNET + self.faults.longest {
            self.tally.lost += 1;
            return "TOO LONG ";
        }
        if self.random.chance(self.faults.loss) {
            self.tally.lost += 1;
            return "LOST ";
        }
        if self.random.chance(self.faults.duplication) {
            self.tally.duplicated += 1;
            self.launch(now, frame.clone());
        }
        self.launch(now, frame)
    }

    fn launch(&mut self, now: Instant, mut frame: Vec<u8>) -> &'static str {
        let mut fate = "";
        if self.random.chance(self.faults.marking) && mark(&mut frame) {
            self.tally.marked += 1;
            fate = "MARKED ";
        }
        if self.random.chance(self.faults.corruption) {
            let bit = self.random.below(frame.len() as u64 * 8) as usize;
            frame[bit / 8] ^= 1 << (bit % 8);
            self.tally.corrupted += 1;
            fate = "CORRUPTED ";
        }
        let mut arrival = now.0 + self.faults.delay + self.random.below(self.faults.jitter + 1);
        if self.random.chance(self.faults.reordering) {
            arrival += self.random.below(self.faults.reorder_delay + 1);
            self.tally.reordered += 1;
            fate = "DELAYED ";
        } else {
            // Jitter alone does not reorder.
            arrival = arrival.max(self.last_arrival);
            self.last_arrival = arrival;
        }
        self.serial += 1;
        self.flying.push((arrival, self.serial, frame));
        fate
    }

    /// When the next frame arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.flying.iter().map(|(at, ..)| Instant(*at)).min()
    }

    /// Takes the next frame that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (index, (arrival, ..)) = self
            .flying
            .iter()
            .enumerate()
            .min_by_key(|(_, (at, serial, _))| (*at, *serial))?;
        (*arrival <= now.0).then(|| self.flying.swap_remove(index).2)
    }
}

/// Whether a frame asks, or says, who is where.
fn is_discovery(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        // Reports about groups are behind hop-by-hop options.
        Some([0x86, 0xdd]) => matches!(frame.get(20), Some(&(PROTOCOL_ICMPV6 | 0))),
        _ => false,
    }
}

/// Marks a packet if it is ECN-capable, as a router does that is congested (RFC 3168 5).
fn mark(frame: &mut [u8]) -> bool {
    match wire::be16(frame, 12) {
        ETHERTYPE_IPV4 if matches!(frame[15] & 3, 1 | 2) => {
            frame[15] |= 3;
            wire::put16(frame, 24, 0);
            let sum = wire::sum(&frame[wire::ETHERNET..wire::ETHERNET + wire::IPV4]);
            wire::put16(frame, 24, !wire::fold(sum));
            true
        }
        ETHERTYPE_IPV6 if matches!(frame[15] >> 4 & 3, 1 | 2) => {
            frame[15] |= 0x30;
            true
        }
        _ => false,
    }
}
