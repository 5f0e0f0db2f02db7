//! The checked-in baseline, and the comparison with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::exchange::Exchange;

/// A measurement may be this much above the baseline.
pub const TOLERANCE: f64 = 0.03;

/// Instructions per request at one number of connections.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Open connections, each with one request under way.
    pub connections: u64,
    /// Instructions in kernel mode.
    pub kernel: f64,
    /// Instructions in user mode.
    pub user: f64,
}

impl Point {
    /// Kernel and user instructions.
    pub fn total(&self) -> f64 {
        self.kernel + self.user
    }
}

/// The points of each kind of request, one for each number of connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Baseline {
    points: BTreeMap<Exchange, Vec<Point>>,
}

impl Baseline {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read the baseline {}: write one with --update",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| format!("{} is not a baseline", path.display()))
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.render())
            .with_context(|| format!("cannot write the baseline {}", path.display()))
    }

    /// Replaces all points of an exchange.
    pub fn set(&mut self, exchange: Exchange, points: Vec<Point>) {
        self.points.insert(exchange, points);
    }

    /// How much `measured` is above (positive) or below its point here; `None` without a point.
    pub fn change(&self, exchange: Exchange, measured: &Point) -> Option<f64> {
        let base = self
            .points
            .get(&exchange)?
            .iter()
            .find(|point| point.connections == measured.connections)?;
        Some(measured.total() / base.total() - 1.0)
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "# Guest instructions per request, without empty polls: an echo of 64 bytes, and of memcached a GET\n\
             # and a SET of 32 bytes.\n\
             # Written by `cargo xtask bench insns --update`; a measurement 3 % above fails.\n",
        );
        for (exchange, points) in &self.points {
            for Point {
                connections,
                kernel,
                user,
            } in points
            {
                text += &format!(
                    "\n[[{}]]\nconnections = {connections}\nkernel = {kernel:.1}\nuser = {user:.1}\n",
                    exchange.name()
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(connections: u64, kernel: f64) -> Point {
        Point {
            connections,
            kernel,
            user: 100.0,
        }
    }

    fn baseline() -> Baseline {
        let mut baseline = Baseline::default();
        baseline.set(Exchange::Echo, vec![point(1, 2900.0), point(64, 1900.0)]);
        baseline.set(Exchange::Get, vec![point(64, 3000.5)]);
        baseline
    }

    #[test]
    fn file_round_trips() {
        let baseline = baseline();
        assert_eq!(
            toml::from_str::<Baseline>(&baseline.render()).unwrap(),
            baseline
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Baseline>("echo = []\nudp = []\n").is_err());
    }

    #[test]
    fn change_is_relative_to_the_point_of_the_same_load() {
        let baseline = baseline();
        let change = |measured| baseline.change(Exchange::Echo, &measured);
        assert!((change(point(64, 1960.0)).unwrap() - 0.03).abs() < 1e-9);
        assert!((change(point(1, 2870.0)).unwrap() + 0.01).abs() < 1e-9);
        assert_eq!(change(point(16, 1.0)), None);
        assert_eq!(baseline.change(Exchange::Get, &point(1, 1.0)), None);
        assert_eq!(baseline.change(Exchange::Set, &point(64, 1.0)), None);
    }
}
