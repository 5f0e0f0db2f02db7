//! What receive and transmit rings have in common (7.1.9, 7.2.3.3): base, length, head, tail, and
//! whether the queue is enabled.

use ixgbe_spec::DESCRIPTOR_BYTES;

/// Bits of RDLEN and TDLEN that count: multiples of 128 below 1 MiB (8.2.3.8.3, 8.2.3.9.7).
const LENGTH_MASK: u32 = 0x000f_ff80;
/// Bits of RDBAL and TDBAL that count (8.2.3.8.1, 8.2.3.9.5).
const BASE_LOW_MASK: u32 = 0xffff_ff80;

/// One descriptor ring. Head and tail come from software and need not lie within the ring; a ring
/// for which they do not offers no descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ring {
    base: u64,
    length: u32,
    head: u16,
    tail: u16,
    enabled: bool,
    /// The device gave up on the ring (its memory cannot be reached) until it is enabled anew.
    halted: bool,
}

impl Ring {
    pub(super) fn base_low(&self) -> u32 {
        self.base as u32
    }

    pub(super) fn base_high(&self) -> u32 {
        (self.base >> 32) as u32
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn head(&self) -> u16 {
        self.head
    }

    pub(super) fn tail(&self) -> u16 {
        self.tail
    }

    pub(super) fn set_base_low(&mut self, value: u32) {
        self.base = self.base & !0xffff_ffff | u64::from(value & BASE_LOW_MASK);
    }

    pub(super) fn set_base_high(&mut self, value: u32) {
        self.base = self.base & 0xffff_ffff | u64::from(value) << 32;
    }

    pub(super) fn set_length(&mut self, value: u32) {
        self.length = value & LENGTH_MASK;
    }

    /// Head is the device's own while the queue is enabled (8.2.3.8.4, 8.2.3.9.8).
    pub(super) fn set_head(&mut self, value: u32) {
        if !self.enabled {
            self.head = value as u16;
        }
    }

    /// Whether the new tail lies within the ring.
    pub(super) fn set_tail(&mut self, value: u32) -> bool {
        self.tail = value as u16;
        u32::from(self.tail) < self.count()
    }

    pub(super) fn enabled(&self) -> bool {
        self.enabled
    }

    pub(super) fn set_enabled(&mut self, enabled: bool) {
        self.halted &= enabled && self.enabled;
        self.enabled = enabled;
    }

    /// Stops using the ring until software enables it anew.
    pub(super) fn halt(&mut self) {
        self.halted = true;
    }

    /// Descriptors that the device can ever have at once: one less than the ring has.
    pub(super) fn capacity(&self) -> u32 {
        self.count().saturating_sub(1)
    }

    /// Number of descriptors.
    fn count(&self) -> u32 {
        self.length / DESCRIPTOR_BYTES as u32
    }

    /// Descriptors that the device may use now.
    pub(super) fn available(&self) -> u32 {
        let (head, tail) = (u32::from(self.head), u32::from(self.tail));
        let count = self.count();
        if !self.enabled || self.halted || head >= count || tail >= count {
            0
        } else if tail >= head {
            tail - head
        } else {
            tail + count - head
        }
    }

    /// Bus address of the descriptor at the head.
    pub(super) fn head_address(&self) -> u64 {
        // A base near 2^64 wraps around, into memory that is not mapped or is and checked.
        self.base
            .wrapping_add(u64::from(self.head) * DESCRIPTOR_BYTES as u64)
    }

    /// Goes on to the next descriptor. Call it only if one was available.
    pub(super) fn advance(&mut self) {
        let next = u32::from(self.head) + 1;
        self.head = if next >= self.count() { 0 } else { next as u16 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(count: u32, head: u32, tail: u32) -> Ring {
        let mut ring = Ring::default();
        ring.set_length(count * 16);
        ring.set_head(head);
        ring.set_tail(tail);
        ring.set_enabled(true);
        ring
    }

    #[test]
    fn available_counts_around_the_end() {
        assert_eq!(ring(8, 0, 0).available(), 0);
        assert_eq!(ring(8, 0, 7).available(), 7);
        assert_eq!(ring(8, 6, 2).available(), 4);
    }

    #[test]
    fn a_ring_with_head_or_tail_outside_offers_nothing() {
        assert_eq!(ring(8, 8, 2).available(), 0);
        assert_eq!(ring(8, 2, 8).available(), 0);
        assert_eq!(ring(0, 0, 0).available(), 0);
        let mut ring = ring(8, 0, 4);
        assert!(!ring.set_tail(8));
        assert!(ring.set_tail(0x1_0007), "the register has 16 bits");
    }

    #[test]
    fn length_and_base_lose_the_bits_that_are_not_there() {
        let mut ring = Ring::default();
        ring.set_length(u32::MAX);
        assert_eq!(ring.length(), 0x000f_ff80);
        ring.set_base_low(u32::MAX);
        ring.set_base_high(7);
        assert_eq!(ring.head_address(), 0x7_ffff_ff80);
    }

    #[test]
    fn the_head_belongs_to_the_device_while_enabled() {
        let mut ring = ring(8, 6, 2);
        ring.set_head(0);
        assert_eq!(ring.head(), 6);
        ring.advance();
        ring.advance();
        assert_eq!(ring.head(), 0);
    }

    #[test]
    fn a_halted_ring_starts_again_when_it_is_enabled_anew() {
        let mut ring = ring(8, 0, 4);
        ring.halt();
        assert_eq!(ring.available(), 0);
        ring.set_enabled(true);
        assert_eq!(ring.available(), 0);
        ring.set_enabled(false);
        ring.set_enabled(true);
        assert_eq!(ring.available(), 4);
    }
}
