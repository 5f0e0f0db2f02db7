//! What the wire of a dataplane does to frames.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a wire does, and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Wire {
    /// What it does to frames from now on.
    pub impairment: Impairment,
    /// What it has done.
    pub counts: WireCounts,
}

/// Frames that an impairment meets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Affected {
    /// All.
    #[default]
    Both,
    /// Those to the dataplane.
    In,
    /// Those from the dataplane.
    Out,
}

/// How bad a wire is. Probabilities are between 0 and 1 and apply to each frame; what is left out is
/// good.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Impairment {
    /// Which frames.
    pub direction: Affected,
    /// Probability that a frame is lost.
    pub loss: f64,
    /// Probability that a burst of losses begins with a frame (Gilbert and Elliott's model).
    pub burst_enter: f64,
    /// Probability that a burst ends with a frame.
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
    /// How much longer it takes at most, in microseconds.
    pub jitter_us: u64,
    /// Megabits a second in each direction; 0 for no bound.
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

/// What a wire has done to frames, in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
