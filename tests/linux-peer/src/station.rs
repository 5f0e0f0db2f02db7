//! An engine on a wire, in real time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ix_machine::{Ipv6Network, NetworkConfig};
use ix_net::testing::{App, Host};
use ix82599::wire::{MAX_FRAME_BYTES, Wire as _};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::{Path, Tally, Wire};

/// Linux's address.
pub const LINUX: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The engine's address.
pub const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// Linux's address over IPv6.
pub const LINUX6: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x7882, 0x0599, 0, 0, 0, 0, 1);
/// The engine's address over IPv6.
pub const ENGINE6: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x7882, 0x0599, 0, 0, 0, 0, 2);

/// Frames taken in one round, as the dataplane does.
const BATCH: usize = 64;
/// How long it sleeps at most.
const NAP: Duration = Duration::from_millis(1);
/// Bytes of application memory.
const APP_BYTES: usize = 1 << 18;

/// What runs on top of the engine.
pub trait Application {
    /// Deals with the events that have come up, and makes calls.
    fn turn(&mut self, host: &mut Host);
}

impl Application for App {
    fn turn(&mut self, host: &mut Host) {
        App::turn(self, host);
    }
}

/// The engine at the other end of Linux's wire.
pub struct Station {
    /// The engine and its surroundings.
    pub host: Host,
    /// The wire.
    pub wire: Wire,
    /// What Linux sent.
    pub from_linux: Tally,
    /// What the engine sent.
    pub from_engine: Tally,
    /// The longest time from one round to the next: for so long Linux may have waited for an answer that
    /// the engine would have given at once.
    pub longest_absence: Duration,
    last_turn_ns: u64,
    /// Linux's address and the engine's.
    ends: [IpAddr; 2],
    start: Instant,
    frame: Vec<u8>,
}

impl Station {
    /// An engine of the default configuration at the other end of `path`.
    pub fn new(path: Path) -> Self {
        Self::with_config(path, ix_net::Config::default())
    }

    /// An engine that speaks to Linux over IPv6.
    pub fn over_ipv6(path: Path) -> Self {
        let ipv6 = ix_net::Ipv6Config {
            address: Some(ENGINE6),
            // The two ends know each other's addresses.
            duplicate_probes: 0,
            ..ix_net::Ipv6Config::default()
        };
        Self::with_config(
            path,
            ix_net::Config {
                ipv6: Some(ipv6),
                ..ix_net::Config::default()
            },
        )
    }

    /// The same with another configuration; IPv4 address and secret are the station's. With IPv6,
    /// the two speak over that. The MTU is that of Linux too.
    pub fn with_config(path: Path, config: ix_net::Config) -> Self {
        let ipv6 = config.ipv6.map(|_| Ipv6Network {
            host: LINUX6,
            ..Ipv6Network::default()
        });
        let network = NetworkConfig {
            host: LINUX,
            ipv6,
            mtu: config.mtu,
            ..NetworkConfig::default()
        };
        Self::on(Wire::with_network(&network, path), config)
    }

    /// The same on a given wire.
    pub fn on(wire: Wire, config: ix_net::Config) -> Self {
        let config = ix_net::Config {
            ipv4: ENGINE,
            secret: *b"not so secret...",
            ..config
        };
        Self {
            ends: match config.ipv6 {
                None => [LINUX.into(), ENGINE.into()],
                Some(_) => [LINUX6.into(), ENGINE6.into()],
            },
            wire,
            host: Host::new(config, ix_hal::Instant(1 << 40), APP_BYTES),
            from_linux: Tally::default(),
            from_engine: Tally::default(),
            longest_absence: Duration::ZERO,
            last_turn_ns: 0,
            start: Instant::now(),
            frame: vec![0; MAX_FRAME_BYTES],
        }
    }

    /// Linux's address.
    pub fn linux(&self) -> IpAddr {
        self.ends[0]
    }

    /// The engine's address.
    pub fn engine(&self) -> IpAddr {
        self.ends[1]
    }

    /// Runs until `done`, for at most `limit`; sleeps while there is nothing to do.
    pub fn run<A: Application>(
        &mut self,
        app: &mut A,
        limit: Duration,
        mut done: impl FnMut(&mut A, &mut Host) -> bool,
    ) {
        let begin = Instant::now();
        loop {
            let frames = self.turn(app);
            if done(app, &mut self.host) {
                return;
            }
            assert!(
                begin.elapsed() < limit,
                "stuck for {limit:?}: {:?}, {:?}\n{:?}",
                self.from_linux,
                self.from_engine,
                self.host
                    .engine
                    .counters()
                    .iter()
                    .filter(|(_, value)| *value != 0)
                    .collect::<Vec<_>>()
            );
            if frames == 0 {
                self.nap();
            }
        }
    }

    /// Runs for some time whatever happens.
    pub fn run_for(&mut self, app: &mut impl Application, span: Duration) {
        let begin = Instant::now();
        let limit = span + Duration::from_secs(60);
        self.run(app, limit, |_, _| begin.elapsed() >= span);
    }

    /// One round: frames in, the application, timers, frames out. Returns how many frames went by.
    fn turn(&mut self, app: &mut impl Application) -> usize {
        let elapsed = self.start.elapsed().as_nanos() as u64;
        let absence = Duration::from_nanos(elapsed - self.last_turn_ns);
        // Before the first round there was nobody to wait.
        if self.last_turn_ns != 0 {
            self.longest_absence = self.longest_absence.max(absence);
        }
        self.last_turn_ns = elapsed;
        self.host.now = ix_hal::Instant((1 << 40) + elapsed);
        self.wire.tap.advance(elapsed);
        let mut count = 0;
        while count < BATCH {
            let received = self.wire.tap.receive(&mut self.frame);
            let Some(len) = received.expect("the TAP receives") else {
                break;
            };
            self.from_linux.read(&self.frame[..len]);
            self.host.receive(&self.frame[..len]);
            count += 1;
        }
        app.turn(&mut self.host);
        self.host.turn();
        while let Some(frame) = self.host.wire.sent.pop_front() {
            self.from_engine.read(&frame);
            // A full queue loses the frame, as a switch does.
            let _ = self.wire.tap.send(&frame);
            count += 1;
        }
        count
    }

    fn nap(&self) {
        let engine = &self.host.engine;
        if engine.has_pending_output() || !self.host.queue.events.is_empty() {
            return;
        }
        let elapsed = self.start.elapsed().as_nanos() as u64;
        let timer = engine
            .next_deadline()
            .map_or(u64::MAX, |at| at.0.saturating_sub(1 << 40));
        let until = self
            .wire
            .tap
            .deadline_ns()
            .map_or(timer, |at| at.min(timer));
        let nap = until.saturating_sub(elapsed).min(NAP.as_nanos() as u64);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: nap as i64,
        };
        let readiness = self.wire.tap.readiness().expect("a TAP has a descriptor");
        let mut readiness = [PollFd::from_borrowed_fd(readiness, PollFlags::IN)];
        poll(&mut readiness, Some(&timeout)).expect("poll the TAP");
    }
}
