//! The transmit ring without its registers: frames become descriptors, and completions free them.
//!
//! Positions count descriptors since the start and wrap around freely; a position's descriptor is
//! its low bits. They follow each other: `clean <= announced <= tail`. Descriptors are written
//! without regard to order, since the device looks at none before the doorbell, and whoever rings
//! it orders the two.

mod reports;

use alloc::collections::VecDeque;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use ix_hal::{
    DmaSlice, Fragment, HEADER_ROOM, MAX_FRAGMENTS, MbufPool, Release, TxChecksum, TxFrame,
};
use ixgbe_spec::{TxCommand, TxWriteBack};

use crate::tx_context::{Contexts, PAYLEN_SHIFT, Segments};
use reports::Reports;

/// The device reports completion about once in this many descriptors, and at each flush.
pub const REPORT_INTERVAL: u32 = 32;

/// Most payload of a frame that the device cuts into segments (7.2.4): with its headers it stays
/// below 64 KiB, as an IP packet does.
pub const LARGEST_PAYLOAD: u32 = (1 << 16) - HEADER_ROOM as u32;

/// Most descriptors of a frame: context, header, fragments.
const FRAME_DESCRIPTORS: u32 = 2 + MAX_FRAGMENTS as u32;
/// Least length of a frame handed to the device; the MAC pads it to 60 (7.2.3.2.4).
const MIN_FRAME: u32 = 17;
const REPORT: u64 = TxCommand::RS.bits() as u64;
const END_OF_PACKET: u64 = TxCommand::EOP.bits() as u64;

/// A transmit ring, its header rooms, and what waits for completion.
#[derive(Debug)]
pub struct TxRing {
    memory: DmaSlice,
    descriptors: &'static [[AtomicU64; 2]],
    mask: u32,
    headers: &'static mut [[u8; HEADER_ROOM]],
    headers_bus: u64,
    /// Longest frame without FCS.
    max_frame: u32,
    /// The next descriptor to write.
    tail: u32,
    /// One beyond the last descriptor that the device was told of.
    announced: u32,
    /// The oldest descriptor that the device may still use.
    clean: u32,
    /// Second word of the descriptor before `tail`.
    last_word: u64,
    /// One beyond the last descriptor that reports.
    reported: u32,
    reports: Reports,
    /// Whether [`TxRing::header`] gave a room that was not sent yet.
    room_given: bool,
    contexts: Contexts,
    releases: VecDeque<Pending>,
    frames: u64,
    bytes: u64,
    drops: u64,
}

/// What to give back once `clean` has come to `until`.
#[derive(Clone, Copy, Debug)]
struct Pending {
    until: u32,
    release: Release,
}

impl TxRing {
    /// An empty ring in `memory`, whose length is a power of two, with a header room for each
    /// descriptor, for frames of up to `max_frame` bytes without FCS.
    ///
    /// # Panics
    /// If the number of descriptors is not a power of two, too small for a frame, or larger than
    /// the number of rooms.
    pub fn new(
        memory: DmaSlice,
        headers: &'static mut [[u8; HEADER_ROOM]],
        headers_bus: u64,
        max_frame: u32,
    ) -> Self {
        let descriptors = memory.pairs();
        let count = descriptors.len();
        assert!(count.is_power_of_two() && count > FRAME_DESCRIPTORS as usize);
        assert!(headers.len() >= count);
        for word in descriptors.as_flattened() {
            word.store(0, Relaxed);
        }
        Self {
            memory,
            descriptors,
            mask: count as u32 - 1,
            headers,
            headers_bus,
            max_frame: max_frame.min(u32::from(u16::MAX)),
            tail: 0,
            announced: 0,
            clean: 0,
            last_word: 0,
            reported: 0,
            reports: Reports::new(count),
            room_given: false,
            contexts: Contexts::new(None, false),
            releases: VecDeque::with_capacity(count),
            frames: 0,
            bytes: 0,
            drops: 0,
        }
    }

    /// The same ring, which has carried nothing yet, with a VLAN tag for every frame: its tag
    /// control information (IEEE 802.1Q-2022 9.6). Every frame names a context if it has to, and not only where it
    /// asks for something.
    pub fn tagging(mut self, tag: Option<u16>, names_contexts: bool) -> Self {
        self.contexts = Contexts::new(tag, names_contexts);
        self
    }

    /// Header room of the next frame, see [`ix_hal::Transmit::header`].
    #[inline(always)]
    pub fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        if self.free() < FRAME_DESCRIPTORS && !self.make_room() {
            return None;
        }
        self.room_given = true;
        // The room of the frame's first descriptor, whichever kind that will be.
        self.headers.get_mut((self.tail & self.mask) as usize)
    }

    #[cold]
    fn make_room(&mut self) -> bool {
        self.complete();
        self.free() >= FRAME_DESCRIPTORS
    }

    /// Queues the frame in the room, see [`ix_hal::Transmit::send`].
    ///
    /// Inlined into each of its few callers, who mostly send a frame of a shape that the compiler
    /// knows: then neither checksums nor fragments are a question.
    #[inline(always)]
    pub fn send(&mut self, frame: &TxFrame<'_>) {
        if frame.segment_size != 0 {
            self.send_large(frame);
        } else {
            match self.length(frame, self.max_frame) {
                Some(length) => self.queue(frame, length),
                None => self.drops += 1,
            }
        }
        self.room_given = false;
        if let Some(release) = frame.release {
            // That of a refused frame goes back with those queued before it.
            let until = self.tail;
            self.releases.push_back(Pending { until, release });
        }
    }

    /// Queues a frame that the device cuts into segments.
    #[inline(never)]
    fn send_large(&mut self, frame: &TxFrame<'_>) {
        if self.queue_large(frame).is_none() {
            self.drops += 1;
        }
    }

    /// The same; `None` if the frame cannot be queued.
    fn queue_large(&mut self, frame: &TxFrame<'_>) -> Option<()> {
        let header_len = u32::from(frame.header_len);
        let length = self.length(frame, LARGEST_PAYLOAD + header_len)?;
        if header_len + u32::from(frame.segment_size) > self.max_frame || length == header_len {
            return None;
        }
        let segments = Segments {
            header_len: frame.header_len,
            size: frame.segment_size,
        };
        let header = self.room_bus();
        let (first_word, context) = self.contexts.segmenting(frame.checksum, segments)?;
        if let Some(context) = context {
            self.write_context(context);
        }
        // PAYLEN leaves the headers out, unlike that of other frames (7.2.3.2.4).
        let lengths = u64::from(length - header_len) << PAYLEN_SHIFT | u64::from(header_len);
        self.write_frame([header, first_word | lengths], frame.fragments);
        self.frames += 1;
        self.bytes += u64::from(length);
        Some(())
    }

    /// Length of a frame that can be queued, of up to `most` bytes.
    #[inline(always)]
    fn length(&self, frame: &TxFrame<'_>, most: u32) -> Option<u32> {
        let mut length = u32::from(frame.header_len);
        let mut sound = self.room_given
            && (MIN_FRAME..=HEADER_ROOM as u32).contains(&length)
            && frame.fragments.len() <= MAX_FRAGMENTS;
        for fragment in frame.fragments {
            // Neither empty nor too long, in one comparison.
            sound &= fragment.len.wrapping_sub(1) < most;
            length = length.wrapping_add(fragment.len);
        }
        (sound && length <= most).then_some(length)
    }

    /// Writes the descriptors of a frame.
    #[inline(always)]
    fn queue(&mut self, frame: &TxFrame<'_>, length: u32) {
        let header = self.room_bus();
        let mut first_word = self.contexts.first_word(frame.checksum);
        if first_word == 0 {
            first_word = self.load_context(frame.checksum);
        }
        // Offloads and the length of the frame are looked at in its first descriptor only.
        let first_word =
            first_word | u64::from(length) << PAYLEN_SHIFT | u64::from(frame.header_len);
        self.write_frame([header, first_word], frame.fragments);
        self.frames += 1;
        self.bytes += u64::from(length);
    }

    /// Bus address of the room that was given out.
    #[inline(always)]
    fn room_bus(&self) -> u64 {
        self.headers_bus + u64::from(self.tail & self.mask) * HEADER_ROOM as u64
    }

    /// Writes the data descriptors of a frame, the first one with these words.
    #[inline(always)]
    fn write_frame(&mut self, mut words: [u64; 2], fragments: &[Fragment]) {
        let mut position = self.tail;
        // Copied, since the compiler reads fields anew after each store to shared memory.
        let (descriptors, mask) = (self.descriptors, self.mask);
        let data_word = self.contexts.data_word();
        for fragment in fragments {
            write(descriptors, position & mask, words);
            position = position.wrapping_add(1);
            words = [fragment.bus, data_word | u64::from(fragment.len)];
        }
        words[1] |= END_OF_PACKET;
        write(descriptors, position & mask, words);
        self.last_word = words[1];
        self.tail = position.wrapping_add(1);
        if self.tail.wrapping_sub(self.reported) >= REPORT_INTERVAL {
            self.report();
        }
    }

    /// Tells the device of the context that frames of that kind need; their first word.
    #[cold]
    fn load_context(&mut self, checksum: TxChecksum) -> u64 {
        let context = self.contexts.load(checksum);
        self.write_context(context);
        self.contexts.first_word(checksum)
    }

    fn write_context(&mut self, context: [u64; 2]) {
        write(self.descriptors, self.tail & self.mask, context);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Asks for a report on the last descriptor written, which ends a frame.
    fn report(&mut self) {
        let last = self.tail.wrapping_sub(1) & self.mask;
        self.descriptors[last as usize][1].store(self.last_word | REPORT, Relaxed);
        self.reported = self.tail;
        self.reports.push(self.tail);
    }

    /// The new tail, if frames were queued since the last time. The last of them reports, so that
    /// every descriptor is freed in the end.
    #[inline]
    pub fn flush(&mut self) -> Option<u32> {
        if self.tail == self.announced {
            return None;
        }
        if self.reported != self.tail {
            self.report();
        }
        self.announced = self.tail;
        Some(self.tail & self.mask)
    }

    /// Frees completed descriptors and gives back what their frames were to release, see
    /// [`ix_hal::Nic::reclaim`].
    #[inline]
    pub fn reclaim(&mut self, pool: &mut MbufPool) -> u32 {
        self.complete();
        let mut user = 0;
        while let Some(&Pending { until, release }) = self.releases.front() {
            if (self.clean.wrapping_sub(until) as i32) < 0 {
                break;
            }
            match release {
                Release::Mbuf(mbuf) => pool.give(mbuf),
                Release::User => user += 1,
            }
            self.releases.pop_front();
        }
        user
    }

    /// The position behind all queued frames.
    pub fn tail(&self) -> u32 {
        self.tail
    }

    /// Whether the device has reported everything before a position that was once the tail. Each
    /// flush asks for a report of what is queued by then.
    pub fn has_sent(&mut self, until: u32) -> bool {
        self.complete();
        self.clean.wrapping_sub(until) as i32 >= 0
    }

    /// Moves `clean` to behind the last completed report.
    #[inline]
    fn complete(&mut self) {
        while let Some(until) = self.reports.first() {
            let last = (until.wrapping_sub(1) & self.mask) as usize;
            if !TxWriteBack::is_done(self.descriptors[last][1].load(Acquire)) {
                break;
            }
            self.clean = until;
            self.reports.pop();
        }
    }

    /// Takes all mbufs back, sent or not, from a ring that the device no longer uses.
    pub fn drain(&mut self, pool: &mut MbufPool) {
        for pending in self.releases.drain(..) {
            if let Release::Mbuf(mbuf) = pending.release {
                pool.give(mbuf);
            }
        }
    }

    /// Free descriptors. One stays empty, since equal head and tail mean an empty ring (7.2.3.4).
    #[inline]
    pub fn free(&self) -> u32 {
        self.mask - self.tail.wrapping_sub(self.clean)
    }

    /// Whether at least half of the descriptors are in use.
    #[inline]
    pub fn is_half_used(&self) -> bool {
        self.free() <= self.mask / 2
    }

    /// Whether something is to be given back when its frame is sent.
    #[inline]
    pub fn holds_memory(&self) -> bool {
        !self.releases.is_empty()
    }

    /// The memory of the descriptors, the header rooms, and their bus address.
    pub fn into_memory(self) -> (DmaSlice, &'static mut [[u8; HEADER_ROOM]], u64) {
        (self.memory, self.headers, self.headers_bus)
    }

    /// Frames queued.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes in them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames refused.
    pub fn drops(&self) -> u64 {
        self.drops
    }
}

#[inline]
fn write(descriptors: &[[AtomicU64; 2]], index: u32, words: [u64; 2]) {
    let [first, second] = &descriptors[index as usize];
    first.store(words[0], Relaxed);
    second.store(words[1], Relaxed);
}

#[cfg(test)]
mod tests;
