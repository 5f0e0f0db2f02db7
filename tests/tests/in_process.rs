//! The whole dataplane in one process against smoltcp: see `ix_tests::in_process`.

use std::cell::RefCell;
use std::rc::Rc;

use ix_tests::in_process::{GUEST, GUEST_MAC, Peer, World, WorldKernel};
use ix_tests::pattern;
use ix82599::wire::{Cable, Impairment};
use libix::{Connection, Context, Datagram, Knock, Received, Runtime, Service};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

/// Between two ticks that attend to the network while the application is absent.
const TICK_NS: u64 = 1_000_000;
/// Simulated time after which a test gives up.
const LIMIT_NS: u64 = 120_000_000_000;

/// Echoes without copying, as `apps/echo` does.
struct Echo;

impl Service for Echo {
    type State = ();
    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(7);
        cx.udp_bind(7);
    }
    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }
    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        connection
            .send(data)
            .expect("the receive window bounds what is pending");
    }
    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, ()>) {
        connection.close();
    }
    fn on_datagram(&mut self, cx: &mut Context<()>, datagram: Datagram) {
        cx.send_datagram(datagram.local_port, datagram.peer, datagram.data);
    }
}

struct Lab {
    world: Rc<RefCell<World>>,
    runtime: Runtime<Echo, WorldKernel>,
    peer: Peer,
}

impl Lab {
    fn new(impairment: Impairment) -> Self {
        Self::with_peer(impairment, Peer::new)
    }

    fn with_peer(impairment: Impairment, peer: impl FnOnce(Cable) -> Peer) -> Self {
        let (near, far) = Cable::pair(4096);
        let net = ix_net::Config {
            mac: GUEST_MAC,
            ipv4: GUEST.into(),
            mbufs: 4096,
            mbufs_held: 3072,
            ..Default::default()
        };
        let world = Rc::new(RefCell::new(World::new(near, impairment, net)));
        let runtime = Runtime::new(Echo, WorldKernel(Rc::clone(&world)));
        Self {
            world,
            runtime,
            peer: peer(far),
        }
    }

    fn step(&mut self) {
        self.runtime.round();
        let now_ns = self.world.borrow().now_ns();
        assert!(
            now_ns < LIMIT_NS,
            "stuck: {:#?}",
            self.world.borrow().counters()
        );
        self.peer.poll(now_ns);
    }

    /// Steps until `done`, letting idle time pass faster than busy time.
    fn until(&mut self, mut done: impl FnMut(&mut Peer) -> bool) {
        while !done(&mut self.peer) {
            self.step();
        }
    }

    /// The application stays away for so many ticks, then ends its round. Says what `look` sees in the
    /// last moment.
    fn absent_for<T>(&mut self, ticks: u32, look: impl FnOnce(&mut Self) -> T) -> T {
        self.world.borrow_mut().begin_absence();
        self.attend(ticks);
        let seen = look(self);
        self.world.borrow_mut().end_absence();
        self.step();
        seen
    }

    /// The kernel attends to the network alone.
    fn attend(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.world.borrow_mut().attend(TICK_NS);
            let now_ns = self.world.borrow().now_ns();
            self.peer.poll(now_ns);
        }
    }

    /// All buffers are back and no connection is left, once TIME_WAIT and timers are through.
    fn assert_clean(&mut self) {
        for _ in 0..20_000 {
            self.step();
        }
        let mut world = self.world.borrow_mut();
        assert_eq!(world.statistics().connections, 0, "{:#?}", world.counters());
        assert_eq!(
            world.mbufs_held(),
            0,
            "buffers leaked: {:#?}",
            world.counters()
        );
    }

    /// Sends `bytes` and reads their echo, then closes from the peer's side.
    fn echo_and_close(&mut self, socket: SocketHandle, bytes: &[u8]) {
        self.finish_echo(socket, bytes, 0);
    }

    /// The same when the first `sent` bytes are sent already.
    fn finish_echo(&mut self, socket: SocketHandle, bytes: &[u8], mut sent: usize) {
        let mut echo = Vec::new();
        self.until(|peer| {
            let socket = peer.socket(socket);
            if socket.can_send() && sent < bytes.len() {
                sent += socket.send_slice(&bytes[sent..]).expect("an open socket");
            }
            while socket.can_recv() {
                socket
                    .recv(|data| {
                        echo.extend_from_slice(data);
                        (data.len(), ())
                    })
                    .expect("an open socket");
            }
            echo.len() >= bytes.len()
        });
        assert!(echo == bytes, "the stream came back changed");
        self.peer.socket(socket).close();
        self.until(|peer| matches!(peer.socket(socket).state(), State::Closed | State::TimeWait));
    }
}

#[test]
fn a_megabyte_comes_back_and_nothing_is_left_behind() {
    let mut lab = Lab::new(Impairment::default());
    let socket = lab.peer.connect(7, 65_535);
    lab.echo_and_close(socket, &pattern(1, 1 << 20));
    lab.assert_clean();
    let counters = lab.world.borrow().counters();
    assert_eq!(
        counters.tcp_retransmits, 0,
        "a good wire needs none: {counters:#?}"
    );
}

#[test]
fn a_hundred_connections_keep_their_bytes_apart() {
    let mut lab = Lab::new(Impairment::default());
    let sockets: Vec<_> = (0..100).map(|_| lab.peer.connect(7, 4096)).collect();
    for round in 0..10 {
        for (index, &socket) in sockets.iter().enumerate() {
            lab.until(|peer| peer.socket(socket).may_send());
            let message = pattern(round << 8 | index as u64, 64);
            lab.peer
                .socket(socket)
                .send_slice(&message)
                .expect("an open socket");
        }
        for (index, &socket) in sockets.iter().enumerate() {
            lab.until(|peer| peer.socket(socket).recv_queue() >= 64);
            let mut reply = [0; 64];
            lab.peer
                .socket(socket)
                .recv_slice(&mut reply)
                .expect("an open socket");
            assert!(
                reply[..] == pattern(round << 8 | index as u64, 64),
                "connection {index}"
            );
        }
    }
    for &socket in &sockets {
        lab.peer.socket(socket).close();
    }
    lab.assert_clean();
}

#[test]
fn a_bad_wire_does_not_show_in_the_stream() {
    for seed in 1..=8 {
        let mut lab = Lab::new(Impairment {
            loss: 0.02,
            reorder: 0.02,
            duplicate: 0.02,
            seed,
            ..Impairment::default()
        });
        let socket = lab.peer.connect(7, 65_535);
        lab.echo_and_close(socket, &pattern(seed, 200_000));
        lab.assert_clean();
    }
}

#[test]
fn a_peer_that_resets_leaves_nothing_behind() {
    let mut lab = Lab::new(Impairment::default());
    for round in 0..20 {
        let socket = lab.peer.connect(7, 8192);
        lab.until(|peer| peer.socket(socket).may_send());
        lab.peer
            .socket(socket)
            .send_slice(&pattern(round, 8192))
            .expect("an open socket");
        for _ in 0..round {
            lab.step();
        }
        lab.peer.socket(socket).abort();
        lab.until(|peer| peer.socket(socket).state() == State::Closed);
    }
    lab.assert_clean();
}

#[test]
fn datagrams_of_every_length_come_back_and_no_buffer_is_left_behind() {
    let mut lab = Lab::new(Impairment::default());
    let socket = lab.peer.udp(4000);
    for len in [0, 1, 17, 18, 19, 64, 1000, 1471, 1472] {
        let payload = pattern(len as u64, len);
        lab.peer.send_datagram(socket, 7, &payload);
        let mut echo = None;
        lab.until(|peer| {
            echo = peer.receive_datagram(socket);
            echo.is_some()
        });
        assert!(echo == Some((7, payload)), "{len} bytes");
    }
    lab.assert_clean();
    let counters = lab.world.borrow().counters();
    assert_eq!(
        (counters.udp_in_datagrams, counters.udp_out_datagrams),
        (9, 9)
    );
    assert_eq!(lab.runtime.context().statistics().datagrams_lost, 0);
}

#[test]
fn a_burst_of_datagrams_comes_back_in_order_beside_a_stream() {
    let mut lab = Lab::new(Impairment::default());
    let socket = lab.peer.udp(4000);
    let stream = lab.peer.connect(7, 65_535);
    lab.echo_and_close(stream, &pattern(1, 100_000));
    for burst in 0..20u64 {
        for index in 0..40 {
            lab.peer
                .send_datagram(socket, 7, &pattern(burst << 8 | index, 500));
        }
        let mut index = 0;
        lab.until(|peer| {
            while let Some((_, payload)) = peer.receive_datagram(socket) {
                assert!(
                    payload == pattern(burst << 8 | index, 500),
                    "{burst}/{index}"
                );
                index += 1;
            }
            index == 40
        });
    }
    lab.assert_clean();
}

#[test]
fn datagrams_to_a_port_that_nobody_bound_are_answered_with_an_error() {
    let mut lab = Lab::new(Impairment::default());
    let socket = lab.peer.udp(4000);
    lab.peer.send_datagram(socket, 8, b"anybody?");
    let world = Rc::clone(&lab.world);
    lab.until(|_| world.borrow().counters().icmp_out_unreachables == 1);
    assert_eq!(lab.world.borrow().counters().udp_no_ports, 1);
    lab.assert_clean();
}

#[test]
fn datagrams_in_fragments_come_back_whole() {
    let mut lab = Lab::with_peer(Impairment::default(), |cable| Peer::with_frames(cable, 614));
    let socket = lab.peer.udp(4000);
    for len in [573, 1000, 1400] {
        let payload = pattern(len as u64, len);
        lab.peer.send_datagram(socket, 7, &payload);
        let mut echo = None;
        lab.until(|peer| {
            echo = peer.receive_datagram(socket);
            echo.is_some()
        });
        assert!(echo == Some((7, payload)), "{len} bytes");
    }
    lab.assert_clean();
    assert_eq!(lab.world.borrow().counters().ip_reassembled, 3);
}

#[test]
fn the_network_is_answered_while_the_application_is_absent() {
    let mut lab = Lab::new(Impairment::default());
    let socket = lab.peer.connect(7, 65_535);
    lab.until(|peer| peer.socket(socket).may_send());
    let message = pattern(9, 30_000);
    let accepted = lab.peer.socket(socket).send_slice(&message);
    assert_eq!(accepted, Ok(message.len()));
    let unbound = lab.peer.udp(4000);
    lab.peer.send_datagram(unbound, 8, b"anybody?");
    let rounds = lab.world.borrow_mut().statistics().thread.rounds;
    lab.absent_for(200, |lab| {
        let statistics = lab.world.borrow_mut().statistics();
        let counts = (statistics.thread.rounds, statistics.thread.overstays);
        assert_eq!(counts, (rounds, 1));
        // All of it is acknowledged, and the datagram was answered by ICMP.
        assert_eq!(lab.peer.socket(socket).send_queue(), 0);
        assert_eq!(lab.world.borrow().counters().icmp_out_unreachables, 1);
        assert_eq!(lab.peer.socket(socket).recv_queue(), 0, "nobody echoes");
    });
    let mut echo = vec![0; message.len()];
    lab.until(|peer| peer.socket(socket).recv_queue() == message.len());
    assert_eq!(
        lab.peer.socket(socket).recv_slice(&mut echo),
        Ok(message.len())
    );
    assert!(echo == message, "the stream came back changed");
    lab.peer.socket(socket).close();
    lab.assert_clean();
}

#[test]
fn a_peer_of_an_absent_application_finds_the_window_closed_and_then_open_again() {
    let mut lab = Lab::new(Impairment::default());
    let socket = lab.peer.connect(7, 1 << 20);
    lab.until(|peer| peer.socket(socket).may_send());
    let message = pattern(5, 1 << 20);
    let accepted = lab.peer.socket(socket).send_slice(&message);
    assert_eq!(accepted, Ok(message.len()));
    lab.absent_for(2_000, |lab| {
        let queued = lab.peer.socket(socket).send_queue();
        assert!(queued > 0, "more was taken than there is a window for");
        lab.attend(2_000);
        let still_queued = lab.peer.socket(socket).send_queue();
        assert_eq!(still_queued, queued, "the window is closed");
    });
    lab.finish_echo(socket, &message, message.len());
    lab.assert_clean();
}

#[test]
fn absences_at_any_moment_do_not_show_in_the_stream() {
    for seed in 1..=8 {
        // A reset that is lost would leave a connection behind.
        let is_bad = seed % 2 == 0;
        let rate = if is_bad { 0.02 } else { 0.0 };
        let mut lab = Lab::new(Impairment {
            loss: rate,
            reorder: rate,
            duplicate: rate,
            seed,
            ..Impairment::default()
        });
        let mut steps = 0u64;
        for round in 0..12 {
            let socket = lab.peer.connect(7, 8192);
            let bytes = pattern(seed << 8 | round, 5_000);
            let (mut sent, mut echo) = (0, Vec::new());
            while echo.len() < bytes.len() {
                steps += 1;
                if (steps * (2 * seed + 1)).is_multiple_of(13) {
                    lab.absent_for((steps % 31) as u32, |_| ());
                }
                lab.step();
                let socket = lab.peer.socket(socket);
                if socket.can_send() && sent < bytes.len() {
                    sent += socket.send_slice(&bytes[sent..]).expect("an open socket");
                }
                let read = |data: &mut [u8]| {
                    echo.extend_from_slice(data);
                    (data.len(), ())
                };
                if socket.can_recv() {
                    socket.recv(read).expect("an open socket");
                }
            }
            assert!(echo == bytes, "the stream came back changed");
            match round % 3 {
                0 if !is_bad => lab.peer.socket(socket).abort(),
                _ => lab.peer.socket(socket).close(),
            }
            lab.step();
            lab.absent_for(round as u32, |_| ());
        }
        lab.assert_clean();
    }
}
