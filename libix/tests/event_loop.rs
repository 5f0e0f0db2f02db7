//! The event loop against the fake kernel: calls of a round, ownership of memory, ends of
//! connections. (Named `situation_what follows`.)

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use ix_abi::area::WAKE_NS;
use ix_abi::{CALL_CAPACITY, CallNumber, DeadReason, Error, SCATTER_GATHER_CAPACITY, SENDV_MAX};
use libix::fake::{FakeKernel, POISON, PeerId};
use libix::{
    CloseReason, Connection, ConnectionId, Context, Kernel, Knock, Payload, Received, Runtime,
    Service, Unsent,
};

/// What the application does with data.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    Drop,
    Echo,
    Hold,
}

/// An application whose habits the test sets, and that remembers what happened.
struct App {
    habit: Habit,
    accepts: bool,
    closes_at_end: bool,
    /// Sent on each connection as soon as it is open.
    greeting: Vec<&'static [u8]>,
    held: Vec<Received>,
    bytes: Vec<u8>,
    knocked: Vec<IpAddr>,
    connected: Vec<ConnectionId>,
    closed: Vec<(ConnectionId, CloseReason)>,
    ends: usize,
    sent: usize,
    writable: usize,
    woken: usize,
}

impl App {
    fn new(habit: Habit) -> Self {
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

type Loop = Runtime<App, FakeKernel>;

fn start(habit: Habit) -> Loop {
    let mut runtime = Runtime::new(App::new(habit), FakeKernel::new());
    runtime.settle();
    runtime
}

/// A loop with one open connection.
fn open(habit: Habit) -> (Loop, PeerId, ConnectionId) {
    let mut runtime = start(habit);
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    let id = *runtime.service().connected.last().expect("it is accepted");
    (runtime, peer, id)
}

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

fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

fn count_of(calls: &[CallNumber], number: CallNumber) -> usize {
    calls.iter().filter(|&&call| call == number).count()
}

fn assert_nothing_refused(runtime: &mut Loop) {
    assert_eq!(runtime.kernel().refused_calls(), []);
}

const CLOSED: CloseReason = CloseReason::Dead(DeadReason::Closed);

// Calls of a round.

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

// Memory that is being sent.

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

// Memory that was received.

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

// Ends.

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

// Beginnings.

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

// Time.

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
