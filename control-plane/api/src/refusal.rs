//! Why something was not done.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why something was not done, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// What kind of reason it is.
    pub kind: Kind,
    /// The reason.
    pub reason: String,
    /// What would help.
    pub remedy: String,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What was asked for makes no sense.
    Invalid,
    /// What was named is not there.
    Absent,
    /// It cannot be in the present state, such as when others hold what is asked for.
    Conflict,
    /// The caller may not.
    Forbidden,
    /// It should have worked.
    Failed,
}

impl Refusal {
    /// A refusal.
    pub fn new(kind: Kind, reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal {
            kind,
            reason: reason.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.reason, self.remedy)
    }
}

impl std::error::Error for Refusal {}
