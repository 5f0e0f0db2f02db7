//! What a thread reports of itself, and averages over three horizons.
//!
//! A report is made once in a [`PERIOD`]: counts as they stand, and averages of what happened since
//! the last one. The packet path only counts.

use ix_hal::{Instant, NicStatistics};

use crate::statistics::ThreadCounters;

/// Time between two reports, in nanoseconds: a power of two near one millisecond, so that periods
/// are counted by a shift.
pub const PERIOD: u64 = 1 << PERIOD_SHIFT;
const PERIOD_SHIFT: u32 = 20;
/// The three horizons, as powers of two of periods.
const HORIZONS: [u32; 3] = [0, 5, 10];
/// Bits behind the point of an average, as the control page has them.
const FRACTION_BITS: u32 = 16;
/// Larger samples are cut, so that sums of 2^10 of them fit into a word.
const SAMPLE_MAX: u64 = 1 << 48;
/// The device is asked for its own counters, which takes an access of a register, once in so many
/// reports.
const SLOW_PERIODS: u32 = 1024;

/// Where a thread's time has gone, in nanoseconds since it began to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// In the application.
    pub user_ns: u64,
    /// In kernel half-cycles that led to a round of the application.
    pub kernel_ns: u64,
    /// The rest: polling in vain, and halted.
    pub idle_ns: u64,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    pub times: Times,
    pub thread: ThreadCounters,
    pub is_absent: bool,
    pub nic: NicStatistics,
    pub connections: u64,
    pub mbufs_free: u64,
    /// Frames that wait in the RX ring now.
    pub waiting: u64,
    pub moved_in: u64,
    pub moved_out: u64,
    pub bad_checksums: u64,
    pub no_buffers: u64,
    pub retransmits: u64,
    pub refused: u64,
}

/// The averages of one thread.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Averages {
    pub batch: Average,
    pub queue_depth: Average,
    pub loop_ns: Average,
    last: Last,
    reports: u32,
}

/// What the last report had.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    now: Instant,
    frames: u64,
    busy_cycles: u64,
    spent_ns: u64,
}

impl Averages {
    /// Whether this report should ask the device for its own counters.
    pub fn wants_device(&mut self) -> bool {
        self.reports = self.reports.wrapping_add(1);
        self.reports % SLOW_PERIODS == 1
    }

    /// Takes in what has happened since the last report.
    pub fn update(&mut self, now: Instant, report: &Report) {
        let periods = now.0.saturating_sub(self.last.now.0) >> PERIOD_SHIFT;
        let spent_ns = report.times.user_ns + report.times.kernel_ns;
        let cycles = report.thread.busy_cycles - self.last.busy_cycles;
        let frames = report.thread.frames - self.last.frames;
        let per_cycle = |sum: u64| (sum << FRACTION_BITS).checked_div(cycles);
        // Two divisions a report; without a busy cycle there is nothing to average.
        if let Some(batch) = per_cycle(frames) {
            self.batch.add(batch);
        }
        if let Some(loop_ns) = per_cycle(spent_ns.saturating_sub(self.last.spent_ns)) {
            self.loop_ns.add(loop_ns);
        }
        // A thread that halted made no reports, and had no frames waiting.
        self.queue_depth.pass(periods.saturating_sub(1));
        self.queue_depth.add(report.waiting << FRACTION_BITS);
        self.last = Last {
            now,
            frames: report.thread.frames,
            busy_cycles: report.thread.busy_cycles,
            spent_ns,
        };
    }
}

/// An exponentially weighted average over each horizon, as sums of that many samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Average([u64; 3]);

impl Average {
    /// Takes in the sample of one period.
    fn add(&mut self, sample: u64) {
        let sample = sample.min(SAMPLE_MAX);
        for (sum, horizon) in self.0.iter_mut().zip(HORIZONS) {
            *sum = *sum - (*sum >> horizon) + sample;
        }
    }

    /// Takes in that many periods whose sample is zero: whole horizons at once, each of which leaves
    /// 3/8, about 1/e, and the rest in steps of a 32nd of the horizon.
    fn pass(&mut self, periods: u64) {
        for (sum, horizon) in self.0.iter_mut().zip(HORIZONS) {
            for _ in 0..(periods >> horizon).min(32) {
                *sum = (*sum >> 2) + (*sum >> 3);
            }
            let step = horizon.saturating_sub(5);
            let rest = periods & ((1 << horizon) - 1);
            for _ in 0..rest >> step {
                *sum -= *sum >> 5;
            }
        }
    }

    /// The averages, with [`FRACTION_BITS`] behind the point.
    pub fn horizons(&self) -> [u64; 3] {
        [0, 1, 2].map(|index| self.0[index] >> HORIZONS[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn averages_of(average: &Average) -> [f64; 3] {
        average.horizons().map(|value| value as f64 / 65_536.0)
    }

    #[test]
    fn a_constant_load_becomes_every_average() {
        let mut average = Average::default();
        for _ in 0..10_000 {
            average.add(7 << FRACTION_BITS);
        }
        for value in averages_of(&average) {
            assert!((value - 7.0).abs() < 0.01, "{value}");
        }
    }

    #[test]
    fn a_short_horizon_forgets_before_a_long_one() {
        let mut average = Average::default();
        for _ in 0..10_000 {
            average.add(64 << FRACTION_BITS);
        }
        average.pass(100);
        let [millisecond, thirty_two, second] = averages_of(&average);
        assert!(millisecond < 0.01, "{millisecond}");
        assert!((1.0..5.0).contains(&thirty_two), "{thirty_two}");
        assert!((55.0..60.0).contains(&second), "{second}");
    }

    #[test]
    fn what_passes_without_frames_decays_nearly_exponentially() {
        // Of 1000: what e^(-periods / 1024) leaves.
        for (periods, left) in [(32, 969.0), (512, 607.0), (1024, 368.0), (2048, 135.0)] {
            let mut average = Average([0, 0, 1000 << (10 + FRACTION_BITS)]);
            average.pass(periods);
            let value = averages_of(&average)[2];
            assert!(
                (value - left).abs() < 20.0,
                "{periods}: {value}, not {left}"
            );
        }
    }

    #[test]
    fn no_sample_overflows() {
        let mut average = Average::default();
        for _ in 0..100_000 {
            average.add(u64::MAX);
        }
        assert!(average.horizons().iter().all(|value| *value <= SAMPLE_MAX));
        average.pass(u64::MAX);
        assert!(averages_of(&average)[2] < 1.0, "{average:?}");
    }

    #[test]
    fn batches_and_loop_times_are_those_of_busy_cycles() {
        let mut averages = Averages::default();
        let mut report = Report::default();
        for period in 1..=4_000 {
            report.thread.busy_cycles += 10;
            report.thread.frames += 25;
            report.times.user_ns += 30_000;
            report.times.kernel_ns += 20_000;
            report.waiting = 3;
            averages.update(Instant(period * PERIOD), &report);
        }
        // Halted for a minute.
        let now = Instant(60_000 * PERIOD);
        report.waiting = 0;
        averages.update(now, &report);
        for value in averages_of(&averages.batch) {
            assert!((value - 2.5).abs() < 0.1, "{value}");
        }
        for value in averages_of(&averages.loop_ns) {
            assert!((value - 5_000.0).abs() < 150.0, "{value}");
        }
        for value in averages_of(&averages.queue_depth) {
            assert!(value < 0.01, "{value}");
        }
    }

    #[test]
    fn the_device_is_asked_at_first_and_then_seldom() {
        let mut averages = Averages::default();
        assert!(averages.wants_device());
        let asked = (0..SLOW_PERIODS)
            .filter(|_| averages.wants_device())
            .count();
        assert_eq!(asked, 1);
    }
}
