//! A wire that loses, reorders, duplicates, damages, delays and throttles frames, the same way for the
//! same seed, from the start or as told while it runs.

mod lane;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::{Claim, Direction, Dropped, MAX_FRAME_BYTES, Wire, WireError};
use lane::{Dice, Lane};

/// Longest delay and jitter.
const DELAY_MAX_US: u64 = 10_000_000;
/// Dropped frames that are kept for whoever watches; it looks after each frame.
const KEPT_DROPS: usize = 64;

/// Which frames an [`Impairment`] meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Affected {
    /// All.
    #[default]
    Both,
    /// Those that the device is to receive.
    In,
    /// Those that the device has sent.
    Out,
}

/// How bad a wire is; each probability is between 0 and 1 and applies to each frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Impairment {
    /// Which frames.
    pub direction: Affected,
    /// Probability that a frame is lost.
    pub loss: f64,
    /// Probability that a burst of losses begins with a frame (Gilbert and Elliott's model).
    pub burst_enter: f64,
    /// Probability that it ends with a frame.
    pub burst_leave: f64,
    /// Probability that a frame within a burst is lost.
    pub burst_loss: f64,
    /// Probability that a frame is held back until the next one has passed.
    pub reorder: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Probability that a bit of a frame is wrong.
    pub corrupt: f64,
    /// How long a frame takes, in microseconds.
    pub delay_us: u64,
    /// How much longer it takes at most, in microseconds. Frames keep their order.
    pub jitter_us: u64,
    /// Megabits a second, with what a frame has around it on a wire; 0: no bound.
    pub rate_mbit: f64,
    /// Seed of the dice.
    pub seed: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            direction: Affected::Both,
            loss: 0.0,
            burst_enter: 0.0,
            burst_leave: 0.0,
            burst_loss: 1.0,
            reorder: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            delay_us: 0,
            jitter_us: 0,
            rate_mbit: 0.0,
            seed: 1,
        }
    }
}

impl Impairment {
    /// Whether frames pass unharmed and at once.
    pub fn is_none(&self) -> bool {
        let harm = [
            self.loss,
            self.burst_enter,
            self.reorder,
            self.duplicate,
            self.corrupt,
            self.rate_mbit,
        ];
        harm.iter().all(|it| *it <= 0.0) && self.delay_us == 0 && self.jitter_us == 0
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), String> {
        for (name, probability) in [
            ("loss", self.loss),
            ("burst_enter", self.burst_enter),
            ("burst_leave", self.burst_leave),
            ("burst_loss", self.burst_loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!(
                    "{name} is {probability}: use a probability from 0 to 1"
                ));
            }
        }
        if self.burst_enter > 0.0 && self.burst_leave <= 0.0 {
            return Err("a burst would never end: set burst_leave, too".to_owned());
        }
        if self.delay_us.max(self.jitter_us) > DELAY_MAX_US {
            return Err(format!(
                "a delay of more than {DELAY_MAX_US} us: use a shorter one"
            ));
        }
        if !(self.rate_mbit >= 0.0 && self.rate_mbit.is_finite()) {
            return Err(format!(
                "rate_mbit is {}: use 0 for no bound",
                self.rate_mbit
            ));
        }
        Ok(())
    }
}

/// What an impaired wire did, in both directions, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Frames that it looked at.
    pub frames: u64,
    /// Frames lost for themselves.
    pub lost: u64,
    /// Frames lost in bursts.
    pub lost_in_bursts: u64,
    /// Frames held back.
    pub reordered: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Frames with a wrong bit.
    pub corrupted: u64,
    /// Frames dropped since too many were under way.
    pub overflowed: u64,
}

/// The answer to a request: what the wire does, and has done.
#[derive(Serialize)]
struct State {
    impairment: Impairment,
    counts: Counts,
}

/// A wire with an [`Impairment`].
#[derive(Debug)]
pub struct Impaired<W> {
    inner: W,
    impairment: Impairment,
    dice: Dice,
    outgoing: Lane,
    incoming: Lane,
    counts: Counts,
    scratch: Vec<u8>,
    is_watched: bool,
    dropped: Vec<Dropped>,
    now_ns: u64,
}

impl<W: Wire> Impaired<W> {
    /// Impairs `inner`.
    pub fn new(inner: W, impairment: Impairment) -> Self {
        Self {
            inner,
            impairment,
            dice: Dice::new(impairment.seed),
            outgoing: Lane::default(),
            incoming: Lane::default(),
            counts: Counts::default(),
            scratch: Vec::new(),
            is_watched: false,
            dropped: Vec::new(),
            now_ns: 0,
        }
    }

    /// From now on; the dice begin anew.
    pub fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
        self.dice = Dice::new(impairment.seed);
    }

    /// What it did so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether frames go straight through. Not while earlier ones are under way.
    fn is_straight(&self, direction: Direction) -> bool {
        let (lane, other) = match direction {
            Direction::Outbound => (&self.outgoing, Affected::In),
            Direction::Inbound => (&self.incoming, Affected::Out),
        };
        lane.is_empty() && (self.impairment.is_none() || self.impairment.direction == other)
    }

    fn pass(&mut self, direction: Direction, frame: &[u8]) {
        self.counts.frames += 1;
        let lane = match direction {
            Direction::Outbound => &mut self.outgoing,
            Direction::Inbound => &mut self.incoming,
        };
        let (how, dice) = (&self.impairment, &mut self.dice);
        let dropped = lane.pass(frame, how, dice, &mut self.counts, self.now_ns);
        if let Some(reason) = dropped
            && self.is_watched
            && self.dropped.len() < KEPT_DROPS
        {
            self.dropped.push(Dropped {
                direction,
                reason,
                frame: frame.to_vec(),
            });
        }
    }

    fn send_arrived(&mut self) -> Result<(), WireError> {
        let mut result = Ok(());
        while let Some(frame) = self.outgoing.arrived(self.now_ns) {
            result = result.and(self.inner.send(&frame));
        }
        result
    }

    fn answer(&mut self, change: &str) -> Result<String, String> {
        if !change.is_empty() {
            let impairment: Impairment =
                serde_json::from_str(change).map_err(|error| error.to_string())?;
            impairment.check()?;
            log::info!("the wire is changed: {change}");
            self.set(impairment);
        }
        let state = State {
            impairment: self.impairment,
            counts: self.counts,
        };
        serde_json::to_string(&state).map_err(|error| error.to_string())
    }
}

impl<W: Wire> Wire for Impaired<W> {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        if self.is_straight(Direction::Outbound) {
            return self.inner.send(frame);
        }
        self.pass(Direction::Outbound, frame);
        self.send_arrived()
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        if self.is_straight(Direction::Inbound) {
            return self.inner.receive(frame);
        }
        loop {
            if let Some(arrived) = self.incoming.arrived(self.now_ns) {
                if let Some(room) = frame.get_mut(..arrived.len()) {
                    room.copy_from_slice(&arrived);
                    return Ok(Some(arrived.len()));
                }
                continue;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.resize(MAX_FRAME_BYTES, 0);
            let received = self.inner.receive(&mut scratch);
            if let Ok(Some(length)) = received {
                self.pass(Direction::Inbound, &scratch[..length]);
            }
            self.scratch = scratch;
            if received?.is_none() {
                return Ok(None);
            }
        }
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.inner.advance(now_ns);
        for lane in [&mut self.outgoing, &mut self.incoming] {
            let (how, dice) = (&self.impairment, &mut self.dice);
            lane.release_held(how, dice, &mut self.counts, now_ns);
        }
        if let Err(error) = self.send_arrived() {
            log::debug!("a delayed frame was lost: {error}");
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let lanes = [&self.outgoing, &self.incoming];
        let next = lanes.into_iter().filter_map(Lane::deadline_ns);
        next.chain(self.inner.deadline_ns()).min()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn claim(&mut self, claim: Claim) -> bool {
        self.inner.claim(claim)
    }

    fn request(&mut self, what: &str, argument: &str) -> Option<Result<String, String>> {
        match what {
            "impair" => Some(self.answer(argument)),
            _ => self.inner.request(what, argument),
        }
    }

    fn watch(&mut self, watched: bool) {
        self.is_watched = watched;
        self.inner.watch(watched);
    }

    fn next_dropped(&mut self) -> Option<Dropped> {
        self.dropped.pop().or_else(|| self.inner.next_dropped())
    }
}
