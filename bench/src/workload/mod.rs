//! What is asked of a key-value server: which key, how long key and value are, GET or SET.
//!
//! Keys are numbers; name and size of each follow from its number, so that every thread and every run
//! knows the same ones. The value of a key is the [`crate::pattern`] of its number, in any length, so that
//! what comes back can be verified without remembering what was set last. [`sizes`] has the distributions.

mod sizes;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::options::load::{self, Items};
use sizes::Sizes;

/// A mix of requests.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    keys: u64,
    /// None if all keys are equally popular.
    popularity: Option<Zipf<f64>>,
    sizes: Sizes,
    get_share: f64,
    random: SmallRng,
}

impl Workload {
    /// The mix that the options describe; another sequence for each seed.
    pub fn new(items: &Items, seed: u64) -> Self {
        let keys = items.keys.get();
        let zipf = |exponent| Zipf::new(keys as f64, exponent).expect("the options are checked");
        let sizes = match items.workload {
            load::Workload::Etc => Sizes::Etc,
            load::Workload::Usr => Sizes::Usr,
            load::Workload::Fixed => Sizes::Fixed {
                key: usize::from(items.key_size),
                value: items.value_size as usize,
            },
        };
        Self {
            keys,
            popularity: (items.zipf > 0.0).then(|| zipf(items.zipf)),
            get_share: items.get_share.unwrap_or_else(|| sizes.get_share()),
            sizes,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Whether the next request is a GET.
    pub fn is_get(&mut self) -> bool {
        self.random.random::<f64>() < self.get_share
    }

    /// The key of the next request.
    pub fn key(&mut self) -> u64 {
        match &self.popularity {
            // Ranks begin with 1.
            Some(zipf) => zipf.sample(&mut self.random) as u64 - 1,
            None => self.random.random_range(0..self.keys),
        }
    }

    /// How long the next value is.
    pub fn value_len(&mut self) -> usize {
        self.sizes.value_len(self.random.random())
    }

    /// Appends the name of key `number`: its digits, then filling up to its size.
    pub fn append_name(&self, number: u64, out: &mut Vec<u8>) {
        const DIGITS: usize = 16;
        let len = self.sizes.key_len(unit(number));
        let start = out.len();
        out.resize(start + len, b'k');
        let mut rest = number;
        for digit in out[start..start + DIGITS].iter_mut().rev() {
            *digit = b"0123456789abcdef"[(rest & 15) as usize];
            rest >>= 4;
        }
    }
}

/// A number from 0 to below 1 that always belongs to this key.
fn unit(number: u64) -> f64 {
    SmallRng::seed_from_u64(number).random()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Command, Options};
    use clap::Parser;

    fn workload(arguments: &str) -> Workload {
        let line = format!("ixload load --connect 127.0.0.1:1 {arguments}");
        let options = Options::parse_from(line.split_whitespace());
        let Command::Load(load) = options.command else {
            panic!("another command was parsed");
        };
        Workload::new(&load.items, 7)
    }

    #[test]
    fn names_are_unique_legal_and_always_the_same() {
        for arguments in ["", "--workload usr", "--workload fixed --key-size 16"] {
            let workload = workload(arguments);
            let name = |number| {
                let mut name = Vec::new();
                workload.append_name(number, &mut name);
                name
            };
            let names: std::collections::HashSet<_> = (0..5000).map(name).collect();
            assert_eq!(names.len(), 5000);
            assert_eq!(name(77), name(77));
            let is_legal =
                |name: &Vec<u8>| name.len() <= 250 && name.iter().all(u8::is_ascii_alphanumeric);
            assert!(names.iter().all(is_legal));
        }
    }

    #[test]
    fn shares_of_gets_are_the_pools_own() {
        for (arguments, share) in [
            ("--workload etc", 30.0 / 31.0),
            ("--workload usr", 0.998),
            ("--workload fixed", 1.0),
            ("--get-share 0.25", 0.25),
        ] {
            let mut workload = workload(arguments);
            let gets = (0..20_000).filter(|_| workload.is_get()).count();
            let found = gets as f64 / 20_000.0;
            assert!((found - share).abs() < 0.02, "{arguments}: {found}");
        }
    }

    #[test]
    fn popularity_is_zipfian_unless_it_is_even() {
        let count = |arguments| {
            let mut workload = workload(arguments);
            let mut counts = vec![0u32; 100];
            for _ in 0..50_000 {
                counts[workload.key() as usize] += 1;
            }
            counts
        };
        let zipf = count("--keys 100 --zipf 1");
        // The harmonic number of 100 is 5.187: the first key has 1/5.187 of all, the tenth a tenth of that.
        assert!((9_000..10_300).contains(&zipf[0]), "{}", zipf[0]);
        assert!((800..1_130).contains(&zipf[9]), "{}", zipf[9]);
        let even = count("--keys 100 --zipf 0");
        assert!(even.iter().all(|count| (350..650).contains(count)));
    }
}
