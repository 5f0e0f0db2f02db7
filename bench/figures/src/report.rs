//! What was measured, as data.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bed::System;
use crate::conditions::Conditions;
use crate::plot::short;
use crate::targets::{Goal, Measured, Row};

/// Everything of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Under which conditions.
    pub conditions: Conditions,
    /// What is wanted, and what became of it.
    pub targets: Vec<Row>,
    /// What is missing, and why.
    pub failures: Vec<Failure>,
    /// The plots.
    pub figures: Vec<Figure>,
}

/// A part of a figure that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The figure.
    pub figure: u8,
    /// Which part of it.
    pub part: String,
    /// What went wrong.
    pub why: String,
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
    /// What 1, 2 and so on stand for, if its values are kinds of something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
}

impl Axis {
    /// Equal steps are equal differences.
    pub fn linear(label: &'static str) -> Self {
        Self {
            label,
            is_logarithmic: false,
            kinds: Vec::new(),
        }
    }

    /// Equal steps are equal factors.
    pub fn logarithmic(label: &'static str) -> Self {
        Self {
            label,
            is_logarithmic: true,
            kinds: Vec::new(),
        }
    }

    /// Values 1, 2 and so on stand for these.
    pub fn kinds(label: &'static str, kinds: Vec<String>) -> Self {
        Self {
            kinds,
            ..Self::linear(label)
        }
    }

    /// What a value is called; empty between kinds.
    pub fn text(&self, value: f64, number: impl Fn(f64) -> String) -> String {
        if self.kinds.is_empty() {
            return number(value);
        }
        let is_whole = value.fract() == 0.0 && value >= 1.0;
        let kind = is_whole.then(|| self.kinds.get(value as usize - 1));
        kind.flatten().cloned().unwrap_or_default()
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

impl Series {
    /// A line of a system.
    pub fn of(system: System, points: Vec<Point>) -> Self {
        Self {
            name: system.name().to_owned(),
            points,
        }
    }
}

impl Point {
    /// Without a note.
    pub fn new(x: f64, y: Spread) -> Self {
        Self { x, y, note: None }
    }

    /// The middle of its measurements and its note, for a line of progress.
    pub fn text(&self) -> String {
        let note = self.note.as_deref().unwrap_or_default();
        format!("{} {note}", short(self.y.median))
    }
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

impl Report {
    /// With nothing measured yet.
    pub fn new(conditions: Conditions) -> Self {
        Self {
            conditions,
            targets: Goal::ALL.map(Row::open).to_vec(),
            failures: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Enters what was measured of a goal.
    pub fn reach(&mut self, goal: Goal, measured: Measured) {
        let mut rows = self.targets.iter_mut();
        let row = rows.find(|row| row.goal == goal);
        *row.expect("every goal has a row") = Row::measured(goal, measured);
    }

    /// The targets as a table for the terminal.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("a string takes everything");
        };
        for row in &self.targets {
            let (what, unit, verdict) = (row.what, row.unit, row.verdict);
            let wanted = row.wanted.text();
            let Some(measured) = &row.measured else {
                line(format_args!("{what}, {unit}: {verdict}; wanted {wanted}"));
                continue;
            };
            let beside = measured
                .linux
                .zip(measured.ratio())
                .map_or(String::new(), |(linux, ratio)| {
                    format!(" against {:.1}, {ratio:.3} x", linux.median)
                });
            let ours = measured.ours.median;
            line(format_args!(
                "{what}, {unit}: {ours:.1}{beside}; wanted {wanted}: {verdict}"
            ));
        }
        for Failure { figure, part, why } in &self.failures {
            line(format_args!("figure {figure}, {part} is missing: {why}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::tests::conditions;

    #[test]
    fn spreads_have_a_middle_and_two_ends() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 9.0, 0.5]);
        assert_eq!((spread.min, spread.median, spread.max), (0.5, 2.0, 9.0));
    }

    #[test]
    fn the_summary_tells_what_was_reached_and_what_is_missing() {
        let mut report = Report::new(conditions());
        let spread = |value| Spread::of(&[value]);
        let measured = Measured::new(spread(90_000.0)).beside(spread(6_000.0));
        report.reach(Goal::EchoRate, measured);
        report.failures.push(Failure {
            figure: 3,
            part: "Linux guest".to_owned(),
            why: "it went away".to_owned(),
        });
        let text = report.summary();
        for part in [
            "90000.0 against 6000.0, 15.000 x; wanted at least 10 x Linux: met",
            "memcached GET, guest instructions: not measured; wanted at most 2000",
            "figure 3, Linux guest is missing: it went away",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
