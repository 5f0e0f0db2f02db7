//! The keys that say how long the application may stay in user mode, and what happens if it stays
//! longer.

use ix_hal::Duration;

use super::number;

/// How long a round of the application may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimit {
    /// `limit_ms=10`: the limit, or `off`.
    pub time: Option<Duration>,
    /// `overstay=warn`: what happens beyond it.
    pub overstay: Overstay,
}

/// What happens to an application that stays in user mode beyond its limit. In either case the network
/// is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overstay {
    /// It is counted and reported.
    Warn,
    /// It is stopped as if it had faulted.
    Kill,
}

impl Default for UserLimit {
    fn default() -> Self {
        Self {
            time: Some(Duration::from_millis(10)),
            overstay: Overstay::Warn,
        }
    }
}

impl UserLimit {
    /// What `limit_ms` takes.
    pub(super) const TIMES: &str = "1 to 60000 ms, or off";
    /// What `overstay` takes.
    pub(super) const ANSWERS: &str = "warn or kill";
}

pub(super) fn time(value: &str) -> Option<Option<Duration>> {
    match value {
        "off" => Some(None),
        _ => Some(Some(Duration::from_millis(
            number(value, 1, 60_000)?.into(),
        ))),
    }
}

pub(super) fn overstay(value: &str) -> Option<Overstay> {
    match value {
        "warn" => Some(Overstay::Warn),
        "kill" => Some(Overstay::Kill),
        _ => None,
    }
}
