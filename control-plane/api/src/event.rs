//! What has changed, and why a policy decided so.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts events, from 1 since the daemon's start.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The dataplane concerned.
    pub dataplane: String,
    /// In words.
    pub text: String,
}

/// A listener was too slow for the events, and has missed some. It comes in their place, as a server-sent
/// event named `lagged`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A dataplane was started.
    Started,
    /// It serves.
    Running,
    /// A daemon that came up found it.
    Adopted,
    /// Its machine has ended.
    Ended,
    /// It was removed.
    Removed,
    /// It was granted a hardware thread.
    Granted,
    /// A hardware thread was taken from it.
    Revoked,
    /// Flow groups have moved.
    Migrated,
    /// Its policy was changed.
    Policy,
    /// Its application stayed in user mode longer than it may.
    Overstayed,
    /// Something could not be done.
    Failed,
}

/// What a policy decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// About which dataplane.
    pub dataplane: String,
    /// What.
    pub action: Action,
    /// Threads that it had.
    pub granted: u32,
    /// Why.
    pub reason: String,
}

/// What a policy can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Grant one more hardware thread.
    Grow,
    /// Take one away.
    Shrink,
    /// Leave it.
    Keep,
}
