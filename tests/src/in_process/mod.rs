//! The whole dataplane in one host process: libix, the cycle, the engine, the driver and the device
//! model on one end of a cable, smoltcp on the other. No virtual machine, and a clock that moves only
//! when told to. [`World`] has one elastic thread, and a run is the same each time; in a [`CrewWorld`]
//! several elastic threads, each a thread of this process, have a queue pair each, and flow groups move
//! between them.

mod crew;
mod parts;
mod peer;
mod world;

pub use crew::{Controls, CrewWorld, Seen};
pub use peer::Peer;
pub use world::{GUEST, GUEST_MAC, World, WorldKernel};
