//! What is asked for.

/// Bytes of a value.
const VALUE: &[u8] = &[b'v'; 64];
/// One request in so many stores.
const STORE_ONCE_IN: u64 = 20;
/// Exponent of Zipf's law, as in YCSB (Cooper et al. 2010).
const EXPONENT: f64 = 0.99;

/// A request, read and hashed already.
pub struct Request {
    /// The key.
    pub key: Vec<u8>,
    /// Which thread serves it if threads have a part of the keys each.
    pub owner: usize,
    /// Whether it stores the value; else it gets one.
    pub stores: bool,
    /// What it stores.
    pub value: &'static [u8],
}

/// Requests made beforehand, so that making them is in no measurement.
pub struct Requests {
    requests: Vec<Request>,
    next: usize,
}

/// How popular keys are.
pub struct Popularity {
    /// The share of each key and all before it.
    up_to: Vec<f64>,
    threads: usize,
}

impl Popularity {
    /// Of so many keys, for so many threads.
    pub fn new(keys: usize, threads: usize) -> Self {
        let weights = (1..=keys).map(|rank| (rank as f64).powf(-EXPONENT));
        let up_to = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        let mut up_to: Vec<f64> = up_to.collect();
        let all = up_to[keys - 1];
        up_to.iter_mut().for_each(|share| *share /= all);
        Self { up_to, threads }
    }

    /// Request for the key of that rank.
    pub fn request(&self, rank: usize, stores: bool) -> Request {
        Request {
            key: format!("key-{rank:026}").into(),
            owner: (mix(rank as u64) >> 32) as usize % self.threads,
            stores,
            value: VALUE,
        }
    }

    /// So many requests, by a seed.
    pub fn requests(&self, count: usize, seed: u64) -> Requests {
        let request = |number: usize| {
            let random = mix(seed << 32 | number as u64);
            let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
            let rank = self.up_to.partition_point(|&up_to| up_to < share);
            let stores = mix(random).is_multiple_of(STORE_ONCE_IN);
            self.request(rank.min(self.up_to.len() - 1), stores)
        };
        Requests {
            requests: (0..count).map(request).collect(),
            next: 0,
        }
    }

    /// How much more than an equal part of all requests the busiest owner of keys gets.
    pub fn imbalance(&self) -> f64 {
        let mut parts = vec![0.0; self.threads];
        let mut before = 0.0;
        for (rank, &up_to) in self.up_to.iter().enumerate() {
            parts[self.request(rank, false).owner] += up_to - before;
            before = up_to;
        }
        let most = parts.iter().copied().fold(0.0, f64::max);
        most * self.threads as f64
    }
}

impl Requests {
    /// The number of the next one; they come again and again.
    pub fn take(&mut self) -> u32 {
        let number = self.next;
        self.next = match number + 1 {
            end if end == self.requests.len() => 0,
            next => next,
        };
        number as u32
    }

    /// The one of that number.
    pub fn get(&self, number: u32) -> &Request {
        &self.requests[number as usize]
    }
}

/// A number that looks random (SplitMix64, Steele et al. 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
