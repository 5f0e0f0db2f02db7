//! An application for simulations: each of its connections sends a stream of known bytes, checks
//! the stream that it receives, gives memory back with some delay, and closes in one of several
//! ways.

use crate::testing::Random;
use crate::testing::host::{APP_BUS, Host};
use crate::{Endpoint, Event};
use alloc::collections::BTreeMap;
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::Fragment;

/// Bytes after which a stream repeats. A prime, so that a shift by any segment size shows.
pub const STREAM_PERIOD: u64 = 65_521;

/// The byte at a position of every stream.
pub fn stream_byte(position: u64) -> u8 {
    let mixed = (position % STREAM_PERIOD).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// What one side of a connection does.
#[derive(Clone, Debug)]
pub struct Script {
    /// Bytes to send.
    pub send: u64,
    /// Bytes to expect.
    pub expect: u64,
    /// Most bytes in one `send`, in pieces of up to a third of it.
    pub write: u32,
    /// Chance in thousandths that received bytes are kept until a later turn.
    pub lazy: u32,
    /// How it closes.
    pub role: Role,
}

/// How a side closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `shutdown` after sending, `close` after the peer's end of stream.
    ShutsDown,
    /// `close` once everything is sent and received.
    Closes,
    /// `close` after the peer's end of stream.
    Follows,
}

struct Connection {
    handle: Handle,
    script: Script,
    is_open: bool,
    sent: u64,
    acked: u64,
    received: u64,
    owed: u64,
    has_ended: bool,
    has_shut_down: bool,
    has_closed: bool,
}

/// The application of one host.
pub struct App {
    connections: BTreeMap<u64, Connection>,
    script: Script,
    next_cookie: u64,
    expected: u64,
    random: Random,
    /// Bytes before the wrap within which connections begin to count; anywhere if 0.
    pub wrap_within: u64,
    /// Connections that ended, by reason.
    pub dead: BTreeMap<u16, u64>,
    /// Connections that completed a handshake.
    pub connected: u64,
    /// `connect`s that failed.
    pub failed: u64,
    /// Bytes received and verified.
    pub verified: u64,
}

impl App {
    /// An application whose accepted connections follow `script`. Fills the host's memory.
    pub fn new(host: &mut Host, script: Script, seed: u64) -> Self {
        for (position, byte) in host.wire.app.iter_mut().enumerate() {
            *byte = stream_byte(position as u64);
        }
        assert!(host.wire.app.len() as u64 >= STREAM_PERIOD * 2);
        Self {
            connections: BTreeMap::new(),
            script,
            next_cookie: 1,
            expected: 0,
            random: Random::new(seed),
            wrap_within: 0,
            dead: BTreeMap::new(),
            connected: 0,
            failed: 0,
            verified: 0,
        }
    }

    /// Opens a connection.
    pub fn connect(
        &mut self,
        host: &mut Host,
        remote: Endpoint,
        script: Script,
    ) -> Result<(), Error> {
        let cookie = self.new_cookie();
        let handle = host.with(|engine, cx| engine.connect(cx, cookie, remote))?;
        self.choose_sequence(host, handle);
        self.add(cookie, handle, script);
        Ok(())
    }

    /// Not idle before that many connections have ended.
    pub fn expect_connections(&mut self, count: u64) {
        self.expected = count;
    }

    /// Whether no connection is left, and none is to come.
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.dead.values().sum::<u64>() >= self.expected
    }

    /// Grows with each connection opened, failed or ended, and each byte sent, acknowledged or
    /// received.
    pub fn progress(&self) -> u64 {
        let ends = self.connected + self.failed + self.dead.values().sum::<u64>();
        let bytes = |c: &Connection| c.sent + c.acked + c.received + u64::from(c.has_ended);
        // What ended has to count for no less than before.
        ends * (1 << 40) + self.connections.values().map(bytes).sum::<u64>()
    }

    /// Whether it would do something even if nothing came.
    pub fn is_waiting(&self) -> bool {
        self.connections
            .values()
            .any(|connection| connection.owed != 0 && connection.is_open && !connection.has_closed)
    }

    /// How the connections stand, for a failed test's message.
    pub fn describe(&self) -> alloc::string::String {
        let mut text = alloc::string::String::new();
        for (cookie, c) in &self.connections {
            text += &alloc::format!(
                "cookie {cookie}: open {} sent {} acked {} of {}, received {} of {}, ended {} shut {} closed {}\n",
                c.is_open,
                c.sent,
                c.acked,
                c.script.send,
                c.received,
                c.script.expect,
                c.has_ended,
                c.has_shut_down,
                c.has_closed
            );
        }
        text
    }

    /// Deals with the events that have come up, then makes the calls that follow.
    pub fn turn(&mut self, host: &mut Host) {
        while let Some(event) = host.queue.events.pop_front() {
            self.handle(host, event);
        }
        let cookies: alloc::vec::Vec<u64> = self.connections.keys().copied().collect();
        for cookie in cookies {
            self.work(host, cookie);
        }
    }

    /// Ends every connection at once, with RST.
    pub fn abort_all(&mut self, host: &mut Host) {
        for connection in self.connections.values_mut() {
            if !connection.has_closed {
                connection.has_closed = true;
                host.with(|engine, cx| engine.abort(cx, connection.handle))
                    .expect("abort");
            }
        }
    }

    fn choose_sequence(&mut self, host: &mut Host, handle: Handle) {
        if self.wrap_within != 0 {
            let before = 1 + self.random.below(self.wrap_within) as u32;
            host.engine
                .set_initial_sequence(handle, before.wrapping_neg());
        }
    }

    fn new_cookie(&mut self) -> u64 {
        self.next_cookie += 1;
        self.next_cookie
    }

    fn add(&mut self, cookie: u64, handle: Handle, script: Script) {
        let connection = Connection {
            handle,
            script,
            is_open: false,
            sent: 0,
            acked: 0,
            received: 0,
            owed: 0,
            has_ended: false,
            has_shut_down: false,
            has_closed: false,
        };
        self.connections.insert(cookie, connection);
    }

    fn handle(&mut self, host: &mut Host, event: Event) {
        match event {
            Event::Knock { handle, .. } => {
                let cookie = self.new_cookie();
                self.choose_sequence(host, handle);
                host.with(|engine, cx| engine.accept(cx, handle, cookie))
                    .expect("accept a knock");
                self.add(cookie, handle, self.script.clone());
            }
            Event::Connected {
                cookie, outcome, ..
            } => match outcome {
                Ok(()) => {
                    self.connected += 1;
                    self.connections.get_mut(&cookie).expect("known").is_open = true;
                }
                Err(_) => self.failed += 1,
            },
            Event::Recv {
                cookie,
                mbuf,
                offset,
                len,
            } => {
                let connection = self.connections.get_mut(&cookie).expect("recv after dead");
                assert!(!connection.has_ended, "data after the end of the stream");
                assert!(!connection.has_closed, "data after close");
                let at = (connection.received % STREAM_PERIOD) as usize;
                let expected = &host.wire.app[at..at + usize::from(len)];
                let came = host.mbuf_bytes(mbuf, offset, len);
                assert!(came == expected, "wrong bytes at {}", connection.received);
                connection.received += u64::from(len);
                self.verified += u64::from(len);
                connection.owed += u64::from(len);
            }
            Event::EndOfStream { cookie } => {
                let connection = self.connections.get_mut(&cookie).expect("end after dead");
                assert!(!connection.has_ended, "two ends of stream");
                connection.has_ended = true;
            }
            Event::Sent { cookie, bytes, .. } => {
                let connection = self.connections.get_mut(&cookie).expect("sent after dead");
                connection.acked += u64::from(bytes);
                assert!(
                    connection.acked <= connection.sent,
                    "acknowledged what was not sent"
                );
            }
            Event::Migrated { .. } => panic!("migrated, although there is one engine"),
            Event::Dead { cookie, reason, .. } => self.bury(host, cookie, reason),
            Event::Datagram { .. } => panic!("a datagram, although no port is bound"),
        }
    }

    fn bury(&mut self, host: &mut Host, cookie: u64, reason: DeadReason) {
        *self.dead.entry(reason as u16).or_default() += 1;
        let Some(connection) = self.connections.remove(&cookie) else {
            assert_eq!(cookie, 0, "dead twice");
            return;
        };
        if reason == DeadReason::Closed {
            assert_eq!(
                connection.acked, connection.script.send,
                "closed before all was sent"
            );
            assert_eq!(
                connection.received, connection.script.expect,
                "closed before all came"
            );
        }
        let released = host.with(|engine, cx| engine.close(cx, connection.handle));
        assert_eq!(released.is_ok(), !connection.has_closed);
    }

    fn work(&mut self, host: &mut Host, cookie: u64) {
        let connection = self.connections.get_mut(&cookie).expect("known");
        let handle = connection.handle;
        if !connection.is_open || connection.has_closed {
            return;
        }
        if connection.owed != 0 && !self.random.chance(connection.script.lazy) {
            let part = match self.random.chance(300) {
                true => 1 + self.random.below(connection.owed),
                false => connection.owed,
            };
            let done = host.with(|engine, cx| engine.recv_done(cx, handle, part));
            done.expect("give back received bytes");
            connection.owed -= part;
        }
        while connection.sent < connection.script.send {
            let accepted = send_some(host, connection, &mut self.random);
            connection.sent += u64::from(accepted);
            if accepted == 0 {
                break;
            }
        }
        let is_sent = connection.sent == connection.script.send;
        if is_sent && !connection.has_shut_down && connection.script.role == Role::ShutsDown {
            connection.has_shut_down = true;
            host.with(|engine, cx| engine.shutdown(cx, handle))
                .expect("shut down");
        }
        let is_complete = is_sent && connection.received == connection.script.expect;
        let may_close = match connection.script.role {
            Role::Closes => is_complete && connection.owed == 0,
            Role::Follows | Role::ShutsDown => is_sent && connection.has_ended,
        };
        if may_close {
            connection.has_closed = true;
            host.with(|engine, cx| engine.close(cx, handle))
                .expect("close");
        }
    }
}

/// Sends the next bytes of a stream in a few pieces; returns how many were accepted.
fn send_some(host: &mut Host, connection: &Connection, random: &mut Random) -> u32 {
    let mut left =
        (connection.script.send - connection.sent).min(u64::from(connection.script.write));
    let mut position = connection.sent;
    let mut pieces = alloc::vec::Vec::new();
    while left != 0 && pieces.len() < 64 {
        let most = left.min(u64::from(connection.script.write / 3 + 1));
        let len = 1 + random.below(most);
        pieces.push(Fragment {
            bus: APP_BUS + position % STREAM_PERIOD,
            len: len.min(STREAM_PERIOD) as u32,
        });
        position += len.min(STREAM_PERIOD);
        left -= len.min(STREAM_PERIOD);
    }
    host.with(|engine, cx| engine.send(cx, connection.handle, &pieces))
        .expect("send")
}
