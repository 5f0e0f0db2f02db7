//! The TCP/IP engine: frames in, event conditions out; calls in, frames out.
//!
//! One [`Engine`] belongs to one elastic thread. It never reads a clock, touches a device,
//! allocates after construction, or blocks: time, the way out, the event sink and the buffer pool
//! come in with each call as a [`Context`]. `ix-core` drives it, one half-cycle at a time:
//! [`Engine::ingress`] for each received frame, the application's calls ([`Engine::send`] and its
//! neighbours), then [`Engine::timers`] and [`Engine::output`].
//!
//! Inside, from the wire up: `wire` and `ipv6` read and write headers, `packet` is what they have in
//! common; `ip` and `ip6` sort frames; `arp` and `ndp` say who is where, `mld` which groups we hear, `neighbor` remembers it,
//! `next_hop` asks; `ipv6_host` is what the host is in IPv6, with `own_addresses` and `routers`;
//! `icmp`, `icmp6` and `icmp_error` are ICMP; `fragments` and `reassembly` put datagrams together;
//! `udp` is a protocol of its own; `flow` finds the connection; `tcp` is the protocol; `records` holds
//! what is queued in either direction; `wheel` keeps the timers.

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
mod icmp6;
mod icmp_error;
mod ip;
mod ip6;
mod ipv6;
mod ipv6_host;
mod list;
mod luggage;
mod mld;
mod names;
mod ndp;
mod ndp_message;
mod neighbor;
mod neighborhood;
mod next_hop;
mod output_queue;
mod own_addresses;
mod packet;
mod path_mtu;
mod quick;
mod quick6;
mod reassembly;
mod records;
mod routers;
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
pub use config::{Config, CongestionControl, Ecn, Ipv6Config, Refusal};
pub use context::{Context, Event, Events};
pub use counters::Counters;
pub use elsewhere::Elsewhere;
pub use engine::Engine;
pub use groups::{FlowGroups, Sharing};
pub use luggage::Luggage;
pub use neighborhood::{Mailbox, Neighborhood};
pub use reassembly::{Assembly, Piece};
pub use tcp::moving::Needs;
