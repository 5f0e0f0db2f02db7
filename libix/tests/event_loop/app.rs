//! An application whose habits the test sets, on the fake kernel.

use std::net::IpAddr;

use ix_abi::{CallNumber, DeadReason};
use libix::fake::{FakeKernel, PeerId};
use libix::{CloseReason, Connection, ConnectionId, Context, Knock, Received, Runtime, Service};

/// What the application does with data.
#[derive(Clone, Copy, PartialEq)]
pub enum Habit {
    Drop,
    Echo,
    Hold,
}

/// An application whose habits the test sets, and that remembers what happened.
pub struct App {
    pub habit: Habit,
    pub accepts: bool,
    pub closes_at_end: bool,
    /// Sent on each connection as soon as it is open.
    pub greeting: Vec<&'static [u8]>,
    pub held: Vec<Received>,
    pub bytes: Vec<u8>,
    pub knocked: Vec<IpAddr>,
    pub connected: Vec<ConnectionId>,
    pub closed: Vec<(ConnectionId, CloseReason)>,
    pub ends: usize,
    pub sent: usize,
    pub writable: usize,
    pub woken: usize,
}

impl App {
    pub fn new(habit: Habit) -> Self {
        Self {
            habit,
            accepts: true,
            closes_at_end: true,
            greeting: Vec::new(),
            held: Vec::new(),
            bytes: Vec::new(),
            knocked: Vec::new(),
            connected: Vec::new(),
            closed: Vec::new(),
            ends: 0,
            sent: 0,
            writable: 0,
            woken: 0,
        }
    }
}

impl Service for App {
    /// Its drop is seen by nobody; its place in `closed` is.
    type State = Box<u32>;

    fn on_start(&mut self, cx: &mut Context<Self::State>) {
        cx.listen(7);
    }

    fn on_knock(&mut self, _: &mut Context<Self::State>, knock: &Knock) -> Option<Self::State> {
        assert_eq!(knock.local_port, 7);
        self.knocked.push(knock.peer.ip());
        self.accepts.then(|| Box::new(17))
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, Self::State>) {
        self.connected.push(connection.id());
        for &part in &self.greeting {
            connection.send(part).expect("the queue has room");
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Self::State>, data: Received) {
        assert_eq!(**connection.state, 17);
        self.bytes.extend_from_slice(&data);
        match self.habit {
            Habit::Drop => drop(data),
            Habit::Echo => connection
                .send(data)
                .expect("received bytes are always taken"),
            Habit::Hold => self.held.push(data),
        }
    }

    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, Self::State>) {
        self.ends += 1;
        if self.closes_at_end {
            connection.close();
        }
    }

    fn on_sent(&mut self, _: &mut Connection<'_, Self::State>, bytes: usize) {
        self.sent += bytes;
    }

    fn on_writable(&mut self, _: &mut Connection<'_, Self::State>) {
        self.writable += 1;
    }

    fn on_close(
        &mut self,
        _: &mut Context<Self::State>,
        id: ConnectionId,
        state: Self::State,
        reason: CloseReason,
    ) {
        assert_eq!(*state, 17);
        self.closed.push((id, reason));
    }

    fn on_wake(&mut self, _: &mut Context<Self::State>) {
        self.woken += 1;
    }
}

pub type Loop = Runtime<App, FakeKernel>;

pub fn start(habit: Habit) -> Loop {
    let mut runtime = Runtime::new(App::new(habit), FakeKernel::new());
    runtime.settle();
    runtime
}

/// A loop with one open connection.
pub fn open(habit: Habit) -> (Loop, PeerId, ConnectionId) {
    let mut runtime = start(habit);
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    let id = *runtime.service().connected.last().expect("it is accepted");
    (runtime, peer, id)
}

pub fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

pub fn count_of(calls: &[CallNumber], number: CallNumber) -> usize {
    calls.iter().filter(|&&call| call == number).count()
}

pub fn assert_nothing_refused(runtime: &mut Loop) {
    assert_eq!(runtime.kernel().refused_calls(), []);
}

pub const CLOSED: CloseReason = CloseReason::Dead(DeadReason::Closed);
