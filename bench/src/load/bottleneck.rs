//! Whether it was the server that was measured, or this program.

use super::measured::Measured;

/// From this share of its time on, a thread has no reserve: replies wait for it.
const SATURATED: f64 = 0.9;
/// Lateness of one request in a hundred that is this share of the latency at the same quantile spoils it.
const TOO_LATE: f64 = 0.25;
/// Less than this is what waking up costs, whatever the load.
const ALWAYS_LATE_NS: u64 = 100_000;
/// The quantile at which lateness and latency are compared.
const TAIL: f64 = 0.99;

/// What speaks for or against the client as the bottleneck.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evidence {
    /// Share of the time that the busiest thread computed.
    pub busy: f64,
    /// Share of the time that it could have, but others did.
    pub kept_waiting: f64,
    /// How late requests of an open loop were looked at, at the 99th percentile.
    pub late_ns: u64,
    /// The 99th percentile of the latency.
    pub latency_ns: u64,
}

impl Evidence {
    /// What a measurement left behind.
    pub fn of(measured: &Measured) -> Self {
        let tail = |histogram: &hdrhistogram::Histogram<u64>| histogram.value_at_quantile(TAIL);
        Self {
            busy: measured.usage.busy,
            kept_waiting: measured.usage.kept_waiting,
            late_ns: tail(&measured.lateness),
            latency_ns: tail(&measured.latency),
        }
    }

    /// Why the latencies are this program's, if they are.
    pub fn verdict(&self) -> Option<String> {
        let percent = |share: f64| 100.0 * share;
        if self.busy + self.kept_waiting >= SATURATED {
            return Some(format!(
                "a client thread was busy for {:.0} % of the time and waited for a processor for {:.0} %",
                percent(self.busy),
                percent(self.kept_waiting)
            ));
        }
        let is_late = self.late_ns as f64 > TOO_LATE * self.latency_ns as f64;
        (is_late && self.late_ns > ALWAYS_LATE_NS).then(|| {
            format!(
                "the client sent one request in a hundred {:.0} us late or more, of {:.0} us of latency",
                self.late_ns as f64 / 1e3,
                self.latency_ns as f64 / 1e3
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Evidence = Evidence {
        busy: 0.3,
        kept_waiting: 0.1,
        late_ns: 50_000,
        latency_ns: 100_000,
    };

    #[test]
    fn a_client_with_reserves_is_none() {
        assert_eq!(IDLE.verdict(), None);
        let late_but_not_of_weight = Evidence {
            late_ns: 200_000,
            latency_ns: 900_000,
            ..IDLE
        };
        assert_eq!(late_but_not_of_weight.verdict(), None);
    }

    #[test]
    fn a_busy_client_is_one() {
        let verdict = Evidence { busy: 0.95, ..IDLE }
            .verdict()
            .expect("a verdict");
        assert!(verdict.contains("95 %"), "{verdict}");
        let starved = Evidence {
            kept_waiting: 0.7,
            ..IDLE
        };
        assert!(starved.verdict().is_some());
    }

    #[test]
    fn a_late_client_is_one() {
        let verdict = Evidence {
            late_ns: 300_000,
            latency_ns: 900_000,
            ..IDLE
        }
        .verdict();
        assert!(verdict.expect("a verdict").contains("300 us late"));
    }
}
