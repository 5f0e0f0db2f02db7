//! The transmit ring without its registers: frames become descriptors, and completions free them.
//!
//! Positions count descriptors since the start and wrap around freely; a position's descriptor is
//! its low bits. They follow each other: `clean <= announced <= tail`. Descriptors are written
//! without regard to order, since the device looks at none before the doorbell, and whoever rings
//! it orders the two.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use ix_hal::{
    DmaSlice, Fragment, HEADER_ROOM, MAX_FRAGMENTS, MbufPool, Release, TxChecksum, TxFrame,
};
use ixgbe_spec::{TxCommand, TxWriteBack};

use crate::tx_context::{Contexts, PAYLEN_SHIFT, Segments};

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
            contexts: Contexts::new(None),
            releases: VecDeque::with_capacity(count),
            frames: 0,
            bytes: 0,
            drops: 0,
        }
    }

    /// The same ring, which has carried nothing yet, with a VLAN tag for every frame: its tag
    /// control information (IEEE 802.1Q-2022 9.6).
    pub fn tagging(mut self, tag: Option<u16>) -> Self {
        self.contexts = Contexts::new(tag);
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

/// Positions that report, oldest first. There are never more than descriptors.
#[derive(Debug)]
struct Reports {
    positions: Box<[u32]>,
    first: u32,
    end: u32,
}

impl Reports {
    fn new(descriptors: usize) -> Self {
        Self {
            positions: vec![0; descriptors].into(),
            first: 0,
            end: 0,
        }
    }

    #[inline]
    fn first(&self) -> Option<u32> {
        (self.first != self.end).then(|| self.positions[self.slot(self.first)])
    }

    #[inline]
    fn pop(&mut self) {
        self.first = self.first.wrapping_add(1);
    }

    #[inline]
    fn push(&mut self, position: u32) {
        let slot = self.slot(self.end);
        self.positions[slot] = position;
        self.end = self.end.wrapping_add(1);
    }

    #[inline]
    fn slot(&self, position: u32) -> usize {
        position as usize & (self.positions.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HEADERS_BUS, TransmitDevice, headers, pool, ring};
    use alloc::vec::Vec;
    use ix_hal::Fragment;
    use ixgbe_spec::{L4Type, TxContext, TxData, TxDescriptor, TxOptions};
    use proptest::prelude::*;

    const DESCRIPTORS: u32 = 64;

    struct Bench {
        ring: TxRing,
        device: TransmitDevice,
        pool: MbufPool,
    }

    impl Bench {
        fn new() -> Self {
            let memory = ring(DESCRIPTORS as usize);
            Self {
                ring: TxRing::new(memory, headers(DESCRIPTORS as usize), HEADERS_BUS, 1514),
                device: TransmitDevice::new(memory),
                pool: pool(16),
            }
        }

        /// Sends a frame with a header of 54 bytes.
        fn send(&mut self, fragments: &[Fragment], checksum: TxChecksum) -> bool {
            let given = self.ring.header().is_some();
            self.ring.send(&TxFrame {
                header_len: 54,
                fragments,
                checksum,
                segment_size: 0,
                release: None,
            });
            given
        }

        /// Flushes, and what the device then sees.
        fn run(&mut self) -> Vec<TxDescriptor> {
            match self.ring.flush() {
                Some(tail) => self.device.run(tail),
                None => Vec::new(),
            }
        }
    }

    fn data(descriptor: &TxDescriptor) -> TxData {
        match descriptor {
            TxDescriptor::Data(data) => *data,
            other => panic!("{other:?} is no data descriptor"),
        }
    }

    #[test]
    fn a_frame_is_its_header_and_its_fragments() {
        let mut bench = Bench::new();
        let fragments = [
            Fragment {
                bus: 0x1000,
                len: 100,
            },
            Fragment {
                bus: 0x9000,
                len: 1,
            },
        ];
        assert!(bench.send(&fragments, TxChecksum::None));
        let seen: Vec<TxData> = bench.run().iter().map(data).collect();
        let pieces: Vec<(u64, u16)> = seen.iter().map(|it| (it.address, it.length)).collect();
        assert_eq!(pieces, [(HEADERS_BUS, 54), (0x1000, 100), (0x9000, 1)]);
        for (position, descriptor) in seen.iter().enumerate() {
            let last = position == 2;
            assert_eq!(
                descriptor.payload_length,
                if position == 0 { 155 } else { 0 }
            );
            assert!(descriptor.command.contains(TxCommand::IFCS));
            assert_eq!(descriptor.command.contains(TxCommand::EOP), last);
            assert_eq!(descriptor.command.contains(TxCommand::RS), last);
            assert_eq!(descriptor.options, TxOptions::empty());
        }
    }

    #[test]
    fn a_frame_behind_others_has_left_when_the_device_says_so() {
        let mut bench = Bench::new();
        bench.send(&[], TxChecksum::None);
        let first = bench.ring.tail();
        assert!(!bench.ring.has_sent(first), "before the doorbell");
        bench.run();
        bench.send(&[], TxChecksum::None);
        let second = bench.ring.tail();
        assert!(bench.ring.has_sent(first));
        assert!(!bench.ring.has_sent(second));
        bench.run();
        assert!(bench.ring.has_sent(second) && bench.ring.has_sent(first));
    }

    #[test]
    fn each_frame_has_a_room_of_its_own_until_it_is_sent() {
        let mut bench = Bench::new();
        bench.ring.header().unwrap()[0] = 1;
        assert_eq!(bench.ring.header().unwrap()[0], 1, "the same room");
        bench.send(&[], TxChecksum::None);
        bench.ring.header().unwrap()[0] = 2;
        bench.send(&[], TxChecksum::None);
        let addresses: Vec<u64> = bench.run().iter().map(|it| data(it).address).collect();
        assert_eq!(addresses, [HEADERS_BUS, HEADERS_BUS + 128]);
        assert_eq!((bench.ring.headers[0][0], bench.ring.headers[1][0]), (1, 2));
    }

    #[test]
    fn contexts_are_written_once() {
        let mut bench = Bench::new();
        for checksum in [
            TxChecksum::Ipv4Tcp,
            TxChecksum::Ipv4,
            TxChecksum::Ipv4Udp,
            TxChecksum::Ipv4Tcp,
            TxChecksum::Ipv4Udp,
        ] {
            bench.send(&[], checksum);
        }
        let seen = bench.run();
        let contexts: Vec<(usize, TxContext)> = seen
            .iter()
            .enumerate()
            .filter_map(|(position, it)| match it {
                TxDescriptor::Context(context) => Some((position, *context)),
                _ => None,
            })
            .collect();
        assert_eq!(contexts.len(), 2);
        let (tcp, udp) = (contexts[0].1, contexts[1].1);
        assert_eq!((contexts[0].0, contexts[1].0), (0, 3));
        assert_eq!((tcp.l4_type, tcp.index), (Some(L4Type::Tcp), 0));
        assert_eq!((udp.l4_type, udp.index), (Some(L4Type::Udp), 1));
        assert_eq!((tcp.mac_length, tcp.ip_length, tcp.ipv4), (14, 20, true));
        let both = TxOptions::IXSM | TxOptions::TXSM;
        let uses: Vec<(u8, TxOptions)> = seen
            .iter()
            .filter(|it| matches!(it, TxDescriptor::Data(_)))
            .map(|it| (data(it).context, data(it).options))
            .collect();
        let ip_only = TxOptions::IXSM;
        let expected = [(0, both), (0, ip_only), (1, both), (0, both), (1, both)];
        assert_eq!(uses, expected);
    }

    #[test]
    fn every_descriptor_is_freed_in_the_end() {
        let mut bench = Bench::new();
        for burst in [1, 2, 5, 31, 32, 33, 50] {
            for _ in 0..burst {
                assert!(bench.send(&[], TxChecksum::None));
            }
            bench.run();
            bench.ring.reclaim(&mut bench.pool);
            assert_eq!(bench.ring.free(), DESCRIPTORS - 1, "after {burst} frames");
        }
    }

    #[test]
    fn completion_is_reported_about_every_32_descriptors() {
        let mut bench = Bench::new();
        for _ in 0..50 {
            bench.send(&[], TxChecksum::None);
        }
        let reports: Vec<usize> = bench
            .run()
            .iter()
            .enumerate()
            .filter(|(_, it)| data(it).command.contains(TxCommand::RS))
            .map(|(position, _)| position)
            .collect();
        assert_eq!(reports, [31, 49]);
    }

    #[test]
    fn nothing_is_flushed_twice() {
        let mut bench = Bench::new();
        assert_eq!(bench.ring.flush(), None);
        bench.send(&[], TxChecksum::None);
        assert_eq!(bench.ring.flush(), Some(1));
        assert_eq!(bench.ring.flush(), None);
    }

    #[test]
    fn a_full_ring_gives_no_room_until_the_device_is_done() {
        let mut bench = Bench::new();
        let mut sent = 0;
        while bench.send(&[], TxChecksum::None) {
            sent += 1;
        }
        // Room is kept for a frame of the most fragments, with a context.
        assert_eq!(sent, 63 - 9);
        assert_eq!(bench.ring.drops(), 1);
        assert!(bench.ring.header().is_none());
        bench.run();
        assert!(bench.ring.header().is_some(), "completions are looked for");
    }

    #[test]
    fn mbufs_go_back_when_their_frame_is_sent() {
        let mut bench = Bench::new();
        let mbuf = bench.pool.take();
        bench.ring.header().unwrap();
        bench.ring.send(&TxFrame {
            header_len: 42,
            fragments: &[Fragment {
                bus: 0x4000,
                len: 56,
            }],
            checksum: TxChecksum::None,
            segment_size: 0,
            release: mbuf.map(Release::Mbuf),
        });
        bench.ring.reclaim(&mut bench.pool);
        assert_eq!(bench.pool.available(), 15, "not sent yet");
        bench.run();
        bench.ring.reclaim(&mut bench.pool);
        assert_eq!(bench.pool.available(), 16);
    }

    #[test]
    fn memory_of_the_application_is_counted_once_its_frame_is_sent() {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.ring.header().unwrap();
            bench.ring.send(&TxFrame {
                header_len: 42,
                fragments: &[],
                checksum: TxChecksum::Ipv4Udp,
                segment_size: 0,
                release: Some(Release::User),
            });
        }
        assert_eq!(bench.ring.reclaim(&mut bench.pool), 0, "not sent yet");
        bench.run();
        assert_eq!(bench.ring.reclaim(&mut bench.pool), 3);
        assert_eq!(bench.ring.reclaim(&mut bench.pool), 0, "counted already");
    }

    #[test]
    fn malformed_frames_are_dropped_and_their_mbufs_kept() {
        let mut bench = Bench::new();
        let fragment = Fragment { bus: 0, len: 60 };
        let many = [fragment; MAX_FRAGMENTS + 1];
        let long = [Fragment { bus: 0, len: 1461 }];
        let empty = [fragment, Fragment { bus: 0, len: 0 }];
        let overflowing = [
            Fragment {
                bus: 0,
                len: u32::MAX,
            },
            fragment,
        ];
        let cases: [(u16, &[Fragment]); 6] = [
            (54, &many),
            (54, &long),
            (54, &empty),
            (54, &overflowing),
            (16, &[]),
            (129, &[]),
        ];
        for (header_len, fragments) in cases {
            let release = bench.pool.take().map(Release::Mbuf);
            bench.ring.header().unwrap();
            bench.ring.send(&TxFrame {
                header_len,
                fragments,
                checksum: TxChecksum::None,
                segment_size: 0,
                release,
            });
        }
        assert_eq!(bench.ring.flush(), None);
        assert_eq!((bench.ring.drops(), bench.ring.frames()), (6, 0));
        bench.ring.reclaim(&mut bench.pool);
        assert_eq!(bench.pool.available(), 16);
    }

    #[test]
    fn a_frame_without_a_room_is_dropped() {
        let mut bench = Bench::new();
        assert!(bench.send(&[], TxChecksum::None));
        bench.ring.send(&TxFrame {
            header_len: 54,
            fragments: &[],
            checksum: TxChecksum::None,
            segment_size: 0,
            release: None,
        });
        assert_eq!((bench.ring.frames(), bench.ring.drops()), (1, 1));
    }

    #[test]
    fn a_drained_ring_has_given_all_mbufs_back() {
        let mut bench = Bench::new();
        let release = bench.pool.take().map(Release::Mbuf);
        bench.ring.header().unwrap();
        bench.ring.send(&TxFrame {
            header_len: 54,
            fragments: &[],
            checksum: TxChecksum::None,
            segment_size: 0,
            release,
        });
        bench.ring.flush();
        bench.ring.drain(&mut bench.pool);
        assert_eq!(bench.pool.available(), 16);
    }

    proptest! {
        /// Whatever a device writes into the ring, nothing panics, no descriptor is taken for free
        /// that was not sent, and no mbuf is lost or doubled.
        #[test]
        fn no_write_back_breaks_the_ring(
            steps in prop::collection::vec((0usize..64, any::<u64>(), any::<bool>()), 1..400)
        ) {
            let mut bench = Bench::new();
            let memory = bench.ring.memory;
            let mut carried = 0;
            for (index, word, flush) in steps {
                if bench.ring.header().is_some() {
                    let release = bench.pool.take().map(Release::Mbuf);
                    carried += usize::from(release.is_some());
                    bench.ring.send(&TxFrame {
                        header_len: 54,
                        fragments: &[Fragment { bus: 0, len: 10 }],
                        checksum: TxChecksum::Ipv4,
                        segment_size: 0,
                        release,
                    });
                }
                memory.store(2 * index + 1, word);
                if flush {
                    bench.ring.flush();
                }
                let before = bench.pool.available();
                bench.ring.reclaim(&mut bench.pool);
                carried -= bench.pool.available() - before;
                prop_assert_eq!(bench.pool.available() + carried, 16);
                prop_assert!(bench.ring.free() < DESCRIPTORS);
            }
            bench.ring.drain(&mut bench.pool);
            prop_assert_eq!(bench.pool.available(), 16);
        }

        /// Bursts of any shape, flushed and reclaimed at any time: each frame reaches the device
        /// once and in order, no header room is given out while in use, all mbufs come back.
        #[test]
        fn frames_arrive_once_and_in_order(
            steps in prop::collection::vec((0usize..=MAX_FRAGMENTS, any::<bool>(), any::<bool>()), 1..300)
        ) {
            let mut bench = Bench::new();
            let mut next = 0u8;
            let mut seen = 0u8;
            let mut arrived = Vec::new();
            for (fragments, flush, release) in steps {
                let fragments = &[Fragment { bus: 0x1000, len: 3 }; MAX_FRAGMENTS][..fragments];
                if let Some(room) = bench.ring.header() {
                    room[0] = next;
                    next = next.wrapping_add(1);
                    let release = if release { bench.pool.take() } else { None };
                    let release = release.map(Release::Mbuf);
                    bench.ring.send(&TxFrame {
                        header_len: 54,
                        fragments,
                        checksum: TxChecksum::Ipv4Tcp,
                        segment_size: 0,
                        release,
                    });
                } else {
                    prop_assert!(bench.ring.tail != bench.ring.clean);
                }
                if flush {
                    arrived.extend(bench.run());
                    bench.ring.reclaim(&mut bench.pool);
                }
                let mut first = true;
                for descriptor in arrived.drain(..) {
                    let TxDescriptor::Data(data) = descriptor else { continue };
                    if core::mem::replace(&mut first, data.command.contains(TxCommand::EOP)) {
                        let room = (data.address - HEADERS_BUS) as usize / HEADER_ROOM;
                        prop_assert_eq!(bench.ring.headers[room][0], seen);
                        seen = seen.wrapping_add(1);
                    }
                }
            }
            bench.run();
            bench.ring.reclaim(&mut bench.pool);
            prop_assert_eq!(bench.ring.free(), DESCRIPTORS - 1);
            prop_assert_eq!(bench.pool.available(), 16);
        }
    }
}
