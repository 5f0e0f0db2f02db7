//! Fakes to run an engine with on the host: memory, a pool, a NIC's transmit side that checks
//! what it is asked to do, an event queue ([`Host`]); a wire with seeded faults ([`Link`]); a small
//! application that sends and verifies streams ([`App`]); and virtual time for two stations
//! ([`Network`]), whose frames a [`Monitor`] checks; whole simulations from a seed ([`Scenario`]);
//! the cases of RFC 9293 that packet scripts have to cover ([`Situation`]); and the body of the fuzz targets ([`fuzz()`]).

mod app;
mod conditions;
mod fuzz;
mod host;
mod invariants;
mod link;
mod monitor;
mod network;
mod random;
mod scenario;
mod segmenter;
mod situation;
mod trace;

pub use app::{App, Role, STREAM_PERIOD, Script, stream_byte};
pub use conditions::Condition;
pub use fuzz::{FuzzMode, fuzz};
pub use host::{APP_BUS, Host, Queue, Wire, checked_frame};
pub use link::{Faults, Link, Tally};
pub use monitor::Monitor;
pub use network::{EngineStation, Network, Station};
pub use random::Random;
pub use scenario::{Incident, Outcome, Room, Scenario};
pub use situation::Situation;
pub use trace::Tracer;
