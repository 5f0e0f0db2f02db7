//! A virtual function (7.10, 8.3): a device of its own with the rings and offloads of the physical one, fewer
//! registers, three vectors, and a mailbox to whoever owns the card.
//!
//! | module | what it decides |
//! |---|---|
//! | `register` | which register lies at which offset, and what reading and writing it does |
//! | `mailbox` | who owns the mailbox's memory, and what is pending |
//! | `host` | the other end of the mailbox: what a hypervisor's driver of the physical function would answer |
//!
//! What the owner would set in the physical function (filters, RSS, lengths) is state of this one, since it
//! counts for nobody else. The hash and its table are the owner's, so that a guest can ask for them but not
//! change them.

mod host;
mod mailbox;
mod register;

use ixgbe_spec::RSS_KEY_BYTES;
use ixgbe_spec::register::{Gpie, Hlreg0, Mrqc, Rxcsum, Vlnctrl};

use super::ModelConfig;
use super::state::State;
pub(super) use host::Guest;
pub(super) use mailbox::Mailbox;

/// Queues that the owner of the card gives a function at most: SR-IOV with 64 pools (7.1.2.1).
pub const VIRTUAL_QUEUES: u32 = 2;

/// What the owner of the card has decided about a virtual function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VirtualConfig {
    /// The guest may choose its addresses and VLANs, as far as they are nobody else's, and receive all groups.
    pub trusted: bool,
    /// The port tags what the function sends, and takes the tag off what it receives.
    pub port_vlan: bool,
}

/// A flag of TCP.
const TCP_CWR: u32 = 0x80;
/// The key of the RSS verification suite (7.1.2.8.3).
const RSS_KEY: [u8; RSS_KEY_BYTES] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

impl State {
    /// The state of a virtual function after its reset. Frames pass once its driver has begun a conversation.
    pub(super) fn virtual_function(config: &ModelConfig, link_up: bool) -> Self {
        let mut state = Self::new(config, link_up);
        let gpie = Gpie::MULTIPLE_MSIX | Gpie::EIAME;
        state.interrupts.write_gpie(gpie.bits());
        state.hlreg0 |= Hlreg0::JUMBOEN.bits();
        // CWR is for the first segment of a large frame alone (RFC 3168 6.1.2).
        state.dtxtcpflgl &= !(TCP_CWR << 16);
        state.rxcsum = Rxcsum::PCSD.bits();
        state.filters.vlnctrl |= Vlnctrl::VFE.bits();
        // What has a priority only is of no VLAN.
        *state.filters.vfta(0) = 1;
        let hashed = Mrqc::TCP_IPV4 | Mrqc::IPV4 | Mrqc::TCP_IPV6 | Mrqc::IPV6;
        state.rss.mrqc = hashed.with_mrqe(Mrqc::MRQE_RSS).bits();
        let (words, _) = RSS_KEY.as_chunks();
        for (index, bytes) in (0..).zip(words) {
            state.rss.set_rssrk(index, u32::from_le_bytes(*bytes));
        }
        state
    }
}

#[cfg(test)]
mod tests;
