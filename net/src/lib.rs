//! The TCP/IP engine: frames in, event conditions out; calls in, frames out.
//!
//! One [`Engine`] belongs to one elastic thread. It never reads a clock, touches a device,
//! allocates after construction, or blocks: time, the way out, the event sink and the buffer pool
//! come in with each call as a [`Context`]. `ix-core` drives it, one half-cycle at a time:
//! [`Engine::ingress`] for each received frame, the application's calls ([`Engine::send`] and its
//! neighbours), then [`Engine::timers`] and [`Engine::output`].
//!
//! Inside, from the wire up: `wire` reads and writes headers, `packet` is what those of both families
//! have in common; `ip` sorts frames; `arp` says who is where, `neighbor` remembers it, `next_hop`
//! asks; `icmp` and `icmp_error` are ICMP; `ipv6` is what all that is for the other family, with
//! neighbour and router discovery; `fragments` and `reassembly` put datagrams together; `udp` is a
//! protocol of its own; `flow` finds the connection; `tcp` is the protocol; `records` holds what is
//! queued in either direction; `wheel` keeps the timers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod address;
mod arp;
mod config;
mod context;
mod counters;
mod elsewhere;
mod engine;
mod flow;
mod fragments;
mod groups;
mod icmp;
mod icmp_error;
mod ip;
mod ipv6;
mod list;
mod luggage;
mod neighbor;
mod neighborhood;
mod next_hop;
mod output_queue;
mod packet;
mod path_mtu;
mod quick;
mod reassembly;
mod records;
mod secret;
mod seq;
mod siphash;
mod tcp;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod udp;
mod wheel;
mod wire;

pub use address::{Endpoint, IpAddress};
pub use config::{Config, ConfigError, CongestionControl, Ecn, Ipv6Config, Refusal};
pub use context::{Context, Event, Events};
pub use counters::Counters;
pub use elsewhere::Elsewhere;
pub use engine::Engine;
pub use groups::{FlowGroups, Sharing};
pub use luggage::{Luggage, Movable};
pub use neighborhood::{Mailbox, Neighborhood};
pub use reassembly::{Assembly, Piece};
pub use tcp::connections::ControlBlocks;
pub use tcp::moving::Needs;
pub use tcp::names::Names;
