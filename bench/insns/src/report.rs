//! The result of a run over several boots, as table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::baseline::{Baseline, Point, TOLERANCE};
use crate::exchange::Exchange;
use crate::run::Measured;
use crate::scaling::Scaling;

/// Linux 6.12 with its igb driver in the same emulator, tuned, with an echo server on epoll and with
/// Debian's memcached: connections, instructions per request, those of them in user mode.
const LINUX: [(Exchange, u64, f64, f64); 7] = [
    (Exchange::Echo, 1, 21_300.0, 140.0),
    (Exchange::Echo, 16, 13_650.0, 100.0),
    (Exchange::Echo, 64, 12_970.0, 95.0),
    (Exchange::Echo, 256, 13_300.0, 97.0),
    (Exchange::Get, 1, 24_100.0, 2_860.0),
    (Exchange::Get, 16, 16_880.0, 2_525.0),
    (Exchange::Get, 64, 16_260.0, 2_415.0),
];

/// Medians over the boots.
#[derive(Serialize)]
pub struct Report {
    /// By kind of request, one for each number of connections.
    #[serde(flatten)]
    pub rows: BTreeMap<Exchange, Vec<Row>>,
    /// Boots that the medians are taken over.
    pub boots: usize,
    /// The cost of a request by number of elastic threads, if that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<Scaling>,
}

/// The result at one number of connections.
#[derive(Serialize)]
pub struct Row {
    /// Medians of the boots, each by itself.
    #[serde(flatten)]
    pub point: Point,
    /// Kernel and user instructions.
    pub total: f64,
    /// Instructions of empty polls, per request; not in the total.
    pub idle: f64,
    /// Requests in each window.
    pub requests: u64,
    /// Distance between the highest and the lowest total, relative to the median.
    pub spread: f64,
    /// Relative difference to the baseline, if it has this point.
    pub change: Option<f64>,
    /// Linux in the same emulator.
    pub linux_total: Option<f64>,
}

impl Report {
    /// Brings together what each boot measured; all measured the same things in the same order.
    pub fn new(boots: &[Vec<Measured>], baseline: Option<&Baseline>) -> Self {
        let mut rows = BTreeMap::<_, Vec<_>>::new();
        for index in 0..boots.first().map_or(0, Vec::len) {
            let measured = boots.iter().map(|boot| &boot[index]).collect::<Vec<_>>();
            let of_exchange = rows.entry(measured[0].exchange).or_default();
            of_exchange.push(Row::new(&measured, baseline));
        }
        Self {
            rows,
            boots: boots.len(),
            threads: None,
        }
    }

    /// Puts the points into a baseline.
    pub fn update(&self, baseline: &mut Baseline) {
        for (&exchange, rows) in &self.rows {
            baseline.set(exchange, rows.iter().map(|row| row.point).collect());
        }
    }

    /// A sentence for each point that is too far above its baseline.
    pub fn regressions(&self) -> Vec<String> {
        let above = self.rows().filter_map(|(exchange, row)| {
            let change = row.change.filter(|change| *change > TOLERANCE)?;
            Some(format!(
                "{}, {} connections: {:.0} instructions per request, {:+.1} % of the baseline",
                exchange.name(),
                row.point.connections,
                row.total,
                100.0 * change
            ))
        });
        above.collect()
    }

    /// The table.
    pub fn render(&self) -> String {
        let mut text = format!(
            "Guest instructions per request (icount, median of {} boots)\n\
             request connections   kernel    user    total    idle  spread  baseline   Linux 6.12 (user)\n",
            self.boots
        );
        for (exchange, row) in self.rows() {
            let Point {
                connections,
                kernel,
                user,
            } = row.point;
            let change = row
                .change
                .map_or("-".to_owned(), |c| format!("{:+.1} %", 100.0 * c));
            let linux = linux(exchange, connections).map_or("-".to_owned(), |(total, user)| {
                format!("{total:.0} ({user:.0})")
            });
            text += &format!(
                "{:7} {connections:11} {kernel:8.0} {user:7.0} {:8.0} {:7.0} {:5.1} % {change:>9}  {linux:>18}\n",
                exchange.name(),
                row.total,
                row.idle,
                100.0 * row.spread
            );
        }
        text
    }

    fn rows(&self) -> impl Iterator<Item = (Exchange, &Row)> {
        let all = self.rows.iter();
        all.flat_map(|(&exchange, rows)| rows.iter().map(move |row| (exchange, row)))
    }
}

impl Row {
    fn new(boots: &[&Measured], baseline: Option<&Baseline>) -> Self {
        let median_of = |value: fn(&Measured) -> f64| {
            median(
                &boots
                    .iter()
                    .map(|measured| value(measured))
                    .collect::<Vec<_>>(),
            )
        };
        let exchange = boots[0].exchange;
        let point = Point {
            connections: boots[0].point.connections,
            kernel: median_of(|measured| measured.point.kernel),
            user: median_of(|measured| measured.point.user),
        };
        let totals = boots.iter().map(|measured| measured.point.total());
        let highest = totals.clone().fold(f64::MIN, f64::max);
        let lowest = totals.fold(f64::MAX, f64::min);
        Self {
            point,
            total: point.total(),
            idle: median_of(|measured| measured.work.idle),
            requests: boots[0].requests,
            spread: (highest - lowest) / point.total(),
            change: baseline.and_then(|baseline| baseline.change(exchange, &point)),
            linux_total: linux(exchange, point.connections).map(|(total, _)| total),
        }
    }
}

fn linux(exchange: Exchange, connections: u64) -> Option<(f64, f64)> {
    LINUX
        .iter()
        .find(|row| (row.0, row.1) == (exchange, connections))
        .map(|row| (row.2, row.3))
}

/// The middle value; of an even number, the lower middle one.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Work;

    fn point(kernel: f64) -> Point {
        Point {
            connections: 64,
            kernel,
            user: 100.0,
        }
    }

    fn measured(exchange: Exchange, kernel: f64) -> Measured {
        Measured {
            exchange,
            point: point(kernel),
            windows: vec![point(kernel)],
            requests: 25_600,
            work: Work {
                by_address: Vec::new(),
                idle: 7.0,
            },
        }
    }

    fn baseline(kernel: f64) -> Baseline {
        let mut baseline = Baseline::default();
        baseline.set(Exchange::Get, vec![point(kernel)]);
        baseline
    }

    #[test]
    fn medians_spread_and_change_come_from_all_boots() {
        let boots = [1_910.0, 1_900.0, 1_880.0].map(|get| {
            vec![
                measured(Exchange::Set, 2_400.0),
                measured(Exchange::Get, get),
            ]
        });
        let report = Report::new(&boots, Some(&baseline(1_800.0)));
        let row = &report.rows[&Exchange::Get][0];
        assert_eq!(row.total, 2_000.0);
        assert!((row.spread - 0.015).abs() < 1e-9);
        assert_eq!(report.rows[&Exchange::Set][0].change, None);
        let regressions = report.regressions();
        assert_eq!(regressions.len(), 1, "{regressions:?}");
        assert!(
            regressions[0].starts_with("get, 64 ") && regressions[0].contains("+5.3 %"),
            "{regressions:?}"
        );
        let table = report.render();
        assert!(table.contains("16260 (2415)"), "{table}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["get"][0]["total"], 2_000.0);
        let mut updated = baseline(1.0);
        report.update(&mut updated);
        assert_eq!(updated.change(Exchange::Get, &row.point), Some(0.0));
    }

    #[test]
    fn three_percent_above_is_still_allowed() {
        let boots = [vec![measured(Exchange::Get, 1_959.0)]];
        let report = Report::new(&boots, Some(&baseline(1_900.0)));
        assert!(report.regressions().is_empty());
    }
}
