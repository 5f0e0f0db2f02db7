//! Datagrams of the event loop against the fake kernel.

use std::net::SocketAddr;
use std::time::Duration;

use ix_abi::Error;
use libix::fake::FakeKernel;
use libix::{Connection, Context, Datagram, Received, Runtime, Service};

const PORT: u16 = 53;

/// Keeps what arrives, and what came of its binding.
#[derive(Default)]
struct App {
    kept: Vec<Datagram>,
    bound: Option<Result<(), Error>>,
}

impl Service for App {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.udp_bind(PORT);
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, _: Received) {}

    fn on_udp_bind(&mut self, _: &mut Context<()>, port: u16, outcome: Result<(), Error>) {
        assert_eq!(port, PORT);
        self.bound = Some(outcome);
    }

    fn on_datagram(&mut self, _: &mut Context<()>, datagram: Datagram) {
        self.kept.push(datagram);
    }
}

fn open() -> Runtime<App, FakeKernel> {
    let mut runtime = Runtime::new(App::default(), FakeKernel::new());
    runtime.settle();
    assert_eq!(runtime.service().bound, Some(Ok(())));
    runtime
}

fn peer() -> SocketAddr {
    "10.9.0.1:4000".parse().unwrap()
}

fn lost(runtime: &mut Runtime<App, FakeKernel>) -> u64 {
    runtime.context().statistics().datagrams_lost
}

#[test]
fn received_datagrams_are_held_until_the_last_part_is_dropped() {
    let mut runtime = open();
    assert!(runtime.kernel().datagram(PORT, b"first"));
    assert!(runtime.kernel().datagram(PORT, b"second"));
    assert!(!runtime.kernel().datagram(PORT + 1, b"nobody's"));
    runtime.settle();
    let second = runtime.service().kept.pop().unwrap();
    let mut first = runtime.service().kept.pop().unwrap();
    assert_eq!(
        (&first.data[..], &second.data[..]),
        (&b"first"[..], &b"second"[..])
    );
    assert_eq!(
        (first.peer.to_string().as_str(), first.local_port),
        ("10.9.0.1:40000", PORT)
    );
    let part = first.data.split_to(2);
    drop((first, second));
    runtime.settle();
    assert_eq!(
        (&part[..], runtime.kernel().held_datagrams()),
        (&b"fi"[..], 1)
    );
    drop(part);
    runtime.settle();
    assert_eq!(runtime.kernel().held_datagrams(), 0);
}

#[test]
fn payloads_stay_until_the_datagram_has_left() {
    let mut runtime = open();
    for round in 0..100u8 {
        runtime
            .context()
            .send_datagram(PORT, peer(), vec![round; 1000]);
        runtime.context().send_datagram(PORT, peer(), "");
        runtime.round();
    }
    runtime.settle();
    let sent = runtime.kernel().sent_datagrams();
    assert_eq!(sent.len(), 200);
    for (round, pair) in sent.chunks(2).enumerate() {
        assert!(pair[0].payload == [round as u8; 1000] && pair[1].payload.is_empty());
        assert_eq!(pair[0].peer, peer());
    }
    assert_eq!(lost(&mut runtime), 0);
}

#[test]
fn a_datagram_over_ipv6_is_answered_to_its_sender() {
    let mut runtime = open();
    let peer: SocketAddr = "[fd00:9::1]:40000".parse().unwrap();
    runtime.kernel().peer_address = peer.ip();
    assert!(runtime.kernel().datagram(PORT, b"question"));
    runtime.settle();
    let question = runtime.service().kept.pop().unwrap();
    assert_eq!(question.peer, peer);
    runtime
        .context()
        .send_datagram(PORT, question.peer, "answer");
    runtime.settle();
    let sent = runtime.kernel().sent_datagrams();
    assert_eq!((sent[0].peer, &*sent[0].payload), (peer, &b"answer"[..]));
}

#[test]
fn what_the_kernel_has_no_room_for_is_offered_again_and_given_up_in_the_end() {
    let mut runtime = open();
    runtime.kernel().udp_send_error = Some(Error::TryAgain);
    runtime.context().send_datagram(PORT, peer(), "patient");
    for _ in 0..10 {
        runtime.round();
    }
    runtime.kernel().udp_send_error = None;
    runtime.settle();
    assert_eq!(runtime.kernel().sent_datagrams()[0].payload, b"patient");

    runtime.kernel().udp_send_error = Some(Error::TryAgain);
    runtime.kernel().round_ns = 10_000_000;
    runtime.context().send_datagram(PORT, peer(), "hopeless");
    let start = runtime.context().now();
    while lost(&mut runtime) == 0 {
        runtime.round();
    }
    let patience = runtime.context().now() - start;
    assert!((Duration::from_secs(1)..Duration::from_millis(1_100)).contains(&patience));
    assert_eq!(runtime.kernel().sent_datagrams().len(), 1);
}

#[test]
fn what_can_never_be_sent_is_lost_at_once() {
    let mut runtime = open();
    runtime
        .context()
        .send_datagram(PORT + 1, peer(), "from nowhere");
    runtime.settle();
    assert_eq!(lost(&mut runtime), 1);
}

#[test]
fn more_datagrams_than_the_arrays_hold_go_out_in_several_rounds() {
    let mut runtime = open();
    for _ in 0..3000 {
        runtime.context().send_datagram(PORT, peer(), "x");
    }
    runtime.settle();
    assert_eq!(runtime.kernel().sent_datagrams().len(), 3000);
    for _ in 0..5000 {
        runtime.context().send_datagram(PORT, peer(), "x");
    }
    assert_eq!(lost(&mut runtime), 5000 - 4096);
}
