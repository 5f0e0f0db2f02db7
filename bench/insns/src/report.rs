//! The result of a run over several boots, as table and as JSON.

use serde::Serialize;

use crate::baseline::{Baseline, Point, TOLERANCE};
use crate::run::Measured;
use crate::scaling::Scaling;

/// Linux 6.12 with its igb driver in the same emulator, tuned, measured in the same way:
/// connections, instructions per request, those of them in user mode.
const LINUX: [(u64, f64, f64); 4] = [
    (1, 21_300.0, 140.0),
    (16, 13_650.0, 100.0),
    (64, 12_970.0, 95.0),
    (256, 13_300.0, 97.0),
];

/// Medians over the boots.
#[derive(Serialize)]
pub struct Report {
    /// One for each number of connections.
    pub echo: Vec<Row>,
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
    /// Brings together what each boot measured; all measured at the same numbers of connections.
    pub fn new(boots: &[Vec<Measured>], baseline: Option<&Baseline>) -> Self {
        let points = boots.first().map_or(0, Vec::len);
        let rows = (0..points).map(|index| {
            let measured = boots.iter().map(|boot| &boot[index]).collect::<Vec<_>>();
            Row::new(&measured, baseline)
        });
        Self {
            echo: rows.collect(),
            boots: boots.len(),
            threads: None,
        }
    }

    /// The points, as a baseline.
    pub fn baseline(&self) -> Baseline {
        Baseline {
            echo: self.echo.iter().map(|row| row.point).collect(),
        }
    }

    /// A sentence for each point that is too far above its baseline.
    pub fn regressions(&self) -> Vec<String> {
        let above = |row: &&Row| row.change.is_some_and(|change| change > TOLERANCE);
        let sentence = |row: &Row| {
            format!(
                "{} connections: {:.0} instructions per request, {:+.1} % of the baseline",
                row.point.connections,
                row.total,
                100.0 * row.change.unwrap_or_default()
            )
        };
        self.echo.iter().filter(above).map(sentence).collect()
    }

    /// The table.
    pub fn render(&self) -> String {
        let mut text = format!(
            "Guest instructions per 64-byte echo request (icount, median of {} boots)\n\
             connections   kernel    user    total    idle  spread  baseline   Linux 6.12 (user)\n",
            self.boots
        );
        for row in &self.echo {
            let Point {
                connections,
                kernel,
                user,
            } = row.point;
            let change = row
                .change
                .map_or("-".to_owned(), |c| format!("{:+.1} %", 100.0 * c));
            let linux = linux(connections).map_or("-".to_owned(), |(total, user)| {
                format!("{total:.0} ({user:.0})")
            });
            text += &format!(
                "{connections:11} {kernel:8.0} {user:7.0} {:8.0} {:7.0} {:5.1} % {change:>9}  {linux:>18}\n",
                row.total,
                row.idle,
                100.0 * row.spread
            );
        }
        text
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
            change: baseline.and_then(|baseline| baseline.change(&point)),
            linux_total: linux(point.connections).map(|(total, _)| total),
        }
    }
}

fn linux(connections: u64) -> Option<(f64, f64)> {
    LINUX
        .iter()
        .find(|row| row.0 == connections)
        .map(|row| (row.1, row.2))
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

    fn measured(kernel: f64) -> Vec<Measured> {
        vec![Measured {
            point: Point {
                connections: 64,
                kernel,
                user: 100.0,
            },
            requests: 25_600,
            work: Work {
                by_address: Vec::new(),
                idle: 7.0,
            },
        }]
    }

    #[test]
    fn medians_spread_and_change_come_from_all_boots() {
        let baseline = Baseline {
            echo: vec![Point {
                connections: 64,
                kernel: 1_800.0,
                user: 100.0,
            }],
        };
        let boots = [measured(1_910.0), measured(1_900.0), measured(1_880.0)];
        let report = Report::new(&boots, Some(&baseline));
        let row = &report.echo[0];
        assert_eq!(row.total, 2_000.0);
        assert!((row.spread - 0.015).abs() < 1e-9);
        assert_eq!(report.regressions().len(), 1);
        assert!(
            report.regressions()[0].contains("+5.3 %"),
            "{:?}",
            report.regressions()
        );
        let table = report.render();
        assert!(table.contains("12970 (95)"), "{table}");
        assert_eq!(report.baseline().echo[0], row.point);
    }

    #[test]
    fn three_percent_above_is_still_allowed() {
        let baseline = Baseline {
            echo: vec![Point {
                connections: 64,
                kernel: 1_900.0,
                user: 100.0,
            }],
        };
        let report = Report::new(&[measured(1_959.0)], Some(&baseline));
        assert!(report.regressions().is_empty());
    }
}
