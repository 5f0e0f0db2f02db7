//! When requests of an open loop are due.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, Exp};

use crate::options::load;

/// Points in time, in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    gap: Gap,
    /// When the next one is due.
    next_ns: f64,
    random: SmallRng,
}

/// Time between two requests.
#[derive(Clone, Copy, Debug)]
enum Gap {
    Exponential(Exp<f64>),
    Constant(f64),
}

impl Arrivals {
    /// So many a second from `start_ns` on.
    pub fn new(per_second: f64, kind: load::Arrivals, start_ns: u64, seed: u64) -> Self {
        let mean_ns = 1e9 / per_second;
        let gap = match kind {
            load::Arrivals::Poisson => {
                Gap::Exponential(Exp::new(1.0 / mean_ns).expect("the rate is positive"))
            }
            load::Arrivals::Uniform => Gap::Constant(mean_ns),
        };
        let mut arrivals = Self {
            gap,
            next_ns: start_ns as f64,
            random: SmallRng::seed_from_u64(seed),
        };
        arrivals.advance();
        arrivals
    }

    /// When the next request is due.
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Takes the next request if it is due: returns when it was.
    pub fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns();
        (due_ns <= now_ns).then(|| {
            self.advance();
            due_ns
        })
    }

    fn advance(&mut self) {
        self.next_ns += match &self.gap {
            Gap::Exponential(gap) => gap.sample(&mut self.random),
            Gap::Constant(gap) => *gap,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(kind: load::Arrivals) -> Vec<f64> {
        let mut arrivals = Arrivals::new(1e6, kind, 5_000, 3);
        let mut last = 5_000;
        let mut gap = || {
            let due = arrivals.take(u64::MAX).expect("it is due");
            let gap = due - last;
            last = due;
            gap as f64
        };
        (0..20_000).map(|_| gap()).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn uniform_gaps_are_equal() {
        assert!(
            gaps(load::Arrivals::Uniform)
                .iter()
                .all(|gap| *gap == 1000.0)
        );
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_deviation_of_an_exponential() {
        let gaps = gaps(load::Arrivals::Poisson);
        let mean_gap = mean(&gaps);
        let squares: Vec<_> = gaps.iter().map(|gap| (gap - mean_gap).powi(2)).collect();
        assert!((mean_gap - 1000.0).abs() < 30.0, "{mean_gap}");
        let deviation = mean(&squares).sqrt();
        assert!((deviation - 1000.0).abs() < 50.0, "{deviation}");
    }

    #[test]
    fn nothing_is_taken_before_it_is_due() {
        let mut arrivals = Arrivals::new(1e3, load::Arrivals::Uniform, 0, 1);
        assert_eq!(arrivals.take(999_999), None);
        assert_eq!(arrivals.take(1_000_000), Some(1_000_000));
        // Those that were missed are due all the same.
        assert_eq!(arrivals.take(9_000_000), Some(2_000_000));
    }
}
