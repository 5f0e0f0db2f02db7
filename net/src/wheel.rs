//! A hierarchical timing wheel of 16 us ticks: four levels of 256 slots reach 19 hours ahead.
//!
//! Each timer has a number and sits in one slot's doubly linked list, so that arming and disarming
//! are a few stores whatever the number of timers. A bit per slot says where to look; bits are
//! cleared lazily, so that [`Wheel::next_deadline`] may be early but never late.
//!
//! What a request arms a timer for has mostly been settled long before it is due. So a timer may first
//! wait in a queue ([`Wheel::wait`]), where all wait for the same time and therefore stand in the order
//! in which they came: no slot has to be found for it, and none to be looked through when it leaves. Only
//! what is still to come by then needs a place in the wheel.

use alloc::vec::Vec;
use core::hint::cold_path;
use ix_hal::Instant;

/// log2 of a tick in nanoseconds: 16.384 us.
const TICK_SHIFT: u32 = 14;
const LEVELS: usize = 4;
const SLOT_BITS: u32 = 8;
const SLOTS: usize = 1 << SLOT_BITS;

/// A tick that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// How long timers wait in the queue, in nanoseconds. Longer than stock peers delay an acknowledgement
/// (40 ms), and no longer than any timeout of a single segment to such a peer (`tcp::probe`).
pub(crate) const WAIT: u64 = 50_000_000;

#[derive(Clone, Copy)]
struct Entry {
    tick: u64,
    next: u32,
    prev: u32,
}

/// The wheel: one entry per timer, then one sentinel per slot, and that of the queue.
pub(crate) struct Wheel {
    entries: Vec<Entry>,
    sentinels: u32,
    occupied: [[u64; SLOTS / 64]; LEVELS],
    /// All ticks up to this one have been dealt with.
    current: u64,
    /// Earliest tick after `current` at which a slot may have to be looked at.
    next: u64,
    /// Tick at which the queue may have to be looked at: of its first timer, or of one that was.
    queue_next: u64,
}

/// First tick at or after a point in time.
#[inline]
fn tick_at_or_after(deadline: u64) -> u64 {
    (deadline >> TICK_SHIFT) + u64::from(deadline & ((1 << TICK_SHIFT) - 1) != 0)
}

impl Wheel {
    /// A wheel for timers `0..timers`, none of them armed.
    pub fn new(timers: u32, now: Instant) -> Self {
        let unlinked = |index| Entry {
            tick: NEVER,
            next: index,
            prev: index,
        };
        let count = timers + (LEVELS * SLOTS) as u32 + 1;
        Self {
            entries: (0..count).map(unlinked).collect(),
            sentinels: timers,
            occupied: [[0; SLOTS / 64]; LEVELS],
            current: now.0 >> TICK_SHIFT,
            next: NEVER,
            queue_next: NEVER,
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.entries)
    }

    /// Arms a timer, or moves it, to a deadline in nanoseconds.
    #[inline(never)]
    pub fn arm(&mut self, timer: u32, deadline: u64) {
        self.unlink(timer);
        let tick = tick_at_or_after(deadline).max(self.current + 1);
        self.place(timer, tick);
    }

    /// Arms a timer, or moves it, to [`WAIT`] from `now`, which is never earlier than before.
    #[inline(always)]
    pub fn wait(&mut self, timer: u32, now: Instant) {
        if self.entries[timer as usize].tick != NEVER {
            cold_path();
            self.unlink(timer);
        }
        let tick = (now.0 + WAIT + (1 << TICK_SHIFT) - 1) >> TICK_SHIFT;
        self.append(timer, tick, self.entries.len() - 1);
        self.queue_next = self.queue_next.min(tick);
    }

    /// Disarms a timer, armed or not.
    pub fn disarm(&mut self, timer: u32) {
        self.unlink(timer);
    }

    /// Whether a timer goes off no later than a deadline in nanoseconds says.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_armed_by(&self, timer: u32, deadline: u64) -> bool {
        let latest = tick_at_or_after(deadline).max(self.current + 1);
        self.entries[timer as usize].tick <= latest && self.next.min(self.queue_next) <= latest
    }

    /// Whether a timer goes off at the next occasion.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_due(&self, timer: u32) -> bool {
        self.entries[timer as usize].tick <= self.current + 1
    }

    /// When [`Wheel::expired`] has to be called next.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        let next = self.next.min(self.queue_next);
        (next != NEVER).then_some(Instant(next << TICK_SHIFT))
    }

    /// Whether nothing can have expired by `now`.
    #[inline]
    pub fn is_quiet(&self, now: Instant) -> bool {
        now.0 >> TICK_SHIFT < self.next.min(self.queue_next)
    }

    /// Takes timers that have waited for long enough out of the queue, up to the first one that is not
    /// settled, and returns that.
    #[inline(always)]
    pub fn waited(&mut self, now: Instant, mut is_settled: impl FnMut(u32) -> bool) -> Option<u32> {
        let now = now.0 >> TICK_SHIFT;
        if self.queue_next > now {
            return None;
        }
        let queue = self.entries.len() - 1;
        let mut first = self.entries[queue].next;
        let mut unsettled = None;
        loop {
            let entry = &mut self.entries[first as usize];
            // The sentinel's never comes.
            self.queue_next = entry.tick;
            if entry.tick > now || unsettled.is_some() {
                entry.prev = queue as u32;
                self.entries[queue].next = first;
                return unsettled;
            }
            entry.tick = NEVER;
            if !is_settled(first) {
                cold_path();
                unsettled = Some(first);
            }
            first = entry.next;
        }
    }

    /// Takes one expired timer out of the wheel.
    pub fn expired(&mut self, now: Instant) -> Option<u32> {
        let now = now.0 >> TICK_SHIFT;
        if self.next > now {
            self.current = self.current.max(now);
            return None;
        }
        loop {
            let slot = self.current as usize & (SLOTS - 1);
            let first = self.entries[self.sentinel(0, slot)].next;
            if first < self.sentinels {
                self.unlink(first);
                // More may be left in this slot.
                self.next = self.next.min(self.current);
                return Some(first);
            }
            self.occupied[0][slot >> 6] &= !(1 << (slot & 63));
            self.next = self.find_next();
            if self.next > now {
                self.current = self.current.max(now);
                return None;
            }
            self.current = self.next;
            self.cascade();
        }
    }

    fn sentinel(&self, level: usize, slot: usize) -> usize {
        self.sentinels as usize + level * SLOTS + slot
    }

    #[inline]
    fn unlink(&mut self, timer: u32) {
        let Entry { tick, next, prev } = self.entries[timer as usize];
        if tick != NEVER {
            self.entries[prev as usize].next = next;
            self.entries[next as usize].prev = prev;
            self.entries[timer as usize].tick = NEVER;
        }
    }

    /// Links a timer that nothing is linked to into the slot of a tick that is not before `current`.
    #[inline(always)]
    fn place(&mut self, timer: u32, tick: u64) {
        const REACH: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - (1 << (SLOT_BITS * 3));
        let ahead = (tick - self.current).min(REACH);
        // The level is in which byte the topmost bit is.
        let shift = (ahead as u32 | 1).ilog2() & !(SLOT_BITS - 1);
        let level = shift / SLOT_BITS;
        let slots_ahead = (self.current + ahead) >> shift;
        let first_tick = slots_ahead << shift;
        let slot = slots_ahead as usize & (SLOTS - 1);
        let sentinel = self.sentinel(level as usize, slot);
        self.append(timer, tick, sentinel);
        self.occupied[level as usize & (LEVELS - 1)][slot >> 6] |= 1 << (slot & 63);
        self.next = self.next.min(first_tick);
    }

    /// Links a timer that nothing is linked to at the end of the list of a sentinel.
    #[inline(always)]
    fn append(&mut self, timer: u32, tick: u64, sentinel: usize) {
        let prev = core::mem::replace(&mut self.entries[sentinel].prev, timer);
        self.entries[timer as usize] = Entry {
            tick,
            next: sentinel as u32,
            prev,
        };
        self.entries[prev as usize].next = timer;
    }

    /// Moves the timers of the slots that begin at `current` to lower levels.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let shift = SLOT_BITS * level as u32;
            if self.current & ((1 << shift) - 1) != 0 {
                continue;
            }
            let slot = (self.current >> shift) as usize & (SLOTS - 1);
            self.occupied[level][slot >> 6] &= !(1 << (slot & 63));
            let sentinel = self.sentinel(level, slot);
            // A timer beyond the wheel's reach comes back to the slot it was in: stop at the end
            // of the list as it was.
            let last = self.entries[sentinel].prev;
            let mut timer = self.entries[sentinel].next;
            while timer < self.sentinels {
                let Entry { tick, next, .. } = self.entries[timer as usize];
                self.unlink(timer);
                self.place(timer, tick.max(self.current));
                if timer == last {
                    break;
                }
                timer = next;
            }
        }
    }

    /// The earliest first tick of an occupied slot after `current`.
    fn find_next(&self) -> u64 {
        let mut earliest = NEVER;
        for (level, words) in self.occupied.iter().enumerate() {
            let shift = SLOT_BITS * level as u32;
            let position = self.current >> shift;
            if let Some(distance) = distance_to_next(words, position as usize & (SLOTS - 1)) {
                earliest = earliest.min((position + distance) << shift);
            }
        }
        earliest
    }
}

/// Distance, 1 to 256, from slot `from` to the next one whose bit is set.
fn distance_to_next(words: &[u64; SLOTS / 64], from: usize) -> Option<u64> {
    let start = (from + 1) & (SLOTS - 1);
    let above = words[start >> 6] >> (start & 63);
    if above != 0 {
        return Some(u64::from(above.trailing_zeros()) + 1);
    }
    for step in 1..=words.len() {
        let word = words[((start >> 6) + step) % words.len()];
        if word != 0 {
            let skipped = 64 - (start & 63) + (step - 1) * 64;
            return Some((skipped as u64 + u64::from(word.trailing_zeros())) + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const TICK: u64 = 1 << TICK_SHIFT;

    fn drain(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut expired = Vec::new();
        let now = Instant(now);
        // Even ones are settled.
        loop {
            let mut settled = Vec::new();
            let unsettled = wheel.waited(now, |timer| {
                let is_settled = timer % 2 == 0;
                settled.extend(is_settled.then_some(timer));
                is_settled
            });
            expired.extend(settled.into_iter().chain(unsettled));
            if unsettled.is_none() {
                break;
            }
        }
        expired.extend(core::iter::from_fn(|| wheel.expired(now)));
        expired
    }

    #[test]
    fn timers_expire_in_their_tick_and_not_before() {
        let mut wheel = Wheel::new(4, Instant(0));
        wheel.arm(0, 10 * TICK);
        wheel.arm(1, 300 * TICK);
        wheel.arm(2, 70_000 * TICK);
        wheel.arm(3, 20_000_000 * TICK);
        for (timer, tick) in [(0, 10), (1, 300), (2, 70_000), (3, 20_000_000)] {
            assert_eq!(drain(&mut wheel, tick * TICK - 1), []);
            assert_eq!(drain(&mut wheel, tick * TICK), [timer]);
        }
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn disarmed_and_moved_timers_do_not_expire_at_the_old_time() {
        let mut wheel = Wheel::new(2, Instant(0));
        wheel.arm(0, 10 * TICK);
        wheel.arm(1, 10 * TICK);
        wheel.disarm(0);
        wheel.arm(1, 20 * TICK);
        assert_eq!(drain(&mut wheel, 19 * TICK), []);
        assert_eq!(drain(&mut wheel, 20 * TICK), [1]);
    }

    #[test]
    fn deadline_in_the_past_expires_at_the_next_tick() {
        let mut wheel = Wheel::new(1, Instant(1000 * TICK));
        wheel.arm(0, 3);
        assert_eq!(drain(&mut wheel, 1001 * TICK), [0]);
    }

    #[test]
    fn timer_beyond_the_reach_still_expires() {
        let mut wheel = Wheel::new(1, Instant(0));
        let tick = 3 << 32;
        wheel.arm(0, tick * TICK);
        assert_eq!(drain(&mut wheel, (tick - 1) * TICK), []);
        assert_eq!(drain(&mut wheel, tick * TICK), [0]);
    }

    #[test]
    fn waiting_timers_expire_in_the_order_in_which_they_came() {
        let mut wheel = Wheel::new(5, Instant(0));
        for (timer, tick) in [(3, 0), (1, 5), (4, 5), (0, 7), (2, 9)] {
            wheel.wait(timer, Instant(tick * TICK));
        }
        // One leaves, one has to be up earlier, and one waits anew.
        wheel.disarm(3);
        wheel.arm(4, 20 * TICK);
        wheel.wait(1, Instant(10 * TICK));
        let due = |tick: u64| tick_at_or_after(tick * TICK + WAIT) * TICK;
        assert!(wheel.next_deadline().unwrap().0 <= 20 * TICK);
        assert_eq!(drain(&mut wheel, 20 * TICK), [4]);
        assert_eq!(drain(&mut wheel, due(7) - 1), []);
        assert_eq!(wheel.next_deadline(), Some(Instant(due(7))));
        assert_eq!(drain(&mut wheel, due(9)), [0, 2]);
        assert_eq!(drain(&mut wheel, due(10)), [1]);
        assert_eq!(wheel.next_deadline(), None);
    }

    /// Random arms, waits, moves and clock steps against a plain list.
    #[test]
    fn wheel_agrees_with_a_list_of_deadlines() {
        let mut wheel = Wheel::new(64, Instant(0));
        let mut deadlines: Vec<Option<u64>> = vec![None; 64];
        let mut now = 0;
        let mut state = 3u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 30
        };
        for _ in 0..40_000 {
            let timer = (random() % 64) as u32;
            match random() % 5 {
                0 => {
                    wheel.disarm(timer);
                    deadlines[timer as usize] = None;
                }
                1 => {
                    let deadline = now + random() % (TICK << (random() % 24));
                    wheel.arm(timer, deadline);
                    deadlines[timer as usize] = Some(deadline);
                }
                2 => {
                    wheel.wait(timer, Instant(now));
                    deadlines[timer as usize] = Some(now + WAIT);
                }
                _ => now += random() % (TICK << (random() % 20)),
            }
            let earliest = deadlines.iter().flatten().min();
            if let Some(earliest) = earliest {
                let told = wheel.next_deadline().expect("a timer is armed").0;
                assert!(told <= tick_at_or_after(*earliest).max(wheel.current + 1) << TICK_SHIFT);
            }
            for timer in drain(&mut wheel, now) {
                let deadline = deadlines[timer as usize].take().expect("armed");
                assert!(deadline <= now, "early");
            }
            for deadline in deadlines.iter().flatten() {
                // One tick of rounding, one for deadlines in the past.
                assert!(*deadline + 2 * TICK > now, "late");
            }
        }
    }
}
