//! One connection of the fake kernel: the kernel's side, and the peer's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::vec::Vec;

use ix_abi::{DeadReason, Error, EventKind, event};

use super::POISON;

/// See the module. The public methods are the peer's.
pub struct FakeConnection {
    pub(super) handle: u64,
    cookie: u64,
    phase: Phase,
    release_called: bool,
    dead_delivered: bool,
    /// Segments that the application has not given back, each with the bytes that it still has.
    owed: VecDeque<(&'static [AtomicU8], u64)>,
    /// Memory accepted and not acknowledged, with what was in it.
    in_flight: VecDeque<InFlight>,
    /// What the peer has sent and the application has not been given.
    outbox: VecDeque<u8>,
    inbox: Vec<u8>,
    window_was_shut: bool,
    peer_finished: bool,
    end_delivered: bool,
    application_finished: bool,
    is_deaf: bool,
    reset: Option<DeadReason>,
    /// What the peer has sent.
    bytes_sent: usize,
    /// The event of a knock that was let in.
    knock: Option<[u64; event::WORDS]>,
    /// Of the handshake.
    outcome: Result<(), Error>,
    /// Most bytes that the peer acknowledges in a round.
    pub ack_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Knocking,
    /// `connected` follows after so many rounds.
    Opening(usize),
    Open,
    Dead,
}

struct InFlight {
    address: u64,
    bytes: Vec<u8>,
}

impl FakeConnection {
    pub(super) fn new(thread: usize, number: usize) -> Self {
        Self {
            handle: (thread as u64 + 1) << 32 | number as u64,
            cookie: 0,
            phase: Phase::Knocking,
            release_called: false,
            dead_delivered: false,
            owed: VecDeque::new(),
            in_flight: VecDeque::new(),
            outbox: VecDeque::new(),
            inbox: Vec::new(),
            window_was_shut: false,
            peer_finished: false,
            end_delivered: false,
            application_finished: false,
            is_deaf: false,
            reset: None,
            bytes_sent: 0,
            knock: None,
            outcome: Ok(()),
            ack_bytes: usize::MAX,
        }
    }

    /// The peer sends.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        assert!(!self.peer_finished, "the peer has sent FIN");
        self.outbox.extend(bytes);
        self.bytes_sent += bytes.len();
    }

    /// The peer sends FIN.
    pub fn finish(&mut self) {
        self.peer_finished = true;
    }

    /// The peer sends RST.
    pub fn reset(&mut self) {
        self.reset = Some(DeadReason::Reset);
    }

    /// How much the peer has sent.
    pub fn bytes_sent(&self) -> usize {
        self.bytes_sent
    }

    /// Whether the peer has sent FIN.
    pub fn has_finished(&self) -> bool {
        self.peer_finished
    }

    /// The kernel's name for the connection, the same on all threads.
    pub fn handle(&self) -> u64 {
        self.handle
    }

    /// What the peer has received and acknowledged.
    pub fn received(&self) -> &[u8] {
        &self.inbox
    }

    /// Forgets what the peer has received.
    pub fn forget_received(&mut self) {
        self.inbox.clear();
    }

    /// Whether the application has sent FIN, and all before it is acknowledged.
    pub fn got_end(&self) -> bool {
        self.application_finished && self.in_flight.is_empty()
    }

    /// Whether the connection is over, as the peer sees it.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Dead
    }

    /// Whether it was reset, by either side.
    pub fn was_reset(&self) -> bool {
        self.reset.is_some()
    }

    /// Bytes that the application holds.
    pub fn owed_bytes(&self) -> u64 {
        self.owed.iter().map(|&(_, bytes)| bytes).sum()
    }

    /// Whether the handle is released.
    pub fn is_released(&self) -> bool {
        self.dead_delivered && self.release_called
    }

    /// What is left of a connection that went to another thread.
    pub(super) fn gone() -> Self {
        let mut gone = Self::new(0, 0);
        gone.handle = 0;
        gone.refuse();
        gone
    }

    pub(super) fn is_gone(&self) -> bool {
        self.handle == 0
    }

    pub(super) fn cookie(&self) -> u64 {
        self.cookie
    }

    pub(super) fn knock(&mut self, event: [u64; event::WORDS]) {
        self.knock = Some(event);
    }

    /// The knock, as long as nobody has answered it.
    pub(super) fn knock_again(&self) -> Option<[u64; event::WORDS]> {
        self.knock.filter(|_| self.phase == Phase::Knocking)
    }

    /// There is no room for it on the thread that it came to.
    pub(super) fn refuse_move(&mut self) -> [u64; event::WORDS] {
        self.phase = Phase::Dead;
        self.reset = Some(DeadReason::Exhausted);
        self.dead_delivered = true;
        self.in_flight.clear();
        let reason = DeadReason::Exhausted as u64;
        [EventKind::Dead as u64, self.cookie, reason, self.handle]
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    pub(super) fn refuse(&mut self) {
        self.phase = Phase::Dead;
        self.dead_delivered = true;
        self.release_called = true;
    }

    pub(super) fn withdraw(&mut self) -> [u64; event::WORDS] {
        self.refuse();
        let reason = DeadReason::TimedOut as u64;
        [EventKind::Dead as u64, 0, reason, self.handle]
    }

    pub(super) fn accept(&mut self, cookie: u64, rounds: usize) -> Result<i64, Error> {
        if self.phase != Phase::Knocking || self.release_called {
            return Err(Error::BadState);
        }
        self.cookie = cookie;
        self.phase = Phase::Opening(rounds);
        Ok(0)
    }

    pub(super) fn connect(&mut self, cookie: u64, rounds: usize, outcome: Result<(), Error>) {
        self.cookie = cookie;
        self.phase = Phase::Opening(rounds);
        self.outcome = outcome;
    }

    pub(super) fn send(&mut self, entries: &[(u64, u64)], window: usize) -> Result<i64, Error> {
        if self.phase != Phase::Open || self.application_finished || self.release_called {
            return Err(Error::BadState);
        }
        let asked: u64 = entries.iter().map(|&(_, bytes)| bytes).sum();
        let mut room = window.saturating_sub(self.in_flight_bytes()) as u64;
        let mut accepted = 0;
        for &(address, bytes) in entries {
            let bytes = bytes.min(room);
            if bytes == 0 {
                break;
            }
            self.in_flight.push_back(InFlight {
                address,
                bytes: user_memory(address, bytes).to_vec(),
            });
            room -= bytes;
            accepted += bytes;
        }
        self.window_was_shut |= accepted < asked;
        Ok(accepted as i64)
    }

    pub(super) fn recv_done(&mut self, mut count: u64) -> Result<i64, Error> {
        if count == 0 || count > self.owed_bytes() {
            return Err(Error::Invalid);
        }
        while count > 0 {
            let (buffer, bytes) = self.owed.front_mut().expect("the sum was checked");
            let part = count.min(*bytes);
            *bytes -= part;
            count -= part;
            if *bytes == 0 {
                poison(buffer);
                self.owed.pop_front();
            }
        }
        Ok(0)
    }

    pub(super) fn shutdown_by_application(&mut self) -> Result<i64, Error> {
        if self.phase != Phase::Open || self.application_finished {
            return Err(Error::BadState);
        }
        self.application_finished = true;
        Ok(0)
    }

    pub(super) fn close(&mut self) -> Result<i64, Error> {
        if self.release_called {
            return Err(Error::BadState);
        }
        self.release_called = true;
        self.is_deaf = true;
        self.application_finished = true;
        if self.phase == Phase::Knocking {
            self.refuse();
        }
        self.release_if_over();
        Ok(0)
    }

    pub(super) fn abort(&mut self) -> Result<i64, Error> {
        self.close()?;
        if self.phase != Phase::Dead {
            self.reset = Some(DeadReason::Aborted);
        }
        Ok(0)
    }

    /// Lets time pass: acknowledgements, data, FIN, and the end.
    pub(super) fn exchange(
        &mut self,
        segment_bytes: usize,
        receive_window: usize,
        send_window: usize,
        events: &mut VecDeque<[u64; event::WORDS]>,
    ) {
        match self.phase {
            Phase::Knocking | Phase::Dead => return,
            Phase::Opening(_) | Phase::Open if self.reset.is_some() => {
                return self.die(self.reset.unwrap_or(DeadReason::Reset), events);
            }
            Phase::Opening(0) => self.handshake_ends(events),
            Phase::Opening(rounds) => self.phase = Phase::Opening(rounds - 1),
            Phase::Open => {}
        }
        if self.phase != Phase::Open {
            return;
        }
        self.acknowledge(send_window, events);
        self.deliver(segment_bytes, receive_window, events);
        let is_delivered = self.end_delivered || (self.is_deaf && self.peer_finished);
        if is_delivered && self.got_end() {
            self.die(DeadReason::Closed, events);
        }
    }

    fn handshake_ends(&mut self, events: &mut VecDeque<[u64; event::WORDS]>) {
        let code = self.outcome.map_or_else(Error::to_result, |()| 0) as u64;
        events.push_back([EventKind::Connected as u64, self.cookie, self.handle, code]);
        match self.outcome {
            Ok(()) => self.phase = Phase::Open,
            Err(Error::TimedOut) => self.die(DeadReason::TimedOut, events),
            Err(_) => self.die(DeadReason::Refused, events),
        }
    }

    fn acknowledge(&mut self, window: usize, events: &mut VecDeque<[u64; event::WORDS]>) {
        let mut bytes = 0;
        while bytes < self.ack_bytes
            && let Some(sent) = self.in_flight.front_mut()
        {
            let now = user_memory(sent.address, sent.bytes.len() as u64);
            assert!(
                now == sent.bytes,
                "memory changed before it was acknowledged"
            );
            let count = sent.bytes.len().min(self.ack_bytes - bytes);
            self.inbox.extend(sent.bytes.drain(..count));
            sent.address += count as u64;
            bytes += count;
            if sent.bytes.is_empty() {
                self.in_flight.pop_front();
            }
        }
        if bytes > 0 || (self.window_was_shut && self.ack_bytes > 0) {
            self.window_was_shut = false;
            let room = window.saturating_sub(self.in_flight_bytes()) as u64;
            events.push_back([EventKind::Sent as u64, self.cookie, bytes as u64, room]);
        }
    }

    fn deliver(
        &mut self,
        segment_bytes: usize,
        receive_window: usize,
        events: &mut VecDeque<[u64; event::WORDS]>,
    ) {
        if self.is_deaf {
            self.outbox.clear();
            return;
        }
        let mut room = receive_window.saturating_sub(self.owed_bytes() as usize);
        while room > 0 && !self.outbox.is_empty() {
            let count = self.outbox.len().min(segment_bytes).min(room);
            let bytes: Vec<AtomicU8> = self.outbox.drain(..count).map(AtomicU8::new).collect();
            // Leaked, so that a slice held too long shows poison instead of being undefined.
            let buffer: &'static [AtomicU8] = bytes.leak();
            let address = buffer.as_ptr() as u64;
            events.push_back([EventKind::Recv as u64, self.cookie, address, count as u64]);
            self.owed.push_back((buffer, count as u64));
            room -= count;
        }
        if self.outbox.is_empty() && self.peer_finished && !self.end_delivered {
            self.end_delivered = true;
            events.push_back([EventKind::Recv as u64, self.cookie, 0, 0]);
        }
    }

    fn die(&mut self, reason: DeadReason, events: &mut VecDeque<[u64; event::WORDS]>) {
        self.phase = Phase::Dead;
        self.dead_delivered = true;
        self.in_flight.clear();
        events.push_back([
            EventKind::Dead as u64,
            self.cookie,
            reason as u64,
            self.handle,
        ]);
        self.release_if_over();
    }

    fn release_if_over(&mut self) {
        if self.is_released() {
            for (buffer, _) in self.owed.drain(..) {
                poison(buffer);
            }
        }
    }

    fn in_flight_bytes(&self) -> usize {
        self.in_flight.iter().map(|sent| sent.bytes.len()).sum()
    }
}

pub(super) fn poison(buffer: &[AtomicU8]) {
    for byte in buffer {
        byte.store(POISON, Relaxed);
    }
}

pub(super) fn user_memory(address: u64, bytes: u64) -> &'static [u8] {
    // SAFETY: what is passed to `sendv` stays readable and unchanged until it is acknowledged or
    // the connection is dead, what is passed to `udp_send` until it is counted as sent, and this is
    // called only until then; the slice is not kept.
    unsafe { core::slice::from_raw_parts(address as *const u8, bytes as usize) }
}
