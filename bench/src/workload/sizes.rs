//! How long keys and values are.
//!
//! Figures of Facebook's pools: B. Atikoglu, Y. Xu, E. Frachtenberg, S. Jiang, M. Paleczny, Workload
//! Analysis of a Large-Scale Key-Value Store, SIGMETRICS 2012, sections 3.2 and 5.

/// The longest key that memcached takes.
const MAX_KEY_BYTES: f64 = 250.0;
/// Longer values would not fit into memcached's default item size with their header.
const MAX_VALUE_BYTES: f64 = 1_000_000.0;
/// Shorter keys could not tell so many apart; their share in ETC is below a percent.
const MIN_KEY_BYTES: f64 = 16.0;

/// ETC's shares of values of 0 to 14 bytes; longer ones follow the Pareto distribution (table 6).
const ETC_SHORT_VALUES: [f64; 15] = [
    0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837,
    0.00837, 0.08989, 0.00092, 0.00326, 0.01980,
];

/// The distributions of a pool, each as its quantile function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    /// General purpose.
    Etc,
    /// User accounts.
    Usr,
    /// One size of each.
    Fixed { key: usize, value: usize },
}

impl Sizes {
    /// Share of GETs among GETs and SETs.
    pub fn get_share(&self) -> f64 {
        match self {
            Sizes::Etc => 30.0 / 31.0,
            Sizes::Usr => 0.998,
            Sizes::Fixed { .. } => 1.0,
        }
    }

    /// The length of a key, for an evenly distributed number from 0 to below 1.
    pub fn key_len(&self, quantile: f64) -> usize {
        match *self {
            Sizes::Etc => extreme_value(quantile, 30.7984, 8.20449, 0.078688)
                .clamp(MIN_KEY_BYTES, MAX_KEY_BYTES) as usize,
            // All keys have one of two lengths; how many each is not published.
            Sizes::Usr if quantile < 0.5 => 16,
            Sizes::Usr => 21,
            Sizes::Fixed { key, .. } => key,
        }
    }

    /// The length of a value, likewise.
    pub fn value_len(&self, quantile: f64) -> usize {
        match *self {
            Sizes::Etc => etc_value_len(quantile),
            Sizes::Usr => 2,
            Sizes::Fixed { value, .. } => value,
        }
    }
}

fn etc_value_len(quantile: f64) -> usize {
    let mut below = 0.0;
    for (len, share) in ETC_SHORT_VALUES.iter().enumerate() {
        below += share;
        if quantile < below {
            return len;
        }
    }
    let rest = (quantile - below) / (1.0 - below);
    let shortest = ETC_SHORT_VALUES.len() as f64;
    (shortest + pareto(rest, 214.476, 0.348238)).min(MAX_VALUE_BYTES) as usize
}

/// Quantile of the generalized extreme value distribution.
fn extreme_value(quantile: f64, location: f64, scale: f64, shape: f64) -> f64 {
    location + scale / shape * ((-quantile.ln()).powf(-shape) - 1.0)
}

/// Quantile of the generalized Pareto distribution that begins at 0.
fn pareto(quantile: f64, scale: f64, shape: f64) -> f64 {
    scale / shape * ((1.0 - quantile).powf(-shape) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantiles() -> impl Iterator<Item = f64> {
        (0..10_000).map(|step| (f64::from(step) + 0.5) / 10_000.0)
    }

    #[test]
    fn etc_keys_are_of_twenty_to_seventy_bytes() {
        let keys: Vec<_> = quantiles().map(|at| Sizes::Etc.key_len(at)).collect();
        let inside = keys.iter().filter(|len| (20..=70).contains(*len)).count();
        assert!(inside > 9_500, "{inside}");
        assert!(keys.iter().all(|len| (16..=250).contains(len)));
        assert_eq!(Sizes::Etc.key_len(0.0), 16);
    }

    #[test]
    fn etc_values_follow_the_table_and_its_tail() {
        let values: Vec<_> = quantiles().map(|at| Sizes::Etc.value_len(at)).collect();
        let share = |len| values.iter().filter(|found| **found == len).count();
        assert_eq!((share(2), share(11)), (1_782, 899));
        let short = values.iter().filter(|len| **len < 15).count() as f64;
        let expected: f64 = ETC_SHORT_VALUES.iter().sum();
        assert!((short / 10_000.0 - expected).abs() < 1e-3);
        let mean = values.iter().sum::<usize>() as f64 / 10_000.0;
        assert!((150.0..250.0).contains(&mean), "{mean}");
        assert_eq!(Sizes::Etc.value_len(1.0), 1_000_000);
    }

    #[test]
    fn usr_values_have_two_bytes() {
        assert!(quantiles().all(|at| Sizes::Usr.value_len(at) == 2));
        let keys: Vec<_> = quantiles().map(|at| Sizes::Usr.key_len(at)).collect();
        assert!(keys.contains(&16) && keys.contains(&21));
    }
}
