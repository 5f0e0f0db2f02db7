//! A model of the Intel 82599 10 Gigabit Ethernet controller.
//!
//! The model ([`model::Model`]) is a state machine without I/O and without a clock: register
//! accesses, guest memory, frames and the time come in as arguments, frames and interrupts go out
//! through traits. Around it:
//!
//! - [`memory`]: what the device can reach by DMA, checked and revocable;
//! - [`wire`]: where frames go (TAP device, in-process cable, loopback), and what may happen to
//!   them on the way (capture, loss, reordering, duplication);
//! - [`vfio_user`]: the protocol by which a virtual machine reaches the device;
//! - `testing`: what fuzzing and measurements run, with the feature of that name.
//!
//! Tests of drivers use the model in process:
//!
//! ```
//! use ix82599::memory::SharedMemory;
//! use ix82599::model::{InterruptCounts, Model, ModelConfig};
//! use ix82599::wire::Cable;
//!
//! let memory = SharedMemory::new(1 << 20, 0x4000_0000);
//! let (near, far) = Cable::pair(256);
//! let interrupts = InterruptCounts::new();
//! let config = ModelConfig::default();
//! let mut model = Model::new(config, memory.memory(), near, interrupts.clone());
//! model.set_bus_master(true);
//! assert_eq!(model.bar0_read32(ixgbe_spec::register::LINKS) >> 30 & 1, 1, "link up");
//! // Rings and buffers: memory.words(offset, bytes), at bus address memory.bus() + offset.
//! // Write the tail registers, then move frames and time:
//! model.poll();
//! model.advance(1_000_000);
//! assert_eq!(far.waiting(), 0);
//! ```

#![deny(unsafe_code)]

pub mod daemon;
pub mod memory;
pub mod model;
#[cfg(feature = "testing")]
pub mod testing;
pub mod vfio_user;
pub mod wire;
