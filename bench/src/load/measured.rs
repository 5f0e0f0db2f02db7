//! What a worker measured.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use crate::protocol::Tally;

/// Precision of recorded latencies: three digits.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Longer latencies count as one hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds. All have the same bounds.
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS).expect("the bounds are in order")
}

/// The figures of one thread, or of several together.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// From when a request was due to the end of its reply, of those due while it was measured.
    pub latency: Histogram<u64>,
    /// From the beginning to the end of opening connections while it was measured.
    pub connect: Histogram<u64>,
    /// How long after they were due requests of an open loop were looked at.
    pub lateness: Histogram<u64>,
    /// Connections that were opened in the beginning.
    pub connections: u64,
    /// Measured time.
    pub seconds: f64,
    /// Replies that ended in that time.
    pub completed: u64,
    /// The same by equal parts of it.
    pub completed_by_part: Vec<u64>,
    /// Replies before.
    pub warmup: u64,
    /// Connections opened in that time, after those at the beginning.
    pub connected: u64,
    /// Requests that were due and had still not been sent in the end.
    pub never_sent: u64,
    /// Frames that the transport lost on this side.
    pub lost_frames: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub tally: Tally,
    /// The use of the processor by the busiest thread.
    pub usage: Usage,
}

impl Measured {
    /// Nothing yet, of a time in so many parts.
    pub fn new(parts: u32) -> Self {
        Self {
            latency: new_histogram(),
            connect: new_histogram(),
            lateness: new_histogram(),
            connections: 0,
            seconds: 0.0,
            completed: 0,
            completed_by_part: vec![0; parts as usize],
            warmup: 0,
            connected: 0,
            never_sent: 0,
            lost_frames: 0,
            sent_bytes: 0,
            received_bytes: 0,
            tally: Tally::default(),
            usage: Usage::default(),
        }
    }

    /// Both together.
    pub fn plus(mut self, other: Self) -> Self {
        let bounds = "all histograms have the same bounds";
        self.latency.add(&other.latency).expect(bounds);
        self.connect.add(&other.connect).expect(bounds);
        self.lateness.add(&other.lateness).expect(bounds);
        self.usage = self.usage.busier(other.usage);
        let by_part = self.completed_by_part.iter_mut();
        for (sum, count) in by_part.zip(&other.completed_by_part) {
            *sum += count;
        }
        Self {
            connections: self.connections + other.connections,
            seconds: self.seconds.max(other.seconds),
            completed: self.completed + other.completed,
            warmup: self.warmup + other.warmup,
            connected: self.connected + other.connected,
            never_sent: self.never_sent + other.never_sent,
            lost_frames: self.lost_frames + other.lost_frames,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_bytes: self.received_bytes + other.received_bytes,
            tally: self.tally.plus(&other.tally),
            ..self
        }
    }

    /// So many in the measured time, per second.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds.max(1e-9)
    }

    /// Replies per second in each part of the measured time.
    pub fn per_second_by_part(&self) -> Vec<f64> {
        let parts = self.completed_by_part.len() as f64;
        let counts = self.completed_by_part.iter();
        counts
            .map(|&count| parts * self.per_second(count))
            .collect()
    }
}

/// How much of a time a thread spent on a processor, and waiting for one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub busy: f64,
    pub kept_waiting: f64,
}

impl Usage {
    fn busier(self, other: Self) -> Self {
        let sum = |usage: Self| usage.busy + usage.kept_waiting;
        if sum(other) > sum(self) { other } else { self }
    }
}

/// Measures the use of the processor by the thread that it is made and asked on.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsageMeter {
    start: Instant,
    busy: Duration,
    kept_waiting: Duration,
}

impl UsageMeter {
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            busy: busy_time(),
            kept_waiting: waiting_time(),
        }
    }

    /// Since it was made.
    pub fn usage(&self) -> Usage {
        let passed = self.start.elapsed().as_secs_f64().max(1e-9);
        Usage {
            busy: (busy_time() - self.busy).as_secs_f64() / passed,
            kept_waiting: (waiting_time().saturating_sub(self.kept_waiting)).as_secs_f64() / passed,
        }
    }
}

fn busy_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// How long this thread was ready to run while others ran (`/proc/PID/schedstat`, its second number); 0 of
/// a kernel that does not say so.
fn waiting_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text
        .split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_up_and_the_busiest_thread_counts() {
        let mut one = Measured {
            connections: 10,
            completed: 3,
            completed_by_part: vec![1, 2],
            seconds: 1.0,
            ..Measured::new(2)
        };
        one.latency.saturating_record(100);
        one.usage = Usage {
            busy: 0.2,
            kept_waiting: 0.6,
        };
        let mut two = Measured {
            connections: 20,
            completed: 4,
            completed_by_part: vec![0, 4],
            seconds: 2.0,
            ..Measured::new(2)
        };
        two.latency.saturating_record(u64::MAX);
        two.usage = Usage {
            busy: 0.5,
            kept_waiting: 0.0,
        };
        let both = one.clone().plus(two);
        assert_eq!(
            (both.completed, both.latency.len(), both.seconds),
            (7, 2, 2.0)
        );
        assert_eq!(both.usage, one.usage);
        assert_eq!(both.per_second(both.completed), 3.5);
        assert_eq!(both.connections, 30);
        assert_eq!(both.per_second_by_part(), [1.0, 6.0]);
    }

    #[test]
    fn a_thread_that_computes_is_busy() {
        let meter = UsageMeter::start();
        let mut work = 1u64;
        while meter.start.elapsed() < Duration::from_millis(20) {
            work = work.wrapping_mul(3);
        }
        assert_ne!(work, 0);
        let usage = meter.usage();
        // On a busy machine it may have waited for most of the time.
        assert!(usage.busy > 0.0 && usage.busy <= 1.01, "{usage:?}");
    }
}
