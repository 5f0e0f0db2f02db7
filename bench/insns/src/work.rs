//! Separates the work of requests from idle polling.
//!
//! A polling kernel executes instructions all the time, so what it executed in a window says
//! nothing before the empty polls are taken out. They are known exactly: every empty poll executes
//! one `pause` (DESIGN.md demands it of spin loops). In a quiet window, without traffic, the most
//! executed `pause` is the marker, and each other address has a fixed number of executions for each
//! of the marker's. In the measured window the marker's executions then say how many empty polls
//! there were, and so how many executions of every address belong to them.

use anyhow::{Result, ensure};

use crate::sample::{Counts, KERNEL_HALF};

/// Executions needed in the quiet window for a ratio that is good to a thousandth.
const ENOUGH_POLLS: u64 = 1_000;

/// Instructions of a window, without those of empty polls.
#[derive(Clone, Debug)]
pub struct Work {
    /// Address and executions. Fractions come from the ratio.
    pub by_address: Vec<(u64, f64)>,
    /// Instructions spent in empty polls.
    pub idle: f64,
}

impl Work {
    /// What `window` holds beyond the empty polls that `quiet` shows. `is_pause` tells whether the
    /// instruction at an address is a `pause`.
    pub fn extract(
        window: &Counts,
        quiet: &Counts,
        is_pause: impl Fn(u64) -> bool,
    ) -> Result<Self> {
        let pauses = quiet.iter().filter(|&(address, _)| is_pause(address));
        let (marker, polls) = pauses.max_by_key(|&(_, count)| count).unwrap_or_default();
        ensure!(
            polls >= ENOUGH_POLLS,
            "the idle guest executed {polls} pause instructions, expected at least {ENOUGH_POLLS}: \
             it does not poll (kernel option poll=on), or it was busy"
        );
        let scale = window.at(marker) as f64 / polls as f64;
        let mut idle = 0.0;
        let by_address = window.iter().map(|(address, count)| {
            let polling = (quiet.at(address) as f64 * scale).min(count as f64);
            idle += polling;
            (address, count as f64 - polling)
        });
        Ok(Self {
            by_address: by_address.collect(),
            idle,
        })
    }

    /// Instructions in kernel mode.
    pub fn kernel(&self) -> f64 {
        self.sum(|address| address >= KERNEL_HALF)
    }

    /// Instructions in user mode.
    pub fn user(&self) -> f64 {
        self.sum(|address| address < KERNEL_HALF)
    }

    fn sum(&self, wanted: impl Fn(u64) -> bool) -> f64 {
        self.by_address
            .iter()
            .filter(|entry| wanted(entry.0))
            .map(|entry| entry.1)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: u64 = KERNEL_HALF + 0x100;
    const PAUSE: u64 = KERNEL_HALF + 0x110;
    const STACK: u64 = KERNEL_HALF + 0x200;
    const USER: u64 = 0x40_0000;

    #[test]
    fn empty_polls_are_taken_out_exactly() {
        let quiet = Counts::from_iter([(POLL, 20_000), (PAUSE, 10_000)]);
        // 500 empty polls of 2 + 1 instructions, 70 full ones, and what those caused.
        let window =
            Counts::from_iter([(POLL, 2 * 570), (PAUSE, 500), (STACK, 9_000), (USER, 800)]);
        let work = Work::extract(&window, &quiet, |address| address == PAUSE).unwrap();
        assert_eq!(work.idle, 1_500.0);
        assert_eq!(work.kernel(), 9_140.0);
        assert_eq!(work.user(), 800.0);
    }

    #[test]
    fn a_saturated_window_has_no_idle_part() {
        let quiet = Counts::from_iter([(POLL, 20_000), (PAUSE, 10_000)]);
        let window = Counts::from_iter([(POLL, 100), (STACK, 9_000)]);
        let work = Work::extract(&window, &quiet, |address| address == PAUSE).unwrap();
        assert_eq!((work.idle, work.kernel()), (0.0, 9_100.0));
    }

    #[test]
    fn a_guest_that_does_not_poll_is_refused() {
        let quiet = Counts::from_iter([(POLL, 20_000)]);
        let error = Work::extract(&quiet, &quiet, |address| address == PAUSE).unwrap_err();
        assert!(error.to_string().contains("poll=on"), "{error}");
    }
}
