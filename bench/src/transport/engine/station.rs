//! One address: an engine, and the streams on it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::time::Duration;

use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Fragment, Instant, MbufId};
use ix_net::testing::{APP_BUS, Host};
use ix_net::{Config, Endpoint, Event};

use super::Configuration;
use crate::options::load::Close;
use crate::transport::Received;

/// The engines' time in the beginning: not 0, so that there is a past.
const START_NS: u64 = 1 << 40;
/// Most that waits unsent for the peer's window, and fewest bytes of room.
const ROOM_BYTES: std::ops::RangeInclusive<u64> = 256..=256 << 10;

/// Sizes of a station.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    connections: u32,
    /// Bytes of memory for what a connection sends, a power of two.
    room: u32,
    delayed_ack_us: u32,
}

impl Shape {
    /// Of each station of a configuration.
    pub fn new(configuration: &Configuration) -> Self {
        let stations = configuration.addresses.len() as u64;
        let connections = configuration.connections.div_ceil(stations.max(1));
        let room = configuration.bytes_under_way.next_power_of_two();
        Self {
            // While one is closed by FIN, the next one is there already.
            connections: u32::try_from(2 * connections + 16).unwrap_or(u32::MAX),
            room: room.clamp(*ROOM_BYTES.start(), *ROOM_BYTES.end()) as u32,
            delayed_ack_us: configuration.acknowledgement_delay.as_micros() as u32,
        }
    }
}

/// An engine with an address of its own.
pub(super) struct Station {
    pub host: Host,
    mac: [u8; 6],
    room: u32,
    places: u32,
}

impl Station {
    /// With that address; its MAC address is made of it.
    pub fn new(address: Ipv4Addr, shape: Shape) -> Self {
        let [a, b, c, d] = address.octets();
        // Locally administered (IEEE 802, 8.4).
        let mac = [0x02, 0x69, a, b, c, d];
        let config = Config {
            mac,
            ipv4: address,
            connections: shape.connections,
            send_limit: shape.room,
            ephemeral_first: 1024,
            ephemeral_last: u16::MAX,
            delayed_ack_us: shape.delayed_ack_us,
            secret: *b"of a test client",
            ..Config::default()
        };
        Self {
            host: Host::new(config, Instant(START_NS), 0),
            mac,
            room: shape.room,
            places: 0,
        }
    }

    pub fn set_time(&mut self, elapsed_ns: u64) {
        self.host.now = Instant(START_NS + elapsed_ns);
    }

    /// Whether a frame is for this station, among others perhaps.
    pub fn hears(&self, frame: &[u8]) -> bool {
        let destination = frame.get(..6).unwrap_or_default();
        destination == self.mac || destination.first().is_some_and(|first| first & 1 != 0)
    }

    pub fn receive(&mut self, frame: &[u8]) {
        self.host.receive(frame);
    }

    /// How long it has nothing to do unless a frame comes.
    pub fn patience(&self, elapsed_ns: u64) -> Duration {
        let engine = &self.host.engine;
        if engine.has_pending_output() || !self.host.queue.events.is_empty() {
            return Duration::ZERO;
        }
        let deadline = engine.next_deadline();
        deadline.map_or(Duration::MAX, |at| {
            Duration::from_nanos(at.0.saturating_sub(START_NS + elapsed_ns))
        })
    }

    /// Memory for what another slot's connections send.
    pub fn new_place(&mut self) -> u32 {
        let place = self.places;
        self.places += 1;
        let bytes = self.places as usize * self.room as usize;
        self.host.wire.app.resize(bytes, 0);
        place
    }

    /// Begins to open a connection that sends from this place.
    pub fn connect(&mut self, cookie: u64, place: u32, server: Endpoint) -> io::Result<Stream> {
        let connected = self
            .host
            .with(|engine, cx| engine.connect(cx, cookie, server));
        Ok(Stream {
            cookie,
            place,
            room: self.room,
            handle: connected.map_err(failure)?,
            state: State::Opening,
            received: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
        })
    }
}

/// A connection, as its user sees it.
#[derive(Debug)]
pub(super) struct Stream {
    /// Its name among all that the slot had.
    pub cookie: u64,
    /// Which part of the station's memory it sends from: a ring of `room` bytes.
    pub place: u32,
    room: u32,
    handle: Handle,
    state: State,
    /// What came and was not taken yet.
    received: VecDeque<Piece>,
    /// Bytes handed to the engine, and those of them that the peer has.
    sent: u64,
    acknowledged: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    /// The peer sends no more.
    Ended,
    /// It is over, and not by our wish.
    Dead(ErrorKind),
    /// By our wish.
    Closed,
}

/// Received payload.
#[derive(Clone, Copy, Debug)]
struct Piece {
    mbuf: MbufId,
    offset: u16,
    len: u16,
}

impl Stream {
    /// Deals with one of its events.
    pub fn heed(&mut self, host: &mut Host, event: Event) {
        match event {
            Event::Connected {
                outcome: Ok(()), ..
            } => self.state = State::Open,
            Event::Recv {
                mbuf, offset, len, ..
            } => {
                self.received.push_back(Piece { mbuf, offset, len });
            }
            Event::EndOfStream { .. } => self.state = State::Ended,
            Event::Sent { bytes, .. } => self.acknowledged += u64::from(bytes),
            Event::Dead { reason, .. } if self.state != State::Closed => {
                self.state = State::Dead(kind(reason));
                // With this, what it received is the engine's again.
                self.received.clear();
                let released = host.with(|engine, cx| engine.close(cx, self.handle));
                released.expect("a dead connection that was not closed");
            }
            // `Dead` follows a handshake that failed.
            _ => {}
        }
    }

    pub fn is_open(&self) -> io::Result<bool> {
        match self.state {
            State::Opening => Ok(false),
            State::Open | State::Ended => Ok(true),
            State::Dead(kind) => Err(kind.into()),
            State::Closed => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// All replies are here, so the peer has everything that was sent, and the place may be used again.
    pub fn close(&mut self, host: &mut Host, how: Close) -> io::Result<()> {
        if let State::Dead(kind) = self.state {
            return Err(kind.into());
        }
        self.state = State::Closed;
        self.received.clear();
        let closed = host.with(|engine, cx| match how {
            Close::Reset => engine.abort(cx, self.handle),
            Close::Fin => engine.close(cx, self.handle),
        });
        closed.map_err(failure)
    }

    /// Copies what fits and queues it.
    pub fn send(&mut self, host: &mut Host, bytes: &[u8]) -> io::Result<usize> {
        if let State::Dead(kind) = self.state {
            return Err(kind.into());
        }
        let room = u64::from(self.room);
        let mut done = 0;
        while done < bytes.len() {
            let at = self.sent & (room - 1);
            let free = room - (self.sent - self.acknowledged);
            let len = free.min(room - at).min((bytes.len() - done) as u64);
            if len == 0 {
                break;
            }
            let start = u64::from(self.place) * room + at;
            let piece = &bytes[done..done + len as usize];
            host.wire.app[start as usize..][..piece.len()].copy_from_slice(piece);
            let fragment = Fragment {
                bus: APP_BUS + start,
                len: len as u32,
            };
            let accepted = host
                .with(|engine, cx| engine.send(cx, self.handle, &[fragment]))
                .map_err(failure)?;
            self.sent += u64::from(accepted);
            done += accepted as usize;
            if u64::from(accepted) < len {
                break;
            }
        }
        Ok(done)
    }

    pub fn receive(&mut self, host: &mut Host, buffer: &mut [u8]) -> io::Result<Received> {
        let mut count = 0;
        while let Some(piece) = self.received.front_mut() {
            let len = usize::from(piece.len).min(buffer.len() - count);
            if len == 0 {
                break;
            }
            let bytes = host.mbuf_bytes(piece.mbuf, piece.offset, len as u16);
            buffer[count..count + len].copy_from_slice(bytes);
            count += len;
            piece.offset += len as u16;
            piece.len -= len as u16;
            if piece.len == 0 {
                self.received.pop_front();
            }
        }
        if count > 0 {
            let given = host.with(|engine, cx| engine.recv_done(cx, self.handle, count as u64));
            return given.map(|()| Received::Bytes(count)).map_err(failure);
        }
        match self.state {
            State::Ended => Ok(Received::End),
            State::Dead(kind) => Err(kind.into()),
            State::Opening | State::Open | State::Closed => Ok(Received::Nothing),
        }
    }
}

fn kind(reason: DeadReason) -> ErrorKind {
    match reason {
        DeadReason::Closed => ErrorKind::NotConnected,
        DeadReason::Reset => ErrorKind::ConnectionReset,
        DeadReason::TimedOut => ErrorKind::TimedOut,
        DeadReason::Refused => ErrorKind::ConnectionRefused,
        DeadReason::Aborted => ErrorKind::ConnectionAborted,
        DeadReason::Exhausted => ErrorKind::OutOfMemory,
    }
}

fn failure(error: Error) -> io::Error {
    match error {
        Error::NoPort => ErrorKind::AddrNotAvailable.into(),
        error => io::Error::other(format!("the engine refuses: {error:?}")),
    }
}
