//! The application of all elastic threads: it sends and verifies streams, and moves the state of a
//! connection with the connection. Every event is checked for the thread it comes on.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{CallNumber, DeadReason, EventKind, area, call, event, piece};
use ix_net::testing::{Random, Role, STREAM_PERIOD, Script, stream_byte};

use crate::machine::Buffers;

/// User address of the memory that the application sends from: a stream from its start.
pub const HEAP: u64 = 0x40_0000_0000;
/// Calls in one round at most.
const CALLS_MOST: usize = 512;

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    On(usize),
    /// It has left one thread and not arrived at the other.
    Between(usize, usize),
}

struct Connection {
    place: Place,
    handle: u64,
    script: Script,
    is_open: bool,
    sent: u64,
    acked: u64,
    received: u64,
    owed: u64,
    has_ended: bool,
    has_shut_down: bool,
    has_closed: bool,
    /// Times that it moved.
    moves: u32,
}

/// A call whose result is to be looked at in the next round of its thread.
struct Pending {
    cookie: u64,
    number: CallNumber,
    bytes: u64,
}

/// The application.
pub struct Service {
    buffers: Rc<Buffers>,
    random: Random,
    script: Script,
    connections: BTreeMap<u64, Connection>,
    /// Knocks by handle: where they wait for an answer.
    knocks: BTreeMap<u64, usize>,
    calls: Vec<Vec<([u64; 4], Pending)>>,
    pending: Vec<Vec<Pending>>,
    next_cookie: u64,
    /// Connections to open, by thread.
    pub to_open: Vec<u32>,
    pub peer: (u64, u64, u16),
    pub dead: BTreeMap<u16, u64>,
    pub connected: u64,
    pub verified: u64,
    pub moves: u64,
    /// Whether nothing more is done for connections, so that none ends.
    pub rests: bool,
}

impl Service {
    pub fn new(threads: usize, buffers: Rc<Buffers>, script: Script, random: Random) -> Self {
        Self {
            buffers,
            random,
            script,
            connections: BTreeMap::new(),
            knocks: BTreeMap::new(),
            calls: (0..threads).map(|_| Vec::new()).collect(),
            pending: (0..threads).map(|_| Vec::new()).collect(),
            next_cookie: 1,
            to_open: vec![0; threads],
            peer: (0, 0, 0),
            dead: BTreeMap::new(),
            connected: 0,
            verified: 0,
            moves: 0,
            rests: false,
        }
    }

    /// Connections that have not ended.
    pub fn open(&self) -> usize {
        self.connections.len() + self.knocks.len()
    }

    /// How things stand, for a failed test's message.
    pub fn describe(&self) -> String {
        let lines = self.connections.iter().map(|(cookie, c)| {
            format!(
                "cookie {cookie:#x} {:?} open {} sent {} acked {} of {} received {} of {} owed {} ended {} closed {} moves {}\n",
                c.place, c.is_open, c.sent, c.acked, c.script.send, c.received, c.script.expect,
                c.owed, c.has_ended, c.has_closed, c.moves
            )
        });
        lines.collect()
    }

    /// One round on a thread.
    pub fn round(&mut self, thread: usize, words: &[AtomicU64]) {
        self.take_results(thread, words);
        let count = words[area::EVENT_COUNT].load(Relaxed) as usize;
        for index in 0..count {
            let base = area::EVENTS + index * event::WORDS;
            let event = [0, 1, 2, 3].map(|word| words[base + word].load(Relaxed));
            self.event(thread, event, words);
        }
        self.start(thread);
        self.answer_knocks(thread);
        let here = |connection: &Connection| connection.place == Place::On(thread);
        let mine = self.connections.iter().filter(|(_, c)| here(c));
        for cookie in mine.map(|(cookie, _)| *cookie).collect::<Vec<_>>() {
            self.work(thread, cookie);
        }
        self.submit(thread, words);
    }

    /// Opens what is to be opened.
    fn start(&mut self, thread: usize) {
        while self.to_open[thread] > 0 {
            self.to_open[thread] -= 1;
            let cookie = self.new_cookie();
            let (high, low, port) = self.peer;
            let words = [
                CallNumber::Connect as u64 | u64::from(port) << 32,
                cookie,
                high,
                low,
            ];
            self.add(thread, cookie, 0, false);
            self.call(thread, words, cookie, 0);
        }
    }

    /// The call that makes a thread listen.
    pub fn listen(&mut self, thread: usize, port: u16) {
        let words = [CallNumber::Listen as u64 | u64::from(port) << 32, 0, 0, 0];
        self.call(thread, words, 0, 0);
    }

    fn new_cookie(&mut self) -> u64 {
        self.next_cookie += 1;
        self.next_cookie
    }

    fn add(&mut self, thread: usize, cookie: u64, handle: u64, is_open: bool) {
        let connection = Connection {
            place: Place::On(thread),
            handle,
            script: self.script.clone(),
            is_open,
            sent: 0,
            acked: 0,
            received: 0,
            owed: 0,
            has_ended: false,
            has_shut_down: false,
            has_closed: false,
            moves: 0,
        };
        self.connections.insert(cookie, connection);
    }

    fn call(&mut self, thread: usize, words: [u64; 4], cookie: u64, bytes: u64) {
        let number = CallNumber::from_raw(words[0] as u32).expect("a call");
        let pending = Pending {
            cookie,
            number,
            bytes,
        };
        self.calls[thread].push((words, pending));
    }

    fn submit(&mut self, thread: usize, words: &[AtomicU64]) {
        let count = self.calls[thread].len().min(CALLS_MOST);
        let calls: Vec<_> = self.calls[thread].drain(..count).collect();
        let mut entries = 0;
        for (index, (mut call_words, pending)) in calls.into_iter().enumerate() {
            if pending.number == CallNumber::Sendv {
                // Word 2 is the address until the entry is written.
                let at = area::SCATTER_GATHER + entries * 2;
                words[at].store(call_words[2], Relaxed);
                words[at + 1].store(pending.bytes, Relaxed);
                call_words[2] = entries as u64;
                entries += 1;
            }
            for (word, value) in call_words.into_iter().enumerate() {
                words[area::CALLS + index * call::WORDS + word].store(value, Relaxed);
            }
            self.pending[thread].push(pending);
        }
        words[area::CALL_COUNT].store(count as u64, Relaxed);
        let is_waiting = !self.calls[thread].is_empty()
            || self.knocks.values().any(|at| *at == thread)
            || self
                .connections
                .values()
                .any(|c| c.place == Place::On(thread) && c.is_open && !c.has_closed && c.owed != 0);
        words[area::WAKE_NS].store(u64::from(is_waiting), Relaxed);
    }

    fn take_results(&mut self, thread: usize, words: &[AtomicU64]) {
        for (index, pending) in self.pending[thread].drain(..).enumerate() {
            let at = area::CALLS + index * call::WORDS + call::RESULT;
            let result = words[at].load(Relaxed) as i64;
            assert!(
                result >= 0,
                "thread {thread}: {:?} for cookie {:#x} got {result}",
                pending.number,
                pending.cookie
            );
            let Some(connection) = self.connections.get_mut(&pending.cookie) else {
                continue;
            };
            match pending.number {
                CallNumber::Sendv => connection.sent += result as u64,
                CallNumber::Connect => connection.handle = result as u64,
                _ => {}
            }
        }
    }

    fn on(&mut self, thread: usize, cookie: u64) -> &mut Connection {
        let connection = self.connections.get_mut(&cookie);
        let connection = connection.unwrap_or_else(|| panic!("event for unknown {cookie:#x}"));
        assert_eq!(connection.place, Place::On(thread), "event for {cookie:#x}");
        connection
    }

    fn event(
        &mut self,
        thread: usize,
        [kind, first, second, third]: [u64; 4],
        words: &[AtomicU64],
    ) {
        match EventKind::from_raw(kind as u16).expect("an event") {
            EventKind::Knock => {
                let before = self.knocks.insert(first, thread);
                assert_eq!(before, None, "two knocks of one handle");
            }
            EventKind::Connected => {
                let connection = self.on(thread, first);
                connection.is_open = third == 0;
                // A SYN that comes late opens nothing.
                self.connected += u64::from(third == 0);
            }
            EventKind::Recv if third == 0 => self.on(thread, first).has_ended = true,
            EventKind::Recv => self.received(thread, [kind, first, second, third], words),
            EventKind::Sent => {
                let connection = self.on(thread, first);
                connection.acked += second;
                assert!(connection.acked <= connection.sent);
            }
            EventKind::Dead => self.died(thread, first, second, third),
            EventKind::Migrated => {
                let (from, to) = ((kind >> 16) as u16, (kind >> 32) as u16);
                self.migrated(thread, first, second, from.into(), to.into());
            }
            EventKind::UdpRecv => panic!("a datagram, although no port is bound"),
        }
    }

    fn received(&mut self, thread: usize, [kind, cookie, at, len]: [u64; 4], words: &[AtomicU64]) {
        let buffers = Rc::clone(&self.buffers);
        let connection = self.on(thread, cookie);
        assert!(!connection.has_ended && !connection.has_closed);
        let pieces: Vec<(u64, usize)> = match kind >> 48 {
            0 => vec![(at, len as usize)],
            count => (at..at + count)
                .map(|index| words[area::PIECES + index as usize].load(Relaxed))
                .map(|word| (piece::address(word), piece::len(word).into()))
                .collect(),
        };
        for (address, len) in pieces {
            for byte in buffers.at(address, len) {
                let position = connection.received % STREAM_PERIOD;
                assert_eq!(*byte, stream_byte(position), "byte {}", connection.received);
                connection.received += 1;
            }
        }
        connection.owed += len;
        self.verified += len;
    }

    fn died(&mut self, thread: usize, cookie: u64, reason: u64, handle: u64) {
        *self.dead.entry(reason as u16).or_default() += 1;
        if cookie == 0 {
            assert_eq!(self.knocks.remove(&handle), Some(thread));
            return;
        }
        self.on(thread, cookie);
        let connection = self.connections.remove(&cookie).expect("just found");
        assert_eq!(connection.handle, handle, "the handle changed");
        if reason == DeadReason::Closed as u64 {
            assert_eq!(connection.acked, connection.script.send);
            assert_eq!(connection.received, connection.script.expect);
        }
        if !connection.has_closed {
            self.call(thread, [CallNumber::Close as u64, handle, 0, 0], 0, 0);
        }
    }

    fn migrated(&mut self, thread: usize, cookie: u64, handle: u64, from: usize, to: usize) {
        if cookie == 0 {
            // The knock comes again.
            if thread == from {
                assert_eq!(self.knocks.remove(&handle), Some(thread));
            }
            return;
        }
        let connection = self.connections.get_mut(&cookie).expect("it is known");
        assert_eq!(connection.handle, handle, "the handle changed");
        if thread == from {
            assert_eq!(connection.place, Place::On(from));
            connection.place = Place::Between(from, to);
            // What is not asked for yet is asked for at the new place.
            self.calls[thread].retain(|(_, pending)| pending.cookie != cookie);
        } else {
            assert_eq!((connection.place, thread), (Place::Between(from, to), to));
            connection.place = Place::On(to);
            connection.moves += 1;
            self.moves += 1;
        }
    }

    fn answer_knocks(&mut self, thread: usize) {
        let here = self.knocks.iter().filter(|(_, at)| **at == thread);
        for handle in here.map(|(handle, _)| *handle).collect::<Vec<_>>() {
            if self.random.chance(300) {
                continue;
            }
            self.knocks.remove(&handle);
            let cookie = self.new_cookie();
            self.add(thread, cookie, handle, false);
            let words = [CallNumber::Accept as u64, handle, cookie, 0];
            self.call(thread, words, cookie, 0);
        }
    }

    /// The calls that follow for one connection.
    fn work(&mut self, thread: usize, cookie: u64) {
        let random = &mut self.random;
        let connection = self.connections.get_mut(&cookie).expect("it is known");
        let handle = connection.handle;
        if self.rests || !connection.is_open || connection.has_closed {
            return;
        }
        let mut calls = Vec::new();
        if connection.owed != 0 && !random.chance(connection.script.lazy) {
            let part = 1 + random.below(connection.owed);
            connection.owed -= part;
            calls.push(([CallNumber::RecvDone as u64, handle, part, 0], part));
        }
        let left = connection.script.send - connection.sent;
        if left != 0 {
            let len = left.min(1 + random.below(u64::from(connection.script.write)));
            let address = HEAP + connection.sent % STREAM_PERIOD;
            calls.push((
                [CallNumber::Sendv as u64 | 1 << 32, handle, address, 0],
                len,
            ));
        }
        let is_complete = left == 0 && connection.received == connection.script.expect;
        let role = connection.script.role;
        if left == 0 && role == Role::ShutsDown && !connection.has_shut_down {
            connection.has_shut_down = true;
            calls.push(([CallNumber::Shutdown as u64, handle, 0, 0], 0));
        }
        let closes = match role {
            Role::Closes => is_complete && connection.owed == 0,
            Role::Follows | Role::ShutsDown => left == 0 && connection.has_ended,
        };
        if closes {
            connection.has_closed = true;
            calls.push(([CallNumber::Close as u64, handle, 0, 0], 0));
        }
        for (words, bytes) in calls {
            self.call(thread, words, cookie, bytes);
        }
    }
}
