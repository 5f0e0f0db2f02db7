//! Counts guest instructions per request under `-icount`, and says which functions executed them.
#![forbid(unsafe_code)]

pub mod annotate;
pub mod baseline;
pub mod client;
pub mod code;
pub mod profile;
pub mod sample;
pub mod work;
