//! The project's own TCP/IP engine, in this process, on one of Linux's interfaces.
//!
//! Linux's TCP costs the client several times what a dataplane costs the server, so that on a small machine
//! it is the client that is measured. Here a request costs two system calls, one for each frame.
//!
//! Each local address is a station: an engine with a MAC address of its own, which nobody else answers to.

mod station;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ix_net::{Endpoint, Engine, Event, IpAddress};
use ix82599::wire::{MAX_FRAME_BYTES, PacketSocket, Wire as _, WireError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::{Ready, Received, Transport};
use crate::error::LoadError;
use crate::options::load::Close;
use station::{Shape, Station, Stream};

/// Frames taken between two looks at what they bring, as a dataplane does.
const BATCH: usize = 64;

/// How long Linux's TCP has an acknowledgement wait: the other transport does the same.
pub(crate) const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(40);

/// Stations on one interface.
pub(crate) struct Engines {
    server: Endpoint,
    link: PacketSocket,
    stations: Vec<Station>,
    slots: Vec<Slot>,
    start: Instant,
    frame: Vec<u8>,
    /// Frames that the interface did not take.
    lost: u64,
}

/// What a slot's connection is at its station.
#[derive(Debug)]
struct Slot {
    station: usize,
    stream: Stream,
}

/// Which engines, for what.
#[derive(Clone, Copy, Debug)]
pub struct Configuration<'a> {
    /// Where to connect, by IPv4.
    pub server: SocketAddr,
    /// The interface.
    pub device: &'a str,
    /// Own addresses, which nobody else has.
    pub addresses: &'a [Ipv4Addr],
    /// Connections open at once.
    pub connections: u64,
    /// Bytes that a connection has on their way at most.
    pub bytes_under_way: u64,
    /// How long an acknowledgement waits for a request to ride on.
    pub acknowledgement_delay: Duration,
}

impl Engines {
    /// Starts the engines.
    pub fn start(configuration: &Configuration) -> Result<Self, LoadError> {
        let SocketAddr::V4(server) = configuration.server else {
            return Err(LoadError::Engine(
                "it speaks IPv4 here: give an IPv4 address".to_owned(),
            ));
        };
        let link = PacketSocket::open(configuration.device)
            .map_err(|error| LoadError::Engine(error.to_string()))?;
        let shape = Shape::new(configuration);
        let stations = configuration.addresses.iter();
        Ok(Self {
            server: Endpoint {
                address: IpAddress::from_ipv4(server.ip().to_bits()),
                port: server.port(),
            },
            link,
            stations: stations
                .map(|address| Station::new(*address, shape))
                .collect(),
            slots: Vec::new(),
            start: Instant::now(),
            frame: vec![0; MAX_FRAME_BYTES],
            lost: 0,
        })
    }

    /// Frames in, events, timers, frames out. Returns how many frames were taken.
    fn turn(&mut self, ready: &mut Vec<Ready>) -> io::Result<usize> {
        let elapsed_ns = self.start.elapsed().as_nanos() as u64;
        for station in &mut self.stations {
            station.set_time(elapsed_ns);
        }
        let mut count = 0;
        while count < BATCH {
            let received = self
                .link
                .receive(&mut self.frame)
                .map_err(io::Error::other)?;
            let Some(len) = received else {
                break;
            };
            count += 1;
            let frame = &self.frame[..len];
            for station in self
                .stations
                .iter_mut()
                .filter(|station| station.hears(frame))
            {
                station.receive(frame);
            }
        }
        for index in 0..self.stations.len() {
            while let Some(event) = self.stations[index].host.queue.events.pop_front() {
                self.heed(index, event, ready);
            }
            self.stations[index].host.turn();
            self.transmit(index)?;
        }
        Ok(count)
    }

    fn transmit(&mut self, station: usize) -> io::Result<()> {
        while let Some(frame) = self.stations[station].host.wire.sent.pop_front() {
            match self.link.send(&frame) {
                Ok(()) => {}
                Err(WireError::Full) => self.lost += 1,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }

    /// Deals with an event, if it is of a connection that still has its slot.
    fn heed(&mut self, station: usize, event: Event, ready: &mut Vec<Ready>) {
        let (Event::Connected { cookie, .. }
        | Event::Recv { cookie, .. }
        | Event::EndOfStream { cookie }
        | Event::Sent { cookie, .. }
        | Event::Dead { cookie, .. }) = event
        else {
            return;
        };
        let slot = cookie as u32 as usize;
        let known = self.slots.get_mut(slot);
        if let Some(known) =
            known.filter(|slot| slot.station == station && slot.stream.cookie == cookie)
        {
            known.stream.heed(&mut self.stations[station].host, event);
            let is_ending = matches!(event, Event::EndOfStream { .. } | Event::Dead { .. });
            ready.push(Ready { slot, is_ending });
        }
    }

    /// How long nothing will happen unless a frame comes.
    fn patience(&self, at_most: Duration) -> Duration {
        let now_ns = self.start.elapsed().as_nanos() as u64;
        let waits = self.stations.iter().map(|station| station.patience(now_ns));
        waits.min().map_or(at_most, |wait| wait.min(at_most))
    }
}

impl Transport for Engines {
    fn open(&mut self, slot: usize, number: u64) -> io::Result<()> {
        let index = (number % self.stations.len() as u64) as usize;
        let station = &mut self.stations[index];
        // A slot has the same place in its station's memory every time: it is always the same station's.
        let (cookie, place) = match self.slots.get(slot) {
            Some(old) if old.station == index => (old.stream.cookie + (1 << 32), old.stream.place),
            Some(old) => (old.stream.cookie + (1 << 32), station.new_place()),
            None => (slot as u64, station.new_place()),
        };
        let stream = station.connect(cookie, place, self.server)?;
        let fresh = Slot {
            station: index,
            stream,
        };
        match self.slots.get_mut(slot) {
            Some(old) => *old = fresh,
            None => self.slots.push(fresh),
        }
        Ok(())
    }

    fn is_open(&mut self, slot: usize) -> io::Result<bool> {
        self.slots[slot].stream.is_open()
    }

    fn close(&mut self, slot: usize, how: Close) -> io::Result<()> {
        let Slot { station, stream } = &mut self.slots[slot];
        stream.close(&mut self.stations[*station].host, how)
    }

    fn closing(&self) -> usize {
        let engines = self.stations.iter().map(|station| &station.host.engine);
        let unfinished =
            |engine: &Engine| engine.connections() + usize::from(engine.has_pending_output());
        engines.map(unfinished).sum()
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) -> io::Result<usize> {
        let Slot { station, stream } = &mut self.slots[slot];
        stream.send(&mut self.stations[*station].host, bytes)
    }

    fn receive(&mut self, slot: usize, buffer: &mut [u8]) -> io::Result<Received> {
        let Slot { station, stream } = &mut self.slots[slot];
        stream.receive(&mut self.stations[*station].host, buffer)
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn wait(&mut self, at_most: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let frames = self.turn(ready)?;
        let nap = self.patience(at_most);
        if !ready.is_empty() || frames == BATCH || nap.is_zero() {
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: nap.as_secs() as i64,
            tv_nsec: i64::from(nap.subsec_nanos()),
        };
        let readiness = self.link.readiness().ok_or(ErrorKind::Unsupported)?;
        let mut readiness = [PollFd::from_borrowed_fd(readiness, PollFlags::IN)];
        match poll(&mut readiness, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.turn(ready).map(drop)
    }
}
