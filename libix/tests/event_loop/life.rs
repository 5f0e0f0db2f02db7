//! How connections begin and end.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use ix_abi::Error;
use libix::{CloseReason, ConnectionId, Context, Unsent};

use crate::app::{CLOSED, Habit, assert_nothing_refused, open, pattern, start};

#[test]
fn knock_names_peers_of_both_families() {
    let mut runtime = start(Habit::Drop);
    let peers = ["10.9.0.1", "fd00:9::1"].map(|text| text.parse::<IpAddr>().unwrap());
    for peer in peers {
        runtime.kernel().peer_address = peer;
        runtime.kernel().knock(7);
    }
    runtime.settle();
    assert_eq!(runtime.service().knocked, peers);
}

#[test]
fn a_refused_knock_is_closed_and_leaves_nothing() {
    let mut runtime = start(Habit::Drop);
    runtime.service().accepts = false;
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    assert!(runtime.kernel().peer(peer).is_over());
    assert_eq!(runtime.kernel().open_handles(), 0);
    assert_eq!(runtime.context().connections(), 0);
    assert_eq!(runtime.service().closed, []);
}

#[test]
fn a_withdrawn_knock_gives_its_state_back() {
    let mut runtime = start(Habit::Drop);
    let peer = runtime.kernel().knock(7);
    runtime.kernel().withdraw(peer);
    runtime.settle();
    let closed = &runtime.service().closed;
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].1, CloseReason::Failed(Error::BadHandle));
    assert_eq!(runtime.context().connections(), 0);
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    assert!(!runtime.kernel().peer(peer).is_over());
}

#[test]
fn a_knock_that_the_kernel_cannot_accept_is_refused() {
    let mut runtime = start(Habit::Drop);
    runtime.kernel().accept_error = Some(Error::Exhausted);
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    assert!(runtime.kernel().peer(peer).is_over());
    let closed = &runtime.service().closed;
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].1, CloseReason::Failed(Error::Exhausted));
    assert_eq!(runtime.context().connections(), 0);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn a_knock_on_another_port_is_not_heard() {
    let mut runtime = start(Habit::Drop);
    let peer = runtime.kernel().knock(8);
    assert!(runtime.kernel().peer(peer).is_over());
    runtime.context().unlisten(7);
    runtime.settle();
    let peer = runtime.kernel().knock(7);
    assert!(runtime.kernel().peer(peer).is_over());
}

#[test]
fn a_port_in_use_stops_the_application() {
    let mut runtime = start(Habit::Drop);
    runtime.context().listen(7);
    assert_eq!(runtime.run(), 1);
}

const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 1), 7);

#[test]
fn connect_sends_what_was_queued_before() {
    let mut runtime = start(Habit::Drop);
    let id = runtime.context().connect(SERVER, Box::new(17));
    runtime.context().send(id, "early").unwrap();
    assert!(!runtime.context().is_open(id));
    runtime.settle();
    assert_eq!(runtime.service().connected, [id]);
    let peer = runtime.kernel().last_peer();
    assert_eq!(runtime.kernel().peer(peer).received(), b"early");
    runtime.kernel().peer(peer).send_bytes(b"reply");
    runtime.settle();
    assert_eq!(runtime.service().bytes, b"reply");
}

#[test]
fn connect_send_and_close_at_once_lose_nothing() {
    for handshake_rounds in 0..4 {
        let mut runtime = start(Habit::Drop);
        runtime.kernel().handshake_rounds = handshake_rounds;
        let id = runtime.context().connect(SERVER, Box::new(17));
        runtime.context().send(id, pattern(100_000)).unwrap();
        runtime.context().close(id);
        runtime.settle();
        let peer = runtime.kernel().last_peer();
        assert!(runtime.kernel().peer(peer).received() == pattern(100_000));
        assert!(runtime.kernel().peer(peer).got_end());
        runtime.kernel().peer(peer).finish();
        runtime.settle();
        assert_eq!(runtime.service().connected, []);
        assert_eq!(runtime.service().closed, [(id, CLOSED)]);
        assert_eq!(runtime.kernel().open_handles(), 0);
        assert_nothing_refused(&mut runtime);
    }
}

#[test]
fn a_connection_ended_before_it_was_open_ends_once() {
    type End = fn(&mut Context<Box<u32>>, ConnectionId);
    for end in [Context::abort as End, Context::close] {
        let mut runtime = start(Habit::Drop);
        runtime.kernel().handshake_rounds = 3;
        let id = runtime.context().connect(SERVER, Box::new(17));
        runtime.round();
        end(runtime.context(), id);
        runtime.settle();
        let peer = runtime.kernel().last_peer();
        if !runtime.kernel().peer(peer).is_over() {
            runtime.kernel().peer(peer).finish();
            runtime.settle();
        }
        assert_eq!(runtime.service().connected, []);
        assert_eq!(runtime.service().closed.len(), 1);
        assert_eq!(runtime.kernel().open_handles(), 0);
        assert_nothing_refused(&mut runtime);
    }
}

#[test]
fn a_connect_that_fails_gives_its_state_back_with_the_reason() {
    for error in [
        Error::Refused,
        Error::TimedOut,
        Error::NoPort,
        Error::Unreachable,
    ] {
        let mut runtime = start(Habit::Drop);
        runtime.kernel().connect_outcome = Err(error);
        let shared: Arc<[u8]> = pattern(10).into();
        let id = runtime.context().connect(SERVER, Box::new(17));
        runtime.context().send(id, Arc::clone(&shared)).unwrap();
        runtime.settle();
        assert_eq!(runtime.service().connected, []);
        assert_eq!(runtime.service().closed, [(id, CloseReason::Failed(error))]);
        assert_eq!(Arc::strong_count(&shared), 1);
        assert_eq!(runtime.context().connections(), 0);
        assert_eq!(runtime.kernel().open_handles(), 0);
    }
}

#[test]
fn close_comes_after_what_is_queued() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    runtime.kernel().send_window = 1000;
    runtime.context().send(id, pattern(50_000)).unwrap();
    runtime.context().close(id);
    let late = runtime.context().send(id, "late");
    assert!(matches!(late, Err(Unsent::Closed(_))));
    runtime.settle();
    assert!(runtime.kernel().peer(peer).got_end());
    assert!(runtime.kernel().peer(peer).received() == pattern(50_000));
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert_eq!(runtime.service().closed, [(id, CLOSED)]);
    assert_eq!(runtime.kernel().open_handles(), 0);
    assert_nothing_refused(&mut runtime);
}

#[test]
fn shutdown_leaves_the_other_direction_open() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    runtime.context().send(id, "all I have").unwrap();
    runtime.context().shutdown(id);
    runtime.settle();
    assert!(runtime.kernel().peer(peer).got_end());
    assert_eq!(runtime.kernel().peer(peer).received(), b"all I have");
    runtime.kernel().peer(peer).send_bytes(&pattern(100_000));
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert!(runtime.service().bytes == pattern(100_000));
    assert_eq!(runtime.service().closed, [(id, CLOSED)]);
    assert_eq!(runtime.kernel().open_handles(), 0);
    assert_nothing_refused(&mut runtime);
}

#[test]
fn a_peers_end_leaves_our_direction_open() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    runtime.service().closes_at_end = false;
    runtime.kernel().peer(peer).send_bytes(b"last");
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert_eq!(
        (runtime.service().ends, &runtime.service().bytes[..]),
        (1, &b"last"[..])
    );
    assert!(runtime.context().is_open(id));
    runtime.context().send(id, "answer").unwrap();
    runtime.context().close(id);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received(), b"answer");
    assert_eq!(runtime.service().closed, [(id, CLOSED)]);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn nothing_but_the_end_is_heard_after_close() {
    let (mut runtime, peer, id) = open(Habit::Hold);
    runtime.kernel().send_window = 10;
    runtime.context().send(id, pattern(100)).unwrap();
    runtime.context().close(id);
    runtime.kernel().peer(peer).send_bytes(&pattern(5000));
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    let app = runtime.service();
    assert_eq!((app.bytes.len(), app.ends, app.sent), (0, 0, 0));
    assert_eq!(app.closed, [(id, CLOSED)]);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn a_later_connection_in_the_slot_is_another_one() {
    let (mut runtime, peer, old) = open(Habit::Echo);
    runtime.kernel().peer(peer).reset();
    runtime.settle();
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    let new = runtime.service().connected[1];
    assert_ne!(old, new);
    runtime.context().abort(old);
    let refused = runtime.context().send(old, "for the old one");
    assert!(matches!(refused, Err(Unsent::Closed(_))));
    runtime.kernel().peer(peer).send_bytes(b"still here");
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received(), b"still here");
}
