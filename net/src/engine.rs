//! The engine: its tables, and the order in which a cycle uses them. The calls of the application
//! are in `tcp::calls`.

use crate::arp::Announcements;
use crate::config::{Config, ConfigError};
use crate::context::{Context, Events};
use crate::counters::Counters;
use crate::elsewhere::Aside;
use crate::flow::FlowTable;
use crate::groups::Groups;
use crate::ipv6::host::Ipv6Host;
use crate::list::{DELIVER, List};
use crate::neighbor::Neighbors;
use crate::neighborhood::Neighborhood;
use crate::output_queue::OutputQueue;
use crate::path_mtu::PathMtus;
use crate::quick;
use crate::reassembly::Reassembly;
use crate::records::{RxRecords, SendRecords};
use crate::secret::{RateLimit, Secret};
use crate::tcp::connection::Flags;
use crate::tcp::connections::{Connections, ControlBlocks};
use crate::tcp::episode::Episodes;
use crate::tcp::handshake::offer;
use crate::tcp::header::{Ipv4, Prototype};
use crate::tcp::names::OwnNames;
use crate::tcp::probe::max_ack_delay;
use crate::tcp::starved::Starved;
use crate::tcp::time_wait::TimeWaits;
use crate::udp::Udp;
use crate::wheel::{WAIT, Wheel};
use crate::wire::{IPV4, TCP};
use alloc::vec;
use alloc::vec::Vec;
use core::hint::cold_path;
use ix_abi::Error;
use ix_hal::{Instant, RxFrame, Transmit};

/// Events that one frame, timer or call may cause at most.
pub(crate) const EVENTS_AT_ONCE: usize = 4;

/// A TCP/IP stack for one elastic thread.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    pub(crate) local: Local,
    pub(crate) flows: FlowTable,
    pub(crate) connections: Connections,
    pub(crate) episodes: Episodes,
    /// Connections by flow group.
    pub(crate) groups: Groups,
    pub(crate) time_waits: TimeWaits,
    pub(crate) neighbors: Neighbors,
    pub(crate) announcements: Announcements,
    pub(crate) ipv6: Ipv6Host,
    pub(crate) path_mtus: PathMtus,
    pub(crate) reassembly: Reassembly,
    /// Packets for other engines.
    pub(crate) aside: Aside,
    pub(crate) wheel: Wheel,
    pub(crate) send_records: SendRecords,
    /// Records that are for connections which are to come from another engine.
    pub(crate) promised_sends: u32,
    pub(crate) rx: RxRecords,
    /// Connections that may have something to send.
    pub(crate) dirty: OutputQueue,
    /// Connections whose out-of-order data has become deliverable.
    pub(crate) delivering: List<DELIVER>,
    /// Connections that have not completed a passive handshake.
    pub(crate) half_open: u32,
    /// Connections that are to be told when there are send records again.
    pub(crate) starved: Starved,
    /// Until when a SYN cookie may come back.
    pub(crate) cookies_until: u64,
    pub(crate) secret: Secret,
    pub(crate) challenge_limit: RateLimit,
    pub(crate) reset_limit: RateLimit,
    pub(crate) icmp_limit: RateLimit,
    pub(crate) udp: Udp,
    /// Moves on with each `connect`, within the range of ports (RFC 6056 3.3.3).
    pub(crate) next_port: u32,
    /// A bit per port that knocks are accepted on.
    listening: Vec<u64>,
    listeners: u16,
}

/// What the configuration says about this host, in the form that the packet path needs.
pub(crate) struct Local {
    pub mac: [u8; 6],
    /// What the headers of our segments have in common.
    pub prototype: Prototype,
    /// Start of a frame to us, see [`quick::mac_word`].
    pub mac_word: u64,
    pub address: u32,
    /// The same as a header has it, read as a little-endian number.
    pub address_word: u32,
    /// Bits that on-link addresses share with ours.
    pub mask: u32,
    /// The broadcast address of our subnet; 0, which is nobody's, where there is none (RFC 3021 2.1).
    pub broadcast: u32,
    pub gateway: Option<u32>,
    /// Bytes of IP packet that fit in a frame.
    pub mtu: u16,
    /// Most payload of a segment without options that fits our MTU.
    pub mss: u16,
    /// Shift of the windows that we offer.
    pub window_scale: u8,
    /// What a connection offers that we open, and one that a peer opens.
    pub active_offer: Flags,
    pub passive_offer: Flags,
    /// Bounds and spans in nanoseconds.
    pub rto_initial: u64,
    pub rto_min: u64,
    pub rto_max: u64,
    /// What peers may add to a round trip by delaying their acknowledgements.
    pub max_ack_delay: u64,
    /// Whether nothing can be overdue of what the fast path has sent before the wheel's [`WAIT`] is over.
    pub tails_wait: bool,
    pub delayed_ack: u64,
    /// The receive window is opened by at least this much (RFC 9293 3.8.6.2.2).
    pub window_step: u32,
    /// So much more room is worth an acknowledgement of its own.
    pub window_update: u32,
    /// As in the configuration.
    pub rx_window: u32,
    pub rx_mbufs: u16,
    pub mbufs_held: u32,
    pub send_limit: u32,
    pub initial_window: u16,
    pub nagle: bool,
}

impl Local {
    fn new(config: &Config) -> Self {
        let prefix = u32::from(config.ipv4_prefix.min(32));
        let mtu = config.mtu;
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        let rto_min = u64::from(config.rto_min_us.max(16)) * 1000;
        let mut window_scale = 0;
        while window_scale < 14 && config.rx_window >> window_scale > 0xffff {
            window_scale += 1;
        }
        Self {
            mac: config.mac,
            prototype: Prototype::new(config.mac, config.ipv4.to_bits()),
            mac_word: quick::mac_word(config.mac),
            address: config.ipv4.to_bits(),
            address_word: u32::from_le_bytes(config.ipv4.octets()),
            mask,
            broadcast: match prefix {
                31 | 32 => 0,
                _ => config.ipv4.to_bits() | !mask,
            },
            gateway: config.gateway.map(|address| address.to_bits()),
            mtu,
            mss: mtu - (IPV4 + TCP) as u16,
            window_scale,
            active_offer: offer(config, false),
            passive_offer: offer(config, true),
            rto_initial: config.rto_initial.0.max(rto_min).min(config.rto_max.0),
            rto_min,
            rto_max: config.rto_max.0,
            max_ack_delay: max_ack_delay(rto_min),
            tails_wait: max_ack_delay(rto_min).min(config.rto_max.0) >= WAIT,
            delayed_ack: u64::from(config.delayed_ack_us.min(500_000)) * 1000,
            window_step: u32::from(mtu).min(config.rx_window / 2),
            window_update: (2 * u32::from(mtu)).min(config.rx_window / 2),
            rx_window: config.rx_window,
            rx_mbufs: config.rx_mbufs,
            mbufs_held: config.mbufs_held,
            send_limit: config.send_limit,
            initial_window: config.initial_window,
            nagle: config.nagle,
        }
    }
}

impl Engine {
    /// Allocates every table at the capacity that `config` states.
    pub fn new(config: Config, now: Instant) -> Result<Self, ConfigError> {
        let blocks = ControlBlocks::new(&config);
        Self::with_blocks(config, blocks, now)
    }

    /// The same, with control blocks that were allocated elsewhere, for this configuration.
    pub fn with_blocks(
        config: Config,
        blocks: ControlBlocks,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let secret = Secret::new(config.secret);
        let mut neighbors = Neighbors::new(config.neighbors, config.neighbor_reachable.0);
        let announcements = Announcements::new(&config, now);
        let is_listener = matches!(config.neighborhood, Neighborhood::Listener(_));
        if config.ipv6.is_some() || is_listener || announcements.deadline().is_some() {
            neighbors.deadline = now.0;
        }
        let flows = config.connections as usize + config.time_wait as usize;
        Ok(Self {
            counters: Counters::default(),
            local: Local::new(&config),
            flows: FlowTable::new(flows, secret.flow_table_key()),
            connections: Connections::new(blocks, OwnNames::new(config.sharing.as_ref())),
            groups: Groups::new(config.connections, config.sharing.as_ref()),
            episodes: Episodes::new(config.recoveries),
            time_waits: TimeWaits::new(config.time_wait),
            neighbors,
            announcements,
            ipv6: Ipv6Host::new(&config, now),
            path_mtus: PathMtus::new(),
            reassembly: Reassembly::new(config.reassemblies, config.reassembly_timeout.0),
            aside: Aside::new(config.sharing.is_some()),
            wheel: Wheel::new(config.connections, now),
            send_records: SendRecords::new(config.send_fragments),
            promised_sends: 0,
            rx: RxRecords::new(config.mbufs + config.sharing.map_or(0, |sharing| sharing.loans)),
            dirty: OutputQueue::new(config.connections),
            delivering: List::new(),
            half_open: 0,
            starved: Starved::default(),
            cookies_until: 0,
            secret,
            challenge_limit: RateLimit::new(config.challenge_acks),
            reset_limit: RateLimit::new(config.resets),
            icmp_limit: RateLimit::new(config.icmp_errors),
            udp: Udp::new(&config),
            next_port: 0,
            listening: vec![0; 65_536 / 64],
            listeners: 0,
            config,
        })
    }

    /// Takes in one frame; `bytes` is its contents. The engine owns the frame's mbuf from now on:
    /// it keeps it or gives it to the pool. Pushes at most 4 events, for which there must be room.
    #[inline]
    pub fn ingress<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: &RxFrame,
        bytes: &[u8],
    ) {
        self.counters.rx_frames += 1;
        if !self.quick_frame(cx, frame, bytes) {
            cold_path();
            self.frame_arrives(cx, *frame, bytes);
        }
    }

    /// Runs expired timers; stops when fewer than 4 events fit, and goes on at the next call.
    pub fn timers<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        while let Some(index) = self.delivering.front()
            && cx.events.room() >= EVENTS_AT_ONCE
        {
            self.deliver_queued(cx, index);
        }
        if self.can_feed() {
            self.feed_starved(cx);
        }
        if cx.now.0 >= self.neighbors.deadline {
            self.neighbor_timers(cx.now);
        }
        if cx.now.0 >= self.time_waits.deadline {
            self.expire_time_waits(cx.now);
        }
        if cx.now.0 >= self.reassembly.deadline {
            self.expire_fragments(cx);
        }
        if !self.wheel.is_quiet(cx.now) {
            self.connection_timers(cx);
        }
    }

    /// Sends what became sendable: data, acknowledgements, ARP. Once at the end of a half-cycle.
    pub fn output<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        while let Some(index) = self.dirty.pop() {
            if !self.send_single::<Ipv4, _, _>(cx, index) && !self.transmit(cx, index) {
                cold_path();
                // The TX ring is full; this one comes first next time.
                self.dirty.push_front(index);
                self.connections[index]
                    .flags
                    .insert(Flags::LISTED | Flags::DIRTY);
                return;
            }
        }
        if self.neighbors.requests_due {
            self.send_neighbor_requests(cx);
        }
    }

    /// When [`Engine::timers`] has to run next; may be early, never late.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.delivering.is_empty() || self.can_feed() {
            return Some(Instant(0));
        }
        let tables = self.neighbors.deadline.min(self.time_waits.deadline);
        let tables = tables.min(self.reassembly.deadline);
        let wheel = self.wheel.next_deadline().map_or(u64::MAX, |at| at.0);
        let earliest = tables.min(wheel);
        (earliest != u64::MAX).then_some(Instant(earliest))
    }

    /// Whether [`Engine::output`] left work behind because the TX ring was full.
    pub fn has_pending_output(&self) -> bool {
        !self.dirty.is_empty() || self.neighbors.requests_due
    }

    /// Accepts knocks on a port.
    pub fn listen(&mut self, port: u16) -> Result<(), Error> {
        if port == 0 {
            return Err(Error::Invalid);
        }
        if self.is_listening(port) {
            return Err(Error::InUse);
        }
        if self.listeners == self.config.listeners {
            return Err(Error::Exhausted);
        }
        self.listening[usize::from(port >> 6)] |= 1 << (port & 63);
        self.listeners += 1;
        Ok(())
    }

    /// No longer accepts knocks on a port. Connections and unanswered knocks stay.
    pub fn unlisten(&mut self, port: u16) -> Result<(), Error> {
        if !self.is_listening(port) {
            return Err(Error::BadState);
        }
        self.listening[usize::from(port >> 6)] &= !(1 << (port & 63));
        self.listeners -= 1;
        Ok(())
    }

    /// Whether knocks are accepted on a port.
    pub(crate) fn is_listening(&self, port: u16) -> bool {
        self.listening[usize::from(port >> 6)] & 1 << (port & 63) != 0
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections in any state but TIME-WAIT, including dead ones not yet released.
    pub fn connections(&self) -> usize {
        self.connections.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Ipv6Config;

    #[test]
    fn listening_twice_or_on_too_many_ports_is_refused() {
        let config = Config {
            listeners: 2,
            ..Config::default()
        };
        let mut engine = Engine::new(config, Instant(0)).unwrap();
        assert_eq!(engine.listen(0), Err(Error::Invalid));
        assert_eq!(engine.listen(80), Ok(()));
        assert_eq!(engine.listen(80), Err(Error::InUse));
        assert_eq!(engine.listen(81), Ok(()));
        assert_eq!(engine.listen(82), Err(Error::Exhausted));
        assert_eq!(engine.unlisten(82), Err(Error::BadState));
        assert_eq!(engine.unlisten(80), Ok(()));
        assert_eq!(engine.listen(82), Ok(()));
    }

    #[test]
    fn an_mtu_that_a_protocol_cannot_use_is_refused() {
        let with = |mtu, ipv6| {
            let config = Config {
                mtu,
                ipv6,
                ..Config::default()
            };
            Engine::new(config, Instant(0)).err()
        };
        let ipv6 = Some(Ipv6Config::default());
        assert_eq!(with(575, None), Some(ConfigError::Mtu(575)));
        assert_eq!(with(9001, ipv6), Some(ConfigError::Mtu(9001)));
        assert_eq!(with(1279, ipv6), Some(ConfigError::MtuWithoutIpv6(1279)));
        for accepted in [with(576, None), with(1280, ipv6), with(9000, ipv6)] {
            assert_eq!(accepted, None);
        }
    }

    #[test]
    fn idle_connection_takes_at_most_512_bytes() {
        let bytes = |connections| {
            let engine = Engine::new(
                Config {
                    connections,
                    time_wait: 0,
                    ..Config::default()
                },
                Instant(0),
            )
            .unwrap();
            engine.connections.bytes()
                + engine.wheel.bytes()
                + engine.flows.bytes()
                + engine.dirty.bytes()
        };
        // The last one is the worst: tables whose sizes are powers of two have just doubled.
        for connections in [10_000, 1 << 14, (1 << 14) + 1] {
            let each = (bytes(connections) - bytes(0)) / connections as usize;
            assert!(each <= 512, "{each} bytes at {connections} connections");
        }
    }

    #[test]
    fn local_numbers_follow_from_the_configuration() {
        let local = Local::new(&Config {
            ipv4_prefix: 0,
            rx_window: 1 << 20,
            rto_min_us: 0,
            ..Config::default()
        });
        assert_eq!((local.mask, local.window_scale), (0, 5));
        assert_eq!((local.rto_min, local.mss), (16_000, 1460));
        let local = Local::new(&Config {
            ipv4_prefix: 32,
            ..Config::default()
        });
        assert_eq!(local.mask, u32::MAX);
    }
}
