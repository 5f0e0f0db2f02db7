//! Moves bulk data through the whole dataplane in one process, for counting instructions:
//!
//! ```text
//! cargo build -p ix-tests --profile bare --example bulk_instructions
//! valgrind --tool=callgrind --toggle-collect='*::kernel_cycle' \
//!     target/bare/examples/bulk_instructions send|receive MIB
//! ```
//!
//! That is the kernel's side; the application's is in `Runtime::round`, less what it calls through
//! `run_io`. The program prints how many events and frames it took. The peer is smoltcp, which has no
//! timestamps and acknowledges each batch that it takes from the cable.

use std::cell::RefCell;
use std::rc::Rc;

use ix_tests::in_process::{GUEST, GUEST_MAC, Peer, World, WorldKernel};
use ix82599::wire::{Cable, Impairment};
use libix::{Connection, Context, Knock, Received, Runtime, Service};

const MIB: usize = 1 << 20;
const PEER_BUFFER: usize = 1 << 20;

/// Sends as much as it may, and drops what it gets.
struct Bulk {
    /// What one `send` names.
    payload: &'static [u8],
    left: usize,
    received: Rc<RefCell<usize>>,
}

impl Bulk {
    fn fill(&mut self, connection: &mut Connection<'_, ()>) {
        while self.left != 0 {
            let len = self.payload.len().min(self.left);
            if connection.send(&self.payload[..len]).is_err() {
                return;
            }
            self.left -= len;
        }
    }
}

impl Service for Bulk {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(7);
    }

    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, ()>) {
        self.fill(connection);
    }

    fn on_sent(&mut self, connection: &mut Connection<'_, ()>, _: usize) {
        self.fill(connection);
    }

    fn on_writable(&mut self, connection: &mut Connection<'_, ()>) {
        self.fill(connection);
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: Received) {
        *self.received.borrow_mut() += data.len();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: bulk_instructions send|receive MIB";
    let [direction, mebibytes] = &arguments[..] else {
        panic!("{usage}");
    };
    let bytes = mebibytes.parse::<usize>().expect(usage) * MIB;
    let is_sending = direction == "send";
    let (near, far) = Cable::pair(4096);
    let net = ix_net::Config {
        mac: GUEST_MAC,
        ipv4: GUEST.into(),
        mbufs: 4096,
        mbufs_held: 3072,
        ..Default::default()
    };
    let world = World::new(near, Impairment::default(), net);
    let world = Rc::new(RefCell::new(world));
    let received = Rc::new(RefCell::new(0));
    let service = Bulk {
        payload: world.borrow().payload(),
        left: if is_sending { bytes } else { 0 },
        received: received.clone(),
    };
    let mut runtime = Runtime::new(service, WorldKernel(world.clone()));
    let mut peer = Peer::new(far);
    runtime.round();
    let handle = peer.connect(7, PEER_BUFFER);
    let mut buffer = vec![0; 64 << 10];
    let (mut moved, mut queued) = (0, 0);
    while moved < bytes {
        runtime.round();
        peer.poll(world.borrow().now_ns());
        let socket = peer.socket(handle);
        if is_sending {
            while let Ok(count @ 1..) = socket.recv_slice(&mut buffer) {
                moved += count;
            }
        } else {
            while queued < bytes
                && let Ok(count @ 1..) =
                    socket.send_slice(&buffer[..buffer.len().min(bytes - queued)])
            {
                queued += count;
            }
            moved = *received.borrow();
        }
    }
    let statistics = world.borrow_mut().statistics();
    let counters = world.borrow().counters();
    println!(
        "{bytes} bytes, {} events, {} frames in, {} frames out, {} segments out",
        statistics.thread.events,
        statistics.thread.frames,
        statistics.nic.tx_frames,
        counters.tcp_out_segments,
    );
}
