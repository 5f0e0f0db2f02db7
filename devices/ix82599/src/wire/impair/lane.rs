//! One direction of an impaired wire: what becomes of a frame, and when it arrives.

use std::collections::VecDeque;

use ix_impairment::{Impairment, WireCounts};

/// How long a reordered frame waits for another to overtake it before it goes on alone.
pub(super) const HOLD_NS: u64 = 1_000_000;
/// Frames under way; more are dropped, as by a full switch port.
pub(super) const QUEUE_FRAMES: usize = 1024;
/// Bytes that a frame takes on the wire beside its own: preamble, FCS and gap.
const WIRE_OVERHEAD: usize = 8 + 4 + 12;

/// The dice, which fall the same way for the same seed.
#[derive(Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// True with probability `probability`.
    fn roll(&mut self, probability: f64) -> bool {
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// 0 to `below` - 1, nearly evenly.
    fn number(&mut self, below: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(below)) >> 64) as u64
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One direction: the frame held back, and those under way, in the order in which they arrive.
#[derive(Debug, Default)]
pub(super) struct Lane {
    held: Option<(u64, Vec<u8>)>,
    under_way: VecDeque<(u64, Vec<u8>)>,
    /// Bursts: whether most frames are lost now.
    is_bad: bool,
    /// When the last frame has left, at the wire's rate.
    free_at_ns: u64,
}

impl Lane {
    /// Whether nothing is held back or under way.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none() && self.under_way.is_empty()
    }

    /// Rolls the dice for a frame. Says why, if it will never arrive.
    pub(super) fn pass(
        &mut self,
        frame: &[u8],
        how: &Impairment,
        dice: &mut Dice,
        counts: &mut WireCounts,
        now_ns: u64,
    ) -> Option<&'static str> {
        let in_burst = self.burst(how, dice);
        let loss = if in_burst { how.burst_loss } else { how.loss };
        let (lost, late, twice) = (
            dice.roll(loss),
            dice.roll(how.reorder),
            dice.roll(how.duplicate),
        );
        if lost && in_burst {
            counts.lost_in_bursts += 1;
            return Some("lost by the impaired wire, in a burst");
        }
        if lost {
            counts.lost += 1;
            return Some("lost by the impaired wire");
        }
        let mut frame = frame.to_vec();
        if how.corrupt > 0.0 && dice.roll(how.corrupt) && !frame.is_empty() {
            let bit = dice.number(8 * frame.len() as u64);
            frame[(bit / 8) as usize] ^= 1 << (bit % 8);
            counts.corrupted += 1;
        }
        if late && self.held.is_none() {
            counts.reordered += 1;
            self.held = Some((now_ns.saturating_add(HOLD_NS), frame));
            return None;
        }
        if twice {
            counts.duplicated += 1;
            self.depart(frame.clone(), how, dice, counts, now_ns);
        }
        let dropped = self.depart(frame, how, dice, counts, now_ns);
        if let Some((_, frame)) = self.held.take() {
            self.depart(frame, how, dice, counts, now_ns);
        }
        dropped
    }

    /// Gilbert and Elliott's model: a wire that is good or bad, and changes with each frame.
    fn burst(&mut self, how: &Impairment, dice: &mut Dice) -> bool {
        if how.burst_enter <= 0.0 {
            self.is_bad = false;
        } else if self.is_bad {
            self.is_bad = !dice.roll(how.burst_leave);
        } else {
            self.is_bad = dice.roll(how.burst_enter);
        }
        self.is_bad
    }

    /// Puts a frame on its way. It arrives after what takes the wire before it, and never before
    /// a frame that departed earlier.
    fn depart(
        &mut self,
        frame: Vec<u8>,
        how: &Impairment,
        dice: &mut Dice,
        counts: &mut WireCounts,
        now_ns: u64,
    ) -> Option<&'static str> {
        if self.under_way.len() >= QUEUE_FRAMES {
            counts.overflowed += 1;
            return Some("dropped by the impaired wire, whose queue is full");
        }
        let mut due_ns = now_ns;
        if how.rate_mbit > 0.0 {
            let bits = 8 * (frame.len() + WIRE_OVERHEAD);
            let taken_ns = bits as f64 * 1000.0 / how.rate_mbit;
            self.free_at_ns = self.free_at_ns.max(now_ns) + taken_ns as u64;
            due_ns = self.free_at_ns;
        }
        due_ns = due_ns.saturating_add(1000 * how.delay_us);
        if how.jitter_us > 0 {
            due_ns = due_ns.saturating_add(dice.number(1000 * how.jitter_us));
        }
        let last_ns = self.under_way.back().map_or(0, |(due_ns, _)| *due_ns);
        self.under_way.push_back((due_ns.max(last_ns), frame));
        None
    }

    /// Lets a frame that waited too long to be overtaken go on.
    pub(super) fn release_held(
        &mut self,
        how: &Impairment,
        dice: &mut Dice,
        counts: &mut WireCounts,
        now_ns: u64,
    ) {
        if let Some((_, frame)) = self.held.take_if(|(until, _)| *until <= now_ns) {
            self.depart(frame, how, dice, counts, now_ns);
        }
    }

    /// The next frame that has arrived by now.
    pub(super) fn arrived(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        let is_due = (self.under_way.front()).is_some_and(|(due_ns, _)| *due_ns <= now_ns);
        if is_due {
            self.under_way.pop_front().map(|(_, frame)| frame)
        } else {
            None
        }
    }

    /// When something happens next.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        let held = self.held.as_ref().map(|(until, _)| *until);
        let arrives = self.under_way.front().map(|(due_ns, _)| *due_ns);
        held.into_iter().chain(arrives).min()
    }
}
