//! The fields of a flow: of a frame, or of a filter as registers describe it; masked, and hashed.

use ixgbe_spec::register::{Fdircmd, Fdirm};

use super::super::parse::{Parsed, Transport, Version};

/// Words of the fields that are hashed: type and VLAN, destination, source, ports, flexible bytes.
const WORDS: usize = 11;
const DESTINATION: usize = 1;
const SOURCE: usize = 5;
const PORTS: usize = 9;
const FLEX: usize = 10;
/// Type of a flow in its first word.
const TYPE_SHIFT: u32 = 16;
const TYPE_IPV6: u32 = 1 << 2;
const TYPE_L4: u32 = 0b11;
/// The canonical format indicator of a tag is not part of the flow.
const VLAN_BITS: u32 = 0xefff;
const VLAN_ID_BITS: u32 = 0x0fff;
const VLAN_PRIORITY_BITS: u32 = 0xe000;
/// Bits of both hashes.
pub(super) const HASH_BITS: u32 = 0x7fff;
/// Registers that describe a filter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Input {
    pub(super) source_ipv6: [u32; 3],
    pub(super) source: u32,
    pub(super) destination: u32,
    pub(super) ports: u32,
    pub(super) vlan: u32,
    pub(super) hash: u32,
    pub(super) command: u32,
}

/// Registers that say what is compared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Masks {
    pub(super) fields: u32,
    pub(super) source: u32,
    pub(super) destination: u32,
    pub(super) tcp: u32,
    pub(super) udp: u32,
}

/// The fields of a flow, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow([u32; WORDS]);

impl Flow {
    pub(super) fn of_frame(parsed: &Parsed, frame: &[u8], flex_at: usize) -> Option<Self> {
        let ip = parsed.ip?;
        let mut words = [0; WORDS];
        let addresses = ip.addresses(frame);
        let (source, destination) = addresses.split_at(addresses.len() / 2);
        let places = [(SOURCE, source), (DESTINATION, destination)];
        for (first, address) in places {
            let (bytes, _) = address.as_chunks();
            for (word, bytes) in words[first..].iter_mut().zip(bytes) {
                *word = u32::from_be_bytes(*bytes);
            }
        }
        let version = match ip.version {
            Version::V4 => 0,
            Version::V6 => TYPE_IPV6,
        };
        let mut l4type = 0;
        if let Some((transport, at)) = parsed.transport {
            l4type = l4type_of(transport);
            let ports = frame.get(at..at + 4)?.first_chunk()?;
            words[PORTS] = u32::from_be_bytes(*ports);
        }
        let tag = u32::from(parsed.vlan.unwrap_or(0));
        words[0] = (version | l4type) << TYPE_SHIFT | tag & VLAN_BITS;
        let flex = frame.get(flex_at..flex_at + 2).unwrap_or(&[0, 0]);
        words[FLEX] = u32::from_be_bytes([flex[0], flex[1], 0, 0]);
        Some(Self(words))
    }

    pub(super) fn of_filter(input: &Input, command: Fdircmd) -> Self {
        let mut words = [0; WORDS];
        let version = if command.contains(Fdircmd::IPV6) {
            let [first, second, third] = input.source_ipv6.map(u32::swap_bytes);
            words[SOURCE..PORTS].copy_from_slice(&[
                first,
                second,
                third,
                input.source.swap_bytes(),
            ]);
            TYPE_IPV6
        } else {
            words[SOURCE] = input.source.swap_bytes();
            words[DESTINATION] = input.destination.swap_bytes();
            0
        };
        words[0] = (version | command.l4type()) << TYPE_SHIFT | input.vlan & VLAN_BITS;
        words[PORTS] = input.ports.rotate_left(16);
        let flex = (input.vlan >> 16) as u16;
        words[FLEX] = u32::from(flex.swap_bytes()) << 16;
        Self(words)
    }

    /// Without what is not compared, and hence not hashed either.
    pub(super) fn masked(mut self, masks: &Masks, perfect: bool) -> Self {
        let fields = Fdirm::from_bits_retain(masks.fields);
        let words = &mut self.0;
        if fields.contains(Fdirm::VLANID) {
            words[0] &= !VLAN_ID_BITS;
        }
        if fields.contains(Fdirm::VLANP) {
            words[0] &= !VLAN_PRIORITY_BITS;
        }
        let l4type = words[0] >> TYPE_SHIFT & TYPE_L4;
        if fields.contains(Fdirm::L4P) {
            words[0] &= !(TYPE_L4 << TYPE_SHIFT);
            words[PORTS] = 0;
        }
        if fields.contains(Fdirm::FLEX) {
            words[FLEX] = 0;
        }
        if words[0] & TYPE_IPV6 << TYPE_SHIFT == 0 {
            words[SOURCE] &= !masks.source.swap_bytes();
            words[DESTINATION] &= !masks.destination.swap_bytes();
        } else if perfect {
            words[DESTINATION..SOURCE].fill(0);
        }
        words[PORTS] &= match l4type {
            L4TYPE_UDP => !ports_mask(masks.udp),
            L4TYPE_TCP => !ports_mask(masks.tcp),
            _ => !0,
        };
        self
    }

    /// Version and transport protocol.
    pub(super) fn kind(&self) -> u32 {
        self.0[0] >> TYPE_SHIFT
    }

    /// The hash of the fields (7.1.2.7): for each set bit of the key, the 15 bits of the fields that
    /// begin at the same place are added without carry. Since the key repeats every 32 bits, so do the
    /// places, and the words can be added up beforehand: all but the first, which lies at an end and so
    /// next to other neighbours.
    pub(super) fn hash(&self, key: u32) -> u32 {
        let first = self.0[0];
        let sum = self.0[1..].iter().fold(0, |sum, word| sum ^ word);
        let upper = sum ^ first ^ first >> 16;
        let mut lower = sum.rotate_left(16);
        let mut hash = 0;
        for place in 0..16 {
            if key >> place & 1 != 0 {
                hash ^= lower >> place;
            }
            if key >> (place + 16) & 1 != 0 {
                hash ^= upper >> place;
            }
            if place == 0 {
                // Bit 0 is beyond the end of the fields.
                lower ^= first ^ first << 16;
            }
        }
        hash & HASH_BITS
    }
}

/// FDIRCMD.L4TYPE of a protocol.
fn l4type_of(transport: Transport) -> u32 {
    match transport {
        Transport::Udp => L4TYPE_UDP,
        Transport::Tcp => L4TYPE_TCP,
        Transport::Sctp => L4TYPE_SCTP,
    }
}

const L4TYPE_UDP: u32 = 1;
const L4TYPE_TCP: u32 = 2;
const L4TYPE_SCTP: u32 = 3;

/// FDIRTCPM and FDIRUDPM hold the bits of each port in reverse, the source's in the low half.
fn ports_mask(register: u32) -> u32 {
    register.reverse_bits()
}

#[cfg(test)]
impl Flow {
    /// The fields of both, added without carry.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] ^ other.0[word]))
    }
}
