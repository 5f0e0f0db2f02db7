//! The two shared pools of records behind the connections' queues.
//!
//! A [`SendRecord`] stands for a piece of user memory that a connection sends from. Before its
//! first transmission a record is cut to the segment that carries it, so that a segment is one or
//! more whole records: the list of records is at once the send queue and the scoreboard of loss
//! recovery. What is queued alone waits in the connection (`tcp::single`), and a record is only
//! promised to it. A [`RxRecord`] stands for the payload in one mbuf; there is one per mbuf.

use crate::seq::Seq;
use alloc::vec::Vec;

/// No record: the end of a list.
pub(crate) const NONE: u32 = u32::MAX;

bitflags::bitflags! {
    /// What is known about a record that was sent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct SendFlags: u8 {
        /// The peer holds it (RFC 2018).
        const SACKED = 1;
        /// Taken for lost and not sent again since.
        const LOST = 2;
        /// Sent more than once: no RTT sample (Karn).
        const RETRANSMITTED = 4;
        /// One segment, longer than the others, that probes the path (RFC 4821).
        const SIZE_PROBE = 8;
    }
}

/// A piece of user memory that is sent or waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendRecord {
    /// Bus address.
    pub bus: u64,
    /// Length in bytes, at least 1.
    pub len: u32,
    /// Next record of the connection.
    pub next: u32,
    /// Sequence number of the first byte.
    pub seq: Seq,
    /// When it was last sent, in units of 1.024 us.
    pub sent_at: u32,
    /// What is known about it.
    pub flags: SendFlags,
}

/// All send records.
pub(crate) struct SendRecords {
    records: Vec<SendRecord>,
    /// The first of the list of free records. Some of them may be promised.
    free: u32,
    /// Free records that are not promised, less the reserve: negative while that is in use.
    spare: i32,
    /// Records that only the cutting of queued data may use, so that what is queued can always be
    /// sent.
    reserve: i32,
}

impl SendRecords {
    /// `count` free records.
    pub fn new(count: u32) -> Self {
        let count = count.clamp(64, i32::MAX as u32);
        let reserve = (count / 8) as i32;
        let free = |index: u32| SendRecord {
            bus: 0,
            len: 0,
            next: if index + 1 == count { NONE } else { index + 1 },
            seq: Seq(0),
            sent_at: 0,
            flags: SendFlags::empty(),
        };
        Self {
            records: (0..count).map(free).collect(),
            free: 0,
            spare: count as i32 - reserve,
            reserve,
        }
    }

    /// The record of that number.
    #[inline]
    pub fn get(&self, index: u32) -> &SendRecord {
        &self.records[index as usize]
    }

    /// The record of that number.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> &mut SendRecord {
        &mut self.records[index as usize]
    }

    /// A record for newly queued data, unless only the reserve is left.
    #[inline(always)]
    pub fn queue(&mut self, bus: u64, len: u32, seq: Seq) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        self.promise();
        Some(self.keep_promise(SendRecord {
            bus,
            len,
            next: NONE,
            seq,
            sent_at: 0,
            flags: SendFlags::empty(),
        }))
    }

    /// Promises a record for newly queued data; there is one.
    #[inline(always)]
    pub fn promise(&mut self) {
        self.spare -= 1;
    }

    /// The record that was promised is no longer wanted.
    #[inline(always)]
    pub fn forgo_promise(&mut self) {
        self.spare += 1;
    }

    /// Writes the record that was promised.
    #[inline]
    pub fn keep_promise(&mut self, record: SendRecord) -> u32 {
        let index = self.free;
        let slot = &mut self.records[index as usize];
        self.free = slot.next;
        *slot = record;
        index
    }

    /// Promises records for what another engine has accepted, of which there are so many. That may use
    /// the reserve.
    pub fn promise_many(&mut self, count: u32) {
        self.spare -= count as i32;
    }

    /// So many of them are not wanted.
    pub fn forgo_promises(&mut self, count: u32) {
        self.spare += count as i32;
    }

    /// Whether newly queued data would get a record.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.spare > 0
    }

    /// Cuts a record after `len` bytes, which must be fewer than it has; what is behind the cut
    /// becomes a record of its own, in the same state. `false` if there is none left for it.
    pub fn cut(&mut self, index: u32, len: u32) -> bool {
        let record = *self.get(index);
        let rest = SendRecord {
            bus: record.bus + u64::from(len),
            len: record.len - len,
            seq: record.seq + len,
            ..record
        };
        if self.available() == 0 {
            return false;
        }
        self.promise();
        let next = self.keep_promise(rest);
        *self.get_mut(index) = SendRecord {
            len,
            next,
            ..record
        };
        true
    }

    /// Gives a record back; returns the one that followed it.
    #[inline]
    pub fn release(&mut self, index: u32) -> u32 {
        let record = &mut self.records[index as usize];
        let next = record.next;
        record.next = self.free;
        self.free = index;
        self.spare += 1;
        next
    }

    /// Records that are in use or promised.
    pub fn taken(&self) -> u32 {
        self.records.len() as u32 - self.available()
    }

    /// Records in all.
    #[cfg(any(test, feature = "testing"))]
    pub fn capacity(&self) -> u32 {
        self.records.len() as u32
    }

    /// Records that are free and not promised, the reserve included.
    #[inline]
    pub fn available(&self) -> u32 {
        (self.spare + self.reserve) as u32
    }
}

/// The payload in one mbuf, in a connection's list of out-of-order segments or in its list of
/// those delivered and not yet given back.
/// Of a size that makes its address a shift.
#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(crate) struct RxRecord {
    /// Next mbuf of the list.
    pub next: u32,
    /// Sequence number of the first byte.
    pub seq: Seq,
    /// Where in the mbuf the payload begins.
    pub offset: u16,
    /// Bytes of payload.
    pub len: u16,
}

impl RxRecord {
    /// Sequence number behind the last byte.
    #[inline]
    pub fn end(&self) -> Seq {
        self.seq + u32::from(self.len)
    }
}

/// One record per mbuf of the pool, by mbuf number.
pub(crate) struct RxRecords {
    records: Vec<RxRecord>,
    /// Buffers held by connections.
    pub held: u32,
    /// Of these, out-of-order ones.
    pub out_of_order: u32,
}

impl RxRecords {
    /// Records for mbufs `0..count`.
    pub fn new(count: u32) -> Self {
        let unused = RxRecord {
            next: NONE,
            seq: Seq(0),
            offset: 0,
            len: 0,
        };
        Self {
            records: (0..count).map(|_| unused).collect(),
            held: 0,
            out_of_order: 0,
        }
    }

    /// How many mbufs there are records for.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The record of an mbuf.
    #[inline]
    pub fn get(&self, mbuf: u32) -> &RxRecord {
        &self.records[mbuf as usize]
    }

    /// The record of an mbuf, if it is one of the pool's.
    #[inline(always)]
    pub fn try_get_mut(&mut self, mbuf: u32) -> Option<&mut RxRecord> {
        self.records.get_mut(mbuf as usize)
    }

    /// The record of an mbuf.
    #[inline]
    pub fn get_mut(&mut self, mbuf: u32) -> &mut RxRecord {
        &mut self.records[mbuf as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_left_for_cutting() {
        let mut records = SendRecords::new(64);
        let mut first = NONE;
        let mut queued = 0;
        while let Some(index) = records.queue(0x1000, 100, Seq(5)) {
            first = index;
            queued += 1;
        }
        assert_eq!(queued, 56);
        assert!(records.cut(first, 30));
        let rest = *records.get(records.get(first).next);
        assert_eq!((rest.bus, rest.len, rest.seq), (0x101e, 70, Seq(35)));
        assert_eq!(records.get(first).len, 30);
        for _ in 0..7 {
            assert!(records.cut(first, 1) || records.get(first).len == 1);
            let next = records.release(first);
            first = next;
        }
    }

    #[test]
    fn cut_without_a_record_left_changes_nothing() {
        let mut records = SendRecords::new(64);
        let index = records.queue(0, 1000, Seq(0)).unwrap();
        for _ in 0..63 {
            assert!(records.cut(index, records.get(index).len - 1));
        }
        let len = records.get(index).len;
        assert!(!records.cut(index, 1));
        assert_eq!(records.get(index).len, len);
    }
}
