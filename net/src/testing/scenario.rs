//! Simulations that are made from a seed alone: two engines, several connections, a faulty wire, small
//! tables, small windows, sequence numbers that wrap, a clock that jumps, a wire that is cut, and peers
//! that abort or start anew.

use super::conditions::{Condition, conditions};
use super::{App, EngineStation, Faults, Host, Link, Network, Random, Role, Script};
use crate::{Config, CongestionControl, Endpoint, Ipv6Config};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};
use ix_hal::{Duration, Instant};

/// When simulations start: not at zero.
const START: Instant = Instant(1 << 40);
/// After so much virtual time something is stuck.
const LIMIT: Duration = Duration::from_secs(7200);
const PORT: u16 = 80;
/// Fewer than the connections that may be opened at once.
const FEW_HALF_OPEN: u32 = 1;

const ROLES: [[Role; 2]; 4] = [
    [Role::Closes, Role::Follows],
    [Role::Follows, Role::Closes],
    [Role::ShutsDown, Role::ShutsDown],
    [Role::ShutsDown, Role::Follows],
];

/// What happens to the wire and the clock on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// Nothing.
    None,
    /// After `at`, the clock jumps ahead by `by`.
    ClockJump {
        /// Nanoseconds after the start.
        at: u64,
        /// Nanoseconds that are left out.
        by: u64,
    },
    /// After `at`, no frame arrives any more.
    Cut {
        /// Nanoseconds after the start.
        at: u64,
    },
    /// After `at`, a station's application aborts all its connections.
    Abort {
        /// Nanoseconds after the start.
        at: u64,
        /// 0 for the first station, 1 for the second.
        side: usize,
    },
    /// After `at`, the second station starts anew and has forgotten everything.
    Restart {
        /// Nanoseconds after the start.
        at: u64,
    },
}

impl Incident {
    /// Whether connections may end before their streams do.
    fn ends_connections(self) -> bool {
        !matches!(self, Incident::None | Incident::ClockJump { .. })
    }
}

/// How much there is of what connections share, on both stations.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Frames that fit in the TX ring.
    pub tx_ring: usize,
    /// Records for pieces of unacknowledged data.
    pub send_records: u32,
    /// Buffers that connections may hold.
    pub mbufs_held: u32,
    /// Handshakes before SYN cookies are sent.
    pub half_open: u32,
}

/// Everything about one simulation.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it was made from.
    pub seed: u64,
    /// What the wire does to frames.
    pub faults: Faults,
    /// What else happens.
    pub incident: Incident,
    /// Whether all of it is over IPv6. Then no link is narrower than IPv6 allows.
    pub is_ipv6: bool,
    /// Connections, all opened by the first station at the start.
    pub connections: u64,
    /// Bytes from the first station to the second on each connection.
    pub there: u64,
    /// Bytes back.
    pub back: u64,
    /// How each side closes.
    pub roles: [Role; 2],
    /// Chance in thousandths that an application keeps received memory for another turn.
    pub lazy: u32,
    /// Most bytes of one write, by station.
    pub write: [u32; 2],
    /// Longest IP packet, by station.
    pub mtu: [u16; 2],
    /// Receive window, by station.
    pub rx_window: [u32; 2],
    /// What connections share.
    pub room: Room,
    /// Bytes before the wrap within which connections begin to count, by station; anywhere if 0.
    pub wrap_within: [u64; 2],
    /// Most payload of a frame that the NIC cuts into segments, by station; 0 for none.
    pub segmentation: [u32; 2],
}

/// How a simulation went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Virtual time that it took, in nanoseconds.
    pub time: u64,
    /// Frames sent by both stations.
    pub frames: u64,
    /// Bytes verified by both applications.
    pub verified: u64,
    /// What it met on its way.
    pub conditions: Vec<Condition>,
}

impl Scenario {
    /// The simulation of that number.
    pub fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let windows = [200, 1000, 4000, 16 << 10, 64 << 10, 256 << 10];
        let (there, back) = (some_length(random), some_length(random));
        let mut pair = |low: u64, high: u64| [(); 2].map(|()| low + random.below(high - low + 1));
        let [write, mtu, window] = [pair(1, 40_000), pair(576, 1500), pair(0, 5)];
        let large = [0, 4_000, 65_408, 65_408];
        let segmentation = pair(0, 3);
        let [link, jumbo] = [pair(0, 3), pair(1501, 9000)];
        let mtu = [0, 1].map(|side| match link[side] {
            0 => 9000,
            1 => jumbo[side],
            _ => mtu[side],
        });
        let is_ipv6 = Random::new(!seed).chance(500);
        let least_mtu = if is_ipv6 { 1280 } else { 576 };
        Self {
            seed,
            is_ipv6,
            faults: some_faults(random),
            incident: some_incident(random),
            connections: 1 + random.below(6),
            there,
            back,
            roles: ROLES[random.below(4) as usize],
            lazy: random.below(900) as u32,
            write: write.map(|bytes| bytes as u32),
            mtu: mtu.map(|bytes| (bytes as u16).max(least_mtu)),
            rx_window: window.map(|index| windows[index as usize]),
            room: some_room(random),
            wrap_within: [there, back].map(|len| match random.chance(750) {
                // Not so few that a forgotten connection often comes back with the same numbers.
                true => (len + 2).max(64),
                false => 0,
            }),
            segmentation: segmentation.map(|index| large[index as usize]),
        }
    }

    /// Runs it; the error says what is wrong. With `trace`, each frame is described to it at once.
    ///
    /// # Panics
    /// If an application receives what was not sent, or an event that may not come.
    pub fn run(&self, trace: Option<fn(&str)>) -> Result<Outcome, String> {
        let scripts = [
            self.script(0, self.there, self.back),
            self.script(1, self.back, self.there),
        ];
        let [first, second] = [0, 1].map(|side| self.station(side, &scripts[side]));
        let mut network = Network::new(first, second, &self.faults, self.seed, START);
        network.print = trace;
        let listening = network.second.host.engine.listen(PORT);
        listening.map_err(|error| format!("listen: {error:?}"))?;
        let server = Endpoint {
            address: match self.is_ipv6 {
                false => Ipv4Addr::new(10, 0, 0, 2).into(),
                true => ipv6(2).into(),
            },
            port: PORT,
        };
        for _ in 0..self.connections {
            let EngineStation { host, app } = &mut network.first;
            app.connect(host, server, scripts[0].clone())
                .map_err(|error| format!("connect: {error:?}"))?;
        }
        self.cause_incident(&mut network, &scripts[1])?;
        network.run(LIMIT.0)?;
        self.check(&network)
            .map_err(|wrong| format!("{wrong}\n{}", network.describe()))?;
        Ok(Outcome {
            time: network.now.0 - START.0,
            frames: network.first.host.wire.frames + network.second.host.wire.frames,
            verified: network.first.app.verified + network.second.app.verified,
            conditions: conditions(self, &network),
        })
    }

    fn cause_incident(
        &self,
        network: &mut Network<EngineStation, EngineStation>,
        server_script: &Script,
    ) -> Result<(), String> {
        match self.incident {
            Incident::None => {}
            Incident::ClockJump { at, by } => {
                network.run_for(at);
                network.remark(&format!("the clock jumps by {} us", by / 1000));
                network.now.0 += by;
            }
            Incident::Cut { at } => {
                network.run_for(at);
                network.remark("the wire is cut");
                let silence = Faults {
                    loss: 1000,
                    ..Faults::default()
                };
                network.there = Link::new(silence.clone(), self.seed);
                network.back = Link::new(silence, self.seed);
            }
            Incident::Abort { at, side } => {
                network.run_for(at);
                network.remark("a station aborts its connections");
                let stations = [&mut network.first, &mut network.second];
                let now = network.now;
                for EngineStation { host, app } in stations.into_iter().skip(side).take(1) {
                    host.now = now;
                    app.abort_all(host);
                }
            }
            Incident::Restart { at } => {
                network.run_for(at);
                network.remark("the second station starts anew");
                let mut station = self.station(1, server_script);
                station.host.now = network.now;
                let listening = station.host.engine.listen(PORT);
                listening.map_err(|error| format!("listen again: {error:?}"))?;
                network.second = station;
            }
        }
        Ok(())
    }

    fn script(&self, side: usize, send: u64, expect: u64) -> Script {
        Script {
            send,
            expect,
            write: self.write[side],
            lazy: self.lazy,
            role: self.roles[side],
        }
    }

    fn station(&self, side: usize, script: &Script) -> EngineStation {
        let last = side as u8 + 1;
        let is_lonely = self.incident.ends_connections() || self.room.half_open == FEW_HALF_OPEN;
        let config = Config {
            mac: [2, 0, 0, 0, 0, last],
            ipv4: Ipv4Addr::new(10, 0, 0, last),
            ipv6: self.is_ipv6.then(|| Ipv6Config {
                address: Some(ipv6(last)),
                duplicate_probes: 0,
                ..Ipv6Config::default()
            }),
            secret: [last ^ self.seed as u8; 16],
            mtu: self.mtu[side],
            rx_window: self.rx_window[side],
            connections: 64,
            half_open: self.room.half_open,
            time_wait: 64,
            neighbors: 8,
            send_fragments: self.room.send_records,
            mbufs: 1024,
            mbufs_held: self.room.mbufs_held,
            out_of_order: 512,
            send_limit: 64 << 10,
            // Each side on its own; DCTCP brings ECN with it.
            congestion: match (self.seed >> side) % 3 {
                0 => CongestionControl::NewReno,
                1 => CongestionControl::Cubic,
                _ => CongestionControl::Dctcp,
            },
            // A clock jump that gets into a measurement makes timeouts of half a minute; then a few
            // losses in a row must not end the connection.
            user_timeout: Duration::from_secs(600),
            // Nor must five lost SYNs in a row.
            handshake_timeout: Duration::from_secs(300),
            // One who only waits finds out by asking.
            keepalive: is_lonely.then_some(Duration::from_secs(30)),
            ..Config::default()
        };
        let mut host = Host::new(config, START, 1 << 18);
        host.wire.segmentation = self.segmentation[side];
        host.wire.capacity = self.room.tx_ring;
        let mut app = App::new(&mut host, script.clone(), self.seed ^ u64::from(last));
        app.wrap_within = self.wrap_within[side];
        EngineStation { host, app }
    }

    /// Everything was delivered, unless connections were ended, and everything came back.
    fn check(&self, network: &Network<EngineStation, EngineStation>) -> Result<(), &'static str> {
        let sides = [(&network.first, self.back), (&network.second, self.there)];
        // If the segment is lost that brings a SYN cookie back, only one side knows of the connection.
        let has_cookies = network.second.host.engine.counters().tcp_cookies_sent != 0;
        let is_whole = !self.incident.ends_connections() && !has_cookies;
        for (EngineStation { host, app }, expected) in sides {
            if is_whole {
                ensure(app.connected == self.connections, "not all connected")?;
                ensure(
                    app.verified == self.connections * expected,
                    "not everything was delivered",
                )?;
            }
            ensure(host.mbufs_out() == 0, "mbufs were not returned")?;
            ensure(
                host.engine.connections() == 0,
                "connections were not released",
            )?;
            ensure(
                host.engine.free_send_records() == self.room.send_records,
                "send records were not released",
            )?;
        }
        // The listening side may see a handshake fail that an old SYN has begun.
        ensure(
            !is_whole || network.first.app.failed == 0,
            "a handshake failed",
        )
    }
}

/// The IPv6 address of a station.
fn ipv6(last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into())
}

fn ensure(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    holds.then_some(()).ok_or(otherwise)
}

/// Faults of every kind; one wire in eight is perfect, and one in eight loses every tenth frame.
fn some_faults(random: &mut Random) -> Faults {
    let delay = match random.chance(50) {
        true => random.below(200_000_000),
        false => random.below(5_000_000),
    };
    let scale = random.below(8);
    let perfect = Faults {
        delay,
        ..Faults::default()
    };
    if scale == 0 {
        return perfect;
    }
    Faults {
        loss: if scale == 7 {
            100
        } else {
            random.below(50) as u32
        },
        duplication: random.below(50) as u32,
        marking: random.below(50) as u32,
        corruption: random.below(30) as u32,
        reordering: random.below(100) as u32,
        jitter: random.below(1_000_000),
        reorder_delay: random.below(10_000_000),
        ..perfect
    }
}

fn some_incident(random: &mut Random) -> Incident {
    let at = random.below(200_000_000);
    match random.below(16) {
        0 => Incident::Cut { at },
        // Below the time after which a handshake is given up.
        1 | 2 => Incident::ClockJump {
            at,
            by: random.below(10_000_000_000),
        },
        3 => Incident::Abort {
            at,
            side: random.below(2) as usize,
        },
        4 => Incident::Restart { at },
        _ => Incident::None,
    }
}

/// Nothing, a few bytes, or up to 100 kB.
fn some_length(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => 1 + random.below(100),
        2..=6 => random.below(30_000),
        _ => random.below(100_000),
    }
}

/// Mostly plenty; sometimes so little that it runs out.
fn some_room(random: &mut Random) -> Room {
    let records = [64, 256, 2048, 2048][random.below(4) as usize];
    let mut either = |little: u64, plenty: u64| match random.chance(125) {
        true => little,
        false => plenty,
    };
    Room {
        tx_ring: either(3, 256) as usize,
        send_records: records,
        mbufs_held: either(12, 900) as u32,
        half_open: either(FEW_HALF_OPEN.into(), 32) as u32,
    }
}
