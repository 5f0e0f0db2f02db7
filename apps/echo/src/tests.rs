//! The echo service against a kernel in the same process.

use libix::Runtime;
use libix::fake::{FakeKernel, PeerId};

use super::Echo;

type Loop = Runtime<Echo, FakeKernel>;

fn open() -> (Loop, PeerId) {
    let mut runtime = Runtime::new(Echo { port: 7 }, FakeKernel::new());
    runtime.settle();
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    (runtime, peer)
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count)
        .map(|index| (index * 7 + index / 251) as u8)
        .collect()
}

#[test]
fn eight_mebibytes_come_back_through_small_windows() {
    let (mut runtime, peer) = open();
    runtime.kernel().receive_window = 30_000;
    runtime.kernel().send_window = 20_000;
    let bytes = pattern(8 << 20);
    runtime.kernel().peer(peer).send_bytes(&bytes);
    runtime.settle();
    assert!(runtime.kernel().peer(peer).received() == bytes);
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
}

#[test]
fn a_peer_that_does_not_read_is_held_up_and_costs_no_more_than_its_window() {
    let (mut runtime, peer) = open();
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.kernel().peer(peer).send_bytes(&pattern(1 << 20));
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 64 << 10);
}

#[test]
fn a_half_closed_peer_gets_the_rest_and_then_the_end() {
    let (mut runtime, peer) = open();
    runtime.kernel().send_window = 1000;
    let bytes = pattern(100_000);
    runtime.kernel().peer(peer).send_bytes(&bytes);
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert!(runtime.kernel().peer(peer).received() == bytes);
    assert!(runtime.kernel().peer(peer).is_over());
    assert!(!runtime.kernel().peer(peer).was_reset());
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn a_reset_in_mid_transfer_leaves_nothing() {
    let (mut runtime, peer) = open();
    runtime.kernel().peer(peer).ack_bytes = 0;
    runtime.kernel().peer(peer).send_bytes(&pattern(1 << 20));
    runtime.settle();
    runtime.kernel().peer(peer).reset();
    runtime.settle();
    assert_eq!(runtime.kernel().open_handles(), 0);
    assert_eq!(runtime.context().connections(), 0);
}

#[test]
fn datagrams_come_back_to_their_sender_and_their_buffers_to_the_kernel() {
    let (mut runtime, _) = open();
    let payloads = [pattern(1472), Vec::new(), pattern(1)];
    for payload in &payloads {
        assert!(runtime.kernel().datagram(7, payload));
    }
    runtime.settle();
    let sent = runtime.kernel().sent_datagrams();
    assert!(sent.iter().map(|datagram| &datagram.payload).eq(&payloads));
    for datagram in sent {
        assert_eq!(datagram.local_port, 7);
        assert_eq!(datagram.peer.to_string(), "10.9.0.1:40000");
    }
    assert_eq!(runtime.kernel().held_datagrams(), 0);
}

#[test]
fn arguments_are_checked() {
    for arguments in [&["0"][..], &["65536"], &["seven"], &["7", "8"]] {
        assert_eq!(super::start(arguments), libix::EXIT_USAGE, "{arguments:?}");
    }
}
