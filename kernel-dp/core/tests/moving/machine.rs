//! A machine for elastic threads: a NIC with a redirection table and a packet buffer that delays what
//! it has already steered, buffers, thread areas, a clock.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use ix_abi::{THREADS_MAX, area};
use ix_core::Inbox;
use ix_hal::{
    HEADER_ROOM, LentMbuf, MbufGeometry, MbufId, MbufMemory, MbufPool, Nic, NicStatistics,
    RxChecksum, RxFrame, Steer, Transmit, TxFrame,
};
use ix_net::Names;
use ix_net::testing::Wire;

/// Mbufs of each thread.
pub const MBUFS: u32 = 512;
pub const MBUF_SHIFT: u32 = 11;
const MBUF_USER: u64 = 0x20_0000_0000;
const POOL_BYTES: u64 = (MBUFS as u64) << MBUF_SHIFT;
/// Frames that a seed may see at most.
const FRAMES_MOST: usize = 1 << 17;
/// Flow groups.
pub const GROUPS: usize = 128;
/// Most connections of a thread, together with those that leave it at a time.
const BLOCKS: u32 = 20_000;

pub fn geometry(thread: usize) -> MbufGeometry {
    MbufGeometry {
        count: MBUFS,
        size_shift: MBUF_SHIFT,
        bus: 0,
        user: MBUF_USER + thread as u64 * POOL_BYTES,
    }
}

/// Which flow group a connection belongs to, and the hash that the NIC reports.
pub fn rss_hash(remote_port: u16, local_port: u16) -> u32 {
    let mixed = (u32::from(remote_port) << 16 | u32::from(local_port)).wrapping_mul(0x9e37_79b9);
    mixed >> 8 | 1 << 31
}

/// What lives as long as the process: threads refer to it, and each seed uses it again.
pub struct Fixtures {
    pub areas: Vec<&'static [AtomicU64]>,
    pub inboxes: &'static [Inbox],
    pub switch: &'static Switch,
    pub names: &'static Names,
}

thread_local! {
    static FIXTURES: Rc<Fixtures> = Rc::new(Fixtures {
        areas: (0..THREADS_MAX).map(|_| words()).collect(),
        inboxes: Vec::leak((0..THREADS_MAX).map(|_| Inbox::new()).collect()),
        switch: Box::leak(Box::new(Switch {
            reta: [const { AtomicU8::new(0) }; GROUPS],
            awake: [const { AtomicBool::new(false) }; THREADS_MAX],
        })),
        names: Box::leak(Box::new(Names::new(THREADS_MAX as u32, BLOCKS))),
    });
}

fn words() -> &'static [AtomicU64] {
    Vec::leak((0..area::WORDS).map(|_| AtomicU64::new(0)).collect())
}

pub fn fixtures() -> Rc<Fixtures> {
    let fixtures = FIXTURES.with(Rc::clone);
    for area in &fixtures.areas {
        for word in [area::CALL_COUNT, area::EVENT_COUNT, area::WAKE_NS] {
            area[word].store(0, Relaxed);
        }
        area[area::FOLLOWS_MOVES].store(1, Relaxed);
    }
    fixtures
}

/// The redirection table, and who is to be woken.
pub struct Switch {
    pub reta: [AtomicU8; GROUPS],
    pub awake: [AtomicBool; THREADS_MAX],
}

impl Steer for Switch {
    fn assign(&self, groups: u128, thread: u32) {
        for (group, entry) in self.reta.iter().enumerate() {
            if groups >> group & 1 != 0 {
                entry.store(thread as u8, Relaxed);
            }
        }
    }

    fn owner(&self, group: u8) -> u32 {
        u32::from(self.reta[usize::from(group)].load(Relaxed))
    }

    fn wake(&self, thread: u32) {
        self.awake[thread as usize].store(true, Relaxed);
    }
}

/// The contents of all buffers: frames are written once, and buffers say which one they hold.
pub struct Buffers {
    frames: Vec<OnceCell<Box<[u8]>>>,
    next: Cell<usize>,
    holds: Vec<Cell<usize>>,
}

impl Buffers {
    pub fn new(threads: usize) -> Self {
        Self {
            frames: (0..FRAMES_MOST).map(|_| OnceCell::new()).collect(),
            next: Cell::new(0),
            holds: (0..threads * MBUFS as usize)
                .map(|_| Cell::new(0))
                .collect(),
        }
    }

    fn place(thread: usize, mbuf: MbufId) -> usize {
        assert!(mbuf.0 < MBUFS, "a buffer of another thread");
        thread * MBUFS as usize + mbuf.0 as usize
    }

    fn write(&self, thread: usize, mbuf: MbufId, bytes: Box<[u8]>) {
        let at = self.next.replace(self.next.get() + 1);
        self.frames[at]
            .set(bytes)
            .expect("each frame is written once");
        self.holds[Self::place(thread, mbuf)].set(at);
    }

    fn read(&self, place: usize) -> &[u8] {
        self.frames[self.holds[place].get()]
            .get()
            .expect("a buffer that was received into")
    }

    /// The bytes at an address of the application.
    pub fn at(&self, address: u64, len: usize) -> &[u8] {
        let offset = address - MBUF_USER;
        let at = (offset & ((1 << MBUF_SHIFT) - 1)) as usize;
        &self.read((offset >> MBUF_SHIFT) as usize)[at..at + len]
    }
}

/// One thread's view of the buffers.
pub struct Memory {
    pub thread: usize,
    pub buffers: Rc<Buffers>,
}

impl MbufMemory for Memory {
    fn frame(&self, mbuf: MbufId, len: usize) -> &[u8] {
        let bytes = self.buffers.read(Buffers::place(self.thread, mbuf));
        &bytes[..len.min(bytes.len())]
    }

    fn copy(&mut self, from: (MbufId, usize), to: (MbufId, usize), len: usize) {
        let piece = &self.frame(from.0, usize::MAX)[from.1..from.1 + len];
        let mut bytes = self.frame(to.0, to.1).to_vec();
        bytes.extend_from_slice(piece);
        self.buffers.write(self.thread, to.0, bytes.into());
    }

    fn fetch(&mut self, from: LentMbuf, to: MbufId, len: usize) {
        let from = Buffers::place(from.owner as usize, from.mbuf);
        let bytes = self.buffers.read(from)[..len].into();
        self.buffers.write(self.thread, to, bytes);
    }
}

/// A frame that was steered to a queue, and when it comes out of the packet buffer.
struct Queued {
    visible_at: u64,
    hash: u32,
    bytes: Box<[u8]>,
}

/// The receive queue of one thread.
#[derive(Default)]
pub struct Queue {
    frames: VecDeque<Queued>,
    /// Frames lost because the pool was empty.
    pub missed: u64,
}

impl Queue {
    pub fn put(&mut self, visible_at: u64, hash: u32, bytes: Vec<u8>) {
        let last = self.frames.back().map_or(0, |last| last.visible_at);
        self.frames.push_back(Queued {
            visible_at: visible_at.max(last),
            hash,
            bytes: bytes.into(),
        });
    }

    /// When the next frame can be received.
    pub fn next(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.visible_at)
    }
}

fn is_fragment(frame: &[u8]) -> bool {
    frame[12..14] == [8, 0] && u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff != 0
}

/// One queue pair.
pub struct QueuePair {
    pub thread: usize,
    pub queue: Rc<RefCell<Queue>>,
    pub buffers: Rc<Buffers>,
    pub wire: Wire,
    pub clock: Rc<Cell<u64>>,
    /// Frames that have left.
    pub left: u32,
}

impl Transmit for QueuePair {
    fn segmentation(&self) -> u32 {
        self.wire.segmentation()
    }

    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        self.wire.header()
    }

    fn send(&mut self, frame: &TxFrame<'_>) {
        self.wire.send(frame);
    }
}

impl Nic for QueuePair {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 2]
    }

    fn link_up(&mut self) -> bool {
        true
    }

    fn receive(&mut self, frames: &mut [RxFrame], pool: &mut MbufPool) -> usize {
        let mut queue = self.queue.borrow_mut();
        let mut count = 0;
        while count < frames.len() && queue.next().is_some_and(|at| at <= self.clock.get()) {
            let queued = queue.frames.pop_front().expect("there is one");
            let Some(mbuf) = pool.take() else {
                queue.missed += 1;
                continue;
            };
            frames[count] = RxFrame {
                mbuf,
                len: queued.bytes.len() as u16,
                checksum: match ix_net::testing::checked_frame(&queued.bytes) {
                    _ if is_fragment(&queued.bytes) => RxChecksum::Ipv4Good,
                    true => RxChecksum::Good,
                    false => RxChecksum::Bad,
                },
                rss_hash: queued.hash,
            };
            self.buffers.write(self.thread, mbuf, queued.bytes);
            count += 1;
        }
        count
    }

    fn refill(&mut self, _: &mut MbufPool) {}

    fn reclaim(&mut self, _: &mut MbufPool) -> u32 {
        0
    }

    fn flush(&mut self) {}

    fn queued(&self) -> u32 {
        self.left + self.wire.sent.len() as u32
    }

    fn has_sent(&mut self, mark: u32) -> bool {
        self.left >= mark
    }

    fn arm_interrupt(&mut self) {}

    fn disarm_interrupt(&mut self) {}

    fn statistics(&mut self) -> NicStatistics {
        NicStatistics::default()
    }

    fn counts(&self) -> NicStatistics {
        NicStatistics::default()
    }

    fn waiting(&self) -> u32 {
        0
    }
}
