//! Interrupts with MSI-X (7.3): causes, masks, auto-clear and auto-mask, allocation of causes to
//! vectors, and moderation.
//!
//! Queue causes are allocated to vectors by IVAR; cause bit `v` stands for vector `v`. Bits 0 to 15
//! are those of EICR, EIMS and so on, all 64 those of the _EX registers (7.3.1.4). The other causes
//! are bits 16 to 30 of EICR and share the vector that IVAR_MISC gives them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ixgbe_spec::MSIX_VECTORS;
use ixgbe_spec::register::{Eicr, Eitr, Gpie, IvarEntry};

const VECTORS: usize = MSIX_VECTORS as usize;
/// EICR bits that stand for vectors.
const QUEUE_BITS: u32 = Eicr::RTXQ.bits();
/// EICR bits of the other causes; bit 31 is reserved.
const OTHER_BITS: u32 = !QUEUE_BITS & 0x7fff_ffff;
/// Vector of everything while GPIE.Multiple_MSIX is clear.
const SINGLE_VECTOR: usize = 0;

/// Where interrupts go. Called at most once for each vector in one [`poll`](super::Model::poll).
pub trait InterruptSink {
    /// Sends the MSI-X message of a vector, 0 to 63, unless the function masks it.
    fn interrupt(&mut self, vector: u16);
}

/// Counts the interrupts of each vector: a sink for tests, which keep a clone to look at.
#[derive(Clone, Debug)]
pub struct InterruptCounts(Arc<[AtomicU64; VECTORS]>);

impl InterruptCounts {
    /// All zero.
    pub fn new() -> Self {
        Self(Arc::new(std::array::from_fn(|_| AtomicU64::new(0))))
    }

    /// Interrupts of a vector so far; 0 for a vector that does not exist.
    pub fn of(&self, vector: u16) -> u64 {
        self.0
            .get(usize::from(vector))
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Default for InterruptCounts {
    fn default() -> Self {
        Self::new()
    }
}

impl InterruptSink for InterruptCounts {
    fn interrupt(&mut self, vector: u16) {
        if let Some(count) = self.0.get(usize::from(vector)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Registers and moderation timers.
#[derive(Debug)]
pub(super) struct Interrupts {
    gpie: Gpie,
    /// IVAR 0 to 63.
    ivar: [u32; 64],
    ivar_misc: u32,
    /// Vectors whose cause is set; the low 16 are in EICR.
    queue_cause: u64,
    other_cause: u32,
    /// EIMS_EX and the low 16 bits of EIMS.
    queue_mask: u64,
    other_mask: u32,
    /// EIAM_EX and the low 16 bits of EIAM.
    queue_auto_mask: u64,
    other_auto_mask: u32,
    auto_clear: u32,
    /// Causes that came since their message was last sent.
    queue_pending: u64,
    other_pending: bool,
    eitr: [u32; 129],
    /// When each vector may send its next message.
    next_ns: [u64; VECTORS],
}

impl Interrupts {
    pub(super) fn new() -> Self {
        Self {
            gpie: Gpie::empty(),
            ivar: [0; 64],
            ivar_misc: 0,
            queue_cause: 0,
            other_cause: 0,
            queue_mask: 0,
            other_mask: 0,
            queue_auto_mask: 0,
            other_auto_mask: 0,
            auto_clear: 0,
            queue_pending: 0,
            other_pending: false,
            eitr: [0; 129],
            next_ns: [0; VECTORS],
        }
    }

    /// A receive queue wrote a descriptor back.
    pub(super) fn raise_rx(&mut self, queue: usize) {
        let (register, entry) = IvarEntry::place_of_rx(queue as u32);
        self.raise_allocated(register, entry);
    }

    /// A transmit queue wrote a descriptor back.
    pub(super) fn raise_tx(&mut self, queue: usize) {
        let (register, entry) = IvarEntry::place_of_tx(queue as u32);
        self.raise_allocated(register, entry);
    }

    /// The mailbox of a virtual function, which VTIVAR_MISC allocates.
    pub(super) fn raise_mailbox(&mut self) {
        if let Some(vector) = IvarEntry::of(self.ivar_misc, 0).vector() {
            self.raise_vectors(1 << vector);
        }
    }

    fn raise_allocated(&mut self, register: u32, entry: u32) {
        let entry = IvarEntry::of(self.ivar[register as usize % 64], entry);
        if let Some(vector) = entry.vector() {
            self.raise_vectors(1 << vector);
        }
    }

    fn raise_vectors(&mut self, vectors: u64) {
        self.queue_cause |= vectors;
        self.queue_pending |= vectors;
    }

    /// One of the causes that are not of queues.
    pub(super) fn raise_other(&mut self, causes: Eicr) {
        let causes = causes.bits() & OTHER_BITS;
        self.other_cause |= causes;
        self.other_pending |= causes != 0;
    }

    /// Sends what is due.
    pub(super) fn fire(&mut self, now_ns: u64, sink: &mut impl InterruptSink) {
        let mut due = self.sendable();
        while due != 0 {
            let vector = due.trailing_zeros() as usize;
            due &= due - 1;
            if self.next_ns[vector] <= now_ns {
                self.send(vector, now_ns, sink);
            }
        }
    }

    /// When the next message is due, if one waits for moderation only.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let mut due = self.sendable();
        let mut deadline = None::<u64>;
        while due != 0 {
            let vector = due.trailing_zeros() as usize;
            due &= due - 1;
            let next = self.next_ns[vector];
            deadline = Some(deadline.map_or(next, |deadline| deadline.min(next)));
        }
        deadline
    }

    /// Vectors with a pending cause that is not masked.
    fn sendable(&self) -> u64 {
        let queues = self.queue_pending & self.queue_mask;
        let other = self.other_pending && self.other_cause & self.other_mask != 0;
        if self.gpie.contains(Gpie::MULTIPLE_MSIX) {
            let other = if other { self.other_vector_bit() } else { 0 };
            queues | other
        } else {
            u64::from(queues != 0 || other) << SINGLE_VECTOR
        }
    }

    /// The vector of the other causes, as a bit; 0 if none is allocated.
    fn other_vector_bit(&self) -> u64 {
        let entry = IvarEntry::of(self.ivar_misc, 1);
        entry.vector().map_or(0, |vector| 1 << vector)
    }

    fn send(&mut self, vector: usize, now_ns: u64, sink: &mut impl InterruptSink) {
        let multiple = self.gpie.contains(Gpie::MULTIPLE_MSIX);
        let queues = if multiple { 1 << vector } else { u64::MAX };
        let queues = queues & self.queue_pending & self.queue_mask;
        let other = !multiple || self.other_vector_bit() == 1 << vector;
        let other = if other && self.other_pending {
            self.other_cause & self.other_mask
        } else {
            0
        };
        sink.interrupt(vector as u16);
        let interval = u64::from(Eitr::from_bits_retain(self.eitr[vector]).itr_interval())
            * u64::from(Eitr::INTERVAL_UNIT_NS);
        self.next_ns[vector] = now_ns.saturating_add(interval);

        self.queue_pending &= !queues;
        if other != 0 {
            self.other_pending = false;
        }
        // EIAC has no bits for vectors 16 and up: nothing shows their cause, so it is gone
        // (7.3.1.4, 8.2.3.5.5).
        let auto_clear = !u64::from(QUEUE_BITS) | u64::from(self.auto_clear);
        self.queue_cause &= !(queues & auto_clear);
        self.other_cause &= !(other & self.auto_clear);
        if self.gpie.contains(Gpie::EIAME) {
            self.queue_mask &= !(queues & self.queue_auto_mask);
            self.other_mask &= !(other & self.other_auto_mask);
        }
    }

    /// EICS read: what EICR shows, without clearing any of it. Linux's handler reads the causes there
    /// and clears those it saw by writing EICR.
    pub(super) fn causes(&self) -> u32 {
        self.queue_cause as u32 & QUEUE_BITS | self.other_cause
    }

    /// EICS_EX read.
    pub(super) fn causes_ex(&self, index: u8) -> u32 {
        half_of(index, self.queue_cause)
    }

    /// EICR read (8.2.3.5.1): clears what it shows, or with GPIE.OCD the other causes only.
    pub(super) fn read_eicr(&mut self) -> u32 {
        let value = self.causes();
        let cleared = if self.gpie.contains(Gpie::OCD) {
            value & OTHER_BITS
        } else {
            value
        };
        self.acknowledge(cleared);
        value
    }

    /// EICR write: clears the bits written as ones.
    pub(super) fn write_eicr(&mut self, value: u32) {
        self.acknowledge(value);
    }

    fn acknowledge(&mut self, causes: u32) {
        let queues = u64::from(causes & QUEUE_BITS);
        self.queue_mask &= !(queues & self.queue_cause & self.queue_auto_mask);
        self.other_mask &= !(causes & self.other_cause & self.other_auto_mask);
        self.queue_cause &= !queues;
        self.queue_pending &= !queues;
        self.other_cause &= !causes;
        self.other_pending &= self.other_cause != 0;
    }

    /// EICS (8.2.3.5.2): raises causes; those with auto-mask are enabled too.
    pub(super) fn write_eics(&mut self, value: u32) {
        self.other_mask |= value & self.other_auto_mask;
        self.raise_other(Eicr::from_bits_retain(value));
        self.write_eics_ex(0, value & QUEUE_BITS);
    }

    /// EICS_EX (8.2.3.5.7).
    pub(super) fn write_eics_ex(&mut self, index: u8, value: u32) {
        let vectors = half(index, value);
        self.queue_mask |= vectors & self.queue_auto_mask;
        self.raise_vectors(vectors);
    }

    /// EIMS read (8.2.3.5.3).
    pub(super) fn eims(&self) -> u32 {
        self.queue_mask as u32 & QUEUE_BITS | self.other_mask
    }

    /// EIMS write: enables causes. One that is set interrupts at once.
    pub(super) fn write_eims(&mut self, value: u32) {
        let other = value & OTHER_BITS & !self.other_mask;
        self.other_mask |= other;
        self.other_pending |= self.other_cause & other != 0;
        self.write_eims_ex(0, value & QUEUE_BITS);
    }

    /// EIMS_EX write (8.2.3.5.8).
    pub(super) fn write_eims_ex(&mut self, index: u8, value: u32) {
        let enabled = half(index, value) & !self.queue_mask;
        self.queue_mask |= enabled;
        self.queue_pending |= self.queue_cause & enabled;
    }

    /// EIMS_EX read.
    pub(super) fn eims_ex(&self, index: u8) -> u32 {
        half_of(index, self.queue_mask)
    }

    /// EIMC (8.2.3.5.4).
    pub(super) fn write_eimc(&mut self, value: u32) {
        self.other_mask &= !value;
        self.write_eimc_ex(0, value & QUEUE_BITS);
    }

    /// EIMC_EX (8.2.3.5.9).
    pub(super) fn write_eimc_ex(&mut self, index: u8, value: u32) {
        self.queue_mask &= !half(index, value);
    }

    pub(super) fn eiac(&self) -> u32 {
        self.auto_clear
    }

    pub(super) fn write_eiac(&mut self, value: u32) {
        self.auto_clear = value;
    }

    pub(super) fn eiam(&self) -> u32 {
        self.queue_auto_mask as u32 & QUEUE_BITS | self.other_auto_mask
    }

    pub(super) fn write_eiam(&mut self, value: u32) {
        self.other_auto_mask = value & OTHER_BITS;
        self.queue_auto_mask =
            self.queue_auto_mask & !u64::from(QUEUE_BITS) | u64::from(value & QUEUE_BITS);
    }

    pub(super) fn eiam_ex(&self, index: u8) -> u32 {
        half_of(index, self.queue_auto_mask)
    }

    pub(super) fn write_eiam_ex(&mut self, index: u8, value: u32) {
        self.queue_auto_mask = self.queue_auto_mask & !half(index, u32::MAX) | half(index, value);
    }

    pub(super) fn gpie(&self) -> u32 {
        self.gpie.bits()
    }

    pub(super) fn write_gpie(&mut self, value: u32) {
        self.gpie = Gpie::from_bits_retain(value);
    }

    pub(super) fn ivar(&mut self, index: u8) -> &mut u32 {
        &mut self.ivar[usize::from(index) % 64]
    }

    pub(super) fn ivar_misc(&mut self) -> &mut u32 {
        &mut self.ivar_misc
    }

    pub(super) fn eitr(&self, index: u8) -> u32 {
        self.eitr[usize::from(index) % 129]
    }

    /// EITR (8.2.3.5.12): without CNT_WDIS the counter starts anew, here from zero.
    pub(super) fn write_eitr(&mut self, index: u8, value: u32, now_ns: u64) {
        let index = usize::from(index) % 129;
        let eitr = Eitr::from_bits_retain(value);
        self.eitr[index] = (eitr - Eitr::CNT_WDIS).bits();
        if !eitr.contains(Eitr::CNT_WDIS)
            && let Some(next_ns) = self.next_ns.get_mut(index)
        {
            *next_ns = now_ns;
        }
    }
}

/// A register of 32 vectors as bits of all 64.
fn half(index: u8, value: u32) -> u64 {
    u64::from(value) << (32 * u32::from(index & 1))
}

fn half_of(index: u8, vectors: u64) -> u32 {
    (vectors >> (32 * u32::from(index & 1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Sent(Vec<u16>);

    const NONE: [u16; 0] = [];

    impl InterruptSink for Sent {
        fn interrupt(&mut self, vector: u16) {
            self.0.push(vector);
        }
    }

    fn interrupts() -> Interrupts {
        let mut interrupts = Interrupts::new();
        interrupts.write_gpie((Gpie::MULTIPLE_MSIX | Gpie::EIAME).bits());
        *interrupts.ivar(0) = IvarEntry::to_vector(3).put(0, 0);
        *interrupts.ivar(1) = IvarEntry::to_vector(40).put(0, 2);
        *interrupts.ivar_misc() = IvarEntry::to_vector(7).put(0, 1);
        interrupts
    }

    fn fired(interrupts: &mut Interrupts, now_ns: u64) -> Vec<u16> {
        let mut sent = Sent::default();
        interrupts.fire(now_ns, &mut sent);
        sent.0
    }

    #[test]
    fn a_masked_cause_waits_until_it_is_enabled() {
        let mut interrupts = interrupts();
        interrupts.raise_rx(0);
        assert_eq!(fired(&mut interrupts, 0), NONE);
        interrupts.write_eims(1 << 3);
        assert_eq!(fired(&mut interrupts, 0), [3]);
        assert_eq!(fired(&mut interrupts, 0), NONE);
    }

    #[test]
    fn an_unallocated_cause_goes_nowhere() {
        let mut interrupts = interrupts();
        interrupts.write_eims(u32::MAX);
        interrupts.raise_tx(0);
        interrupts.raise_rx(1);
        assert_eq!(fired(&mut interrupts, 0), NONE);
    }

    #[test]
    fn vectors_beyond_eicr_work_by_the_extended_registers() {
        let mut interrupts = interrupts();
        interrupts.raise_rx(3);
        interrupts.write_eims_ex(1, 1 << 8);
        assert_eq!(fired(&mut interrupts, 0), [40]);
        assert_eq!(interrupts.read_eicr(), 0);
        interrupts.write_eimc_ex(1, 1 << 8);
        interrupts.raise_rx(3);
        assert_eq!(fired(&mut interrupts, 0), NONE);
    }

    #[test]
    fn auto_clear_and_auto_mask_act_when_the_message_is_sent() {
        let mut interrupts = interrupts();
        interrupts.write_eims(1 << 3);
        interrupts.write_eiac(1 << 3);
        interrupts.write_eiam(1 << 3);
        interrupts.raise_rx(0);
        assert_eq!(fired(&mut interrupts, 0), [3]);
        assert_eq!(interrupts.eims(), 0);
        assert_eq!(interrupts.read_eicr(), 0);
        interrupts.raise_rx(0);
        assert_eq!(fired(&mut interrupts, 0), NONE);
        interrupts.write_eims_ex(0, 1 << 3);
        assert_eq!(fired(&mut interrupts, 0), [3]);
    }

    #[test]
    fn without_auto_clear_the_cause_stays_until_it_is_cleared() {
        let mut interrupts = interrupts();
        interrupts.write_eims((1 << 3) | Eicr::LSC.bits());
        interrupts.raise_rx(0);
        interrupts.raise_other(Eicr::LSC);
        assert_eq!(fired(&mut interrupts, 0), [3, 7]);
        interrupts.write_eicr(1 << 3);
        assert_eq!(interrupts.read_eicr(), Eicr::LSC.bits());
        assert_eq!(interrupts.read_eicr(), 0);
    }

    #[test]
    fn causes_can_be_looked_at_without_clearing_them() {
        let mut interrupts = interrupts();
        interrupts.raise_other(Eicr::LSC);
        interrupts.raise_rx(3);
        assert_eq!(interrupts.causes(), Eicr::LSC.bits());
        assert_eq!(
            (interrupts.causes_ex(0), interrupts.causes_ex(1)),
            (0, 1 << 8)
        );
        assert_eq!(interrupts.read_eicr(), Eicr::LSC.bits());
        assert_eq!(interrupts.causes(), 0);
    }

    #[test]
    fn moderation_delays_the_second_message_and_keeps_it() {
        let mut interrupts = interrupts();
        interrupts.write_eims(1 << 3);
        let ten_us = Eitr::empty().with_itr_interval(5);
        interrupts.write_eitr(3, ten_us.bits(), 100);
        interrupts.raise_rx(0);
        assert_eq!(fired(&mut interrupts, 100), [3]);
        interrupts.raise_rx(0);
        assert_eq!(fired(&mut interrupts, 101), NONE);
        let deadline = interrupts.deadline_ns().unwrap();
        assert_eq!(deadline, 100 + 5 * 2048);
        assert_eq!(fired(&mut interrupts, deadline), [3]);
        assert_eq!(interrupts.deadline_ns(), None);
    }

    #[test]
    fn with_one_vector_all_causes_share_it() {
        let mut interrupts = interrupts();
        interrupts.write_gpie(0);
        interrupts.write_eims(u32::MAX);
        interrupts.raise_rx(0);
        interrupts.raise_other(Eicr::LSC);
        assert_eq!(fired(&mut interrupts, 0), [0]);
        assert_eq!(fired(&mut interrupts, 0), NONE);
    }
}
