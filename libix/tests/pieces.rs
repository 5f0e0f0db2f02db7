//! Payload that comes in several pieces in one event: whole, in order, each piece given back on its
//! own.

use libix::fake::FakeKernel;
use libix::{Connection, Context, Knock, Received, Runtime, Service};

/// Keeps what comes, and closes after so many pieces.
struct Keep {
    closes_after: usize,
    held: Vec<Received>,
}

impl Service for Keep {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(7);
    }

    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        self.held.push(data);
        if self.held.len() == self.closes_after {
            connection.close();
        }
    }
}

fn runtime(closes_after: usize) -> Runtime<Keep, FakeKernel> {
    let service = Keep {
        closes_after,
        held: Vec::new(),
    };
    let mut runtime = Runtime::new(service, FakeKernel::new());
    runtime.kernel().segment_bytes = 100;
    runtime.settle();
    runtime
}

#[test]
fn pieces_of_one_event_come_one_by_one_in_order() {
    let mut runtime = runtime(usize::MAX);
    let peers = [7, 7].map(|port| runtime.kernel().knock(port));
    runtime.settle();
    let text: Vec<u8> = (0..250).map(|byte| byte as u8).collect();
    let before = runtime.context().statistics().events;
    for peer in peers {
        runtime.kernel().peer(peer).send_bytes(&text);
    }
    runtime.settle();
    assert_eq!(runtime.context().statistics().events - before, 2);
    let held = &runtime.service().held;
    let lengths: Vec<usize> = held.iter().map(|data| data.len()).collect();
    assert_eq!(lengths, [100, 100, 50, 100, 100, 50]);
    for run in held.chunks(3) {
        let bytes: Vec<u8> = run.iter().flat_map(|data| data.to_vec()).collect();
        assert_eq!(bytes, text);
    }
    // The middle one goes back with the first one.
    drop(runtime.service().held.remove(1));
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peers[0]).owed_bytes(), 250);
    drop(runtime.service().held.remove(0));
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peers[0]).owed_bytes(), 50);
    assert_eq!(runtime.kernel().peer(peers[1]).owed_bytes(), 250);
}

#[test]
fn after_a_close_the_pieces_left_go_back_unheard() {
    let mut runtime = runtime(2);
    let peer = runtime.kernel().knock(7);
    runtime.settle();
    runtime.kernel().peer(peer).send_bytes(&[1; 500]);
    runtime.settle();
    assert_eq!(runtime.service().held.len(), 2);
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 500);
    runtime.service().held.clear();
    runtime.kernel().peer(peer).finish();
    runtime.settle();
    assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
    assert_eq!(runtime.kernel().open_handles(), 0);
}

#[test]
fn a_long_run_fills_the_array_of_pieces_and_goes_on_in_events_of_one() {
    let mut runtime = runtime(usize::MAX);
    runtime.kernel().segment_bytes = 1;
    runtime.kernel().event_batch = 4096;
    let peers: Vec<_> = (0..3).map(|_| runtime.kernel().knock(7)).collect();
    runtime.settle();
    for &peer in &peers {
        runtime.kernel().peer(peer).send_bytes(&[5; 2000]);
    }
    runtime.settle();
    assert_eq!(runtime.service().held.len(), 6000);
    runtime.service().held.clear();
    runtime.settle();
    for peer in peers {
        assert_eq!(runtime.kernel().peer(peer).owed_bytes(), 0);
    }
}
