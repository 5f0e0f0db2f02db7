//! An application that does not return from user mode in time.
//!
//! Cycles alternate with rounds of the application, so that one which computes for long would leave
//! the network without an answer. A timer interrupts it: [`Patience`] tells from its ticks when the
//! application has been away for too long, and from then on each tick runs
//! [`ElasticThread::attend`], which is cycles without calls: frames are taken in, acknowledged,
//! answered, timers run. The events of it wait behind those that the application is busy with, and
//! [`ElasticThread::end_absence`] brings them to the front for its next round. While there is no room
//! for more of them the NIC's ring keeps what arrives.
//!
//! Commands of the control plane and flow groups that move wait for the application: both need to
//! know what it has seen.

use ix_hal::{Duration, Instant, MbufMemory, Nic};
use ix_net::Events;

use crate::ElasticThread;

/// Ticks within the limit. A processor that its host takes away for a while makes for a single late
/// tick, so that with several of them the application has really had most of the time.
const TICKS: u32 = 4;
/// Time between two ticks once the application has been away for too long, at most.
const ATTEND_PERIOD: Duration = Duration::from_millis(1);

/// Tells from ticks of a timer whether the application has been in user mode for too long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    limit: Duration,
    /// The round that the last tick hit.
    round: u64,
    /// Ticks that have hit it after the first one.
    ticks: u32,
}

impl Patience {
    /// For an application that may stay in user mode for so long.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            round: u64::MAX,
            ticks: 0,
        }
    }

    /// Takes note of a tick in user mode, in round number `round`. Says whether the application has
    /// used up its time just now.
    pub fn tick(&mut self, round: u64) -> bool {
        if round != self.round {
            self.round = round;
            self.ticks = 0;
            return false;
        }
        self.ticks = self.ticks.saturating_add(1);
        self.ticks == TICKS
    }

    /// Time until the next tick.
    pub fn period(&self) -> Duration {
        let part = Duration(self.limit.0 / u64::from(TICKS));
        match self.ticks {
            ..TICKS => part,
            _ => part.min(ATTEND_PERIOD),
        }
    }

    /// The limit.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    /// From now on the application counts as absent, until [`ElasticThread::end_absence`].
    pub fn begin_absence(&mut self) {
        self.counters.overstays += 1;
        self.is_absent = true;
        self.events.append();
    }

    /// Two cycles for the network alone, while the application is absent: what the frames of the first
    /// one call for leaves with the second. The application may be about to make calls, which are
    /// hidden meanwhile, since there is no room for what they may cause; and its time stands still.
    #[cold]
    pub fn attend(&mut self, now: Instant) {
        self.counters.attended += 1;
        self.counters.attended_without_room += u64::from(self.has_no_room());
        let (calls, its_now) = (self.area.take_call_count(), self.area.now());
        for _ in 0..2 {
            self.cycle(now);
        }
        self.area.set_now(its_now);
        self.area.set_call_count(calls);
    }

    /// The application has ended its round after all. Its calls are executed in the next cycle, and it
    /// gets the events that have waited.
    pub fn end_absence(&mut self) {
        self.is_absent = false;
        self.events.carry();
    }

    fn has_no_room(&self) -> bool {
        self.events.room() < crate::cycle::EVENTS_PER_FRAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_over_its_limit_after_as_many_ticks_as_fit_in() {
        let mut patience = Patience::new(Duration::from_millis(10));
        assert!(!patience.tick(7));
        for _ in 1..TICKS {
            assert_eq!(patience.period(), Duration::from_micros(2_500));
            assert!(!patience.tick(7));
        }
        assert!(patience.tick(7));
        for _ in 0..3 {
            assert_eq!(patience.period(), Duration::from_millis(1));
            assert!(!patience.tick(7));
        }
        assert!(!patience.tick(8));
        assert_eq!(patience.period(), Duration::from_micros(2_500));
    }

    #[test]
    fn rounds_that_end_in_time_never_add_up() {
        let mut patience = Patience::new(Duration::from_millis(1));
        for tick in 0..1_000 {
            assert!(!patience.tick(tick / u64::from(TICKS)));
        }
    }
}
