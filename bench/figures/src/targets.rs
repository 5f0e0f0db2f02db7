//! What is wanted of this dataplane, and what became of it: the table that the report begins with.
//!
//! [`Goal::ALL`] is the list, whatever a run measures, so that what was not measured shows as well. The figure
//! that measures a goal hands a [`Measured`] to [`crate::report::Report::reach`].

use ix_insns::profile::{self, Profile};
use serde::Serialize;

use crate::report::Spread;

/// Functions of a profile that are shown.
const SHOWN: usize = 24;

/// One thing that is wanted, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Echo on 64 connections: requests a second.
    EchoRate,
    /// The same: guest instructions beside Linux's.
    EchoShare,
    /// The same by themselves.
    EchoInstructions,
    /// One connection: a request's time in the guest.
    Residence,
    /// One connection: the round trip at the client.
    RoundTrip,
    /// Connections with one message each, a second.
    ConnectRate,
    /// Guest instructions of one, as in the paper.
    ConnectInstructions,
    /// Guest instructions of one that ends by FIN.
    FinInstructions,
    /// Facebook's general pool: requests a second within the bound of the tail.
    EtcRate,
    /// Facebook's pool of user accounts, likewise.
    UsrRate,
    /// Guest instructions of a GET.
    GetInstructions,
    /// What is left of the rate with very many connections, by instructions.
    ManyConnections,
}

/// What is wanted of a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// At least so many times Linux's.
    AtLeastTimes(f64),
    /// At most this share of Linux's.
    AtMostShare(f64),
    /// At least so much.
    AtLeast(f64),
    /// At most so much.
    AtMost(f64),
}

impl Goal {
    /// All of them, in the order of the table.
    pub const ALL: [Goal; 12] = [
        Goal::EchoRate,
        Goal::EchoShare,
        Goal::EchoInstructions,
        Goal::Residence,
        Goal::RoundTrip,
        Goal::ConnectRate,
        Goal::ConnectInstructions,
        Goal::FinInstructions,
        Goal::EtcRate,
        Goal::UsrRate,
        Goal::GetInstructions,
        Goal::ManyConnections,
    ];

    /// What is compared, and of what its numbers are.
    pub fn what(self) -> (&'static str, &'static str) {
        const ECHO: &str = "echo of 64 bytes, 64 connections, one core";
        const CONNECT: &str = "connect, one message, close by RST";
        const FIN: &str = "connect, one message, close by FIN";
        match self {
            Goal::EchoRate => (ECHO, "requests/s"),
            Goal::EchoShare | Goal::EchoInstructions => (ECHO, "guest instructions"),
            Goal::Residence => (
                "time of a 64-byte request in the guest, one connection",
                "us",
            ),
            Goal::RoundTrip => ("round trip of 64 bytes at the client, one connection", "us"),
            Goal::ConnectRate => (CONNECT, "connections/s"),
            Goal::ConnectInstructions => (CONNECT, "guest instructions"),
            Goal::FinInstructions => (FIN, "guest instructions"),
            Goal::EtcRate => ("memcached ETC within the bound of the tail", "requests/s"),
            Goal::UsrRate => ("memcached USR within the bound of the tail", "requests/s"),
            Goal::GetInstructions => ("memcached GET", "guest instructions"),
            Goal::ManyConnections => (
                "echo on the most connections, of the peak rate by instructions",
                "share",
            ),
        }
    }

    /// What is wanted.
    pub fn wanted(self) -> Wanted {
        match self {
            Goal::EchoRate | Goal::ConnectRate => Wanted::AtLeastTimes(10.0),
            Goal::EchoShare => Wanted::AtMostShare(0.1),
            Goal::EchoInstructions => Wanted::AtMost(1_300.0),
            Goal::Residence => Wanted::AtMostShare(0.25),
            Goal::RoundTrip => Wanted::AtMostShare(1.0),
            Goal::ConnectInstructions | Goal::FinInstructions => Wanted::AtMost(5_000.0),
            Goal::EtcRate | Goal::UsrRate => Wanted::AtLeastTimes(4.0),
            Goal::GetInstructions => Wanted::AtMost(2_000.0),
            Goal::ManyConnections => Wanted::AtLeast(0.8),
        }
    }

    /// The figure that measures it.
    pub fn figure(self) -> u8 {
        match self {
            Goal::Residence | Goal::RoundTrip => 1,
            Goal::EchoRate | Goal::ConnectRate => 2,
            Goal::ManyConnections => 3,
            Goal::EtcRate | Goal::UsrRate => 4,
            Goal::EchoShare
            | Goal::EchoInstructions
            | Goal::ConnectInstructions
            | Goal::FinInstructions
            | Goal::GetInstructions => 7,
        }
    }
}

impl Wanted {
    /// In words.
    pub fn text(self) -> String {
        match self {
            Wanted::AtLeastTimes(times) => format!("at least {times} x Linux"),
            Wanted::AtMostShare(share) => format!("at most {share} x Linux"),
            Wanted::AtLeast(number) => format!("at least {number}"),
            Wanted::AtMost(number) => format!("at most {number}"),
        }
    }
}

/// What was measured of a goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// This dataplane.
    pub ours: Spread,
    /// The Linux guest, where there is something to compare.
    pub linux: Option<Spread>,
    /// How it was measured, as far as the table does not say.
    pub note: Option<String>,
    /// Where this dataplane's instructions go, if that was looked at: costliest first.
    pub profile: Vec<Cost>,
}

/// Instructions of a function for each request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// File and name.
    pub function: String,
    /// Whether it runs in the kernel.
    pub kernel: bool,
    /// Its own, without those of what it calls.
    pub instructions: f64,
}

impl Cost {
    /// The costliest functions of a profile.
    pub fn of(profile: &Profile) -> Vec<Self> {
        let functions = profile.functions.iter().take(SHOWN);
        let cost = |row: &profile::Row| Self {
            function: row.name.clone(),
            kernel: row.kernel,
            instructions: row.own,
        };
        functions.map(cost).collect()
    }
}

impl Measured {
    /// A number of this dataplane alone.
    pub fn new(ours: Spread) -> Self {
        Self {
            ours,
            linux: None,
            note: None,
            profile: Vec::new(),
        }
    }

    /// Beside Linux's.
    #[must_use]
    pub fn beside(mut self, linux: Spread) -> Self {
        self.linux = Some(linux);
        self
    }

    /// With what the reader has to know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With where the instructions go.
    #[must_use]
    pub fn profile(mut self, profile: &[Cost]) -> Self {
        self.profile = profile.to_vec();
        self
    }

    /// Our number per Linux's.
    pub fn ratio(&self) -> Option<f64> {
        self.linux.map(|linux| self.ours.median / linux.median)
    }
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What is wanted.
    pub goal: Goal,
    /// See [`Goal::what`].
    pub what: &'static str,
    /// See [`Goal::what`].
    pub unit: &'static str,
    /// See [`Goal::figure`].
    pub figure: u8,
    /// See [`Goal::wanted`].
    pub wanted: Wanted,
    /// What was measured, if it was.
    pub measured: Option<Measured>,
    /// What it came to.
    pub verdict: Verdict,
}

/// What a goal came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was not measured.
    Open,
    /// It is reached.
    Met,
    /// It is not, by this factor.
    MissedBy(f64),
}

impl Row {
    /// Of a goal that is not measured yet.
    pub fn open(goal: Goal) -> Self {
        let (what, unit) = goal.what();
        Self {
            goal,
            what,
            unit,
            figure: goal.figure(),
            wanted: goal.wanted(),
            measured: None,
            verdict: Verdict::Open,
        }
    }

    /// Of a goal that was measured. Without Linux's number a comparison with it stays open.
    pub fn measured(goal: Goal, measured: Measured) -> Self {
        let ours = measured.ours.median;
        let excess = match goal.wanted() {
            Wanted::AtLeastTimes(times) => measured.ratio().map(|ratio| times / ratio),
            Wanted::AtMostShare(share) => measured.ratio().map(|ratio| ratio / share),
            Wanted::AtLeast(number) => Some(number / ours),
            Wanted::AtMost(number) => Some(ours / number),
        };
        let verdict = match excess {
            None => Verdict::Open,
            Some(excess) if excess <= 1.0 => Verdict::Met,
            Some(excess) => Verdict::MissedBy(excess),
        };
        Self {
            measured: Some(measured),
            verdict,
            ..Self::open(goal)
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Open => out.write_str("not measured"),
            Verdict::Met => out.write_str("met"),
            Verdict::MissedBy(factor) => write!(out, "missed by a factor of {factor:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(goal: Goal, ours: f64, linux: Option<f64>) -> Verdict {
        let mut measured = Measured::new(Spread::of(&[ours]));
        if let Some(linux) = linux {
            measured = measured.beside(Spread::of(&[linux]));
        }
        Row::measured(goal, measured).verdict
    }

    #[test]
    fn goals_are_met_or_missed_by_so_much() {
        let missed = Verdict::MissedBy(2.0);
        assert_eq!(verdict(Goal::EchoRate, 50.0, Some(10.0)), missed);
        assert_eq!(verdict(Goal::EchoRate, 100.0, Some(10.0)), Verdict::Met);
        assert_eq!(verdict(Goal::Residence, 20.0, Some(40.0)), missed);
        assert_eq!(verdict(Goal::Residence, 10.0, Some(40.0)), Verdict::Met);
        assert_eq!(verdict(Goal::EchoInstructions, 2_600.0, None), missed);
        assert_eq!(verdict(Goal::ManyConnections, 0.4, None), missed);
        assert_eq!(verdict(Goal::ManyConnections, 0.81, None), Verdict::Met);
        assert_eq!(missed.to_string(), "missed by a factor of 2.00");
    }

    #[test]
    fn what_lacks_linux_stays_open() {
        assert_eq!(verdict(Goal::EchoRate, 50.0, None), Verdict::Open);
    }

    #[test]
    fn the_table_has_each_goal_once() {
        for (index, goal) in Goal::ALL.iter().enumerate() {
            assert!(!Goal::ALL[..index].contains(goal), "{goal:?}");
            assert!((1..=7).contains(&goal.figure()));
        }
    }
}
