//! What a wire does to frames ([`Impairment`]) and has done ([`WireCounts`]): said by flags and by JSON to
//! the NIC model, which does it, and to the control plane, which passes it on.

#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

/// Longest delay and jitter.
const DELAY_MAX_US: u64 = 10_000_000;

/// What a wire does, and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WireState {
    /// What it does to frames from now on.
    pub impairment: Impairment,
    /// What it has done.
    pub counts: WireCounts,
}

/// Frames that an impairment meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Affected {
    /// All.
    #[default]
    Both,
    /// Those that the device is to receive.
    In,
    /// Those that the device has sent.
    Out,
}

/// How bad a wire is. Probabilities are between 0 and 1 and apply to each frame; what is left out is
/// good.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Impairment {
    /// Which frames.
    pub direction: Affected,
    /// Probability that a frame is lost.
    pub loss: f64,
    /// Probability that a burst of losses begins with a frame (Gilbert and Elliott's model).
    pub burst_enter: f64,
    /// Probability that it ends with a frame.
    pub burst_leave: f64,
    /// Probability that a frame within a burst is lost.
    pub burst_loss: f64,
    /// Probability that a frame is held back until the next one has passed.
    pub reorder: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Probability that a bit of a frame is wrong.
    pub corrupt: f64,
    /// How long a frame takes, in microseconds.
    pub delay_us: u64,
    /// How much longer it takes at most, in microseconds. Frames keep their order.
    pub jitter_us: u64,
    /// Megabits a second in each direction, with what a frame has around it on a wire; 0 for no bound.
    pub rate_mbit: f64,
    /// Seed of what happens at random.
    pub seed: u64,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            direction: Affected::Both,
            loss: 0.0,
            burst_enter: 0.0,
            burst_leave: 0.0,
            burst_loss: 1.0,
            reorder: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            delay_us: 0,
            jitter_us: 0,
            rate_mbit: 0.0,
            seed: 1,
        }
    }
}

impl Impairment {
    /// Whether frames pass unharmed and at once.
    pub fn is_none(&self) -> bool {
        let harm = [
            self.loss,
            self.burst_enter,
            self.reorder,
            self.duplicate,
            self.corrupt,
            self.rate_mbit,
        ];
        harm.iter().all(|it| *it <= 0.0) && self.delay_us == 0 && self.jitter_us == 0
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), String> {
        for (name, probability) in [
            ("loss", self.loss),
            ("burst_enter", self.burst_enter),
            ("burst_leave", self.burst_leave),
            ("burst_loss", self.burst_loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
        ] {
            if !(0.0..=1.0).contains(&probability) {
                return Err(format!(
                    "{name} is {probability}: use a probability from 0 to 1"
                ));
            }
        }
        if self.burst_enter > 0.0 && self.burst_leave <= 0.0 {
            return Err("a burst would never end: set burst_leave, too".to_owned());
        }
        if self.delay_us.max(self.jitter_us) > DELAY_MAX_US {
            return Err(format!(
                "a delay of more than {DELAY_MAX_US} us: use a shorter one"
            ));
        }
        if !(self.rate_mbit >= 0.0 && self.rate_mbit.is_finite()) {
            return Err(format!(
                "rate_mbit is {}: use 0 for no bound",
                self.rate_mbit
            ));
        }
        Ok(())
    }
}

/// Reads a probability as people write it: `0.01` or `1%`.
///
/// # Errors
/// If it is none.
pub fn probability(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.parse::<f64>().map(|number| number / scale) {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("use a probability like 0.01 or 1%".into()),
    }
}

/// What an impaired wire has done to frames, in both directions, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct WireCounts {
    /// Frames that met an impairment.
    pub frames: u64,
    /// Frames lost for themselves.
    pub lost: u64,
    /// Frames lost in bursts.
    pub lost_in_bursts: u64,
    /// Frames held back.
    pub reordered: u64,
    /// Frames delivered twice.
    pub duplicated: u64,
    /// Frames with a wrong bit.
    pub corrupted: u64,
    /// Frames dropped since too many were under way.
    pub overflowed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_may_be_percentages() {
        assert_eq!(probability("0.25"), Ok(0.25));
        assert_eq!(probability("25%"), Ok(0.25));
        for text in ["1.5", "150%", "-1", "x", "%", "NaN"] {
            assert!(probability(text).is_err(), "{text}");
        }
    }
}
