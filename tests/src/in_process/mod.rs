//! The whole dataplane in one host process: libix, the cycle, the engine, the driver and the device
//! model on one end of a cable, smoltcp on the other. No virtual machine, no threads, and a clock
//! that moves only when told to; so a run is the same each time.

mod peer;
mod world;

pub use peer::Peer;
pub use world::{GUEST, GUEST_MAC, World, WorldKernel};
