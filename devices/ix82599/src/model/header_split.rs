//! Header split (7.1.10): how a frame is spread over the header and the packet buffer of its first
//! descriptor.

use ixgbe_spec::register::{Psrtype, Srrctl};

use super::HEADER_BYTES;
use super::parse::{Parsed, Transport, Version};

/// Bytes of a VLAN tag.
const TAG_BYTES: usize = 4;

/// What goes into the header buffer, and what the descriptor says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Split {
    /// Bytes at the beginning of the frame that go into the header buffer.
    pub(super) header_bytes: usize,
    /// HDR_LEN.
    pub(super) reported_bytes: usize,
    /// SPH: the headers were found.
    pub(super) is_split: bool,
    /// HBO: the headers do not fit into their buffer.
    pub(super) overflow: bool,
}

impl Split {
    /// Of a frame of `bytes` bytes whose headers end at `header_end`, if that is known.
    pub(super) fn new(srrctl: Srrctl, header_end: Option<usize>, bytes: usize) -> Self {
        let room = srrctl.bsizeheader() as usize * 64;
        let always = match srrctl.desctype() {
            Srrctl::DESCTYPE_HEADER_SPLIT => false,
            Srrctl::DESCTYPE_HEADER_ALWAYS => true,
            _ => return Self::default(),
        };
        match header_end {
            _ if always && bytes <= room => Self {
                header_bytes: bytes,
                reported_bytes: bytes,
                ..Self::default()
            },
            Some(end) if end <= room => Self {
                header_bytes: end,
                reported_bytes: end,
                is_split: true,
                overflow: false,
            },
            Some(end) => Self {
                header_bytes: if always { room } else { 0 },
                reported_bytes: end,
                is_split: true,
                overflow: true,
            },
            None if always => Self {
                header_bytes: room,
                reported_bytes: room,
                ..Self::default()
            },
            None => Self::default(),
        }
    }
}

impl Parsed {
    /// Where the headers end that PSRTYPE wants split off: the innermost that it names and the frame
    /// has.
    pub(super) fn header_end(&self, frame: &[u8], psrtype: u32) -> Option<usize> {
        let wanted = Psrtype::from_bits_retain(psrtype);
        let transport = self.transport.and_then(|(transport, at)| match transport {
            Transport::Tcp if wanted.contains(Psrtype::TCP) => {
                Some(at + usize::from(frame[at + 12] >> 4) * 4)
            }
            Transport::Udp if wanted.contains(Psrtype::UDP) => Some(at + 8),
            _ => None,
        });
        let ip = self.ip.filter(|ip| match ip.version {
            Version::V4 => wanted.contains(Psrtype::IPV4),
            Version::V6 => wanted.contains(Psrtype::IPV6),
        });
        let l2 = wanted.contains(Psrtype::L2).then(|| {
            let tag = self.vlan.map_or(0, |_| TAG_BYTES);
            HEADER_BYTES + tag
        });
        let end = transport.or(ip.map(|ip| ip.header_end())).or(l2)?;
        (end <= frame.len()).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ipv4_frame, ipv6_frame};
    use super::*;

    fn srrctl(desctype: u32) -> Srrctl {
        Srrctl::empty()
            .with_bsizepacket(2)
            .with_bsizeheader(1)
            .with_desctype(desctype)
    }

    fn split(header_bytes: usize, reported_bytes: usize, is_split: bool, overflow: bool) -> Split {
        Split {
            header_bytes,
            reported_bytes,
            is_split,
            overflow,
        }
    }

    #[test]
    fn a_frame_is_split_as_the_datasheet_tabulates() {
        let of = |desctype, end, bytes| Split::new(srrctl(desctype), end, bytes);
        let (split_off, always) = (
            Srrctl::DESCTYPE_HEADER_SPLIT,
            Srrctl::DESCTYPE_HEADER_ALWAYS,
        );
        // A header buffer of 64 bytes.
        assert_eq!(of(split_off, None, 200), Split::default());
        assert_eq!(of(split_off, Some(54), 200), split(54, 54, true, false));
        assert_eq!(of(split_off, Some(74), 200), split(0, 74, true, true));
        assert_eq!(of(always, Some(54), 60), split(60, 60, false, false));
        assert_eq!(of(always, None, 200), split(64, 64, false, false));
        assert_eq!(of(always, Some(54), 200), split(54, 54, true, false));
        assert_eq!(of(always, Some(74), 200), split(64, 74, true, true));
        let one = Srrctl::DESCTYPE_ADVANCED;
        assert_eq!(of(one, Some(54), 200), Split::default());
    }

    #[test]
    fn the_innermost_header_that_is_wanted_counts() {
        let end = |frame: &[u8], wanted: Psrtype| {
            let parsed = Parsed::new(frame);
            parsed.header_end(frame, wanted.bits())
        };
        let all = Psrtype::TCP | Psrtype::UDP | Psrtype::IPV4 | Psrtype::IPV6 | Psrtype::L2;
        assert_eq!(end(&ipv4_frame(6, 100), all), Some(54));
        assert_eq!(end(&ipv4_frame(17, 100), all), Some(42));
        assert_eq!(end(&ipv6_frame(6, 100), all), Some(74));
        assert_eq!(end(&ipv4_frame(17, 100), all - Psrtype::UDP), Some(34));
        assert_eq!(end(&ipv6_frame(6, 100), Psrtype::IPV6), Some(54));
        assert_eq!(end(&ipv6_frame(6, 100), Psrtype::L2), Some(14));
        assert_eq!(end(&ipv4_frame(6, 100), Psrtype::UDP), None);
        let mut beyond = ipv4_frame(6, 0);
        beyond[46] = 0xf0;
        assert_eq!(end(&beyond, Psrtype::TCP), None, "a header beyond the end");
    }
}
