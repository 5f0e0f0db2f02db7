//! What the wire of a dataplane does to frames: the words of its NIC model.

pub use ix_impairment::{Affected, Impairment, WireCounts, WireState as Wire};
