//! What a dataplane did over the last minutes, from looks at its control page: a bounded ring of
//! samples, so that whoever opens the dashboard sees more than the present.

use std::collections::VecDeque;

use ix_api::{History, Sample, Stats, ThreadStats};

/// Time between two samples, in milliseconds.
const PERIOD_MS: u64 = 1_000;
/// Samples that are kept: ten minutes.
const CAPACITY: usize = 600;
/// The longest of the horizons that a thread reports.
const LONG: usize = 2;

/// The recent past of one dataplane.
#[derive(Debug, Default)]
pub struct Past {
    samples: VecDeque<Sample>,
    last: Option<(u64, Stats)>,
}

impl Past {
    /// Whether the time for another sample has come.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let last = self.last.as_ref();
        // A clock that was set back does not stop the samples.
        last.is_none_or(|(then_ms, _)| now_ms.abs_diff(*then_ms) >= PERIOD_MS)
    }

    /// Takes a sample of what the threads say at `now_ms`. The first look only shows where counts
    /// start.
    pub fn add(&mut self, now_ms: u64, stats: Stats) {
        if let Some((then_ms, before)) = &self.last
            && now_ms > *then_ms
            && before.threads.len() == stats.threads.len()
        {
            if self.samples.len() == CAPACITY {
                self.samples.pop_front();
            }
            let seconds = (now_ms - then_ms) as f64 / 1_000.0;
            self.samples
                .push_back(sample(now_ms, seconds, before, &stats));
        }
        self.last = Some((now_ms, stats));
    }

    /// The samples taken after `after_ms`.
    pub fn since(&self, after_ms: u64) -> History {
        let samples = self.samples.iter();
        History {
            period_ms: PERIOD_MS,
            capacity: CAPACITY as u32,
            samples: samples
                .filter(|sample| sample.at_ms > after_ms)
                .cloned()
                .collect(),
        }
    }
}

fn sample(at_ms: u64, seconds: f64, before: &Stats, after: &Stats) -> Sample {
    let rate = |count: fn(&ThreadStats) -> u64| {
        let pairs = before.threads.iter().zip(&after.threads);
        let grown: u64 = pairs
            .map(|(before, after)| count(after).saturating_sub(count(before)))
            .sum();
        grown as f64 / seconds
    };
    let serving = || after.threads.iter().filter(|thread| thread.serves());
    let most = |of: fn(&ThreadStats) -> f64| serving().map(of).fold(0.0, f64::max);
    Sample {
        at_ms,
        granted: serving().count() as u32,
        rx_frames: rate(|it| it.rx_frames),
        tx_frames: rate(|it| it.tx_frames),
        rx_bytes: rate(|it| it.rx_bytes),
        tx_bytes: rate(|it| it.tx_bytes),
        connections: after.threads.iter().map(|it| it.connections).sum(),
        busy: after.busy_since(before),
        waiting: most(|it| it.queue_depth[LONG]),
        loop_ns: most(|it| it.loop_ns[LONG]),
        drops: rate(|it| it.rx_missed + it.rx_errors + it.rx_no_buffers + it.tx_drops),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(rx_frames: u64, now_ns: u64, idle_ns: u64) -> Stats {
        let thread = |state: &str| ThreadStats {
            state: state.to_owned(),
            rx_frames,
            now_ns,
            idle_ns,
            loop_ns: [0.0, 0.0, 7.0],
            ..ThreadStats::default()
        };
        Stats {
            threads: vec![thread("running"), thread("parked")],
        }
    }

    #[test]
    fn rates_come_from_two_looks() {
        let mut past = Past::default();
        assert!(past.is_due(5_000));
        past.add(5_000, stats(100, 1_000, 900));
        assert!(!past.is_due(5_999) && past.is_due(6_000));
        assert!(past.since(0).samples.is_empty());
        past.add(7_000, stats(1_100, 3_000, 1_400));
        let samples = past.since(0).samples;
        let sample = &samples[0];
        assert_eq!((sample.at_ms, sample.granted), (7_000, 1));
        assert_eq!((sample.rx_frames, sample.loop_ns), (1_000.0, 7.0));
        assert_eq!(sample.busy, 0.75);
        assert!(past.since(7_000).samples.is_empty());
    }

    #[test]
    fn counts_that_start_again_are_no_load() {
        let mut past = Past::default();
        past.add(1_000, stats(100, 1_000, 900));
        past.add(2_000, stats(5, 100, 100));
        assert_eq!(past.since(0).samples[0].rx_frames, 0.0);
    }

    #[test]
    fn the_oldest_samples_go() {
        let mut past = Past::default();
        for second in 0..CAPACITY as u64 + 11 {
            past.add(second * PERIOD_MS, stats(second, second, 0));
        }
        let history = past.since(0);
        assert_eq!(history.samples.len(), CAPACITY);
        assert_eq!(history.samples[0].at_ms, 11 * PERIOD_MS);
    }
}
