//! A transmit queue. Descriptors are given out in a circle, a row of them for each frame: the room
//! with both headers, then the payload's pieces. The device may finish frames in whatever order
//! (2.7.8); what they hold is given back in the order in which they were queued.
//!
//! Positions count descriptors since the start and wrap around freely; a position's descriptor is its
//! low bits.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;

use ix_hal::{HEADER_ROOM, MAX_FRAGMENTS, MbufPool, Release, TxFrame};

use crate::Error;
use crate::header::{self, HEADER, HEADER_WITH_HASH, Large};
use crate::ring::{NEXT, Ring};

/// Most payload of a frame that the device cuts into segments: with its headers it stays below 64 KiB,
/// as an IP packet does.
pub const LARGEST_PAYLOAD: u32 = (1 << 16) - HEADER_ROOM as u32;

/// Where the frame's headers are: those of VIRTIO end there, whichever they are.
const FRAME_AT: usize = 64;
/// A room for both headers.
pub type Room = [u8; FRAME_AT + HEADER_ROOM];

/// Most descriptors of a frame: headers, fragments.
const FRAME_DESCRIPTORS: u16 = 1 + MAX_FRAGMENTS as u16;
/// An Ethernet header.
const MIN_HEADER: u32 = 14;

/// Frames on their way out.
#[derive(Debug)]
pub(crate) struct TxQueue {
    pub ring: Ring,
    rooms: &'static mut [Room],
    rooms_bus: u64,
    header_bytes: usize,
    max_frame: u32,
    /// Whether the device cuts large frames, and those with CWR.
    pub segments: bool,
    pub ecn: bool,
    /// The next descriptor to write.
    tail: u32,
    /// The oldest descriptor that the device may still use.
    clean: u32,
    /// Of each descriptor that begins a frame, whether the device has finished it.
    finished: Box<[bool]>,
    /// Frames that it may still use, and refused ones behind them.
    frames_out: VecDeque<Out>,
    room_given: bool,
    has_news: bool,
    /// Frames out that hold something.
    holding: u32,
    frames: u64,
    bytes: u64,
    drops: u64,
    /// Finished chains that there were none of.
    pub strays: u64,
}

/// A frame on its way: its descriptors, none if it was refused, and what is given back for it.
#[derive(Clone, Copy, Debug)]
struct Out {
    start: u32,
    end: u32,
    release: Option<Release>,
}

impl TxQueue {
    /// An empty queue for frames of up to `max_frame` bytes.
    pub(crate) fn new(
        ring: Ring,
        rooms: &'static mut [Room],
        rooms_bus: u64,
        has_hash: bool,
        max_frame: u32,
    ) -> Result<Self, Error> {
        let size = usize::from(ring.size());
        if rooms.len() < size || !rooms_bus.is_multiple_of(16) {
            return Err(Error::Memory("header rooms"));
        }
        if ring.size() <= FRAME_DESCRIPTORS {
            return Err(Error::Memory("transmit ring"));
        }
        rooms.as_flattened_mut().fill(0);
        Ok(Self {
            ring,
            rooms,
            rooms_bus,
            header_bytes: if has_hash { HEADER_WITH_HASH } else { HEADER },
            max_frame,
            segments: false,
            ecn: false,
            tail: 0,
            clean: 0,
            finished: vec![false; size].into(),
            // A refused frame has no descriptor, so that their number is bounded apart.
            frames_out: VecDeque::with_capacity(2 * size),
            room_given: false,
            has_news: false,
            holding: 0,
            frames: 0,
            bytes: 0,
            drops: 0,
            strays: 0,
        })
    }

    /// Room for the next frame's headers.
    #[inline]
    pub(crate) fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        if !self.has_room() {
            self.complete();
            if !self.has_room() {
                return None;
            }
        }
        self.room_given = true;
        let index = self.index(self.tail);
        let (_, room) = self.rooms.get_mut(index)?.split_at_mut(FRAME_AT);
        room.first_chunk_mut()
    }

    fn has_room(&self) -> bool {
        let used = self.tail.wrapping_sub(self.clean);
        used + u32::from(FRAME_DESCRIPTORS) <= u32::from(self.ring.size())
            && self.frames_out.len() < self.frames_out.capacity()
    }

    #[inline]
    fn index(&self, position: u32) -> usize {
        position as usize & (self.finished.len() - 1)
    }

    /// Queues the frame in the room.
    #[inline]
    pub(crate) fn send(&mut self, frame: &TxFrame<'_>) {
        let start = self.tail;
        let given = core::mem::take(&mut self.room_given);
        let queued = if given { self.queue(frame) } else { None };
        match queued {
            Some(length) => {
                self.frames += 1;
                self.bytes += u64::from(length);
            }
            None => self.drops += 1,
        }
        // What a refused frame holds goes back with those queued before it.
        if queued.is_some() || frame.release.is_some() {
            self.holding += u32::from(frame.release.is_some());
            self.frames_out.push_back(Out {
                start,
                end: self.tail,
                release: frame.release,
            });
        }
    }

    /// Length of the frame if it could be queued.
    #[inline]
    fn queue(&mut self, frame: &TxFrame<'_>) -> Option<u32> {
        let (header_len, payload) = self.lengths(frame)?;
        let head = self.index(self.tail);
        let (net_header, headers) = self.rooms.get_mut(head)?.split_at_mut(FRAME_AT);
        let net_header = &mut net_header[FRAME_AT - self.header_bytes..];
        let net_header = net_header.first_chunk_mut()?;
        let headers = headers.get_mut(..header_len as usize)?;
        if frame.segment_size == 0 {
            header::fill(net_header, headers, frame.checksum)?;
        } else {
            let large = Large {
                segment_size: frame.segment_size,
                payload,
                ecn: self.ecn,
            };
            header::fill_large(net_header, headers, frame.checksum, large)?;
        }
        self.describe(frame, header_len);
        Some(header_len + payload)
    }

    /// Bytes of headers and of payload of a frame that can be queued.
    #[inline]
    fn lengths(&self, frame: &TxFrame<'_>) -> Option<(u32, u32)> {
        let header_len = u32::from(frame.header_len);
        let is_large = frame.segment_size != 0;
        let most = match is_large {
            true => LARGEST_PAYLOAD + header_len,
            false => self.max_frame,
        };
        let mut sound = (MIN_HEADER..=HEADER_ROOM as u32).contains(&header_len)
            && frame.fragments.len() <= MAX_FRAGMENTS;
        let mut payload = 0u32;
        for fragment in frame.fragments {
            // Neither empty nor too long, in one comparison.
            sound &= fragment.len.wrapping_sub(1) < most;
            payload = payload.wrapping_add(fragment.len);
        }
        if is_large {
            let segment = header_len + u32::from(frame.segment_size);
            sound &= self.segments && payload != 0 && segment <= self.max_frame;
        }
        (sound && header_len + payload <= most).then_some((header_len, payload))
    }

    /// Writes the descriptors of a frame and posts them.
    #[inline]
    fn describe(&mut self, frame: &TxFrame<'_>, header_len: u32) {
        let head = self.index(self.tail);
        let before = FRAME_AT - self.header_bytes;
        let room = self.rooms_bus + (head * size_of::<Room>() + before) as u64;
        let (mut bus, mut len) = (room, header_len + self.header_bytes as u32);
        let mut position = self.tail;
        for fragment in frame.fragments {
            let next = position.wrapping_add(1);
            self.ring
                .describe(position as u16, bus, len, NEXT, self.index(next) as u16);
            (bus, len) = (fragment.bus, fragment.len);
            position = next;
        }
        self.ring.describe(position as u16, bus, len, 0, 0);
        self.tail = position.wrapping_add(1);
        self.finished[head] = false;
        self.ring.post(head as u16);
        self.has_news = true;
    }

    /// Lets the device see what was queued; whether it is to be told.
    #[inline]
    pub(crate) fn flush(&mut self) -> bool {
        if !core::mem::take(&mut self.has_news) {
            return false;
        }
        self.ring.publish();
        self.ring.wants_notice()
    }

    /// Frees what the device has finished and gives back what it held, in order.
    #[inline]
    pub(crate) fn reclaim(&mut self, pool: &mut MbufPool) -> u32 {
        self.complete();
        let mut user = 0;
        while let Some(out) = self.frames_out.front() {
            if (self.clean.wrapping_sub(out.end) as i32) < 0 {
                break;
            }
            match out.release {
                Some(Release::Mbuf(mbuf)) => pool.give(mbuf),
                Some(Release::User) => user += 1,
                None => {}
            }
            self.holding -= u32::from(out.release.is_some());
            self.frames_out.pop_front();
        }
        user
    }

    /// Moves `clean` behind the frames that are finished and have none before them that is not.
    fn complete(&mut self) {
        for _ in 0..self.ring.waiting() {
            let used = self.ring.take();
            match self.finished.get_mut(used.id as usize) {
                Some(finished) => *finished = true,
                None => self.strays += 1,
            }
        }
        let size = self.finished.len() - 1;
        let done = self
            .frames_out
            .iter()
            .take_while(|out| out.start == out.end || self.finished[out.start as usize & size]);
        if let Some(last) = done.last() {
            self.clean = last.end;
        }
    }

    /// Whether looking for finished frames may be worth it.
    #[inline]
    pub(crate) fn is_worth_a_look(&self) -> bool {
        self.holding != 0 || self.frames_out.len() > self.finished.len() / 4
    }

    /// The position behind all queued frames.
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Whether all before that position is finished.
    pub(crate) fn has_sent(&mut self, until: u32) -> bool {
        self.complete();
        self.clean.wrapping_sub(until) as i32 >= 0
    }

    /// Takes all mbufs back, sent or not, from a queue that the device no longer uses.
    pub(crate) fn drain(&mut self, pool: &mut MbufPool) {
        for out in self.frames_out.drain(..) {
            if let Some(Release::Mbuf(mbuf)) = out.release {
                pool.give(mbuf);
            }
        }
    }

    /// The header rooms and their bus address.
    pub(crate) fn into_rooms(self) -> (&'static mut [Room], u64) {
        (self.rooms, self.rooms_bus)
    }

    /// Frames queued.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes in them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames refused.
    pub(crate) fn drops(&self) -> u64 {
        self.drops
    }
}
