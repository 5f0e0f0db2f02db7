//! Connections that go to and fro between event loops on threads of their own. Whatever they, their
//! peers and the application do meanwhile: bytes are echoed in order and unchanged, what is held
//! stays as it is wherever it is held, every state comes back once, and in the end nothing is left.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libix::fake::{FakeKernel, PeerId};
use libix::{CloseReason, Connection, ConnectionId, Context, Error, Knock, Received};
use libix::{Runtime, Service};

const THREADS: usize = if cfg!(miri) { 2 } else { 4 };
/// Of each thread.
const CONNECTIONS: usize = if cfg!(miri) { 3 } else { 24 };
/// What each peer sends.
const BYTES: usize = if cfg!(miri) { 3_000 } else { 30_000 };
const PATIENCE: Duration = Duration::from_secs(300);

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// Received bytes, and what they were.
struct Kept(Received, Vec<u8>);

impl Kept {
    fn new(data: Received) -> Self {
        let copy = data.to_vec();
        Self(data, copy)
    }

    fn check(&self) {
        assert!(*self.0 == self.1[..], "bytes that are held have changed");
    }
}

/// What all threads see.
struct Place {
    /// Received bytes that anybody may take.
    market: Mutex<Vec<Kept>>,
    /// States given out and not come back.
    states: AtomicUsize,
    closed: AtomicUsize,
    orderly: AtomicUsize,
    moves: AtomicUsize,
    /// Threads that have connections left.
    busy: AtomicUsize,
    /// Whether a thread has failed: the others need not wait.
    has_failed: AtomicBool,
}

struct Story<'a> {
    place: &'a Place,
    /// Where it is, or is going to.
    thread: usize,
    /// What it has received and not sent back.
    queue: Vec<Kept>,
    id: Option<ConnectionId>,
    is_closing: bool,
}

impl Drop for Story<'_> {
    fn drop(&mut self) {
        self.place.states.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Echoes, sooner or later, and leaves received bytes lying about.
struct Wanderer {
    place: &'static Place,
    thread: usize,
    dice: Dice,
    stash: Vec<Kept>,
}

impl Wanderer {
    fn keep(&mut self, data: Received) {
        let kept = Kept::new(data);
        match self.dice.one_in(2) {
            true => self.stash.push(kept),
            false => self.place.market.lock().unwrap().push(kept),
        }
    }

    /// Sends back what was received, all of it or some.
    fn echo(&mut self, connection: &mut Connection<'_, Story<'static>>, all: bool) {
        let waiting = connection.state.queue.len();
        let count = match all {
            true => waiting,
            false => self.dice.below(waiting + 1),
        };
        let queue = connection.state.queue.drain(..count);
        for kept in queue.collect::<Vec<_>>() {
            kept.check();
            if self.dice.one_in(8) {
                self.keep(kept.0.slice(kept.0.len() / 2..));
            }
            connection.send(kept.0).expect("it is open");
        }
    }
}

impl Service for Wanderer {
    type State = Story<'static>;

    fn on_start(&mut self, cx: &mut Context<Self::State>) {
        assert_eq!((cx.thread(), cx.threads()), (self.thread, THREADS));
        cx.listen(7);
    }

    fn on_knock(&mut self, _: &mut Context<Self::State>, _: &Knock) -> Option<Self::State> {
        self.place.states.fetch_add(1, Ordering::Relaxed);
        Some(Story {
            place: self.place,
            thread: self.thread,
            queue: Vec::new(),
            id: None,
            is_closing: false,
        })
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, Self::State>) {
        assert_eq!(connection.state.thread, self.thread);
        connection.state.id = Some(connection.id());
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Self::State>, mut data: Received) {
        assert_eq!(connection.state.thread, self.thread);
        assert_eq!(connection.state.id, Some(connection.id()));
        if self.dice.one_in(4) && data.len() > 1 {
            let front = data.split_to(1 + self.dice.below(data.len() - 1));
            connection.state.queue.push(Kept::new(front));
        }
        connection.state.queue.push(Kept::new(data));
        self.echo(connection, false);
        if self.dice.one_in(1000) {
            connection.state.is_closing = true;
            connection.abort();
        }
    }

    fn on_sent(&mut self, connection: &mut Connection<'_, Self::State>, _: usize) {
        assert_eq!(connection.state.thread, self.thread);
        self.echo(connection, false);
    }

    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, Self::State>) {
        assert_eq!(connection.state.thread, self.thread);
        self.echo(connection, true);
        match self.dice.below(3) {
            // The rest follows in a later round, perhaps on another thread.
            0 => connection.shutdown(),
            _ => {
                connection.state.is_closing = true;
                connection.close();
            }
        }
    }

    fn on_migrated(
        &mut self,
        connection: &mut Connection<'_, Self::State>,
        from: usize,
        to: usize,
    ) {
        let id = connection.id();
        assert_eq!(*connection.state.id.get_or_insert(id), id);
        if self.thread == from {
            assert_eq!(connection.state.thread, from);
            connection.state.thread = to;
            self.place.moves.fetch_add(1, Ordering::Relaxed);
        } else {
            assert_eq!((connection.state.thread, self.thread), (to, to));
        }
        // What is asked for while it leaves or comes is done, too.
        self.echo(connection, self.dice.0 & 1 == 0);
    }

    fn on_close(
        &mut self,
        cx: &mut Context<Self::State>,
        id: ConnectionId,
        state: Self::State,
        reason: CloseReason,
    ) {
        // Nothing but the end is heard after a close.
        assert!(state.is_closing || state.thread == self.thread);
        assert!(state.id.is_none_or(|known| known == id));
        if reason == CloseReason::Failed(Error::BadHandle) {
            // It went elsewhere before the answer to its knock was read, and knocks there.
            return;
        }
        assert!(cx.send(id, "too late").is_err());
        self.place.closed.fetch_add(1, Ordering::Relaxed);
        let is_orderly = usize::from(reason.is_orderly());
        self.place.orderly.fetch_add(is_orderly, Ordering::Relaxed);
    }

    fn on_round(&mut self, _: &mut Context<Self::State>) {
        while !self.stash.is_empty() && self.dice.one_in(2) {
            let kept = self.stash.swap_remove(self.dice.below(self.stash.len()));
            kept.check();
        }
        while self.dice.one_in(2)
            && let Some(kept) = self.place.market.lock().unwrap().pop()
        {
            kept.check();
            if self.dice.one_in(4) {
                self.stash.push(Kept::new(kept.0.clone()));
            }
        }
    }
}

/// What the peer of a connection sends.
fn stream_byte(handle: u64, position: usize) -> u8 {
    (handle as usize * 31 + position * 7 + position / 251) as u8
}

struct Driver {
    runtime: Runtime<Wanderer, FakeKernel>,
    dice: Dice,
    place: &'static Place,
    thread: usize,
}

impl Driver {
    fn new(place: &'static Place, thread: usize, kernel: FakeKernel, seed: u64) -> Self {
        let service = Wanderer {
            place,
            thread,
            dice: Dice(seed),
            stash: Vec::new(),
        };
        Self {
            runtime: Runtime::new(service, kernel),
            dice: Dice(!seed),
            place,
            thread,
        }
    }

    fn knock(&mut self) {
        self.runtime.round();
        let kernel = self.runtime.kernel();
        kernel.segment_bytes = 700;
        kernel.receive_window = 5000;
        for _ in 0..CONNECTIONS {
            kernel.knock(7);
        }
    }

    fn round(&mut self) {
        let kernel = self.runtime.kernel();
        kernel.moves_first = self.dice.one_in(3);
        kernel.send_window = [300, 2000, 100_000][self.dice.below(3)];
        let peers: Vec<_> = kernel.peers().collect();
        for id in peers {
            self.peer_acts(id);
        }
        self.runtime.round();
        thread::yield_now();
    }

    fn peer_acts(&mut self, id: PeerId) {
        let peer = self.runtime.kernel().peer(id);
        if peer.is_over() {
            check_echo(peer.handle(), peer.received(), peer.bytes_sent());
            return peer.forget_received();
        }
        peer.ack_bytes = [100, 1000, usize::MAX][self.dice.below(3)];
        let sent = peer.bytes_sent();
        if sent < BYTES {
            let count = self.dice.below(3000).min(BYTES - sent);
            let bytes = (sent..sent + count).map(|at| stream_byte(peer.handle(), at));
            peer.send_bytes(&bytes.collect::<Vec<_>>());
        } else if !peer.has_finished() {
            peer.finish();
        } else if self.dice.one_in(2000) {
            peer.reset();
        }
        if self.dice.one_in(6) {
            let to = (self.thread + 1 + self.dice.below(THREADS - 1)) % THREADS;
            self.runtime.kernel().give(id, to);
        }
    }

    /// Rounds until a condition holds.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            self.round();
            let place = self.place;
            let closed = place.closed.load(Ordering::Relaxed);
            let busy = place.busy.load(Ordering::Relaxed);
            assert!(
                !place.has_failed.load(Ordering::Relaxed),
                "another thread failed"
            );
            assert!(
                start.elapsed() < PATIENCE,
                "thread {} waits until {what}: {closed} closed, {busy} threads busy, {} here, {:?}",
                self.thread,
                self.runtime.context().connections(),
                self.runtime.context().statistics(),
            );
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let has_failed = &self.place.has_failed;
        has_failed.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

fn check_echo(handle: u64, received: &[u8], sent: usize) {
    assert!(received.len() <= sent);
    let expected = (0..received.len()).map(|at| stream_byte(handle, at));
    assert!(received.iter().copied().eq(expected), "another echo");
}

fn wander(seed: u64) -> &'static Place {
    let place: &'static Place = Box::leak(Box::new(Place {
        market: Mutex::default(),
        states: AtomicUsize::new(0),
        closed: AtomicUsize::new(0),
        orderly: AtomicUsize::new(0),
        moves: AtomicUsize::new(0),
        busy: AtomicUsize::new(THREADS),
        has_failed: AtomicBool::new(false),
    }));
    let have_closed = Barrier::new(THREADS);
    thread::scope(|scope| {
        for (thread, kernel) in FakeKernel::crew(THREADS).into_iter().enumerate() {
            let have_closed = &have_closed;
            scope.spawn(move || {
                let seed = seed * THREADS as u64 + thread as u64;
                let mut driver = Driver::new(place, thread, kernel, seed);
                driver.knock();
                driver.until("all are closed", |_| {
                    place.closed.load(Ordering::Relaxed) == THREADS * CONNECTIONS
                });
                have_closed.wait();
                drop(mem::take(&mut *place.market.lock().unwrap()));
                drop(mem::take(&mut driver.runtime.service().stash));
                driver.until("the own connections are gone", |driver| {
                    driver.runtime.context().connections() == 0
                        && driver.runtime.kernel().open_handles() == 0
                });
                place.busy.fetch_sub(1, Ordering::Relaxed);
                // Others may tell that a connection made here is over.
                driver.until("all connections are gone", |_| {
                    place.busy.load(Ordering::Relaxed) == 0
                });
                driver.round();
                let statistics = driver.runtime.context().statistics();
                assert_eq!(statistics.moves_failed, 0);
                assert_eq!(driver.runtime.context().connections(), 0);
            });
        }
    });
    place
}

#[test]
fn nothing_is_lost_changed_or_left_wherever_connections_go() {
    let (mut moves, mut orderly) = (0, 0);
    for seed in 0..if cfg!(miri) { 1 } else { 6 } {
        println!("seed {seed}");
        let place = wander(seed);
        assert_eq!(place.states.load(Ordering::Relaxed), 0);
        moves += place.moves.load(Ordering::Relaxed);
        orderly += place.orderly.load(Ordering::Relaxed);
    }
    println!("{moves} moves, {orderly} orderly ends");
    assert!(moves > THREADS * CONNECTIONS && orderly > CONNECTIONS);
}
