//! How long the loop looks for the next event before it sleeps ([`Patience`]).
//!
//! To wake a sleeper takes tens of microseconds on a virtual host, of whoever wakes it and of the event. A guest
//! that answers a small request sends three or four messages, each shortly after the one before, so that most of
//! the device's share of the round trip was waking up. Where the last event came soon, the loop therefore looks
//! for the next one before it sleeps, as KVM's `halt_poll_ns` does for a processor that halts.
//!
//! Looking must not take the processor from anybody. After each look it is given away; that it comes back late
//! says that somebody else had work for it, and the loop sleeps, to be woken where there is room. Somebody who
//! keeps it for long computes, and will again: for a while the loop then always sleeps at once.

use std::time::{Duration, Instant};

use rustix::io::Errno;

/// A processor that comes back later than this was needed by somebody, as by the guest that is to answer.
const NEEDED_NS: u64 = 50_000;
/// One that comes back later than this was needed by somebody who computes: a scheduler's turns are longer.
const BUSY_NS: u64 = 1_000_000;
/// How long the loop then does without looking; twice as long each time that it happens again soon.
const SHORTEST_REST_NS: u64 = 10_000_000;
const LONGEST_REST_NS: u64 = 1_000_000_000;
/// Soon: within so many times the last rest.
const SOON: u64 = 8;

/// The processor that the loop runs on.
pub trait Processor {
    /// The time, from an arbitrary start.
    fn now_ns(&self) -> u64;

    /// Lets others run that are ready to.
    fn give_way(&self);
}

/// That of the calling thread.
#[derive(Debug)]
pub struct HostProcessor {
    start: Instant,
}

impl HostProcessor {
    /// Time begins now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for HostProcessor {
    fn default() -> Self {
        Self::new()
    }
}

impl Processor for HostProcessor {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn give_way(&self) {
        std::thread::yield_now();
    }
}

/// Decides whether to look or to sleep, by what came of it before.
#[derive(Debug)]
pub struct Patience {
    window_ns: u64,
    /// The last event came within the window.
    is_expecting: bool,
    rest_ns: u64,
    rests_until_ns: u64,
}

impl Patience {
    /// Looks for at most `window` at a time; with zero, never.
    pub fn new(window: Duration) -> Self {
        Self {
            window_ns: u64::try_from(window.as_nanos()).unwrap_or(u64::MAX),
            is_expecting: false,
            rest_ns: 0,
            rests_until_ns: 0,
        }
    }

    /// Waits until there are events, at most for `timeout_ns` (`None`: without end). `poll` asks for them,
    /// waiting as long as it is told, and says whether there were any.
    ///
    /// # Errors
    /// Those of `poll`.
    pub fn wait(
        &mut self,
        processor: &impl Processor,
        timeout_ns: Option<u64>,
        mut poll: impl FnMut(Option<u64>) -> Result<bool, Errno>,
    ) -> Result<(), Errno> {
        if timeout_ns == Some(0) {
            return poll(Some(0)).map(drop);
        }
        let start_ns = processor.now_ns();
        let mut now_ns = start_ns;
        let window_ns = timeout_ns.unwrap_or(u64::MAX).min(self.window_ns);
        while self.may_look(now_ns) && now_ns - start_ns < window_ns {
            if poll(Some(0))? {
                return Ok(());
            }
            let looked_ns = processor.now_ns();
            processor.give_way();
            now_ns = processor.now_ns();
            let away_ns = now_ns - looked_ns;
            if away_ns > BUSY_NS {
                self.rest(now_ns);
            }
            if away_ns > NEEDED_NS {
                break;
            }
        }
        let left_ns = timeout_ns.map(|timeout| timeout.saturating_sub(now_ns - start_ns));
        poll(left_ns)?;
        self.is_expecting = processor.now_ns() - start_ns < self.window_ns;
        Ok(())
    }

    fn may_look(&self, now_ns: u64) -> bool {
        self.is_expecting && now_ns >= self.rests_until_ns
    }

    fn rest(&mut self, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(self.rests_until_ns);
        self.rest_ns = if since_ns < self.rest_ns.saturating_mul(SOON) {
            (2 * self.rest_ns).min(LONGEST_REST_NS)
        } else {
            SHORTEST_REST_NS
        };
        self.rests_until_ns = now_ns + self.rest_ns;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const WINDOW_NS: u64 = 200_000;
    const LOOK_NS: u64 = 1_000;

    /// A processor on which a look takes a microsecond, and giving way what the test says.
    struct Scripted {
        now_ns: Cell<u64>,
        give_way_ns: Cell<u64>,
        looks: Cell<u32>,
    }

    impl Processor for Scripted {
        fn now_ns(&self) -> u64 {
            self.now_ns.get()
        }

        fn give_way(&self) {
            self.pass(self.give_way_ns.get());
        }
    }

    impl Scripted {
        fn new() -> Self {
            Self {
                now_ns: Cell::new(1_000_000_000),
                give_way_ns: Cell::new(0),
                looks: Cell::new(0),
            }
        }

        fn pass(&self, ns: u64) {
            self.now_ns.set(self.now_ns.get() + ns);
        }

        /// Waits for an event `after_ns` from now. Returns whether it was found by looking.
        fn event(&self, patience: &mut Patience, after_ns: u64) -> bool {
            let at_ns = self.now_ns() + after_ns;
            let mut slept = false;
            let poll = |timeout_ns: Option<u64>| {
                if timeout_ns == Some(0) {
                    self.looks.set(self.looks.get() + 1);
                    self.pass(LOOK_NS);
                } else {
                    slept = true;
                    self.now_ns.set(self.now_ns().max(at_ns));
                }
                Ok(self.now_ns() >= at_ns)
            };
            patience.wait(self, None, poll).unwrap();
            !slept
        }
    }

    fn patience() -> Patience {
        Patience::new(Duration::from_nanos(WINDOW_NS))
    }

    #[test]
    fn it_looks_once_an_event_came_soon() {
        let (processor, mut patience) = (Scripted::new(), patience());
        assert!(!processor.event(&mut patience, 100_000), "the first");
        assert!(processor.event(&mut patience, 100_000));
        assert!(processor.event(&mut patience, 150_000));
    }

    #[test]
    fn it_sleeps_when_nothing_came_within_the_window_and_from_then_on() {
        let (processor, mut patience) = (Scripted::new(), patience());
        processor.event(&mut patience, 10_000);
        assert!(!processor.event(&mut patience, 10 * WINDOW_NS));
        let window_looks = (WINDOW_NS / LOOK_NS) as u32;
        assert_eq!(processor.looks.get(), window_looks);
        assert!(!processor.event(&mut patience, 10 * WINDOW_NS));
        assert_eq!(processor.looks.get(), window_looks);
    }

    #[test]
    fn without_a_window_it_always_sleeps() {
        let (processor, mut patience) = (Scripted::new(), Patience::new(Duration::ZERO));
        for _ in 0..3 {
            assert!(!processor.event(&mut patience, 10_000));
        }
        assert_eq!(processor.looks.get(), 0);
    }

    #[test]
    fn a_processor_that_others_need_is_left_to_them_this_time() {
        let (processor, mut patience) = (Scripted::new(), patience());
        processor.event(&mut patience, 10_000);
        processor.give_way_ns.set(NEEDED_NS + 1);
        assert!(!processor.event(&mut patience, 100_000));
        assert_eq!(processor.looks.get(), 1);
        processor.give_way_ns.set(0);
        assert!(processor.event(&mut patience, 100_000));
    }

    #[test]
    fn a_processor_on_which_others_compute_is_left_to_them_for_longer_and_longer() {
        let (processor, mut patience) = (Scripted::new(), patience());
        let rests = (0..9).map(|_| {
            processor.give_way_ns.set(0);
            processor.event(&mut patience, 10_000);
            processor.give_way_ns.set(BUSY_NS + 1);
            processor.event(&mut patience, BUSY_NS + 100_000);
            let rest_ns = patience.rests_until_ns - processor.now_ns();
            let looks = processor.looks.get();
            assert!(!processor.event(&mut patience, 10_000));
            assert_eq!(processor.looks.get(), looks, "it rests");
            processor.now_ns.set(patience.rests_until_ns);
            rest_ns
        });
        let rests: Vec<u64> = rests.collect();
        assert!(rests.is_sorted(), "{rests:?}");
        let first = SHORTEST_REST_NS / 2..=SHORTEST_REST_NS;
        assert!(first.contains(&rests[0]), "{rests:?}");
        let last = LONGEST_REST_NS / 2..=LONGEST_REST_NS;
        assert!(last.contains(&rests[8]), "{rests:?}");
        // Nobody has computed for long: it begins anew.
        processor.give_way_ns.set(0);
        processor.event(&mut patience, 10_000);
        processor.pass(SOON * LONGEST_REST_NS);
        processor.event(&mut patience, 10_000);
        processor.give_way_ns.set(BUSY_NS + 1);
        processor.event(&mut patience, BUSY_NS + 100_000);
        let rest_ns = patience.rests_until_ns - processor.now_ns();
        assert!(first.contains(&rest_ns), "{rest_ns}");
    }

    #[test]
    fn what_is_due_at_once_or_soon_is_not_waited_beyond() {
        let (processor, mut patience) = (Scripted::new(), patience());
        processor.event(&mut patience, 10_000);
        for timeout_ns in [0, 20_000] {
            let start_ns = processor.now_ns();
            let mut last = None;
            let poll = |timeout_ns: Option<u64>| {
                last = timeout_ns;
                processor.pass(LOOK_NS + timeout_ns.unwrap_or(u64::MAX / 2));
                Ok(false)
            };
            patience.wait(&processor, Some(timeout_ns), poll).unwrap();
            assert_eq!(last, Some(0));
            assert!(processor.now_ns() - start_ns <= timeout_ns + LOOK_NS);
        }
    }
}
