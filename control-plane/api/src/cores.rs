//! The machine's hardware threads.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All hardware threads of the machine and who holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CoreMap {
    /// Whether the map is made up: nothing is pinned then.
    pub emulated: bool,
    /// The hardware threads, by number.
    pub threads: Vec<HardwareThread>,
}

/// A hardware thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HardwareThread {
    /// Linux's number of the CPU.
    pub id: u32,
    /// The core that it is part of, by the number of the core's first hardware thread.
    pub core: u32,
    /// The package that the core is part of.
    pub package: u32,
    /// Who has it.
    #[serde(rename = "use")]
    pub used: Use,
}

/// Who has a hardware thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Linux, always.
    Reserved,
    /// Linux, until it is granted.
    Free,
    /// A dataplane.
    Granted(Holder),
}

/// What of a dataplane holds a hardware thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The dataplane.
    pub dataplane: String,
    /// Its elastic thread; none if it is its background threads.
    pub thread: Option<u32>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.thread {
            Some(thread) => write!(f, "{} (thread {thread})", self.dataplane),
            None => write!(f, "{} (background)", self.dataplane),
        }
    }
}
