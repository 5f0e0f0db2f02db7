//! IPv6 beside IPv4: what is different. Below what both families share, `header` finds the way
//! through a packet's headers, `quick` through those of a usual segment; `input` sorts packets;
//! `icmp` answers and reports. Around it, `host` is what this host is in IPv6, with `own_addresses`
//! and `routers`; `ndp` asks, answers and listens to routers, in messages of `ndp_message`; `mld` says
//! which groups we hear.

pub(crate) mod header;
pub(crate) mod host;
pub(crate) mod icmp;
mod input;
pub(crate) mod mld;
mod ndp;
pub(crate) mod ndp_message;
pub(crate) mod own_addresses;
pub(crate) mod quick;
pub(crate) mod routers;
