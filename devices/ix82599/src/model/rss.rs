//! Receive side scaling (7.1.2.8): which queue a frame goes to, and its hash.

use ixgbe_spec::register::Mrqc;
use ixgbe_spec::{IPV6_INPUT_BYTES, RETA_ENTRIES, RSS_KEY_BYTES, RssType, ToeplitzTable};

use super::flow_director::FlowMatch;
use super::parse::{Parsed, Transport, Version};

/// RSS registers, and the hash table made from the key.
#[derive(Debug)]
pub(super) struct Rss {
    pub(super) mrqc: u32,
    key: [u8; RSS_KEY_BYTES],
    reta: [u8; RETA_ENTRIES],
    /// `None` after the key changed; made again by the next hash.
    table: Option<Box<ToeplitzTable<IPV6_INPUT_BYTES>>>,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steering {
    pub(super) queue: usize,
    pub(super) hash: u32,
    pub(super) rss_type: RssType,
    /// What the flow director has to do with it.
    pub(super) flow: FlowMatch,
}

impl Rss {
    pub(super) fn new() -> Self {
        Self {
            mrqc: 0,
            key: [0; RSS_KEY_BYTES],
            reta: [0; RETA_ENTRIES],
            table: None,
        }
    }

    /// RSSRK, key byte 4n in the low byte (8.2.3.7.14).
    pub(super) fn rssrk(&self, index: u8) -> u32 {
        u32::from_le_bytes(self.key.as_chunks().0[usize::from(index) % 10])
    }

    pub(super) fn set_rssrk(&mut self, index: u8, value: u32) {
        self.key.as_chunks_mut().0[usize::from(index) % 10] = value.to_le_bytes();
        self.table = None;
    }

    /// RETA, entry 4n in the low byte, four bits each (8.2.3.7.15).
    pub(super) fn reta(&self, index: u8) -> u32 {
        u32::from_le_bytes(self.reta.as_chunks().0[usize::from(index) % 32])
    }

    pub(super) fn set_reta(&mut self, index: u8, value: u32) {
        self.reta.as_chunks_mut().0[usize::from(index) % 32] = (value & 0x0f0f_0f0f).to_le_bytes();
    }

    /// Chooses a queue. A frame that no enabled hash applies to goes to queue 0, as do all while
    /// MRQC asks for a mode other than RSS: pools and traffic classes are not modelled.
    pub(super) fn steer(&mut self, parsed: &Parsed, frame: &[u8]) -> Steering {
        let mrqc = Mrqc::from_bits_retain(self.mrqc);
        let hashed = if mrqc.mrqe() == Mrqc::MRQE_RSS {
            self.hash(mrqc, parsed, frame)
        } else {
            None
        };
        let Some((rss_type, hash)) = hashed else {
            return Steering {
                queue: 0,
                hash: 0,
                rss_type: RssType::None,
                flow: FlowMatch::Off,
            };
        };
        Steering {
            queue: usize::from(self.reta[hash as usize % RETA_ENTRIES]),
            hash,
            rss_type,
            flow: FlowMatch::Off,
        }
    }

    fn hash(&mut self, mrqc: Mrqc, parsed: &Parsed, frame: &[u8]) -> Option<(RssType, u32)> {
        let ip = parsed.ip?;
        let (tcp, udp, alone, types) = match ip.version {
            Version::V4 => (
                Mrqc::TCP_IPV4,
                Mrqc::UDP_IPV4,
                Mrqc::IPV4,
                [RssType::TcpIpv4, RssType::UdpIpv4, RssType::Ipv4],
            ),
            Version::V6 => (
                Mrqc::TCP_IPV6,
                Mrqc::UDP_IPV6,
                Mrqc::IPV6,
                [RssType::TcpIpv6, RssType::UdpIpv6, RssType::Ipv6],
            ),
        };
        let (rss_type, ports) = match parsed.transport {
            Some((Transport::Tcp, at)) if mrqc.contains(tcp) => (types[0], Some(at)),
            Some((Transport::Udp, at)) if mrqc.contains(udp) => (types[1], Some(at)),
            _ if mrqc.contains(alone) => (types[2], None),
            _ => return None,
        };
        let mut input = [0; IPV6_INPUT_BYTES];
        let addresses = ip.addresses(frame);
        let mut length = addresses.len();
        input[..length].copy_from_slice(addresses);
        if let Some(at) = ports {
            input[length..length + 4].copy_from_slice(&frame[at..at + 4]);
            length += 4;
        }
        let key = &self.key;
        let table = self
            .table
            .get_or_insert_with(|| Box::new(ToeplitzTable::new(key)));
        Some((rss_type, table.hash_prefix(&input[..length])))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ipv4_frame, ipv6_frame};
    use super::*;

    fn rss(mrqc: Mrqc) -> Rss {
        let mut rss = Rss::new();
        rss.mrqc = mrqc.with_mrqe(Mrqc::MRQE_RSS).bits();
        for index in 0..10 {
            rss.set_rssrk(index, 0x0102_0304 * (u32::from(index) + 3));
        }
        for index in 0..32 {
            rss.set_reta(index, 0x0302_0100);
        }
        rss
    }

    fn steer(rss: &mut Rss, frame: &[u8]) -> Steering {
        rss.steer(&Parsed::new(frame), frame)
    }

    #[test]
    fn the_hash_is_that_of_addresses_and_ports_under_the_key() {
        let mut rss = rss(Mrqc::TCP_IPV4 | Mrqc::IPV4);
        let frame = ipv4_frame(6, 10);
        let steering = steer(&mut rss, &frame);
        let input: Vec<u8> = frame[26..38].to_vec();
        let key = rss.key;
        assert_eq!(steering.rss_type, RssType::TcpIpv4);
        assert_eq!(steering.hash, ixgbe_spec::toeplitz(&key, &input));
        assert_eq!(steering.queue, steering.hash as usize % 4);
    }

    #[test]
    fn a_type_that_is_not_enabled_falls_back_to_addresses_then_to_nothing() {
        let frame = ipv4_frame(17, 10);
        let mut addresses = rss(Mrqc::TCP_IPV4 | Mrqc::IPV4);
        assert_eq!(steer(&mut addresses, &frame).rss_type, RssType::Ipv4);
        let mut tcp_only = rss(Mrqc::TCP_IPV4);
        let steering = steer(&mut tcp_only, &frame);
        assert_eq!((steering.rss_type, steering.queue), (RssType::None, 0));
        let mut six = rss(Mrqc::TCP_IPV6);
        let steering = steer(&mut six, &ipv6_frame(6, 10));
        assert_eq!(steering.rss_type, RssType::TcpIpv6);
    }

    #[test]
    fn a_new_key_gives_a_new_hash() {
        let mut rss = rss(Mrqc::TCP_IPV4);
        let frame = ipv4_frame(6, 10);
        let before = steer(&mut rss, &frame).hash;
        rss.set_rssrk(0, 0xdead_beef);
        assert_ne!(steer(&mut rss, &frame).hash, before);
    }

    #[test]
    fn redirection_entries_have_four_bits() {
        let mut rss = rss(Mrqc::TCP_IPV4);
        rss.set_reta(0, u32::MAX);
        assert_eq!(rss.reta(0), 0x0f0f_0f0f);
    }
}
