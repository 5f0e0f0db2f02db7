//! A wire that loses, reorders, duplicates, damages, delays and throttles frames, the same way for the
//! same seed, from the start or as told while it runs.

mod lane;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;

use ix_impairment::{Affected, Impairment, WireCounts, WireState};

use super::{Claim, Direction, Dropped, MAX_FRAME_BYTES, Wire, WireError};
use lane::{Dice, Lane};

/// Dropped frames that are kept for whoever watches; it looks after each frame.
const KEPT_DROPS: usize = 64;

/// A wire with an [`Impairment`].
#[derive(Debug)]
pub struct Impaired<W> {
    inner: W,
    impairment: Impairment,
    dice: Dice,
    outgoing: Lane,
    incoming: Lane,
    counts: WireCounts,
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
            counts: WireCounts::default(),
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
    pub fn counts(&self) -> &WireCounts {
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
        let state = WireState {
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
