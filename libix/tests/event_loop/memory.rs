//! Who owns memory: that which is being sent, then that which was received.

use std::sync::Arc;

use ix_abi::{CallNumber, DeadReason};
use libix::fake::POISON;
use libix::{CloseReason, Payload, Unsent};

use crate::app::{CLOSED, Habit, assert_nothing_refused, count_of, open, pattern, start};

#[test]
fn memory_is_kept_until_it_is_acknowledged_and_no_longer() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    let shared: Arc<[u8]> = pattern(3000).into();
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.context().send(id, Arc::clone(&shared)).unwrap();
    runtime.settle();
    assert_eq!(Arc::strong_count(&shared), 2);
    runtime.kernel().peer(peer).ack_bytes = usize::MAX;
    runtime.settle();
    assert_eq!(Arc::strong_count(&shared), 1);
    assert_eq!(runtime.kernel().peer(peer).received(), &shared[..]);
}

#[test]
fn memory_is_freed_piece_by_piece_as_acknowledgements_cover_it() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    let pieces: [Arc<[u8]>; 3] = [100, 50, 200].map(|bytes| pattern(bytes).into());
    runtime.kernel().peer(peer).ack_bytes = 0;
    for piece in &pieces {
        runtime.context().send(id, Arc::clone(piece)).unwrap();
    }
    runtime.settle();
    for (ack_bytes, expected) in [
        (99, [2, 2, 2]),
        (1, [1, 2, 2]),
        (49, [1, 2, 2]),
        (2, [1, 1, 2]),
        (198, [1, 1, 2]),
        (1, [1, 1, 1]),
    ] {
        runtime.kernel().peer(peer).ack_bytes = ack_bytes;
        runtime.round();
        assert_eq!(
            [0, 1, 2].map(|index| Arc::strong_count(&pieces[index])),
            expected
        );
    }
    assert_eq!(runtime.kernel().peer(peer).received(), pieces.concat());
}

#[test]
fn memory_is_freed_when_the_peer_resets() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    let shared: Arc<[u8]> = pattern(100_000).into();
    runtime.kernel().peer(peer).ack_bytes = 0;
    for _ in 0..3 {
        runtime.context().send(id, Arc::clone(&shared)).unwrap();
    }
    runtime.settle();
    assert_eq!(Arc::strong_count(&shared), 4);
    runtime.kernel().peer(peer).reset();
    runtime.settle();
    assert_eq!(Arc::strong_count(&shared), 1);
    let reset = CloseReason::Dead(DeadReason::Reset);
    assert_eq!(runtime.service().closed, [(id, reset)]);
}

#[test]
fn every_kind_of_owner_is_sent_and_parts_of_it() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    let mut part = Payload::from(Arc::<[u8]>::from(&b"..middle.."[..]));
    part.advance(2);
    part.truncate(6);
    assert_eq!(part.as_slice(), b"middle");
    let payloads: [Payload; 6] = [
        b"array".into(),
        "text".into(),
        b"vector".to_vec().into(),
        b"box".to_vec().into_boxed_slice().into(),
        String::from("string").into(),
        part,
    ];
    for payload in payloads {
        runtime.context().send(id, payload).unwrap();
    }
    runtime.context().send(id, Vec::new()).unwrap();
    runtime.settle();
    let expected = b"arraytextvectorboxstringmiddle";
    assert_eq!(runtime.kernel().peer(peer).received(), expected);
}

#[test]
fn a_full_queue_gives_the_payload_back_and_tells_when_there_is_room() {
    let (mut runtime, peer, id) = open(Habit::Drop);
    runtime.context().set_send_limit(1000);
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.context().send(id, vec![1; 999]).unwrap();
    // The payload that crosses the limit is taken whole.
    runtime.context().send(id, vec![2; 5000]).unwrap();
    match runtime.context().send(id, vec![3; 10]) {
        Err(Unsent::WouldBlock(payload)) => assert_eq!(payload.as_slice(), [3; 10]),
        other => panic!("{other:?}"),
    }
    runtime.settle();
    assert_eq!(runtime.service().writable, 0);
    runtime.kernel().peer(peer).ack_bytes = usize::MAX;
    runtime.settle();
    assert_eq!(runtime.service().writable, 1);
    runtime.context().send(id, vec![3; 10]).unwrap();
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received().len(), 6009);
    assert_eq!(runtime.service().writable, 1);
}

#[test]
fn echo_is_whole_and_bounded_by_the_receive_window() {
    let (mut runtime, peer, _) = open(Habit::Echo);
    runtime.kernel().receive_window = 20_000;
    runtime.kernel().peer(peer).ack_bytes = 0;
    let bytes = pattern(1 << 20);
    runtime.kernel().peer(peer).send_bytes(&bytes);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 20_000);
    runtime.kernel().peer(peer).ack_bytes = usize::MAX;
    runtime.settle();
    assert!(runtime.kernel().peer(peer).received() == bytes);
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
    assert_nothing_refused(&mut runtime);
}

#[test]
fn an_echo_is_not_given_back_before_it_is_acknowledged() {
    let (mut runtime, peer, _) = open(Habit::Echo);
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.kernel().peer(peer).send_bytes(b"hello");
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 5);
    runtime.kernel().peer(peer).ack_bytes = usize::MAX;
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).received(), b"hello");
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
}

#[test]
fn bytes_dropped_out_of_order_go_back_in_order() {
    let (mut runtime, peer, _) = open(Habit::Hold);
    runtime.kernel().segment_bytes = 100;
    runtime.kernel().peer(peer).send_bytes(&pattern(300));
    runtime.settle();
    let middle = runtime.service().held.remove(1);
    drop(middle);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 300);
    let first = runtime.service().held.remove(0);
    assert_eq!(*first, pattern(300)[..100]);
    drop(first);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 100);
    assert_eq!(*runtime.service().held[0], pattern(300)[200..]);
}

#[test]
fn parts_and_clones_keep_the_whole() {
    let (mut runtime, peer, _) = open(Habit::Hold);
    runtime.kernel().peer(peer).send_bytes(b"key value\r\n");
    runtime.settle();
    let mut whole = runtime.service().held.pop().unwrap();
    let key = whole.split_to(3);
    whole.advance(1);
    let value = whole.slice(..5);
    let copy = value.clone();
    assert_eq!(*whole, *b"value\r\n");
    drop((whole, value));
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 11);
    assert_eq!((&*key, &*copy), (&b"key"[..], &b"value"[..]));
    drop(copy);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 11);
    drop(key);
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
}

#[test]
fn bytes_outlive_a_reset_connection_and_its_handle_waits_for_them() {
    let (mut runtime, peer, id) = open(Habit::Hold);
    runtime.kernel().peer(peer).send_bytes(b"precious");
    runtime.settle();
    runtime.kernel().peer(peer).reset();
    runtime.settle();
    assert_eq!(runtime.service().closed.len(), 1);
    assert_eq!(runtime.kernel().open_handles(), 1);
    assert_eq!(*runtime.service().held[0], *b"precious");
    let refused = runtime.context().send(id, "late");
    assert!(matches!(refused, Err(Unsent::Closed(_))));
    runtime.service().held.clear();
    runtime.settle();
    assert_eq!(runtime.kernel().open_handles(), 0);
    assert_eq!(runtime.context().connections(), 0);
    assert_nothing_refused(&mut runtime);
}

#[test]
fn bytes_outlive_a_close_whose_fin_is_sent_meanwhile() {
    let (mut runtime, peer, id) = open(Habit::Hold);
    runtime.kernel().peer(peer).send_bytes(b"precious");
    runtime.settle();
    runtime.context().close(id);
    runtime.settle();
    assert!(runtime.kernel().peer(peer).got_end());
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert_eq!(runtime.service().closed, [(id, CLOSED)]);
    assert_eq!(*runtime.service().held[0], *b"precious");
    assert_eq!(runtime.kernel().open_handles(), 1);
    runtime.service().held.clear();
    runtime.settle();
    assert_eq!(runtime.kernel().open_handles(), 0);
    assert_nothing_refused(&mut runtime);
}

#[test]
fn an_abort_waits_for_the_bytes_that_are_held() {
    let (mut runtime, peer, id) = open(Habit::Hold);
    runtime.kernel().peer(peer).send_bytes(b"precious");
    runtime.settle();
    runtime.context().abort(id);
    runtime.settle();
    assert!(!runtime.kernel().peer(peer).is_over());
    assert_eq!(*runtime.service().held[0], *b"precious");
    runtime.service().held.clear();
    runtime.settle();
    assert!(runtime.kernel().peer(peer).is_over());
    let aborted = CloseReason::Dead(DeadReason::Aborted);
    assert_eq!(runtime.service().closed, [(id, aborted)]);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn an_abort_waits_for_held_bytes_but_not_for_those_on_their_way_back() {
    let (mut runtime, peer, id) = open(Habit::Hold);
    runtime.kernel().segment_bytes = 4;
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.kernel().peer(peer).send_bytes(b"echoheld");
    runtime.settle();
    let echo = runtime.service().held.remove(0);
    runtime.context().send(id, echo).unwrap();
    runtime.context().abort(id);
    runtime.settle();
    assert!(!runtime.kernel().peer(peer).is_over());
    runtime.service().held.clear();
    runtime.settle();
    assert!(runtime.kernel().peer(peer).is_over());
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn bytes_sent_on_another_connection_hold_their_own() {
    let mut runtime = start(Habit::Hold);
    let from = runtime.kernel().knock(7);
    let to = runtime.kernel().knock(7);
    runtime.settle();
    let to_id = runtime.service().connected[1];
    runtime.kernel().peer(to).ack_bytes = 0;
    runtime.kernel().peer(from).send_bytes(b"forwarded");
    runtime.settle();
    let data = runtime.service().held.pop().unwrap();
    runtime.context().send(to_id, data).unwrap();
    runtime.kernel().peer(from).reset();
    runtime.settle();
    // Dead, but its bytes are still being sent.
    assert_eq!(runtime.kernel().open_handles(), 2);
    runtime.kernel().peer(to).ack_bytes = usize::MAX;
    runtime.settle();
    assert_eq!(runtime.kernel().peer(to).received(), b"forwarded");
    assert_eq!(runtime.kernel().open_handles(), 1);
    assert_nothing_refused(&mut runtime);
}

#[test]
fn an_echo_under_way_does_not_hold_up_the_close() {
    let (mut runtime, peer, id) = open(Habit::Echo);
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.kernel().peer(peer).send_bytes(&pattern(5000));
    runtime.settle();
    runtime.context().close(id);
    runtime.settle();
    assert_eq!(
        count_of(runtime.kernel().last_calls(), CallNumber::Shutdown),
        0
    );
    runtime.kernel().peer(peer).reset();
    runtime.settle();
    assert_eq!(runtime.service().closed.len(), 1);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn poison_shows_in_this_kernel_when_bytes_go_back() {
    // Guards the tests above: without it they could not fail.
    let (mut runtime, peer, _) = open(Habit::Hold);
    runtime.kernel().peer(peer).send_bytes(b"gone");
    runtime.settle();
    let address = runtime.service().held[0].as_ptr();
    runtime.service().held.clear();
    runtime.settle();
    // SAFETY: the fake kernel leaks its buffers.
    let bytes = unsafe { std::slice::from_raw_parts(address, 4) };
    assert_eq!(bytes, [POISON; 4]);
}
