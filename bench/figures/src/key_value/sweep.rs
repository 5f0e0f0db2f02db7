//! The loads of one pool on one system: [`Level`] is what was measured at one of them, and [`Sweep`] looks for
//! the highest that is served within a bound of the tail.

use anyhow::{Context, Result};
use ix_load::report::LoadReport;

use super::{LIGHTEST, TRIALS};
use crate::bed::System;
use crate::plot::short;
use crate::report::{Point, Series, Spread};

/// No client here gets so far.
const HEAVIEST: f64 = 1e6;

/// What was measured at one offered load. Latencies are in microseconds.
pub(super) struct Level {
    offered: f64,
    /// Requests a second that were answered.
    rate: Spread,
    /// The tail, of which a part may be the client's.
    p99_at_most: Spread,
    /// Tail and mean; none if they were mostly the client's.
    pub latencies: Option<(Spread, Spread)>,
}

impl Level {
    /// Of loads that offered so much.
    pub fn of(offered: f64, loads: &[LoadReport]) -> Result<Self> {
        type Pick = fn(&LoadReport) -> Option<f64>;
        let spread = |loads: &[&LoadReport], pick: Pick| {
            let values: Option<Vec<f64>> = loads.iter().map(|load| pick(load)).collect();
            let values = values.context("ixload withholds latencies in spite of --force")?;
            anyhow::Ok(Spread::of(&values))
        };
        let p99: Pick = |load| Some(load.latency_us?.p99);
        let all: Vec<_> = loads.iter().collect();
        let of_the_server: Vec<_> = loads
            .iter()
            .filter(|load| load.client.bottleneck.is_none())
            .collect();
        let latencies = match 2 * of_the_server.len() > all.len() {
            true => Some((
                spread(&of_the_server, p99)?,
                spread(&of_the_server, |load| Some(load.latency_us?.mean))?,
            )),
            false => None,
        };
        Ok(Self {
            offered,
            rate: spread(&all, |load| Some(load.requests_per_second))?,
            p99_at_most: spread(&all, p99)?,
            latencies,
        })
    }

    fn is_within(&self, bound_us: f64) -> bool {
        self.p99_at_most.median <= bound_us
    }

    /// For a line of progress.
    pub fn text(&self) -> String {
        let latencies = match self.latencies {
            Some((p99, mean)) => {
                format!(
                    "p99 {} us, mean {} us",
                    short(p99.median),
                    short(mean.median)
                )
            }
            None => format!(
                "p99 at most {} us, refused: the client was the bottleneck",
                short(self.p99_at_most.median)
            ),
        };
        format!("{} offered: {latencies}", short(self.offered))
    }
}

/// The loads of one pool on one system.
pub(super) struct Sweep {
    pub system: System,
    levels: Vec<Level>,
    /// The highest offered load within the bound, and what was answered of it.
    pub best: Option<(f64, Spread)>,
    /// The client, as far as the reader has to know.
    client: String,
}

impl Sweep {
    /// Of that system, nothing yet. Of the client, the reader is told `client`.
    pub fn new(system: System, client: String) -> Self {
        Self {
            system,
            levels: Vec::new(),
            best: None,
            client,
        }
    }

    /// Offers loads from `first` on, each `step` times the one before, until the tail is beyond the bound, and
    /// then halves the last step so often.
    pub fn search(
        &mut self,
        first: f64,
        (step, refinements): (f64, u32),
        bound_us: f64,
        mut measure: impl FnMut(f64) -> Result<Level>,
    ) -> Result<()> {
        let (mut within, mut beyond) = (LIGHTEST, first);
        while self.offer(beyond, bound_us, &mut measure)? && beyond < HEAVIEST {
            (within, beyond) = (beyond, beyond * step);
        }
        for _ in 0..refinements {
            let middle = (within * beyond).sqrt().round();
            match self.offer(middle, bound_us, &mut measure)? {
                true => within = middle,
                false => beyond = middle,
            }
        }
        let by_load = |one: &Level, other: &Level| one.offered.total_cmp(&other.offered);
        self.levels.sort_by(by_load);
        Ok(())
    }

    /// Offers a load, again if it is beyond the bound, and takes in the trial with the middle tail. Whether
    /// that is within.
    fn offer(
        &mut self,
        offered: f64,
        bound_us: f64,
        mut measure: impl FnMut(f64) -> Result<Level>,
    ) -> Result<bool> {
        let first = measure(offered)?;
        if first.is_within(bound_us) {
            return Ok(self.add(first, bound_us));
        }
        let mut trials = vec![first];
        while trials.len() < TRIALS {
            trials.push(measure(offered)?);
        }
        let tail = |level: &Level| level.p99_at_most.median;
        trials.sort_by(|one, other| tail(one).total_cmp(&tail(other)));
        Ok(self.add(trials.swap_remove(TRIALS / 2), bound_us))
    }

    /// Takes a level in; whether it is within the bound.
    pub fn add(&mut self, level: Level, bound_us: f64) -> bool {
        let is_within = level.is_within(bound_us);
        if is_within && self.best.is_none_or(|(best, _)| level.offered > best) {
            self.best = Some((level.offered, level.rate));
        }
        self.levels.push(level);
        is_within
    }

    /// Whether the client ended the search, so that the server could do more.
    fn is_client_bound(&self) -> bool {
        let best = self.best.map_or(0.0, |(offered, _)| offered);
        let beyond = self.levels.iter().find(|level| level.offered > best);
        beyond.is_some_and(|level| level.latencies.is_none())
    }

    /// What the reader has to know of the client.
    pub fn note(&self) -> String {
        let limit = if self.is_client_bound() {
            ", at least: from there on the client is the bottleneck"
        } else {
            ""
        };
        format!("by {}{limit}", self.client)
    }

    /// A line of the plot.
    pub fn series(&self, what: &str, pick: fn((Spread, Spread)) -> Spread) -> Series {
        let points = self.levels.iter().filter_map(|level| {
            let latency = pick(level.latencies?);
            Some(Point::new(level.offered, latency))
        });
        Series {
            name: format!("{}, {what}", self.system.name()),
            points: points.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(offered: f64, p99: f64, is_refused: bool) -> Level {
        let spread = |value: f64| Spread::of(&[value]);
        Level {
            offered,
            rate: spread(0.99 * offered),
            p99_at_most: spread(p99),
            latencies: (!is_refused).then(|| (spread(p99), spread(p99 / 2.0))),
        }
    }

    fn sweep(levels: Vec<Level>) -> Sweep {
        let mut sweep = Sweep {
            system: System::Ours,
            levels: Vec::new(),
            best: None,
            client: "engine".to_owned(),
        };
        for level in levels {
            sweep.add(level, 100.0);
        }
        sweep
    }

    #[test]
    fn the_best_load_is_the_highest_within_the_bound() {
        let sweep = sweep(vec![
            level(500.0, 20.0, false),
            level(1000.0, 90.0, false),
            level(2000.0, 300.0, false),
            level(1400.0, 101.0, false),
            level(1200.0, 100.0, false),
        ]);
        let (offered, rate) = sweep.best.expect("some are within");
        assert_eq!((offered, rate.median), (1200.0, 0.99 * 1200.0));
        assert!(!sweep.is_client_bound());
    }

    #[test]
    fn what_the_client_spoilt_is_not_drawn_and_bounds_the_load_from_below() {
        let sweep = sweep(vec![
            level(500.0, 20.0, false),
            level(1000.0, 80.0, true),
            level(2000.0, 300.0, true),
        ]);
        assert_eq!(sweep.best.expect("two are within").0, 1000.0);
        assert!(sweep.is_client_bound() && sweep.note().contains("at least"));
        let series = sweep.series("p99", |(p99, _)| p99);
        assert_eq!(series.points.len(), 1);
    }

    /// Searches for the best load of a server whose tail leaves the bound at `capacity`, and is long for no
    /// reason in some trials, by their number.
    fn search(capacity: f64, noisy: &[usize]) -> (Sweep, usize) {
        let (mut sweep, mut count) = (sweep(Vec::new()), 0);
        let searched = sweep.search(1_000.0, (4.0, 3), 100.0, |offered| {
            count += 1;
            let is_long = offered > capacity || noisy.contains(&count);
            Ok(level(offered, if is_long { 900.0 } else { 50.0 }, false))
        });
        searched.expect("nothing fails");
        (sweep, count)
    }

    #[test]
    fn a_search_ends_close_to_the_capacity() {
        for capacity in [1_000.0, 5_000.0, 40_000.0, 300_000.0] {
            let (best, _) = search(capacity, &[]).0.best.expect("some are within");
            assert!(
                (0.8 * capacity..=capacity).contains(&best),
                "{capacity}: {best}"
            );
        }
    }

    #[test]
    fn a_noisy_trial_ends_no_search() {
        let (quiet, count) = search(40_000.0, &[]);
        let (noisy, more) = search(40_000.0, &[1]);
        assert_eq!(quiet.best.map(|best| best.0), noisy.best.map(|best| best.0));
        assert_eq!(more, count + TRIALS - 1);
    }

    #[test]
    fn loads_are_drawn_from_left_to_right() {
        let offered: Vec<f64> = search(5_000.0, &[])
            .0
            .levels
            .iter()
            .map(|level| level.offered)
            .collect();
        assert!(offered.is_sorted(), "{offered:?}");
    }

    #[test]
    fn without_a_load_within_the_bound_there_is_no_best() {
        assert!(sweep(vec![level(500.0, 101.0, false)]).best.is_none());
    }
}
