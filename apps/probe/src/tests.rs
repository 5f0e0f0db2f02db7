//! The services among the probes, against a kernel in the same process.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use libix::fake::FakeKernel;
use libix::{Error, Runtime};

use crate::crowd::Crowd;
use crate::half_close::HalfClose;
use crate::talk::{NETWORK_PATIENCE, Talk};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1)), 7);

/// A talk whose connection is open and whose message has arrived.
fn talk() -> Runtime<Talk, FakeKernel> {
    let mut runtime = Runtime::new(Talk::new(SERVER, "hello"), FakeKernel::new());
    runtime.settle();
    let peer = runtime.kernel().last_peer();
    assert_eq!(runtime.kernel().peer(peer).received(), b"hello");
    runtime
}

#[test]
fn a_talk_succeeds_with_the_echo_and_an_orderly_end() {
    let mut runtime = talk();
    let peer = runtime.kernel().last_peer();
    runtime.kernel().peer(peer).send_bytes(b"hello");
    runtime.settle();
    assert!(runtime.kernel().peer(peer).got_end());
    runtime.kernel().peer(peer).finish();
    assert_eq!(runtime.run(), 0);
}

#[test]
fn a_talk_fails_with_another_answer_or_a_reset() {
    let mut runtime = talk();
    let peer = runtime.kernel().last_peer();
    runtime.kernel().peer(peer).send_bytes(b"hullo");
    runtime.kernel().peer(peer).finish();
    assert_eq!(runtime.run(), 1);

    let mut runtime = talk();
    let peer = runtime.kernel().last_peer();
    runtime.kernel().peer(peer).reset();
    assert_eq!(runtime.run(), 1);
}

#[test]
fn a_talk_waits_for_its_server() {
    let mut kernel = FakeKernel::new();
    kernel.connect_outcome = Err(Error::Refused);
    kernel.round_ns = 60_000_000;
    let mut runtime = Runtime::new(Talk::new(SERVER, "hello"), kernel);
    for _ in 0..20 {
        runtime.round();
    }
    runtime.kernel().connect_outcome = Ok(());
    for _ in 0..6 {
        runtime.round();
    }
    let peer = runtime.kernel().last_peer();
    assert_eq!(runtime.kernel().peer(peer).received(), b"hello");
}

#[test]
fn a_talk_waits_for_the_network_but_not_for_ever() {
    let mut kernel = FakeKernel::new();
    kernel.connect_outcome = Err(Error::Unreachable);
    kernel.round_ns = 60_000_000;
    let mut runtime = Runtime::new(Talk::new(SERVER, "hello"), kernel);
    for _ in 0..20 {
        runtime.round();
    }
    assert!(runtime.context().connections() <= 1);
    assert_eq!(runtime.run(), 1);
    assert!(runtime.context().now() < 2 * NETWORK_PATIENCE);
}

#[test]
fn half_close_echoes_so_much_and_receives_the_rest() {
    let service = HalfClose {
        port: 7,
        echo_bytes: 1000,
    };
    let mut runtime = Runtime::new(service, FakeKernel::new());
    runtime.settle();
    let peer = runtime.kernel().knock(7);
    runtime.kernel().peer(peer).send_bytes(&[5; 100_000]);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received(), [5; 1000]);
    assert!(runtime.kernel().peer(peer).got_end());
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert!(runtime.kernel().peer(peer).is_over());
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn a_crowd_echoes_until_it_is_told_to_quit() {
    let mut runtime = Runtime::new(Crowd { port: 9 }, FakeKernel::new());
    runtime.round();
    let peer = runtime.kernel().knock(9);
    runtime.settle();
    runtime.kernel().peer(peer).send_bytes(b"quid");
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received(), b"quid");
    runtime.kernel().peer(peer).send_bytes(b"quit");
    assert_eq!(runtime.run(), 0);
}
