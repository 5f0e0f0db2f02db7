//! The machine's hardware threads.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All hardware threads of the machine and who holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// An elastic thread that holds a hardware thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// The dataplane.
    pub dataplane: String,
    /// Its elastic thread.
    pub thread: u32,
}
