//! TIME-WAIT: a table of its own with compact entries, so that closed connections cost little and
//! their number has its own bound. All entries live equally long, so that a list in order of entry
//! is in order of expiry.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::flow::FlowKey;
use crate::groups::{GROUPS, numbers};
use crate::records::NONE;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags};
use crate::tcp::options::Options;
use crate::tcp::reply::Answer;
use crate::wheel::NEVER;
use crate::wire::{Segment, TIMESTAMPS_PADDED, control, put32};
use alloc::vec::Vec;
use ix_hal::{Instant, Transmit};

/// Marks a value of the flow table as an entry of this table.
pub(crate) const TIME_WAIT: u32 = 1 << 31;

/// What is left of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub key: FlowKey,
    snd_nxt: Seq,
    rcv_nxt: Seq,
    ts_recent: u32,
    ts_offset: u32,
    has_timestamps: bool,
    /// Its flow group.
    group: u8,
    expires: u64,
    prev: u32,
    next: u32,
}

const _: () = assert!(core::mem::size_of::<Entry>() <= 72);

/// The table.
pub(crate) struct TimeWaits {
    entries: Vec<Entry>,
    free: u32,
    oldest: u32,
    newest: u32,
    /// How many entries each flow group has.
    counts: [u32; GROUPS],
    /// When the oldest entry expires.
    pub deadline: u64,
}

impl TimeWaits {
    /// A table of `capacity` entries.
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity.min(TIME_WAIT - 2);
        let free = |index: u32| Entry {
            key: FlowKey::default(),
            snd_nxt: Seq(0),
            rcv_nxt: Seq(0),
            ts_recent: 0,
            ts_offset: 0,
            has_timestamps: false,
            group: 0,
            expires: NEVER,
            prev: NONE,
            next: if index + 1 == capacity {
                NONE
            } else {
                index + 1
            },
        };
        Self {
            entries: (0..capacity).map(free).collect(),
            free: if capacity == 0 { NONE } else { 0 },
            oldest: NONE,
            newest: NONE,
            counts: [0; GROUPS],
            deadline: NEVER,
        }
    }

    /// The flow of an entry, given its value in the flow table.
    #[inline]
    pub fn key(&self, value: u32) -> &FlowKey {
        &self.entries[(value & !TIME_WAIT) as usize].key
    }

    /// What an entry expects next, given its value in the flow table.
    #[cfg(any(test, feature = "testing"))]
    pub fn rcv_nxt(&self, value: u32) -> Seq {
        self.entries[(value & !TIME_WAIT) as usize].rcv_nxt
    }

    /// Whether an entry has to give way before another is added.
    pub fn is_full(&self) -> bool {
        self.free == NONE
    }

    /// Adds what is left of a connection.
    pub fn add(&mut self, connection: &Connection, group: u8, expires: u64) -> Option<u32> {
        let entry = Entry {
            key: connection.key,
            snd_nxt: connection.snd_nxt,
            rcv_nxt: connection.rcv_nxt,
            ts_recent: connection.ts_recent,
            ts_offset: connection.ts_offset,
            has_timestamps: connection.flags.contains(Flags::TIMESTAMPS),
            group,
            expires,
            prev: NONE,
            next: NONE,
        };
        let index = self.take(entry)?;
        self.link(index, self.newest, NONE);
        Some(index)
    }

    /// Adds an entry of another table in the order of expiry; it does not expire before `behind`, if
    /// that is given.
    pub fn insert(&mut self, entry: Entry, behind: Option<u32>) -> Option<u32> {
        let index = self.take(entry)?;
        let mut prev = behind.unwrap_or(NONE);
        let mut next = match behind {
            Some(behind) => self.entries[behind as usize].next,
            None => self.oldest,
        };
        while next != NONE && self.entries[next as usize].expires <= entry.expires {
            prev = next;
            next = self.entries[next as usize].next;
        }
        self.link(index, prev, next);
        Some(index)
    }

    /// The one that expires first.
    pub fn first(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The one that expires after another one.
    pub fn next(&self, index: u32) -> Option<u32> {
        let next = self.entries[index as usize].next;
        (next != NONE).then_some(next)
    }

    /// How many entries some flow groups have.
    pub fn count(&self, groups: u128) -> u32 {
        numbers(groups)
            .map(|group| self.counts[usize::from(group)])
            .sum()
    }

    /// The flow group of an entry.
    pub fn group(&self, index: u32) -> u8 {
        self.entries[index as usize].group
    }

    /// Writes an entry into a free slot.
    fn take(&mut self, entry: Entry) -> Option<u32> {
        let index = self.free;
        let slot = self.entries.get_mut(index as usize)?;
        self.free = slot.next;
        *slot = entry;
        self.counts[usize::from(entry.group) % GROUPS] += 1;
        Some(index)
    }

    /// Links an entry between two others, or at an end.
    fn link(&mut self, index: u32, prev: u32, next: u32) {
        self.entries[index as usize].prev = prev;
        self.entries[index as usize].next = next;
        match prev {
            NONE => self.oldest = index,
            prev => self.entries[prev as usize].next = index,
        }
        match next {
            NONE => self.newest = index,
            next => self.entries[next as usize].prev = index,
        }
        self.update_deadline();
    }

    fn update_deadline(&mut self) {
        self.deadline = match self.oldest {
            NONE => NEVER,
            oldest => self.entries[oldest as usize].expires,
        };
    }

    fn unlink(&mut self, index: u32) {
        let Entry { prev, next, .. } = self.entries[index as usize];
        match prev {
            NONE => self.oldest = next,
            prev => self.entries[prev as usize].next = next,
        }
        match next {
            NONE => self.newest = prev,
            next => self.entries[next as usize].prev = prev,
        }
        self.update_deadline();
    }

    fn release(&mut self, index: u32) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        entry.next = self.free;
        self.counts[usize::from(entry.group) % GROUPS] -= 1;
        self.free = index;
    }
}

impl Engine {
    /// A segment for a flow in TIME-WAIT (RFC 9293 3.10.7.4; RFC 1337; RFC 6191).
    pub(crate) fn time_wait_segment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        value: u32,
        segment: &Segment<'_>,
    ) {
        if segment.has(control::RST) {
            // An old RST must not end TIME-WAIT early (RFC 1337).
            return;
        }
        let index = value & !TIME_WAIT;
        let entry = self.time_waits.entries[index as usize];
        if segment.has(control::SYN) && !segment.has(control::ACK) {
            let timestamps = Options::parse(segment.options).timestamps;
            let is_newer = match timestamps {
                Some((value, _)) if entry.has_timestamps => {
                    value.wrapping_sub(entry.ts_recent) as i32 > 0
                }
                _ => segment.seq.gt(entry.rcv_nxt),
            };
            if is_newer && self.is_listening(segment.key.local_port()) {
                self.counters.tcp_time_wait_recycled += 1;
                self.drop_time_wait(index);
                self.known_stranger_arrives(cx, segment, Some(entry.snd_nxt));
                return;
            }
        }
        // A bare acknowledgement needs no answer, and two sides in TIME-WAIT must not keep each
        // other busy.
        if segment.sequence_len() == 0 && segment.seq == entry.rcv_nxt {
            return;
        }
        // The peer's own FIN once more: its acknowledgement was lost (RFC 9293 3.6.1). Any other comes
        // from somebody else, who shall not make the entry live longer.
        let is_repeated = segment.seq + segment.sequence_len() == entry.rcv_nxt;
        if segment.has(control::FIN) && is_repeated {
            let entry = &mut self.time_waits.entries[index as usize];
            entry.expires = cx.now.0 + self.config.time_wait_length.0;
            self.time_waits.unlink(index);
            let newest = self.time_waits.newest;
            self.time_waits.link(index, newest, NONE);
        }
        self.acknowledge_from_time_wait(cx, &entry, segment);
    }

    fn acknowledge_from_time_wait<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        entry: &Entry,
        segment: &Segment<'_>,
    ) {
        let mut options = [0; 12];
        put32(&mut options, 0, TIMESTAMPS_PADDED);
        let clock = (cx.now.0 >> 20) as u32;
        put32(&mut options, 4, clock.wrapping_add(entry.ts_offset));
        put32(&mut options, 8, entry.ts_recent);
        let options_len = if entry.has_timestamps { 12 } else { 0 };
        let answer = Answer {
            seq: entry.snd_nxt,
            ack: entry.rcv_nxt,
            control: control::ACK,
            window: 0,
        };
        if self.challenge_limit.allows(cx.now) {
            self.answer(cx, segment, answer, &options[..options_len]);
        } else {
            self.counters.tcp_challenge_limited += 1;
        }
    }

    /// Removes the entries whose time is over.
    pub(crate) fn expire_time_waits(&mut self, now: Instant) {
        while self.time_waits.deadline <= now.0 {
            self.drop_oldest_time_wait();
        }
    }

    /// Removes the oldest entry.
    pub(crate) fn drop_oldest_time_wait(&mut self) {
        let oldest = self.time_waits.oldest;
        if oldest != NONE {
            self.drop_time_wait(oldest);
        }
    }

    /// Takes an entry out of the table.
    pub(crate) fn take_time_wait(&mut self, index: u32) -> Entry {
        let entry = self.time_waits.entries[index as usize];
        self.drop_time_wait(index);
        entry
    }

    fn drop_time_wait(&mut self, index: u32) {
        let hash = self
            .flows
            .hash(&self.time_waits.entries[index as usize].key);
        self.flows.remove(hash, index | TIME_WAIT);
        self.time_waits.release(index);
    }
}
