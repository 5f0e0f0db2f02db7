//! Several elastic threads in one process, with libix's event loop, the cycle, the engine and the driver
//! on each, against smoltcp: flow groups move, and threads park and run, while connections exchange
//! verified data. See `ix_tests::in_process`.

use ix_abi::Error;
use ix_abi::control::ThreadState;
use ix_core::Command;
use ix_tests::in_process::{Controls, CrewWorld, GUEST, GUEST_MAC, Peer, Seen};
use ix_tests::pattern;
use ix82599::wire::Cable;
use libix::{Connection, Context, Knock, Received, Service};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

/// Simulated time after which a test gives up.
const LIMIT_NS: u64 = 120_000_000_000;
/// Connections, and exchanges on each.
const CONNECTIONS: usize = 32;
const EXCHANGES: u64 = 40;
/// Rounds at the end, in which buffers go home.
const SETTLE_ROUNDS: u32 = 2_000;

/// Echoes without copying, and counts what has come from other threads in each connection's state.
struct Echo {
    thread: usize,
}

struct Story {
    thread: usize,
}

impl Service for Echo {
    type State = Story;

    fn on_start(&mut self, cx: &mut Context<Story>) {
        assert_eq!(cx.thread(), self.thread);
        cx.listen(7);
    }

    fn on_knock(&mut self, _: &mut Context<Story>, _: &Knock) -> Option<Story> {
        Some(Story {
            thread: self.thread,
        })
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Story>, data: Received) {
        assert_eq!(
            connection.state.thread, self.thread,
            "it is where it is served"
        );
        connection
            .send(data)
            .expect("the receive window bounds what is pending");
    }

    fn on_migrated(&mut self, connection: &mut Connection<'_, Story>, from: usize, to: usize) {
        if self.thread == from {
            assert_eq!(connection.state.thread, from);
            connection.state.thread = to;
        } else {
            assert_eq!((connection.state.thread, self.thread), (to, to));
        }
    }
}

/// One connection of the peer: it sends a message, waits for its echo, and closes after the last one.
struct Talk {
    socket: SocketHandle,
    number: u64,
    exchange: u64,
    sent: usize,
    echo: Vec<u8>,
}

impl Talk {
    fn message(&self) -> Vec<u8> {
        let seed = self.exchange << 16 | self.number;
        pattern(
            seed,
            1 + (seed.wrapping_mul(2_654_435_761) >> 7) as usize % 3_000,
        )
    }

    /// Goes on as far as it can; true once it is closed.
    fn go_on(&mut self, peer: &mut Peer) -> bool {
        let socket = peer.socket(self.socket);
        if self.exchange == EXCHANGES {
            return matches!(socket.state(), State::Closed | State::TimeWait);
        }
        let message = self.message();
        if socket.can_send() && self.sent < message.len() {
            let rest = &message[self.sent..];
            self.sent += socket.send_slice(rest).expect("an open socket");
        }
        while socket.can_recv() {
            let took = socket.recv(|data| {
                self.echo.extend_from_slice(data);
                (data.len(), ())
            });
            took.expect("an open socket");
        }
        if self.echo.len() >= message.len() {
            assert!(
                self.echo == message,
                "connection {} got other bytes",
                self.number
            );
            self.echo.clear();
            (self.sent, self.exchange) = (0, self.exchange + 1);
            if self.exchange == EXCHANGES {
                socket.close();
            }
        }
        false
    }
}

/// Commands at random.
struct Commands {
    dice: u64,
    threads: usize,
    gives: u64,
    parks: u64,
}

impl Commands {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn below(&mut self, bound: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    fn go_on(&mut self, controls: &Controls, may_begin: bool) {
        for thread in 0..self.threads {
            match controls.take_outcome(thread) {
                Some((Command::Give { .. }, Ok(()))) => self.gives += 1,
                Some((Command::Park { .. }, Ok(()))) => self.parks += 1,
                // The other one has parked in the meantime, or there is something left.
                None
                | Some((Command::Run, Ok(())))
                | Some((Command::Give { .. }, Err(Error::BadState | Error::Exhausted)))
                | Some((Command::Park { .. }, Err(Error::TryAgain | Error::BadState))) => {}
                Some((command, Err(error))) => panic!("{command:?} was refused: {error:?}"),
            }
        }
        if may_begin && self.threads > 1 && self.below(8) == 0 {
            self.begin(controls);
        }
    }

    fn begin(&mut self, controls: &Controls) {
        let (from, to) = (self.below(self.threads), self.below(self.threads));
        if from == to || controls.is_busy(from) || controls.is_busy(to) {
            return;
        }
        let groups = controls.groups(from);
        let command = match (controls.state(from), controls.state(to)) {
            (ThreadState::Parked, _) => Command::Run,
            (_, ThreadState::Parked) => return,
            // Thread 0 serves always.
            _ if groups == 0 && from == 0 => return,
            _ if groups == 0 => Command::Park { to: to as u32 },
            _ if self.below(3) == 0 => Command::Give {
                groups,
                to: to as u32,
            },
            _ => {
                let words = [(); 2].map(|()| self.below(usize::MAX) as u128);
                let some = groups & (words[0] << 64 | words[1]);
                Command::Give {
                    groups: if some == 0 { groups } else { some },
                    to: to as u32,
                }
            }
        };
        controls.command(from, command);
    }
}

/// Exchanges everything while flow groups move; returns what the threads have come to, and the commands.
fn exchange(threads: usize, seed: u64) -> (Vec<Seen>, Commands) {
    let (near, far) = Cable::pair(4096);
    let net = ix_net::Config {
        mac: GUEST_MAC,
        ipv4: GUEST.into(),
        connections: 128,
        half_open: 128,
        ..Default::default()
    };
    let world = CrewWorld::new(near, threads, &net);
    let mut peer = Peer::new(far);
    let mut commands = Commands {
        dice: seed,
        threads,
        gives: 0,
        parks: 0,
    };
    let mut talks: Vec<Talk> = Vec::new();
    let mut settled = 0;
    let seen = world.run(
        |thread| Echo { thread },
        |controls, now_ns| {
            assert!(now_ns < LIMIT_NS, "stuck with {} connections", talks.len());
            // All threads listen once each has had a few rounds.
            if talks.is_empty() && settled == 0 && now_ns > 1_000_000 {
                talks.extend((0..CONNECTIONS as u64).map(|number| Talk {
                    socket: peer.connect(7, 8_192),
                    number,
                    exchange: 0,
                    sent: 0,
                    echo: Vec::new(),
                }));
            }
            peer.poll(now_ns);
            let had_some = !talks.is_empty();
            talks.retain_mut(|talk| !talk.go_on(&mut peer));
            commands.go_on(controls, !talks.is_empty());
            settled += u32::from(settled > 0 || had_some && talks.is_empty());
            let is_idle = (0..threads).all(|thread| !controls.is_busy(thread));
            settled > SETTLE_ROUNDS && is_idle
        },
    );
    (seen, commands)
}

fn is_clean(seen: &[Seen]) {
    for (thread, seen) in seen.iter().enumerate() {
        let expected = Seen {
            connections: 0,
            mbufs_held: 0,
            moved_in: seen.moved_in,
            retransmits: 0,
            resets: 0,
        };
        assert_eq!(*seen, expected, "thread {thread}");
    }
}

#[test]
fn one_thread_serves_all() {
    let (seen, _) = exchange(1, 1);
    is_clean(&seen);
}

#[test]
fn two_threads_hand_connections_to_and_fro() {
    let (seen, commands) = exchange(2, 2);
    is_clean(&seen);
    let moved: u64 = seen.iter().map(|seen| seen.moved_in).sum();
    assert!(
        commands.gives > 5 && moved > 20,
        "{} {moved}",
        commands.gives
    );
}

#[test]
fn four_threads_move_park_and_run_under_load() {
    let (mut gives, mut parks, mut moved) = (0, 0, 0);
    for seed in 3..6 {
        let (seen, commands) = exchange(4, seed);
        is_clean(&seen);
        gives += commands.gives;
        parks += commands.parks;
        moved += seen.iter().map(|seen| seen.moved_in).sum::<u64>();
    }
    assert!(
        gives > 20 && parks > 0 && moved > 60,
        "{gives} {parks} {moved}"
    );
}
