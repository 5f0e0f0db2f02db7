//! The checked-in baseline, and the comparison with it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

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

/// The points of the echo measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// One for each number of connections.
    pub echo: Vec<Point>,
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

    /// How much `measured` is above (positive) or below its point here; `None` without a point.
    pub fn change(&self, measured: &Point) -> Option<f64> {
        let base = self
            .echo
            .iter()
            .find(|point| point.connections == measured.connections)?;
        Some(measured.total() / base.total() - 1.0)
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "# Guest instructions per 64-byte echo request, without empty polls.\n\
             # Written by `cargo xtask bench insns --update`; a measurement 3 % above fails.\n",
        );
        for Point {
            connections,
            kernel,
            user,
        } in &self.echo
        {
            text += &format!(
                "\n[[echo]]\nconnections = {connections}\nkernel = {kernel:.1}\nuser = {user:.1}\n"
            );
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

    #[test]
    fn file_round_trips() {
        let baseline = Baseline {
            echo: vec![point(1, 2900.0), point(64, 1900.5)],
        };
        assert_eq!(
            toml::from_str::<Baseline>(&baseline.render()).unwrap(),
            baseline
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Baseline>("echo = []\nudp = 1\n").is_err());
    }

    #[test]
    fn change_is_relative_to_the_point_of_the_same_load() {
        let baseline = Baseline {
            echo: vec![point(1, 2900.0), point(64, 1900.0)],
        };
        assert!((baseline.change(&point(64, 1960.0)).unwrap() - 0.03).abs() < 1e-9);
        assert!((baseline.change(&point(1, 2870.0)).unwrap() + 0.01).abs() < 1e-9);
        assert_eq!(baseline.change(&point(16, 1.0)), None);
    }
}
