//! Who may speak at a function's port: what it was made for, and what a virtual function's guest has claimed.

use super::table::Mac;
use super::{Claim, Fabric, MAX_CLAIMS};

/// Who may speak at a function's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// The only source address; `None` for any.
    pub mac: Option<[u8; 6]>,
    /// The VLAN that its frames are tagged with; `None` for frames without a tag.
    pub vlan: Option<u16>,
    /// The port puts the tag on and takes it off, so that the function knows of no VLAN.
    pub port_tags: bool,
}

/// The same with what was claimed.
#[derive(Debug)]
pub(super) struct Claims {
    rule: PortRule,
    station: Option<Mac>,
    others: Vec<Mac>,
    vlans: Vec<u16>,
}

impl Claims {
    pub(super) fn new(rule: PortRule) -> Self {
        Self {
            rule,
            station: rule.mac,
            others: Vec::new(),
            vlans: Vec::new(),
        }
    }

    /// The VLAN of the tags that the port puts on.
    pub(super) fn port_vlan(&self) -> Option<u16> {
        self.rule.vlan.filter(|_| self.rule.port_tags)
    }

    /// Any address may be a source here.
    pub(super) fn is_open(&self) -> bool {
        self.rule.mac.is_none()
    }

    /// Whether that is an address of the function, and no other's.
    pub(super) fn has(&self, mac: Mac) -> bool {
        self.station == Some(mac) || self.others.contains(&mac)
    }

    /// Whether the function belongs to that VLAN; 0 is none.
    pub(super) fn is_in(&self, vlan: u16) -> bool {
        self.rule.vlan.unwrap_or(0) == vlan || self.vlans.contains(&vlan)
    }

    /// Whether the address is kept for this function, be it that it does not use it now.
    fn keeps(&self, mac: Mac) -> bool {
        self.has(mac) || self.rule.mac == Some(mac)
    }
}

impl<U> Fabric<U> {
    /// A function wants to be somebody else, or to be more or less. Whether it may.
    pub(super) fn claim(&mut self, number: usize, claim: Claim) -> bool {
        if let Claim::Station(mac) | Claim::Other(mac) = claim {
            let mut others = (0..).zip(&self.functions);
            if others.any(|(other, it)| other != number && it.claims.keeps(mac)) {
                return false;
            }
        }
        let claims = &mut self.functions[number].claims;
        match claim {
            Claim::Station(mac) => {
                claims.station = claims.rule.mac.map(|_| mac);
                true
            }
            // Where any address may be a source, none needs to be kept.
            Claim::Other(_) if claims.is_open() => true,
            Claim::Other(mac) => add(&mut claims.others, mac),
            Claim::Vlan { vlan, joins: true } => add(&mut claims.vlans, vlan),
            Claim::Vlan { vlan, joins: false } => {
                claims.vlans.retain(|it| *it != vlan);
                true
            }
            Claim::NoOthers => {
                claims.others.clear();
                true
            }
            Claim::Nothing => {
                claims.others.clear();
                claims.vlans.clear();
                true
            }
            Claim::Original => {
                *claims = Claims::new(claims.rule);
                true
            }
        }
    }
}

/// Adds what is not there yet, if there is room.
fn add<T: PartialEq>(list: &mut Vec<T>, item: T) -> bool {
    if list.contains(&item) {
        return true;
    }
    if list.len() >= MAX_CLAIMS {
        return false;
    }
    list.push(item);
    true
}
