//! One dataplane machine on a Linux host: a QEMU virtual machine that runs the dataplane kernel, the
//! 82599 model `ixnicd` that it reaches over vfio-user, and the wire between the model and the host,
//! which is a TAP in a network namespace of its own.
//!
//! [`Machine::start`] takes a [`MachineConfig`] and returns a running machine; dropping it stops and
//! removes everything. The machine and its device are one unit of failure: when either dies, the
//! other one is stopped, and [`ExitReport`] says in words what came first.
//!
//! # Nothing is left behind
//! - A stop, a drop and a failed start end the processes, wait for them, and remove the namespace
//!   (with it the TAP) and the run directory.
//! - When the owner dies without a chance to clean up (SIGKILL), the kernel kills its machine's
//!   processes, and the next start finds the abandoned run directory and removes the rest.
//!
//! # Where to look
//! | module | what |
//! |---|---|
//! | [`config`] | what a machine is made of, checked before anything is started |
//! | [`net`] | addresses and the device model's settings |
//! | [`command`] | the argument lists of QEMU, of the model, and the kernel's command line |
//! | [`qemu`] | finding a QEMU that is new enough; [`accel`] whether KVM works, by trying it |
//! | [`machine`] | the handle; `supervisor` the thread that owns the processes |
//! | [`console`], [`qmp`] | the serial console, and QEMU's control socket |
//! | [`netns`], [`run_dir`], [`process`] | what is made on the host, and how it is removed |
//! | [`exit`], [`error`] | how a machine ended, and what can go wrong before it runs |

#![forbid(unsafe_code)]

pub mod accel;
pub mod artifacts;
pub mod command;
pub mod config;
pub mod console;
pub mod error;
pub mod exit;
pub mod ipv6_choice;
pub mod machine;
mod memory;
pub mod net;
pub mod netns;
pub mod passthrough;
mod places;
pub mod process;
pub mod qemu;
pub mod qmp;
pub mod run_dir;
mod supervisor;

pub use accel::{Accel, AccelChoice};
pub use artifacts::Artifacts;
pub use config::{ControlChannel, CpuModel, LogLevel, MachineConfig, MemorySize};
pub use error::{Error, Result};
pub use exit::{Cause, ExitReport, GuestExit};
pub use ipv6_choice::Ipv6Choice;
pub use machine::{Machine, Stopper};
pub use net::{
    Doorbells, Ipv6Network, MTU_RANGE, MacAddress, NetworkConfig, NicKind, NicModelConfig, Vlan,
};
pub use netns::{Netns, OwnedNetns};
pub use passthrough::PciAddress;
