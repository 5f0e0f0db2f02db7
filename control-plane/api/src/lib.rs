//! What the control plane's daemon and its clients say to each other, as JSON over HTTP; definitions
//! of dataplanes are also read from TOML. Keys that nobody knows are refused.
//!
//! | module | what |
//! |---|---|
//! | [`definition`] | what a dataplane is made of, as a user writes it |
//! | [`dataplane`] | what is known of one that runs, and what can be asked of it |
//! | [`cores`] | the machine's hardware threads and who holds them |
//! | [`event`] | what has changed, and why a policy decided so |
//! | [`history`] | what a dataplane did over the last minutes |
//! | [`wire`] | what its wire does to frames |
//! | [`refusal`] | why something was not done, and what to do about it |

#![forbid(unsafe_code)]

pub mod cores;
pub mod dataplane;
pub mod definition;
pub mod event;
pub mod history;
pub mod refusal;
pub mod wire;

pub use cores::{CoreMap, HardwareThread, Holder, Use};
pub use dataplane::{
    Dataplane, FlowGroup, GrantRequest, MigrateRequest, Moved, RevokeRequest, State, Stats,
    ThreadStats,
};
pub use definition::{Accel, Definition, LogLevel, Mode, Policy};
pub use event::{Action, Decision, Event, EventKind, Lagged};
pub use history::{History, Sample};
pub use refusal::{Kind, Refusal};
pub use wire::{Affected, Impairment, Wire, WireCounts};

/// Version of the interface; the first part of every path but those of metrics and description.
pub const VERSION: &str = "v1";
/// Socket of the daemon, unless it is told another one.
pub const SOCKET: &str = "/run/ixcp/ixcpd.sock";
