//! TIME-WAIT: a table of its own with compact entries, so that closed connections cost little and
//! their number has its own bound. All entries live equally long, so that a list in order of entry
//! is in order of expiry. Each flow group has one, which is all that has to be looked at when it moves.

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

/// Entries expire up to this much late, in nanoseconds: where there are many lists, their first ones are not
/// looked at more often.
const TOGETHER: u64 = 1_000_000;

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

/// The entries of a flow group, in order of expiry.
#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
}

/// The table.
pub(crate) struct TimeWaits {
    entries: Vec<Entry>,
    free: u32,
    lists: [List; GROUPS],
    /// The groups that have any, a bit each.
    listed: u128,
    /// When to look for entries that expire: no later than the first one does, but for [`TOGETHER`].
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
            lists: [List {
                oldest: NONE,
                newest: NONE,
            }; GROUPS],
            listed: 0,
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
        self.insert(Entry {
            key: connection.key,
            snd_nxt: connection.snd_nxt,
            rcv_nxt: connection.rcv_nxt,
            ts_recent: connection.ts_recent,
            ts_offset: connection.ts_offset,
            has_timestamps: connection.flags.contains(Flags::TIMESTAMPS),
            group: group & (GROUPS - 1) as u8,
            expires,
            prev: NONE,
            next: NONE,
        })
    }

    /// Adds an entry, of this table or another one.
    pub fn insert(&mut self, entry: Entry) -> Option<u32> {
        let index = self.free;
        let slot = self.entries.get_mut(index as usize)?;
        self.free = slot.next;
        *slot = entry;
        self.link(index);
        Some(index)
    }

    /// The entry of a flow group that expires first.
    pub fn first(&self, group: u8) -> Option<u32> {
        let List { oldest, .. } = self.lists[usize::from(group)];
        (oldest != NONE).then_some(oldest)
    }

    /// How many entries are in lists, and how many in none.
    #[cfg(any(test, feature = "testing"))]
    pub fn counts(&self) -> [usize; 2] {
        let count = |first: u32| {
            let entry = |index: &u32| self.entries.get(*index as usize);
            let next = |index: &u32| entry(index).map(|entry| entry.next);
            core::iter::successors(Some(first), next).count() - 1
        };
        let lists = self.lists.iter().map(|list| count(list.oldest));
        [lists.sum(), count(self.free)]
    }

    /// The one that expires first of all.
    fn oldest(&self) -> Option<u32> {
        let firsts = numbers(self.listed).filter_map(|group| self.first(group));
        firsts.min_by_key(|index| self.entries[*index as usize].expires)
    }

    /// Links an entry into the list of its group, nearly always at the end: what came from elsewhere may
    /// expire before what was added here meanwhile.
    fn link(&mut self, index: u32) {
        let Entry { group, expires, .. } = self.entries[index as usize];
        let list = &mut self.lists[usize::from(group)];
        let (mut prev, mut next) = (list.newest, NONE);
        while prev != NONE && self.entries[prev as usize].expires > expires {
            next = prev;
            prev = self.entries[prev as usize].prev;
        }
        match prev {
            NONE => list.oldest = index,
            prev => self.entries[prev as usize].next = index,
        }
        match next {
            NONE => list.newest = index,
            next => self.entries[next as usize].prev = index,
        }
        let entry = &mut self.entries[index as usize];
        entry.prev = prev;
        entry.next = next;
        self.listed |= 1 << group;
        self.deadline = self.deadline.min(expires);
    }

    fn unlink(&mut self, index: u32) {
        let Entry {
            prev, next, group, ..
        } = self.entries[index as usize];
        let list = &mut self.lists[usize::from(group)];
        match prev {
            NONE => list.oldest = next,
            prev => self.entries[prev as usize].next = next,
        }
        match next {
            NONE => list.newest = prev,
            next => self.entries[next as usize].prev = prev,
        }
        if list.oldest == NONE {
            self.listed &= !(1 << group);
        }
    }

    fn release(&mut self, index: u32) {
        self.unlink(index);
        self.entries[index as usize].next = self.free;
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
            self.time_waits.unlink(index);
            let entry = &mut self.time_waits.entries[index as usize];
            entry.expires = cx.now.0 + self.config.time_wait_length.0;
            self.time_waits.link(index);
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
        let mut earliest = NEVER;
        for group in numbers(self.time_waits.listed) {
            while let Some(first) = self.time_waits.first(group) {
                let expires = self.time_waits.entries[first as usize].expires;
                if expires > now.0 {
                    earliest = earliest.min(expires.max(now.0 + TOGETHER));
                    break;
                }
                self.drop_time_wait(first);
            }
        }
        self.time_waits.deadline = earliest;
    }

    /// Removes the oldest entry.
    pub(crate) fn drop_oldest_time_wait(&mut self) {
        if let Some(oldest) = self.time_waits.oldest() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::IpAddress;
    use crate::flow::OWN_IPV4;

    fn entry(group: u8, expires: u64) -> Entry {
        Entry {
            key: FlowKey::new(IpAddress::from_ipv4(1), 1, OWN_IPV4, 2),
            snd_nxt: Seq(0),
            rcv_nxt: Seq(0),
            ts_recent: 0,
            ts_offset: 0,
            has_timestamps: false,
            group,
            expires,
            prev: NONE,
            next: NONE,
        }
    }

    /// Takes out what one group has, in order.
    fn drain(table: &mut TimeWaits, group: u8) -> Vec<u64> {
        core::iter::from_fn(|| {
            let first = table.first(group)?;
            table.release(first);
            Some(table.entries[first as usize].expires)
        })
        .collect()
    }

    #[test]
    fn each_group_is_in_order_of_expiry_whatever_came_first() {
        let mut table = TimeWaits::new(8);
        let all = [
            (3, 50),
            (3, 70),
            (127, 10),
            (3, 60),
            (3, 40),
            (0, 45),
            (3, 65),
        ];
        let indexes = all.map(|(group, expires)| table.insert(entry(group, expires)).unwrap());
        assert_eq!((table.counts(), table.deadline), ([7, 1], 10));
        assert_eq!(table.oldest(), Some(indexes[2]));
        table.release(indexes[6]);
        table.release(indexes[2]);
        assert_eq!(table.oldest(), Some(indexes[4]));
        assert_eq!(drain(&mut table, 3), [40, 50, 60, 70]);
        assert_eq!(table.oldest(), Some(indexes[5]));
        assert_eq!(drain(&mut table, 0), [45]);
        assert_eq!((table.oldest(), table.counts()), (None, [0, 8]));
    }

    #[test]
    fn full_table_takes_nothing() {
        let mut table = TimeWaits::new(1);
        assert!(table.insert(entry(0, 1)).is_some() && table.is_full());
        assert_eq!(table.insert(entry(0, 2)), None);
        assert_eq!((table.deadline, table.counts()), (1, [1, 0]));
    }
}
