//! What was measured, as data.

use std::fmt::Write as _;

use serde::Serialize;

use crate::conditions::Conditions;

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Under which conditions.
    pub conditions: Conditions,
    /// The comparisons that have a target.
    pub headlines: Vec<Headline>,
    /// The plots.
    pub figures: Vec<Figure>,
}

/// This dataplane and Linux in one number each.
#[derive(Clone, Debug, Serialize)]
pub struct Headline {
    /// What is compared.
    pub what: String,
    /// Of what the numbers are.
    pub unit: &'static str,
    /// This dataplane.
    pub ours: Spread,
    /// The Linux guest.
    pub linux: Spread,
    /// What is wanted.
    pub target: Target,
}

/// What is wanted of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At least so many times Linux's number.
    AtLeastTimes(f64),
    /// At most this share of Linux's number.
    AtMostShare(f64),
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// One plot.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its number; parts of a figure share it.
    pub number: u8,
    /// What it shows.
    pub title: String,
    /// What else the reader has to know.
    pub caption: String,
    /// The axes.
    pub x: Axis,
    /// See `x`.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// An axis.
#[derive(Clone, Debug, Serialize)]
pub struct Axis {
    /// Its name, with the unit.
    pub label: &'static str,
    /// Equal steps are equal factors.
    pub is_logarithmic: bool,
}

impl Axis {
    /// Equal steps are equal differences.
    pub fn linear(label: &'static str) -> Self {
        Self {
            label,
            is_logarithmic: false,
        }
    }

    /// Equal steps are equal factors.
    pub fn logarithmic(label: &'static str) -> Self {
        Self {
            label,
            is_logarithmic: true,
        }
    }
}

/// A line of a plot.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Whose it is.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Where it is.
    pub x: f64,
    /// What was measured there.
    pub y: Spread,
    /// What is to be said of it.
    pub note: Option<String>,
}

impl Spread {
    /// Of at least one measurement.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            median: sorted[sorted.len() / 2],
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }
}

impl Headline {
    /// Our number per Linux's.
    pub fn ratio(&self) -> f64 {
        self.ours.median / self.linux.median
    }

    /// Whether the target is reached.
    pub fn is_met(&self) -> bool {
        match self.target {
            Target::AtLeastTimes(times) => self.ratio() >= times,
            Target::AtMostShare(share) => self.ratio() <= share,
        }
    }

    /// The target in words.
    pub fn target_text(&self) -> String {
        match self.target {
            Target::AtLeastTimes(times) => format!("at least {times} x"),
            Target::AtMostShare(share) => format!("at most {share} x"),
        }
    }

    /// How far the target is away, if it is missed.
    pub fn verdict(&self) -> String {
        let wanted = match self.target {
            Target::AtLeastTimes(wanted) | Target::AtMostShare(wanted) => wanted,
        };
        match self.is_met() {
            true => "met".to_owned(),
            false => format!("missed: {:.2} of it", self.ratio() / wanted),
        }
    }
}

impl Report {
    /// With nothing measured yet.
    pub fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            headlines: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// The comparisons as a table for the terminal.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for headline in &self.headlines {
            let (ours, linux) = (headline.ours.median, headline.linux.median);
            let (what, unit) = (&headline.what, headline.unit);
            writeln!(
                text,
                "{what}: {ours:.1} against {linux:.1} {unit}, {:.3} x; wanted {}: {}",
                headline.ratio(),
                headline.target_text(),
                headline.verdict()
            )
            .expect("a string takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headline(ours: f64, linux: f64, target: Target) -> Headline {
        Headline {
            what: "echo".to_owned(),
            unit: "requests/s",
            ours: Spread::of(&[ours]),
            linux: Spread::of(&[linux]),
            target,
        }
    }

    #[test]
    fn spreads_have_a_middle_and_two_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 9.0, 0.5]);
        assert_eq!((spread.min, spread.median, spread.max), (0.5, 2.0, 9.0));
    }

    #[test]
    fn targets_are_met_or_missed_by_so_much() {
        let throughput = headline(50.0, 10.0, Target::AtLeastTimes(10.0));
        assert!(!throughput.is_met());
        assert_eq!(throughput.verdict(), "missed: 0.50 of it");
        assert!(headline(100.0, 10.0, Target::AtLeastTimes(10.0)).is_met());
        let instructions = headline(1000.0, 13_000.0, Target::AtMostShare(0.1));
        assert_eq!(instructions.verdict(), "met");
        assert!(!headline(2000.0, 13_000.0, Target::AtMostShare(0.1)).is_met());
    }
}
