//! What a dataplane did over the last minutes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The recent past of a dataplane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// Time between two samples, in milliseconds.
    pub period_ms: u64,
    /// Samples that are kept at most; the oldest one goes first.
    pub capacity: u32,
    /// The samples, the latest one last.
    pub samples: Vec<Sample>,
}

/// What a dataplane did in the time since the sample before. All its threads together, unless it says
/// something else.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Threads that served.
    pub granted: u32,
    /// Frames received in a second.
    pub rx_frames: f64,
    /// Frames sent in a second.
    pub tx_frames: f64,
    /// Bytes received in a second.
    pub rx_bytes: f64,
    /// Bytes sent in a second.
    pub tx_bytes: f64,
    /// Connections.
    pub connections: u64,
    /// Part of the time in which the threads that served had something to do, 0 to 1.
    pub busy: f64,
    /// Frames that wait in the RX ring of the thread where most do, average over 1 s.
    pub waiting: f64,
    /// Nanoseconds of a busy cycle of the slowest thread, average over 1 s: from taking a batch of frames
    /// to having sent what the application answered. It is the part of the latency that the dataplane
    /// knows: a frame that has waited behind others waited for that many cycles more.
    pub loop_ns: f64,
    /// Frames lost or not sent in a second, for whatever reason.
    pub drops: f64,
}
