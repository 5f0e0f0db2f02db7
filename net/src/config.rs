//! Everything about an engine that is decided before it starts.

use crate::groups::Sharing;
use crate::ipv6::header::LEAST_MTU;
use crate::neighborhood::Neighborhood;
use core::net::{Ipv4Addr, Ipv6Addr};
use ix_hal::Duration;
use thiserror::Error;

/// What every host must be able to take (RFC 791 3.1).
const MTU_MIN: u16 = 576;
/// The longest packet of a jumbo frame.
const MTU_MAX: u16 = 9000;

/// Which algorithm governs the congestion window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CongestionControl {
    /// RFC 5681 with the recovery of RFC 6582.
    NewReno,
    /// CUBIC (RFC 9438): no slower than NewReno on short paths, and faster where there is much
    /// bandwidth and delay.
    #[default]
    Cubic,
    /// DCTCP (RFC 8257): for networks of one's own whose switches mark early. Asks for explicit
    /// congestion notification in every SYN.
    Dctcp,
}

/// Whether connections use explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ecn {
    /// Never.
    Off,
    /// Where the peer asks for it.
    #[default]
    Accept,
    /// Asked for in every SYN too.
    Request,
}

/// How a SYN is refused for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Refusal {
    /// It is dropped: the peer tries again, and there may be room by then.
    #[default]
    Silence,
    /// It is answered by a RST, within their rate limit: the peer knows at once, and asks elsewhere.
    Reset,
}

/// IPv6 beside IPv4. A link-local address made from the MAC address is there in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Config {
    /// Own address, beside the link-local one.
    pub address: Option<Ipv6Addr>,
    /// Bits of its on-link prefix.
    pub prefix: u8,
    /// Next hop for what is not on-link; it comes before routers that advertise themselves.
    pub gateway: Option<Ipv6Addr>,
    /// Whether router advertisements are believed: addresses (RFC 4862 5.5), prefixes, routers.
    pub router_advertisements: bool,
    /// How many times a new address is asked for before it is used (DupAddrDetectTransmits of RFC
    /// 4862 5.1), a second apart. 0 uses it at once.
    pub duplicate_probes: u8,
}

impl Default for Ipv6Config {
    fn default() -> Self {
        Self {
            address: None,
            prefix: 64,
            gateway: None,
            router_advertisements: false,
            duplicate_probes: 1,
        }
    }
}

impl Ipv6Config {
    /// The MAC addresses of the multicast groups that a station with this configuration hears, for
    /// the filter of the NIC (RFC 2464 7): all nodes, and the solicited-node groups of its
    /// addresses (RFC 4291 2.7.1), of which those made from the MAC address share one.
    pub fn multicast_macs(&self, mac: [u8; 6]) -> impl Iterator<Item = [u8; 6]> {
        let solicited = |low: [u8; 3]| [0x33, 0x33, 0xff, low[0], low[1], low[2]];
        let made = solicited([mac[3], mac[4], mac[5]]);
        let given = self.address.map(|address| {
            let [.., a, b, c] = address.octets();
            solicited([a, b, c])
        });
        let given = given.filter(|group| *group != made);
        [Some([0x33, 0x33, 0, 0, 0, 1]), Some(made), given]
            .into_iter()
            .flatten()
    }
}

/// Addresses, capacities, timeouts and policies of one engine.
///
/// The defaults suit a server of some thousand connections on a LAN. Every capacity is allocated
/// once, by `Engine::new`; a full table is an answer and a counter, never a failure.
#[derive(Clone, Debug)]
pub struct Config {
    /// Own MAC address.
    pub mac: [u8; 6],
    /// Own IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Bits of the on-link IPv4 prefix.
    pub ipv4_prefix: u8,
    /// How many times the address is announced from the start on, two seconds apart (ANNOUNCE_NUM of
    /// RFC 5227 1.1), so that switches and neighbours learn of it. Engines that hear of neighbours from
    /// another leave it to that one. By default nobody is told.
    pub ipv4_announcements: u8,
    /// Next hop for what is not on-link; without one such destinations are unreachable.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6, unless it is off. It needs an MTU of at least 1280 bytes (RFC 8200 5).
    pub ipv6: Option<Ipv6Config>,
    /// Bytes of IP packet that fit in a frame, 576 to 9000.
    pub mtu: u16,
    /// Secret for the flow hash, sequence numbers and ports. Must not be guessable from outside. Engines
    /// that hand connections to each other have the same one.
    pub secret: [u8; 16],

    /// Connections in any state but TIME-WAIT. When full, SYNs are refused and `connect` fails.
    pub connections: u32,
    /// How SYNs are refused that neither find room nor are answered with a cookie.
    pub refusal: Refusal,
    /// Connections that have not completed a passive handshake. When full, SYNs are answered with
    /// cookies, or dropped.
    pub half_open: u32,
    /// Whether SYNs are answered with cookies (RFC 4987) while `half_open` is exhausted. Such a
    /// SYN-ACK leaves before the application was asked; its knock comes when the peer has answered.
    pub syn_cookies: bool,
    /// Recoveries from loss that are remembered, one a connection, until it is known whether they were
    /// called for. When full, the oldest gives way: it is not undone, and its rate not evened out.
    pub recoveries: u16,
    /// Entries of the TIME-WAIT table. When full, the oldest gives way.
    pub time_wait: u32,
    /// Entries of the neighbour cache, for ARP and NDP together. When full, the least recently confirmed gives way.
    pub neighbors: u16,
    /// Ports listened on. When full, `listen` fails.
    pub listeners: u16,
    /// Records for pieces of unacknowledged data, all connections together. When full, `send`
    /// accepts less.
    pub send_fragments: u32,
    /// Buffers of the pool that the engine is used with. Those out of range are refused.
    pub mbufs: u32,
    /// Most buffers that connections may hold, all together. Beyond, payload is dropped.
    pub mbufs_held: u32,
    /// Datagrams of either family of which some fragments are missing. When full, the oldest gives way.
    pub reassemblies: u16,
    /// How long a datagram may lack a fragment.
    pub reassembly_timeout: Duration,
    /// UDP ports bound. When full, `udp_bind` fails.
    pub udp_ports: u16,
    /// Most buffers that the application may hold of one UDP port. Beyond, datagrams are dropped.
    pub udp_port_mbufs: u16,
    /// Most buffers that it may hold of all UDP ports together, likewise.
    pub udp_mbufs: u32,
    /// Most out-of-order segments kept, all connections together. Beyond, they are dropped.
    pub out_of_order: u32,

    /// Most bytes of one connection that are received but not yet given back by `recv_done`; the
    /// receive window never exceeds it.
    pub rx_window: u32,
    /// Most buffers of one connection that are received but not yet given back.
    pub rx_mbufs: u16,
    /// Most out-of-order segments of one connection.
    pub rx_out_of_order: u16,
    /// Most bytes of one connection that are accepted by `send` but not yet acknowledged.
    pub send_limit: u32,

    /// Congestion control of every connection.
    pub congestion: CongestionControl,
    /// Explicit congestion notification of every connection.
    pub ecn: Ecn,
    /// Initial congestion window in segments (RFC 6928).
    pub initial_window: u16,
    /// Whether small segments wait for outstanding data to be acknowledged (RFC 9293 3.7.4).
    pub nagle: bool,
    /// Lower bound of the retransmission timeout in microseconds. The default is above the 40 ms
    /// by which stock peers delay their acknowledgements; 16 is the least that the wheel resolves.
    pub rto_min_us: u32,
    /// Retransmission timeout before there is a measurement (RFC 6298 2.1).
    pub rto_initial: Duration,
    /// Upper bound of the retransmission timeout and of the probe interval.
    pub rto_max: Duration,
    /// How long an acknowledgement may wait for data to ride on, in microseconds (at most 500,000
    /// by RFC 9293 3.8.6.3).
    pub delayed_ack_us: u32,
    /// How long a knock, an unanswered SYN or SYN-ACK may take in all.
    pub handshake_timeout: Duration,
    /// How long unacknowledged data or an unanswered probe keeps a connection (RFC 9293 3.8.3).
    pub user_timeout: Duration,
    /// Idle time after which the peer is probed; none by default (RFC 9293 3.8.4).
    pub keepalive: Option<Duration>,
    /// How long a closed connection without a peer's FIN is kept (FIN-WAIT-2).
    pub fin_timeout: Duration,
    /// Length of TIME-WAIT: twice the longest life of a segment.
    pub time_wait_length: Duration,
    /// Age after which a neighbour is asked again.
    pub neighbor_reachable: Duration,
    /// Most challenge acknowledgements per second, all connections together (RFC 5961 7).
    pub challenge_acks: u32,
    /// Most RSTs per second in answer to segments without a connection.
    pub resets: u32,
    /// Most ICMP errors per second that are sent to whoever caused them (RFC 1812 4.3.2.8).
    pub icmp_errors: u32,
    /// First port of the range that `connect` chooses from.
    pub ephemeral_first: u16,
    /// Last port of that range.
    pub ephemeral_last: u16,
    /// Its place among engines of the same address that hand connections to each other, if there
    /// are others. Connections are opened only from ports whose flow group the engine serves.
    pub sharing: Option<Sharing>,
    /// How the engine hears of neighbours, if it shares its address with others.
    pub neighborhood: Neighborhood,
}

/// Why there is no engine of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Such a link is not spoken over.
    #[error("an MTU of {0} bytes: use {MTU_MIN} to {MTU_MAX}")]
    Mtu(u16),
    /// RFC 8200 5.
    #[error("an MTU of {0} bytes: IPv6 needs {LEAST_MTU}; use more, or leave IPv6 off")]
    MtuWithoutIpv6(u16),
}

impl Config {
    /// Checks what an engine could not make up for.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.mtu {
            mtu if !(MTU_MIN..=MTU_MAX).contains(&mtu) => Err(ConfigError::Mtu(mtu)),
            mtu if self.ipv6.is_some() && mtu < LEAST_MTU => Err(ConfigError::MtuWithoutIpv6(mtu)),
            _ => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mac: [0x02, 0, 0, 0, 0, 1],
            ipv4: Ipv4Addr::new(10, 0, 0, 2),
            ipv4_prefix: 24,
            ipv4_announcements: 0,
            gateway: None,
            ipv6: None,
            mtu: 1500,
            secret: [0; 16],
            connections: 4096,
            refusal: Refusal::default(),
            half_open: 1024,
            syn_cookies: true,
            recoveries: 512,
            time_wait: 16_384,
            neighbors: 256,
            listeners: 64,
            send_fragments: 65_536,
            mbufs: 8192,
            mbufs_held: 6144,
            reassemblies: 16,
            reassembly_timeout: Duration::from_secs(30),
            udp_ports: 64,
            udp_port_mbufs: 256,
            udp_mbufs: 1024,
            out_of_order: 2048,
            rx_window: 256 << 10,
            rx_mbufs: 512,
            rx_out_of_order: 256,
            send_limit: 256 << 10,
            congestion: CongestionControl::default(),
            ecn: Ecn::default(),
            initial_window: 10,
            nagle: false,
            rto_min_us: 100_000,
            rto_initial: Duration::from_secs(1),
            rto_max: Duration::from_secs(60),
            delayed_ack_us: 1_000,
            handshake_timeout: Duration::from_secs(20),
            user_timeout: Duration::from_secs(120),
            keepalive: None,
            fin_timeout: Duration::from_secs(60),
            time_wait_length: Duration::from_secs(60),
            neighbor_reachable: Duration::from_secs(60),
            challenge_acks: 100,
            resets: 1000,
            icmp_errors: 1000,
            ephemeral_first: 32_768,
            ephemeral_last: 60_999,
            sharing: None,
            neighborhood: Neighborhood::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn multicast_groups_are_those_of_the_addresses_once_each() {
        let mac = [2, 0, 0, 0x12, 0x34, 0x56];
        let own = [0x33, 0x33, 0xff, 0x12, 0x34, 0x56];
        let all = [0x33, 0x33, 0, 0, 0, 1];
        let mut config = Ipv6Config::default();
        assert!(config.multicast_macs(mac).eq([all, own]));
        config.address = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
        let groups: Vec<_> = config.multicast_macs(mac).collect();
        assert_eq!(groups, [all, own, [0x33, 0x33, 0xff, 0, 0, 2]]);
        config.address = Some(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456));
        assert!(config.multicast_macs(mac).eq([all, own]));
    }
}
