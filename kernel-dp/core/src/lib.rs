//! The run-to-completion cycle of one elastic thread, and the border to the application: batched
//! calls, event conditions, and the check of everything that user mode hands over.
//!
//! [`ElasticThread::cycle`] is the heart of the system; start reading there. Around it:
//! [`area`](mod@area) reads and writes the words shared with the application, [`calls`](mod@calls)
//! executes batched calls, [`user`](mod@user) decides which memory an application may send from;
//! [`control`](mod@control) is the way to the control plane, [`telemetry`](mod@telemetry) what it is
//! told.
//!
//! Neighbours: `ix-net` is the protocol engine, `ix-hal` the NIC queue pair and the frame buffers,
//! `ix-abi` the contract with user mode. The assembler crate `kernel-dp` calls the cycle from ring
//! 0; the tests call it from a host process.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod absence;
mod area;
mod calls;
mod control;
mod cycle;
mod moving;
mod statistics;
mod telemetry;
mod user;

pub use absence::Patience;
pub use control::Control;
pub use cycle::{ElasticThread, Step, ThreadConfig, ThreadParts};
pub use moving::{Command, Crew, Inbox};
pub use statistics::{Statistics, ThreadCounters};
pub use telemetry::{PERIOD as REPORT_PERIOD, Times};
pub use user::{Sendable, UserRange};
