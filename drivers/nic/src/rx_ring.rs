//! The receive ring without its registers: descriptors go to the device with an empty buffer each,
//! and come back with a frame.
//!
//! The two positions, `next` and `fill`, count descriptors since the start and wrap around freely;
//! a position's descriptor is its low bits. Descriptors are written without regard to order, since
//! the device looks at none before the doorbell, and whoever rings it orders the two.

use alloc::boxed::Box;
use alloc::vec;
use core::iter::zip;
use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use ix_hal::{DmaSlice, MbufGeometry, MbufId, MbufPool, RxChecksum, RxFrame};
use ixgbe_spec::{RxError, RxRead, RxStatus, RxWriteBack};

use crate::Family;

/// Least number of descriptors that go to the device at a time, unless it is about to run dry.
pub const REFILL_BATCH: u32 = 32;

/// Shortest frame that is passed on: an Ethernet header.
const MIN_FRAME: u32 = 14;

/// Bit of the second word that says whether the device is done with the descriptor.
const DONE: u64 = RxStatus::DD.bits() as u64;
/// Bit of the second word that says whether it holds a whole frame.
const WHOLE: u64 = RxStatus::EOP.bits() as u64;
/// Bit of the second word that says whether a VLAN tag was stripped, and where its VLAN is.
const TAGGED: u64 = RxStatus::VP.bits() as u64;
const VLAN_SHIFT: u32 = 48;
const VLAN: u64 = 0xfff << VLAN_SHIFT;
/// Where the 82599's field of errors begins in it.
const ERRORS_SHIFT: u32 = 20;

/// What no second word is, of the bits that decide whether a frame is passed on.
const NOTHING: u64 = u64::MAX;

/// Where a controller's write-back has its error bits: places in the second word.
#[derive(Clone, Copy, Debug)]
pub struct RxErrors {
    /// RXE: the MAC found the frame broken.
    pub rxe: u32,
    /// TCPE or L4E: the TCP or UDP checksum is wrong. IPE, for the IPv4 header, is the next bit.
    pub l4e: u32,
}

impl RxErrors {
    /// Those of the 82599 and its kind (7.1.6.2).
    pub const OF_82599: Self = Self {
        rxe: ERRORS_SHIFT + RxError::RXE.bits().trailing_zeros(),
        l4e: ERRORS_SHIFT + RxError::TCPE.bits().trailing_zeros(),
    };
}

/// A receive ring and the buffers in it.
#[derive(Debug)]
pub struct RxRing<F> {
    family: PhantomData<F>,
    memory: DmaSlice,
    descriptors: &'static [[AtomicU64; 2]],
    mask: u32,
    /// The next descriptor that the device completes.
    next: u32,
    /// One beyond the last descriptor that the device has.
    fill: u32,
    /// The buffer of each descriptor that the device has.
    mbufs: Box<[MbufId]>,
    /// Longest less shortest frame.
    length_span: u32,
    /// Bits of the second word that decide whether a frame is passed on, and what they are then.
    decisive: u64,
    wanted: u64,
    /// Amid a frame of several descriptors, which is being dropped.
    in_long_frame: bool,
    frames: u64,
    bytes: u64,
    drops: Drops,
}

/// Frames not passed on.
#[derive(Debug, Default)]
struct Drops {
    errors: u64,
    wrong_vlan: u64,
}

impl Drops {
    #[cold]
    fn count(&mut self, of_another_vlan: bool) {
        if of_another_vlan {
            self.wrong_vlan += 1;
        } else {
            self.errors += 1;
        }
    }
}

impl<F: Family> RxRing<F> {
    const BROKEN: u64 = 1 << F::RX_ERRORS.rxe;

    /// An empty ring in `memory`, whose length is a power of two, for buffers of the pool's size.
    ///
    /// # Panics
    /// If the number of descriptors is not a power of two of at least [`REFILL_BATCH`].
    pub fn new(memory: DmaSlice, pool: &MbufGeometry) -> Self {
        let descriptors = memory.pairs();
        let count = descriptors.len();
        assert!(count.is_power_of_two() && count >= REFILL_BATCH as usize);
        for word in descriptors.as_flattened() {
            word.store(0, Relaxed);
        }
        Self {
            family: PhantomData,
            memory,
            descriptors,
            mask: count as u32 - 1,
            next: 0,
            fill: 0,
            mbufs: vec![MbufId(0); count].into(),
            length_span: (pool.size() as u32).min(u32::from(u16::MAX)) - MIN_FRAME,
            decisive: DONE | WHOLE | Self::BROKEN | TAGGED,
            wanted: DONE | WHOLE,
            in_long_frame: false,
            frames: 0,
            bytes: 0,
            drops: Drops::default(),
        }
    }

    /// The same ring, which has received nothing yet, for frames with the tag of that VLAN only;
    /// with `None`, for those without a tag.
    pub fn untagging(mut self, vlan: Option<u16>) -> Self {
        if let Some(vlan) = vlan {
            self.decisive |= VLAN;
            self.wanted |= TAGGED | u64::from(vlan) << VLAN_SHIFT;
        }
        self
    }

    /// Takes completed frames in order, at most `frames.len()`. Buffers of frames that are broken,
    /// that took several descriptors, whose length is nonsense, or that belong to another VLAN go
    /// back to the pool.
    #[inline]
    pub fn receive(&mut self, frames: &mut [RxFrame], pool: &mut MbufPool) -> usize {
        let mut received = 0;
        loop {
            let (run, stopped_at) = self.receive_run(&mut frames[received..]);
            received += run;
            match stopped_at {
                Some(second) if RxWriteBack::is_done(second) => self.drop_next(second, pool),
                Some(_) => break,
                None if received == frames.len() || self.next == self.fill => break,
                // It goes on at the ring's beginning.
                None => {}
            }
        }
        self.frames += received as u64;
        received
    }

    /// Takes completed frames up to a descriptor that is not done, or not with a frame to pass on, whose
    /// second word is returned then; or up to the end of the ring, or of what there is to look at.
    #[inline]
    fn receive_run(&mut self, frames: &mut [RxFrame]) -> (usize, Option<u64>) {
        // Copied, since the compiler reads fields anew after each load with an ordering.
        let Self {
            descriptors,
            decisive,
            length_span,
            ..
        } = *self;
        let wanted = match self.in_long_frame {
            false => self.wanted,
            true => NOTHING,
        };
        // Of what is between `next` and `fill` only: a descriptor that was not given to the device
        // still holds its last completion.
        let given = self.fill.wrapping_sub(self.next) as usize;
        let first = (self.next & self.mask) as usize;
        let ring = zip(&descriptors[first..], &self.mbufs[first..]);
        let (mut run, mut bytes, mut stopped_at) = (0, 0, None);
        for (frame, (descriptor, &mbuf)) in zip(frames, ring).take(given) {
            // The device writes this word last, so that it is read first.
            let second = descriptor[1].load(Acquire);
            let completion = RxWriteBack([descriptor[0].load(Relaxed), second]);
            let length = u32::from(completion.length());
            if second & decisive != wanted || length.wrapping_sub(MIN_FRAME) > length_span {
                stopped_at = Some(second);
                break;
            }
            *frame = RxFrame {
                mbuf,
                len: completion.length(),
                checksum: checksum(second, F::RX_ERRORS.l4e),
                rss_hash: rss_hash(completion),
            };
            bytes += u64::from(length);
            run += 1;
        }
        self.next = self.next.wrapping_add(run as u32);
        self.bytes += bytes;
        (run, stopped_at)
    }

    /// Gives back the buffer of the next descriptor, which is done, but not with a frame to pass on.
    #[cold]
    fn drop_next(&mut self, second: u64, pool: &mut MbufPool) {
        let several = self.in_long_frame;
        self.in_long_frame = second & WHOLE == 0;
        // A frame of several descriptors is counted at its end.
        if !self.in_long_frame {
            let is_broken = second & Self::BROKEN != 0;
            let is_foreign = second & self.decisive != self.wanted;
            self.drops.count(!several && !is_broken && is_foreign);
        }
        pool.give(self.mbufs[(self.next & self.mask) as usize]);
        self.next = self.next.wrapping_add(1);
    }

    /// Puts buffers from the pool into empty descriptors. Returns the new tail if the device is to
    /// be told: after at least [`REFILL_BATCH`] descriptors, or fewer if it has fewer left than
    /// that and the pool has no more.
    #[inline]
    pub fn refill(&mut self, pool: &mut MbufPool) -> Option<u32> {
        let held = self.fill.wrapping_sub(self.next);
        // One descriptor stays empty, since equal head and tail mean an empty ring (7.1.9).
        let empty = self.mask - held;
        if empty < REFILL_BATCH {
            return None;
        }
        let count = empty.min(pool.available() as u32);
        if count == 0 || (count < REFILL_BATCH && held >= REFILL_BATCH) {
            return None;
        }
        self.fill(count, pool);
        Some(self.fill & self.mask)
    }

    /// Fills `count` descriptors, up to the end of the ring and from its start.
    fn fill(&mut self, count: u32, pool: &mut MbufPool) {
        let start = (self.fill & self.mask) as usize;
        let count = count as usize;
        let to_end = count.min(self.descriptors.len() - start);
        self.fill_run(start..start + to_end, pool);
        self.fill_run(0..count - to_end, pool);
    }

    fn fill_run(&mut self, run: Range<usize>, pool: &mut MbufPool) {
        let geometry = *pool.geometry();
        let mut filled = 0;
        for (descriptor, slot) in zip(&self.descriptors[run.clone()], &mut self.mbufs[run]) {
            let Some(mbuf) = pool.take() else { break };
            let [packet, header] = RxRead::one_buffer(geometry.bus_of(mbuf));
            descriptor[0].store(packet, Relaxed);
            descriptor[1].store(header, Relaxed);
            *slot = mbuf;
            filled += 1;
        }
        self.fill = self.fill.wrapping_add(filled);
    }

    /// Takes all buffers back, completed or not, from a ring that the device no longer uses.
    pub fn drain(&mut self, pool: &mut MbufPool) {
        while self.next != self.fill {
            pool.give(self.mbufs[(self.next & self.mask) as usize]);
            self.next = self.next.wrapping_add(1);
        }
    }

    /// Descriptors that the device has completed and that were not received yet. They lie in a row
    /// from the next one to be received, so that the end of the row is found by bisection.
    pub fn waiting(&self) -> u32 {
        let is_done = |ahead: u32| {
            let index = (self.next.wrapping_add(ahead) & self.mask) as usize;
            RxWriteBack::is_done(self.descriptors[index][1].load(Relaxed))
        };
        let (mut done, mut not_done) = (0, self.held());
        while done < not_done {
            let middle = done + (not_done - done) / 2;
            match is_done(middle) {
                true => done = middle + 1,
                false => not_done = middle,
            }
        }
        done
    }

    /// Descriptors that the device has, completed ones included.
    pub fn held(&self) -> u32 {
        self.fill.wrapping_sub(self.next)
    }

    /// The descriptors' memory.
    pub fn memory(&self) -> DmaSlice {
        self.memory
    }

    /// Frames received.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes in them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames dropped, apart from those of another VLAN.
    pub fn errors(&self) -> u64 {
        self.drops.errors
    }

    /// Frames dropped because they belong to another VLAN.
    pub fn wrong_vlan(&self) -> u64 {
        self.drops.wrong_vlan
    }
}

/// The RSS hash, 0 without one.
#[inline]
fn rss_hash(completion: RxWriteBack) -> u32 {
    if completion.0[0] & 0xf == 0 {
        0
    } else {
        completion.rss_hash()
    }
}

/// What the status and error bits say about checksums (7.1.11). An error bit counts only if the
/// checksum was checked.
#[inline(always)]
fn checksum(second: u64, l4e: u32) -> RxChecksum {
    let checked = (second >> 5) & 0b11;
    let wrong = (second >> (l4e - 2)) & 0b1100;
    VERDICTS[(checked | wrong) as usize]
}

/// By IPE, TCPE, IPCS, L4I from the highest bit down. A layer 4 checksum without an IPv4 header is
/// that of an IPv6 frame.
const VERDICTS: [RxChecksum; 16] = {
    use RxChecksum::{Bad, Good, Ipv4Good, Unchecked};
    [
        Unchecked, Good, Ipv4Good, Good, // none wrong
        Unchecked, Bad, Ipv4Good, Bad, // TCPE
        Unchecked, Good, Bad, Bad, // IPE
        Unchecked, Bad, Bad, Bad, // both
    ]
};
const _: () = assert!(RxStatus::L4I.bits() == 1 << 5 && RxStatus::IPCS.bits() == 1 << 6);

#[cfg(test)]
mod tests;
