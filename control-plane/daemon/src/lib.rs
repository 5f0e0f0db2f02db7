//! The control plane of a machine: `ixcpd` starts, watches and stops dataplanes, and hands hardware
//! threads to them and takes them back.
//!
//! Each dataplane has a keeper, a process of its own that owns its virtual machine and its control
//! page. The daemon may die at any time: keepers go on, and the next daemon finds them by their
//! folders. What the daemon itself knows is in these folders, too.
//!
//! | module | what |
//! |---|---|
//! | [`controller`] | everything that can be done, in one place, one thing at a time |
//! | [`dataplane`] | one dataplane as the daemon sees it |
//! | [`keeper`] | the process beside each virtual machine, and the way to it |
//! | [`store`] | the folders |
//! | [`machine`] | from a definition to a virtual machine |
//! | [`watch`] | what happens without being asked for: ends, policies |
//! | [`load`] | how a dataplane is doing, as its policy sees it |
//! | [`http`] | the interface: JSON, events, metrics, description |
//! | [`journal`] | events, and the reasons of policies |
//! | [`overstays`] | when to say that an application does not return |
//! | [`past`] | what a dataplane did over the last minutes |
//! | [`sight`] | what can be seen of dataplanes while somebody changes them |
//! | [`config`] | the daemon's own configuration |

#![forbid(unsafe_code)]

pub mod config;
pub mod controller;
pub mod dataplane;
pub mod http;
pub mod journal;
pub mod keeper;
pub mod load;
pub mod logger;
pub mod machine;
pub mod overstays;
pub mod past;
pub mod sight;
pub mod store;
pub mod watch;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
