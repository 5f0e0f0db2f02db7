//! Connections that change their thread: what goes along, what has to be asked for again, and what
//! stays. The event loops of all threads run by turns here, so that each step is the test's.

use std::mem;

use ix_abi::DeadReason;
use libix::fake::{FakeKernel, PeerId};
use libix::{CloseReason, Connection, ConnectionId, Context, Error, Kernel, Knock, Received};
use libix::{Runtime, Service, Unsent};

/// What an application does with data.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Echo,
    /// Into the state.
    Keep,
    /// Into the service, which stays.
    LeaveBehind,
}

struct App {
    habit: Habit,
    held: Vec<Received>,
    /// Whether it drops these when a connection leaves.
    lets_go: bool,
    connected: Vec<ConnectionId>,
    closed: Vec<(ConnectionId, u32, CloseReason)>,
    moves: Vec<(ConnectionId, usize, usize)>,
    writable: usize,
}

struct State {
    number: u32,
    kept: Vec<Received>,
}

impl App {
    fn new(habit: Habit) -> Self {
        Self {
            habit,
            held: Vec::new(),
            lets_go: false,
            connected: Vec::new(),
            closed: Vec::new(),
            moves: Vec::new(),
            writable: 0,
        }
    }
}

impl Service for App {
    type State = State;

    fn on_start(&mut self, cx: &mut Context<State>) {
        cx.listen(7);
    }

    fn on_knock(&mut self, cx: &mut Context<State>, _: &Knock) -> Option<State> {
        Some(State {
            number: cx.thread() as u32 * 1000,
            kept: Vec::new(),
        })
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, State>) {
        self.connected.push(connection.id());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, State>, data: Received) {
        connection.state.number += 1;
        match self.habit {
            Habit::Echo => connection.send(data).expect("the window bounds it"),
            Habit::Keep => connection.state.kept.push(data),
            Habit::LeaveBehind => self.held.push(data),
        }
    }

    fn on_writable(&mut self, _: &mut Connection<'_, State>) {
        self.writable += 1;
    }

    fn on_migrated(&mut self, connection: &mut Connection<'_, State>, from: usize, to: usize) {
        self.moves.push((connection.id(), from, to));
        if self.lets_go {
            self.held.clear();
        }
    }

    fn on_close(
        &mut self,
        _: &mut Context<State>,
        id: ConnectionId,
        state: State,
        reason: CloseReason,
    ) {
        self.closed.push((id, state.number, reason));
    }
}

const CLOSED: CloseReason = CloseReason::Dead(DeadReason::Closed);

/// The event loops of all threads.
struct Threads(Vec<Runtime<App, FakeKernel>>);

impl Threads {
    fn new(count: usize, habit: Habit) -> Self {
        let kernels = FakeKernel::crew(count).into_iter();
        let runtimes = kernels.map(|kernel| Runtime::new(App::new(habit), kernel));
        let mut threads = Self(runtimes.collect());
        threads.settle();
        threads
    }

    /// Rounds on all threads until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..3 {
            for runtime in &mut self.0 {
                runtime.settle();
            }
        }
    }

    fn kernel(&mut self, thread: usize) -> &mut FakeKernel {
        self.0[thread].kernel()
    }

    fn service(&mut self, thread: usize) -> &mut App {
        self.0[thread].service()
    }

    fn cx(&mut self, thread: usize) -> &mut Context<State> {
        self.0[thread].context()
    }

    /// Opens a connection.
    fn open(&mut self, thread: usize) -> (PeerId, ConnectionId) {
        let peer = self.kernel(thread).knock(7);
        self.settle();
        let id = *self.service(thread).connected.last().expect("accepted");
        (peer, id)
    }

    /// Moves a connection, and gives its peer's name at the new place.
    fn give(&mut self, from: usize, peer: PeerId, to: usize) -> PeerId {
        self.kernel(from).give(peer, to);
        self.settle();
        self.arrived(to)
    }

    /// The connection that came last.
    fn arrived(&mut self, thread: usize) -> PeerId {
        self.kernel(thread).peers().last().expect("it came")
    }

    fn is_empty(&mut self) -> bool {
        self.settle();
        let is_empty = |runtime: &mut Runtime<App, FakeKernel>| {
            runtime.context().connections() == 0 && runtime.kernel().open_handles() == 0
        };
        self.0.iter_mut().all(is_empty)
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

#[test]
fn an_echo_follows_without_a_line_of_its_own() {
    let mut threads = Threads::new(3, Habit::Echo);
    let (mut peer, id) = threads.open(0);
    let text = text(60_000);
    // Most of it is still to be accepted by the kernel whenever the connection moves.
    for thread in 0..3 {
        threads.kernel(thread).send_window = 100;
    }
    let mut at = 0;
    for (step, part) in text.chunks(10_000).enumerate() {
        threads.kernel(at).peer(peer).ack_bytes = 0;
        threads.kernel(at).peer(peer).send_bytes(part);
        threads.0[at].round();
        threads.0[at].round();
        assert!(threads.cx(at).is_open(id));
        let to = (at + 1 + step % 2) % 3;
        peer = threads.give(at, peer, to);
        assert!(!threads.cx(at).is_open(id));
        at = to;
        threads.kernel(at).peer(peer).ack_bytes = usize::MAX;
        threads.settle();
    }
    assert_eq!(threads.kernel(at).peer(peer).received(), text);
    assert_eq!(threads.kernel(at).peer(peer).owed_bytes(), 0);
    threads.kernel(at).peer(peer).finish();
    assert!(threads.is_empty());
    let [(closed, number, reason)] = threads.service(at).closed[..] else {
        panic!("it is not closed, or twice");
    };
    assert_eq!((closed, reason), (id, CLOSED));
    assert!(number >= 6, "the state has been left behind");
}

#[test]
fn a_name_is_good_where_its_connection_is_and_nobody_elses() {
    let mut threads = Threads::new(2, Habit::Echo);
    let (peer, id) = threads.open(0);
    let peer = threads.give(0, peer, 1);
    assert_eq!(threads.service(0).moves, [(id, 0, 1)]);
    assert_eq!(threads.service(1).moves, [(id, 0, 1)]);
    // Those that come after it get other names and other places.
    let others = [threads.open(0).1, threads.open(1).1, threads.open(0).1];
    assert!(!others.contains(&id));
    assert!(matches!(
        threads.cx(0).send(id, "not here"),
        Err(Unsent::Closed(_))
    ));
    threads.cx(0).abort(id);
    threads.cx(1).send(id, "here").unwrap();
    threads.settle();
    assert_eq!(threads.kernel(1).peer(peer).received(), b"here");
    // Home again, it is found as ever.
    let peer = threads.give(1, peer, 0);
    threads.cx(0).send(id, " and there").unwrap();
    assert!(threads.cx(1).send(id, "not here").is_err());
    threads.settle();
    assert_eq!(threads.kernel(0).peer(peer).received(), b"here and there");
    let counts = [0, 1].map(|thread| threads.cx(thread).connections());
    assert_eq!(counts, [3, 1]);
    for id in [id, others[0], others[2]] {
        threads.cx(0).close(id);
    }
    threads.cx(1).close(others[1]);
    for thread in 0..2 {
        for peer in threads.kernel(thread).peers().collect::<Vec<_>>() {
            threads.kernel(thread).peer(peer).finish();
        }
    }
    assert!(threads.is_empty());
}

#[test]
fn a_slot_is_used_again_when_its_connection_is_over_elsewhere() {
    let mut threads = Threads::new(2, Habit::Echo);
    let mut names = Vec::new();
    for _ in 0..10 {
        let (peer, id) = threads.open(0);
        names.push(id);
        let peer = threads.give(0, peer, 1);
        threads.kernel(1).peer(peer).reset();
        assert!(threads.is_empty());
    }
    // One slot has done for all: the names differ in nothing but the generation.
    let numbers = names.iter().map(|id| format!("{id:?}"));
    let mut numbers: Vec<u64> = numbers
        .map(|text| {
            text.chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
        })
        .map(|digits| digits.parse().unwrap())
        .collect();
    assert!(numbers.iter().all(|number| *number as u32 == 0));
    numbers.dedup();
    assert_eq!(numbers.len(), 10);
}

#[test]
fn the_next_connection_of_a_slot_gives_back_where_it_is_and_not_where_the_last_one_ended() {
    let mut threads = Threads::new(2, Habit::LeaveBehind);
    let (peer, _) = threads.open(0);
    let peer = threads.give(0, peer, 1);
    threads.kernel(1).peer(peer).reset();
    assert!(threads.is_empty());
    let (peer, _) = threads.open(0);
    threads.kernel(0).peer(peer).send_bytes(&text(1000));
    threads.settle();
    assert_eq!(threads.kernel(0).peer(peer).owed_bytes(), 1000);
    threads.service(0).held.clear();
    threads.settle();
    assert_eq!(threads.kernel(0).peer(peer).owed_bytes(), 0);
}

#[test]
fn what_is_kept_in_the_state_is_given_back_at_the_new_place() {
    let mut threads = Threads::new(2, Habit::Keep);
    let (peer, id) = threads.open(0);
    threads.kernel(0).peer(peer).send_bytes(&text(5000));
    threads.settle();
    let peer = threads.give(0, peer, 1);
    assert_eq!(threads.kernel(1).peer(peer).owed_bytes(), 5000);
    // Nothing is released while the application holds something of it.
    threads.cx(1).abort(id);
    threads.settle();
    assert!(!threads.kernel(1).peer(peer).is_over());
    // The state and all in it are dropped with the connection.
    threads.kernel(1).peer(peer).reset();
    assert!(threads.is_empty());
}

#[test]
fn what_is_left_behind_is_given_back_from_there() {
    let mut threads = Threads::new(3, Habit::LeaveBehind);
    let (peer, _) = threads.open(0);
    let text = text(3000);
    threads.kernel(0).peer(peer).send_bytes(&text[..1000]);
    threads.settle();
    let peer = threads.give(0, peer, 1);
    threads.kernel(1).peer(peer).send_bytes(&text[1000..2000]);
    threads.settle();
    let peer = threads.give(1, peer, 2);
    threads.kernel(2).peer(peer).send_bytes(&text[2000..]);
    threads.settle();
    assert_eq!(threads.kernel(2).peer(peer).owed_bytes(), 3000);
    let held = [0, 1, 2].map(|thread| mem::take(&mut threads.service(thread).held));
    let bytes = held.iter().flatten().flat_map(|data| data.to_vec());
    assert!(bytes.eq(text));
    for (thread, held) in held.into_iter().enumerate() {
        threads.service(thread).held = held;
    }
    // In the order of the stream they go back, whoever drops them when.
    for (thread, owed) in [(1, 3000), (0, 1000), (2, 0)] {
        threads.service(thread).held.clear();
        threads.settle();
        assert_eq!(threads.kernel(2).peer(peer).owed_bytes(), owed);
    }
    threads.kernel(2).peer(peer).reset();
    assert!(threads.is_empty());
}

#[test]
fn what_is_dropped_while_its_connection_moves_is_given_back_all_the_same() {
    // As the last thing on the old thread, on the way, and as the first thing on the new one.
    for moment in 0..3 {
        let mut threads = Threads::new(2, Habit::LeaveBehind);
        let (peer, _) = threads.open(0);
        threads.kernel(0).peer(peer).send_bytes(&text(1000));
        threads.settle();
        threads.service(0).lets_go = moment == 0;
        threads.kernel(0).give(peer, 1);
        threads.0[0].round();
        assert_eq!(threads.service(0).moves.len(), 1);
        match moment {
            0 => assert!(threads.service(0).held.is_empty()),
            1 => {
                threads.service(0).held.clear();
                // The new thread hears of it before it has the connection.
                threads.0[1].round();
                threads.0[0].round();
            }
            _ => {
                let held = mem::take(&mut threads.service(0).held);
                threads.service(1).held = held;
                threads.service(1).lets_go = true;
            }
        }
        threads.settle();
        let peer = threads.arrived(1);
        assert_eq!(threads.kernel(1).peer(peer).owed_bytes(), 0, "{moment}");
        threads.kernel(1).peer(peer).reset();
        assert!(threads.is_empty());
    }
}

#[test]
fn calls_that_came_too_late_are_made_at_the_new_place() {
    for ending in 0..3 {
        let mut threads = Threads::new(2, Habit::LeaveBehind);
        let (peer, id) = threads.open(0);
        threads.kernel(0).peer(peer).send_bytes(&text(500));
        threads.settle();
        threads.kernel(0).moves_first = true;
        threads.service(0).held.clear();
        threads.cx(0).send(id, "last words").unwrap();
        match ending {
            0 => threads.cx(0).shutdown(id),
            1 => threads.cx(0).close(id),
            _ => threads.cx(0).abort(id),
        }
        let peer = threads.give(0, peer, 1);
        let refused = threads.kernel(0).refused_calls();
        assert!(refused.iter().all(|(_, error)| *error == Error::BadHandle));
        assert!(refused.len() >= 2, "{refused:?}");
        assert_eq!(threads.kernel(1).refused_calls(), []);
        let other_end = threads.kernel(1).peer(peer);
        assert_eq!(other_end.was_reset(), ending == 2);
        if ending != 2 {
            assert_eq!(other_end.received(), b"last words");
            assert_eq!(other_end.owed_bytes(), 0);
            assert!(other_end.got_end());
            other_end.finish();
        }
        threads.settle();
        if ending == 0 {
            // Who has only shut down hears of the other end.
            assert_eq!(threads.service(1).closed, [(id, 1, CLOSED)]);
        }
        assert!(threads.is_empty());
    }
}

#[test]
fn a_full_queue_opens_at_the_new_place() {
    let mut threads = Threads::new(2, Habit::Echo);
    let (peer, id) = threads.open(0);
    threads.kernel(0).peer(peer).ack_bytes = 0;
    while threads.cx(0).send(id, text(50_000)).is_ok() {}
    threads.settle();
    let peer = threads.give(0, peer, 1);
    threads.kernel(1).peer(peer).ack_bytes = usize::MAX;
    threads.settle();
    let writable = [0, 1].map(|thread| threads.service(thread).writable);
    assert_eq!(writable, [0, 1]);
    let received = threads.kernel(1).peer(peer).received().to_vec();
    assert!(received.len() >= 256 << 10);
    assert!(received.chunks(50_000).all(|part| part == text(50_000)));
}

#[test]
fn a_knock_that_is_not_answered_in_time_is_answered_at_the_new_place() {
    let mut threads = Threads::new(2, Habit::Echo);
    let peer = threads.kernel(0).knock(7);
    threads.0[0].round();
    threads.kernel(0).moves_first = true;
    let peer = threads.give(0, peer, 1);
    let failed = CloseReason::Failed(Error::BadHandle);
    assert_eq!(threads.service(0).closed.len(), 1);
    assert_eq!(threads.service(0).closed[0].2, failed);
    assert_eq!(threads.service(1).connected.len(), 1);
    threads.kernel(1).peer(peer).send_bytes(b"hello");
    threads.settle();
    assert_eq!(threads.kernel(1).peer(peer).received(), b"hello");
    assert_eq!(threads.cx(0).connections(), 0);
}

#[test]
fn a_connection_without_room_ends_where_it_came_to() {
    let mut threads = Threads::new(2, Habit::Keep);
    let (peer, id) = threads.open(0);
    threads.kernel(0).peer(peer).send_bytes(&text(100));
    threads.settle();
    threads.kernel(1).refuses_moves = true;
    threads.give(0, peer, 1);
    let exhausted = CloseReason::Dead(DeadReason::Exhausted);
    assert_eq!(threads.service(1).closed, [(id, 1, exhausted)]);
    assert!(threads.is_empty());
}

#[test]
fn a_connection_that_comes_without_its_state_is_closed() {
    let mut threads = Threads::new(2, Habit::Echo);
    let (peer, _) = threads.open(0);
    threads.kernel(0).give(peer, 1);
    // The event loop of the old thread does not get to see the event.
    threads.kernel(0).run_io();
    threads.kernel(0).run_io();
    threads.0[1].settle();
    assert_eq!(threads.cx(1).statistics().moves_failed, 1);
    let peer = threads.arrived(1);
    assert!(threads.kernel(1).peer(peer).got_end());
}

/// Another application, with another state.
struct Other;

impl Service for Other {
    type State = u8;

    fn on_start(&mut self, _: &mut Context<u8>) {}

    fn on_data(&mut self, _: &mut Connection<'_, u8>, _: Received) {
        unreachable!("it has no connections");
    }
}

#[test]
fn a_connection_that_comes_to_another_application_is_reset() {
    let mut kernels = FakeKernel::crew(2).into_iter();
    let mut kernel = || kernels.next().expect("two kernels");
    let mut one = Runtime::new(App::new(Habit::Echo), kernel());
    let mut other = Runtime::new(Other, kernel());
    one.settle();
    let peer = one.kernel().knock(7);
    one.settle();
    one.kernel().give(peer, 1);
    one.settle();
    other.settle();
    assert_eq!(other.context().statistics().moves_failed, 1);
    let peer = other.kernel().peers().last().expect("it came");
    assert!(other.kernel().peer(peer).was_reset());
    assert_eq!(other.kernel().open_handles(), 0);
    one.settle();
    assert_eq!(one.context().connections(), 0);
}
