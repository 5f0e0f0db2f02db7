//! Separates the work of requests from idle polling.
//!
//! A polling kernel executes instructions all the time, so what it executed in a window says
//! nothing before the empty polls are taken out. Each of them executes one `pause` (DESIGN.md
//! demands it of spin loops), so they can be counted; what else they execute comes from a second
//! window with the same requests and more time between them. For every address then
//!
//! ```text
//! executions in the busy window = requests * per_request + polls * per_poll
//! executions in the slow window = requests * per_request + polls * per_poll
//! ```
//!
//! with the same two unknowns: per request and per empty poll. That holds under load, where timers
//! are armed and segments unacknowledged, as it would not if the guest were left alone to learn what
//! an empty poll costs.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use crate::sample::{Counts, KERNEL_HALF};

/// The slow window must have this many times the empty polls per request of the busy one; less
/// would multiply the noise.
const SLOWER: f64 = 3.0;

/// What was executed while a number of requests were answered.
#[derive(Clone, Debug)]
pub struct Window {
    /// Executions by address.
    pub counts: Counts,
    /// Requests answered.
    pub requests: u64,
}

/// Instructions per request, without those of empty polls.
#[derive(Clone, Debug)]
pub struct Work {
    /// Executions per request by address, in ascending order.
    pub by_address: Vec<(u64, f64)>,
    /// Instructions of empty polls for each request of the busy window.
    pub idle: f64,
}

impl Work {
    /// Solves for the work per request. `is_pause` tells whether the instruction at an address is a
    /// `pause`.
    pub fn extract(busy: &Window, slow: &Window, is_pause: impl Fn(u64) -> bool) -> Result<Self> {
        let pauses = slow.counts.iter().filter(|&(address, _)| is_pause(address));
        let (marker, _) = pauses.max_by_key(|&(_, count)| count).unwrap_or_default();
        let polls = |window: &Window| window.per_request(marker);
        ensure!(
            polls(slow) > 1.0 && polls(slow) > SLOWER * polls(busy),
            "the guest executed {:.1} pause instructions per request under load and {:.1} with time \
             between requests: it does not poll (kernel option poll=on)",
            polls(busy),
            polls(slow)
        );
        let ratio = polls(busy) / polls(slow);
        let per_request = |address| {
            (busy.per_request(address) - ratio * slow.per_request(address)) / (1.0 - ratio)
        };
        let addresses = busy
            .counts
            .iter()
            .chain(slow.counts.iter())
            .map(|(address, _)| address);
        let addresses = addresses.collect::<BTreeSet<_>>();
        let mut work = Self {
            by_address: addresses
                .into_iter()
                .map(|at| (at, per_request(at)))
                .collect(),
            idle: 0.0,
        };
        let executed = busy.counts.total() as f64 / busy.requests as f64;
        work.idle = executed - work.total();
        Ok(work)
    }

    /// Instructions per request in kernel mode.
    pub fn kernel(&self) -> f64 {
        self.sum(|address| address >= KERNEL_HALF)
    }

    /// Instructions per request in user mode.
    pub fn user(&self) -> f64 {
        self.sum(|address| address < KERNEL_HALF)
    }

    /// Instructions per request.
    pub fn total(&self) -> f64 {
        self.sum(|_| true)
    }

    fn sum(&self, wanted: impl Fn(u64) -> bool) -> f64 {
        self.by_address
            .iter()
            .filter(|entry| wanted(entry.0))
            .map(|entry| entry.1)
            .sum()
    }
}

impl Window {
    fn per_request(&self, address: u64) -> f64 {
        self.counts.at(address) as f64 / self.requests as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: u64 = KERNEL_HALF + 0x100;
    const PAUSE: u64 = KERNEL_HALF + 0x110;
    const STACK: u64 = KERNEL_HALF + 0x200;
    const USER: u64 = 0x40_0000;

    /// A guest that executes, per empty poll, POLL twice and PAUSE once; per request POLL twice,
    /// STACK nine times and USER once.
    fn window(requests: u64, polls: u64) -> Window {
        let counts = [
            (POLL, 2 * (polls + requests)),
            (PAUSE, polls),
            (STACK, 9 * requests),
            (USER, requests),
        ];
        Window {
            counts: counts.into_iter().collect(),
            requests,
        }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn empty_polls_are_taken_out_exactly() {
        let is_pause = |address| address == PAUSE;
        let work = Work::extract(&window(1000, 7_000), &window(40, 90_000), is_pause).unwrap();
        assert!(close(work.kernel(), 11.0), "{work:?}");
        assert!(close(work.user(), 1.0), "{work:?}");
        assert!(close(work.idle, 21.0), "{work:?}");
        assert!(work.by_address.contains(&(USER, 1.0)));
    }

    #[test]
    fn a_saturated_window_has_no_idle_part() {
        let is_pause = |address| address == PAUSE;
        let work = Work::extract(&window(1000, 0), &window(40, 90_000), is_pause).unwrap();
        assert!(
            close(work.kernel(), 11.0) && close(work.idle, 0.0),
            "{work:?}"
        );
    }

    #[test]
    fn a_guest_that_does_not_poll_is_refused() {
        for (busy, slow) in [(0, 0), (500, 40), (50_000, 4_000)] {
            let result = Work::extract(&window(1000, busy), &window(40, slow), |at| at == PAUSE);
            assert!(result.unwrap_err().to_string().contains("poll=on"));
        }
    }
}
