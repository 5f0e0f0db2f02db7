//! A receive queue. Each place in it is a pair of descriptors, the first of which always has the same
//! room for the header; so posting a buffer writes one descriptor and an entry of the ring.
//!
//! The device may use buffers in whatever order (2.7.8), so that places are named by what it says, and
//! one that it does not have is counted and left alone.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use ix_hal::{DmaSlice, MbufGeometry, MbufId, MbufPool, RxChecksum, RxFrame};

use crate::Error;
use crate::header::{HEADER, HEADER_WITH_HASH};
use crate::ring::{NEXT, Ring, WRITE};

/// Least number of buffers that go to the device at a time, unless it is about to run dry.
pub(crate) const REFILL_BATCH: usize = 32;
/// Shortest frame that is passed on: an Ethernet header.
const MIN_FRAME: u32 = 14;
/// Words between two rooms for headers.
const HEADER_WORDS: usize = 4;
/// The mbuf of a place that has none.
const NO_MBUF: MbufId = MbufId(u32::MAX);

/// Buffers for frames, and frames.
#[derive(Debug)]
pub(crate) struct RxQueue {
    pub ring: Ring,
    headers: DmaSlice,
    has_hash: bool,
    /// What is in each place.
    mbufs: Box<[MbufId]>,
    /// Places with nothing in them.
    free: Vec<u16>,
    max_frame: u32,
    frames: u64,
    bytes: u64,
    errors: u64,
}

impl RxQueue {
    /// Words that the headers of a queue of that many descriptors take.
    pub(crate) const fn header_words(size: u16) -> usize {
        size as usize / 2 * HEADER_WORDS
    }

    /// An empty queue for frames of up to `max_frame` bytes in buffers of the pool's size.
    pub(crate) fn new(
        ring: Ring,
        headers: DmaSlice,
        has_hash: bool,
        pool: &MbufGeometry,
    ) -> Result<Self, Error> {
        let places = ring.size() / 2;
        if headers.words() < Self::header_words(ring.size()) {
            return Err(Error::Memory("receive headers"));
        }
        let header_bytes = if has_hash { HEADER_WITH_HASH } else { HEADER };
        for place in 0..places {
            let bus = headers.bus() + 8 * HEADER_WORDS as u64 * u64::from(place);
            let descriptor = 2 * place;
            ring.describe(
                descriptor,
                bus,
                header_bytes as u32,
                NEXT | WRITE,
                descriptor + 1,
            );
        }
        Ok(Self {
            ring,
            headers,
            has_hash,
            mbufs: vec![NO_MBUF; usize::from(places)].into(),
            free: (0..places).rev().collect(),
            max_frame: pool.size() as u32,
            frames: 0,
            bytes: 0,
            errors: 0,
        })
    }

    /// Takes frames in the order in which the device used their buffers.
    #[inline]
    pub(crate) fn receive(&mut self, frames: &mut [RxFrame], pool: &mut MbufPool) -> usize {
        let mut received = 0;
        let mut waiting = self.ring.waiting();
        while received < frames.len() && waiting != 0 {
            waiting -= 1;
            if let Some(frame) = self.next(pool) {
                self.frames += 1;
                self.bytes += u64::from(frame.len);
                frames[received] = frame;
                received += 1;
            }
        }
        received
    }

    /// The next used buffer; `None`, and counted, if there is no frame in it.
    #[inline]
    fn next(&mut self, pool: &mut MbufPool) -> Option<RxFrame> {
        let used = self.ring.take();
        let place = (used.id / 2) as usize;
        let mbuf = self.mbufs.get(place).copied();
        let Some(mbuf) = mbuf.filter(|it| used.id.is_multiple_of(2) && *it != NO_MBUF) else {
            self.errors += 1;
            return None;
        };
        self.mbufs[place] = NO_MBUF;
        self.free.push(place as u16);
        let header = if self.has_hash {
            HEADER_WITH_HASH
        } else {
            HEADER
        } as u32;
        let length = used.len.wrapping_sub(header);
        if length.wrapping_sub(MIN_FRAME) > self.max_frame - MIN_FRAME {
            self.errors += 1;
            pool.give(mbuf);
            return None;
        }
        Some(RxFrame {
            mbuf,
            len: length as u16,
            checksum: RxChecksum::Unchecked,
            rss_hash: self.hash(place),
        })
    }

    /// What the header says of the frame's hash (5.1.6.4.2), 0 if there is none.
    #[inline]
    fn hash(&self, place: usize) -> u32 {
        if !self.has_hash {
            return 0;
        }
        let [_, value] = &self.headers.pairs()[2 * place];
        let [report, _] = &self.headers.pairs()[2 * place + 1];
        match report.load(Relaxed) as u16 {
            0 => 0,
            _ => (value.load(Relaxed) >> 32) as u32,
        }
    }

    /// Posts buffers from the pool; whether the device is to be told. In groups of at least
    /// [`REFILL_BATCH`], or fewer if it has fewer left than that and the pool has no more.
    #[inline]
    pub(crate) fn refill(&mut self, pool: &mut MbufPool) -> bool {
        let count = self.free.len().min(pool.available());
        if count == 0 || (count < REFILL_BATCH && self.held() >= REFILL_BATCH) {
            return false;
        }
        let geometry = *pool.geometry();
        for _ in 0..count {
            // Both have that many.
            let (Some(place), Some(mbuf)) = (self.free.pop(), pool.take()) else {
                break;
            };
            self.mbufs[usize::from(place)] = mbuf;
            let size = geometry.size() as u32;
            self.ring
                .describe(2 * place + 1, geometry.bus_of(mbuf), size, WRITE, 0);
            self.ring.post(2 * place);
        }
        self.ring.publish();
        self.ring.wants_notice()
    }

    /// Buffers that the device has, used ones included.
    pub(crate) fn held(&self) -> usize {
        self.mbufs.len() - self.free.len()
    }

    /// Takes all buffers back from a queue that the device no longer uses.
    pub(crate) fn drain(&mut self, pool: &mut MbufPool) {
        for mbuf in &mut self.mbufs {
            let mbuf = core::mem::replace(mbuf, NO_MBUF);
            if mbuf != NO_MBUF {
                pool.give(mbuf);
            }
        }
    }

    /// Frames received.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes in them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Used buffers without a frame, and those that the device did not have.
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }
}
