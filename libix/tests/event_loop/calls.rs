//! The calls of a round, and when the next one is.

use std::time::Duration;

use ix_abi::area::WAKE_NS;
use ix_abi::{CALL_CAPACITY, CallNumber, Error, SCATTER_GATHER_CAPACITY, SENDV_MAX};
use libix::{CloseReason, Kernel};

use crate::app::{Habit, assert_nothing_refused, open, pattern, start};

#[test]
fn sends_of_a_round_become_one_sendv() {
    let mut runtime = start(Habit::Drop);
    runtime.service().greeting = vec![b"one ", b"two ", b"three"];
    let peer = runtime.kernel().knock(7);
    runtime.round(); // knock
    runtime.round(); // accept, connected
    runtime.round();
    assert_eq!(runtime.kernel().last_calls(), [CallNumber::Sendv]);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received(), b"one two three");
    assert_eq!(runtime.service().sent, 13);
}

#[test]
fn returns_of_a_round_become_one_recv_done() {
    let (mut runtime, peer, _) = open(Habit::Drop);
    runtime.kernel().peer(peer).send_bytes(&pattern(10_000));
    runtime.round();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 10_000);
    runtime.round();
    assert_eq!(runtime.kernel().last_calls(), [CallNumber::RecvDone]);
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
    assert!(runtime.service().bytes == pattern(10_000));
}

#[test]
fn more_pieces_than_one_sendv_takes_go_out_in_order() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    let bytes = pattern(5 * SENDV_MAX);
    for &byte in &bytes {
        runtime.context().send(id, vec![byte]).unwrap();
    }
    runtime.round();
    assert!(runtime.kernel().peer(peer).received() == &bytes[..SENDV_MAX]);
    runtime.settle();
    assert!(runtime.kernel().peer(peer).received() == bytes);
}

#[test]
fn more_knocks_than_calls_in_a_round_are_all_accepted() {
    let mut runtime = start(Habit::Echo);
    runtime.kernel().event_batch = ix_abi::EVENT_CAPACITY;
    let count = CALL_CAPACITY + 700;
    let peers: Vec<_> = (0..count).map(|_| runtime.kernel().knock(7)).collect();
    runtime.round();
    runtime.round();
    assert_eq!(runtime.kernel().last_calls().len(), CALL_CAPACITY);
    runtime.settle();
    assert_eq!(runtime.service().connected.len(), count);
    assert!(runtime.context().statistics().rounds_overflowed > 0);
    for &peer in &peers {
        runtime.kernel().peer(peer).send_bytes(b"x");
    }
    runtime.settle();
    for &peer in &peers {
        assert_eq!(runtime.kernel().peer(peer).received(), b"x");
    }
    assert_nothing_refused(&mut runtime);
}

#[test]
fn more_pieces_than_entries_in_a_round_all_go_out() {
    let mut runtime = start(Habit::Drop);
    let count = SCATTER_GATHER_CAPACITY / SENDV_MAX + 20;
    let peers: Vec<_> = (0..count).map(|_| runtime.kernel().knock(7)).collect();
    runtime.settle();
    for id in runtime.service().connected.clone() {
        for byte in 0..SENDV_MAX as u8 {
            runtime.context().send(id, vec![byte]).unwrap();
        }
    }
    runtime.settle();
    let expected: Vec<u8> = (0..SENDV_MAX as u8).collect();
    for peer in peers {
        assert_eq!(runtime.kernel().peer(peer).received(), expected);
    }
    assert!(runtime.context().statistics().rounds_overflowed > 0);
}

#[test]
fn a_small_window_gets_the_rest_later() {
    for window in [1, 999, 4096] {
        let (mut runtime, peer, id) = open(Habit::Drop);
        runtime.kernel().send_window = window;
        let bytes = pattern(10_000);
        for part in bytes.chunks(777) {
            runtime.context().send(id, part.to_vec()).unwrap();
        }
        runtime.settle();
        assert!(runtime.kernel().peer(peer).received() == bytes);
        assert_nothing_refused(&mut runtime);
    }
}

#[test]
fn what_the_kernel_had_no_room_for_is_offered_again_in_time() {
    for result in [Ok(0), Err(Error::Exhausted)] {
        let (mut runtime, peer, id) = open(Habit::Drop);
        runtime.kernel().sendv_result = Some(result);
        runtime.context().send(id, "patience").unwrap();
        for _ in 0..5 {
            runtime.round();
            runtime.round();
            // No event is going to come, so the kernel must be back by itself.
            let wake = Duration::from_nanos(runtime.kernel().area().load(WAKE_NS));
            let wait = wake - runtime.context().now();
            assert!(
                wait > Duration::ZERO && wait <= Duration::from_millis(1),
                "{wait:?}"
            );
        }
        runtime.kernel().sendv_result = None;
        runtime.settle();
        assert_eq!(runtime.kernel().peer(peer).received(), b"patience");
        assert_eq!(runtime.kernel().area().load(WAKE_NS), 0);
    }
}

#[test]
fn memory_that_cannot_be_sent_from_ends_the_connection() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    runtime.kernel().sendv_result = Some(Err(Error::BadAddress));
    runtime.context().send(id, "nowhere").unwrap();
    runtime.settle();
    assert!(runtime.kernel().peer(peer).is_over());
    let failed = CloseReason::Failed(Error::BadAddress);
    assert_eq!(runtime.service().closed, [(id, failed)]);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn the_application_is_woken_once_at_its_time() {
    let mut runtime = start(Habit::Drop);
    let now = runtime.context().now();
    runtime.context().wake_at(now + Duration::from_micros(35));
    for expected in [0, 0, 0, 1, 1] {
        runtime.round();
        assert_eq!(runtime.service().woken, expected);
    }
}
