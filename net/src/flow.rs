//! The flow table: from a connection's addresses and ports to the number of its entry elsewhere.
//! Open addressing with linear probing and deletion by shifting back, so that there are no
//! tombstones and a lookup touches one cache line in the common case.

use crate::address::IpAddress;
use alloc::vec;
use alloc::vec::Vec;

/// The number of the own IPv4 address; those of IPv6 have greater ones, see `ipv6::own_addresses`.
pub(crate) const OWN_IPV4: u32 = 0;

/// What tells flows apart: the peer's address, which of our addresses it talks to, and both ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct FlowKey {
    /// The peer.
    pub remote: IpAddress,
    /// The number of our address in the high half; in the low one remote port and local port as the
    /// header of a segment has them, read as a little-endian number. In one word, so that our
    /// address costs nothing to compare.
    tail: u64,
}

impl FlowKey {
    /// The key of a flow between `remote` and a port at the address of ours of that number.
    #[inline]
    pub fn new(remote: IpAddress, remote_port: u16, own: u32, local_port: u16) -> Self {
        let [a, b] = remote_port.to_be_bytes();
        let [c, d] = local_port.to_be_bytes();
        Self::from_wire(remote, own, u32::from_le_bytes([a, b, c, d]))
    }

    /// The same, with both ports as they stand in a header that came in, read as a little-endian
    /// number.
    #[inline]
    pub fn from_wire(remote: IpAddress, own: u32, ports: u32) -> Self {
        let tail = u64::from(own) << 32 | u64::from(ports);
        Self { remote, tail }
    }

    /// The number of our address.
    #[inline]
    pub fn own(&self) -> u32 {
        (self.tail >> 32) as u32
    }

    /// Remote port in the high half, local port in the low half.
    #[inline]
    pub fn ports(&self) -> u32 {
        (self.tail as u32).swap_bytes()
    }

    /// Whether a segment over IPv4 with that source address and these ports, read as a
    /// little-endian number, is of this flow, which is known to run over IPv4.
    #[inline(always)]
    pub fn is_ipv4(&self, source: u32, ports: u32) -> bool {
        self.remote.low as u32 == source && self.tail == u64::from(ports)
    }

    /// The peer's port.
    #[inline]
    pub fn remote_port(&self) -> u16 {
        (self.ports() >> 16) as u16
    }

    /// Our port.
    #[inline]
    pub fn local_port(&self) -> u16 {
        self.ports() as u16
    }
}

/// The value of an empty slot, which no entry has.
pub(crate) const NOTHING: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    value: u32,
}

/// Open-addressed table from flow hashes to 32-bit values; the caller compares the keys.
pub(crate) struct FlowTable {
    slots: Vec<Slot>,
    mask: u32,
    secret: [u64; 2],
    /// The first word of it, with what all IPv4 addresses begin with.
    secret_ipv4: u64,
}

impl FlowTable {
    /// A table for at most `capacity` flows, at most half full then.
    pub fn new(capacity: usize, secret: [u64; 2]) -> Self {
        let slots = (capacity.max(8) * 2).next_power_of_two();
        Self {
            slots: vec![
                Slot {
                    hash: 0,
                    value: NOTHING
                };
                slots
            ],
            mask: (slots - 1) as u32,
            secret,
            secret_ipv4: secret[0] ^ IpAddress::from_ipv4(0).low,
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// Keyed hash: without the secret nobody can aim flows at one slot. One folded multiplication
    /// for IPv4 and IPv6 alike.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u32 {
        let a = key.remote.low ^ self.secret[0];
        let b = key.tail ^ key.remote.high.rotate_left(23) ^ self.secret[1];
        fold(a, b)
    }

    /// The same number, for a segment over IPv4 from that source address with these ports, read as a
    /// little-endian number.
    #[inline(always)]
    pub fn hash_ipv4(&self, source: u32, ports: u32) -> u32 {
        fold(
            u64::from(source) ^ self.secret_ipv4,
            u64::from(ports) ^ self.secret[1],
        )
    }

    /// The value of the first entry of that hash for which `is_key` holds.
    #[inline]
    pub fn find(&self, hash: u32, mut is_key: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash & self.mask;
        loop {
            let slot = self.slots[at as usize];
            if slot.value == NOTHING {
                return None;
            }
            if slot.hash == hash && is_key(slot.value) {
                return Some(slot.value);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// The value of the first entry of that hash, nearly always the only one; [`NOTHING`] if there
    /// is none.
    #[inline(always)]
    pub fn first(&self, hash: u32) -> u32 {
        let mut at = hash & self.mask;
        loop {
            let slot = self.slots[at as usize];
            if slot.hash == hash || slot.value == NOTHING {
                return slot.value;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds an entry. The caller keeps to the capacity and adds no key twice.
    #[inline(always)]
    pub fn insert(&mut self, hash: u32, value: u32) {
        let mut at = hash & self.mask;
        while self.slots[at as usize].value != NOTHING {
            at = (at + 1) & self.mask;
        }
        self.slots[at as usize] = Slot { hash, value };
    }

    /// Removes an entry, if it is there.
    #[inline(always)]
    pub fn remove(&mut self, hash: u32, value: u32) {
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return;
        };
        // Every index below is within the mask, and so needs no check.
        let slots = &mut self.slots[..=mask];
        let mut hole = hash as usize & mask;
        while slots[hole].value != value {
            if slots[hole].value == NOTHING {
                return;
            }
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let slot = slots[at];
            if slot.value == NOTHING {
                break;
            }
            // The entry may move into the hole if that does not put it before its home slot.
            let from_home = at.wrapping_sub(slot.hash as usize) & mask;
            let from_hole = at.wrapping_sub(hole) & mask;
            if from_home >= from_hole {
                slots[hole] = slot;
                hole = at;
            }
        }
        slots[hole & mask].value = NOTHING;
    }
}

/// Both halves of a product, so that every bit of both factors counts.
#[inline(always)]
fn fold(a: u64, b: u64) -> u32 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u32 ^ product as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    /// Few distinct hashes, so that probing, wrapping and shifting all happen.
    #[test]
    fn table_agrees_with_a_map_under_collisions() {
        let mut table = FlowTable::new(16, [1, 2]);
        let mut model: BTreeMap<u32, u32> = BTreeMap::new();
        let mut state = 7u64;
        for step in 0..20_000u32 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let pick = (state >> 33) as u32;
            let hash = 28 + pick % 5;
            if pick & 64 == 0 && model.len() < 16 {
                table.insert(hash, step);
                model.insert(step, hash);
            } else if let Some((&value, &hash)) = model.iter().nth(pick as usize % 16) {
                table.remove(hash, value);
                model.remove(&value);
            }
            for (&value, &hash) in &model {
                assert_eq!(table.find(hash, |found| found == value), Some(value));
            }
            let filled = table
                .slots
                .iter()
                .filter(|slot| slot.value != NOTHING)
                .count();
            assert_eq!(filled, model.len());
        }
    }

    #[test]
    fn hash_depends_on_every_part_and_on_the_secret() {
        let table = FlowTable::new(16, [0x1234_5678_9abc_def1, 0x0fed_cba9_8765_4321]);
        let other = FlowTable::new(16, [0x1234_5678_9abc_def2, 0x0fed_cba9_8765_4321]);
        let key = FlowKey::new(IpAddress::from_ipv4(0x0a00_0001), 40_000, OWN_IPV4, 80);
        let hash = table.hash(&key);
        assert_ne!(hash, other.hash(&key));
        for bit in [0, 16, 32] {
            let tail = key.tail ^ 1 << bit;
            assert_ne!(hash, table.hash(&FlowKey { tail, ..key }));
        }
        let ports = u32::from_le_bytes([0x9c, 0x40, 0, 80]);
        assert_eq!(hash, table.hash_ipv4(0x0a00_0001, ports));
        assert!(key.is_ipv4(0x0a00_0001, ports));
        assert!(!key.is_ipv4(0x0a00_0002, ports) && !key.is_ipv4(0x0a00_0001, ports + 1));
        assert_eq!((key.remote_port(), key.local_port()), (40_000, 80));
        let mut v6 = key;
        v6.remote.high = 1;
        assert_ne!(hash, table.hash(&v6));
    }
}
