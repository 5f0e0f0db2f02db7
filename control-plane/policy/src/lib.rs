//! Which dataplane gets which hardware thread of the machine, and which elastic thread serves which
//! flow group. Nothing here touches a process or a page: facts go in, decisions come out, so that all
//! of it is tested without a machine.
//!
//! | module | what |
//! |---|---|
//! | [`topology`] | the machine's hardware threads, as `/sys` has them |
//! | [`assignment`] | who holds which: exclusive, and refused with the reason |
//! | [`groups`] | how flow groups are dealt out, with the fewest moves |
//! | [`decide`] | whether a dataplane grows or shrinks, by its load and its policy |
//! | [`trace`] | what a policy saw over time, recorded to be replayed |

#![forbid(unsafe_code)]

pub mod assignment;
pub mod decide;
pub mod groups;
pub mod topology;
pub mod trace;

pub use assignment::Assignment;
pub use decide::{Load, Verdict, decide};
pub use topology::Topology;
