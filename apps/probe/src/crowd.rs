//! What takes more than one elastic thread: servers on all of them, connections opened by all of
//! them, and a fault on one.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;

use libix::{
    CloseReason, Connection, ConnectionId, Context, Error, Knock, Received, Service, println,
};

use crate::misdeeds;
use crate::talk::{NETWORK_PATIENCE, RETRY_INTERVAL};

/// Connections that each thread opens.
const CALLS: usize = 8;

/// Sent by a client, this ends the application.
const QUIT: &[u8] = b"quit";

/// Threads that are done, of all.
static DONE: AtomicUsize = AtomicUsize::new(0);

/// An echo server on every thread.
pub struct Crowd {
    /// Port that all serve.
    pub port: u16,
}

impl Service for Crowd {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(self.port);
        println!("probe: thread {} of {} starts", cx.thread(), cx.threads());
    }

    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        if *data == *QUIT {
            connection.context().stop(0);
        } else if connection.send(data).is_err() {
            connection.abort();
        }
    }
}

/// Connections from every thread to an echo server; the thread that is the last to be done ends
/// the application.
pub struct Callers {
    server: SocketAddr,
    message: Vec<u8>,
    done: usize,
    /// Connections to try again.
    unreachable: usize,
    unreachable_since: Option<Duration>,
}

impl Callers {
    /// Connections to that server, which is to echo that message.
    pub fn new(server: SocketAddr, message: &str) -> Self {
        Self {
            server,
            message: message.into(),
            done: 0,
            unreachable: 0,
            unreachable_since: None,
        }
    }
}

impl Service for Callers {
    /// What was echoed.
    type State = Vec<u8>;

    fn on_start(&mut self, cx: &mut Context<Vec<u8>>) {
        for _ in 0..CALLS {
            cx.connect(self.server, Vec::new());
        }
    }

    fn on_wake(&mut self, cx: &mut Context<Vec<u8>>) {
        for _ in 0..core::mem::take(&mut self.unreachable) {
            cx.connect(self.server, Vec::new());
        }
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, Vec<u8>>) {
        if connection.send(self.message.clone()).is_err() {
            connection.abort();
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Vec<u8>>, data: Received) {
        connection.state.extend_from_slice(&data);
        if connection.state.len() >= self.message.len() {
            connection.close();
        }
    }

    fn on_close(
        &mut self,
        cx: &mut Context<Vec<u8>>,
        _: ConnectionId,
        echoed: Vec<u8>,
        reason: CloseReason,
    ) {
        let now = cx.now();
        if reason == CloseReason::Failed(Error::Unreachable)
            && now - *self.unreachable_since.get_or_insert(now) < NETWORK_PATIENCE
        {
            self.unreachable += 1;
            cx.wake_at(now + RETRY_INTERVAL);
            return;
        }
        if echoed != self.message || !reason.is_orderly() {
            println!("probe: {reason:?} after {} bytes", echoed.len());
            cx.stop(1);
            return;
        }
        self.done += 1;
        if self.done < CALLS {
            return;
        }
        println!("probe: thread {} is done", cx.thread());
        if DONE.fetch_add(1, Ordering::Relaxed) + 1 == cx.threads() {
            println!("probe: ok");
            cx.stop(0);
        }
    }
}

/// A fault on one thread, while the others wait for the network.
pub struct FaultOn {
    /// The thread.
    pub thread: usize,
}

impl Service for FaultOn {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        if cx.thread() == self.thread {
            cx.stop(misdeeds::fault());
        }
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, _: Received) {}
}
