//! `connect`: opens a connection to an echo server, sends a message, awaits it back, and closes. A
//! server that is not up yet is tried again for a while, and so is the network.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use libix::{CloseReason, Connection, ConnectionId, Context, Error, Received, Service, println};

/// Time between two attempts.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Attempts before the server is given up: ten seconds.
const ATTEMPTS: u32 = 100;

/// How long nothing may be reachable after the first attempt. An own IPv6 address is asked for before
/// it is used, which takes a second (RFC 4862 5.4).
pub const NETWORK_PATIENCE: Duration = Duration::from_secs(3);

/// Talks to the server at that address; returns the exit code.
pub fn run(address: IpAddr, port: u16, message: &str) -> i32 {
    libix::run(Talk::new(SocketAddr::new(address, port), message))
}

/// The service.
pub struct Talk {
    server: SocketAddr,
    message: Vec<u8>,
    echoed: Vec<u8>,
    attempts: u32,
    unreachable_since: Option<Duration>,
}

impl Talk {
    /// Talks to that server.
    pub fn new(server: SocketAddr, message: &str) -> Self {
        Self {
            server,
            message: message.as_bytes().to_vec(),
            echoed: Vec::new(),
            attempts: 0,
            unreachable_since: None,
        }
    }
}

impl Service for Talk {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        self.attempts += 1;
        cx.connect(self.server, ());
    }

    fn on_wake(&mut self, cx: &mut Context<()>) {
        self.on_start(cx);
    }

    fn on_connected(&mut self, connection: &mut Connection<'_, ()>) {
        println!("connected to {}", self.server);
        if let Err(error) = connection.send(self.message.clone()) {
            println!("probe: {error}");
            connection.abort();
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        self.echoed.extend_from_slice(&data);
        if self.echoed.len() >= self.message.len() {
            connection.close();
        }
    }

    fn on_close(&mut self, cx: &mut Context<()>, _: ConnectionId, (): (), reason: CloseReason) {
        let now = cx.now();
        let may_come_up = match reason {
            CloseReason::Failed(Error::Refused) => self.attempts < ATTEMPTS,
            CloseReason::Failed(Error::Unreachable) => {
                now - *self.unreachable_since.get_or_insert(now) < NETWORK_PATIENCE
            }
            _ => false,
        };
        if may_come_up {
            cx.wake_at(cx.now() + RETRY_INTERVAL);
            return;
        }
        let is_echo = self.echoed == self.message;
        if is_echo && reason.is_orderly() {
            println!("probe: ok");
            cx.stop(0);
        } else {
            let (echoed, sent) = (self.echoed.len(), self.message.len());
            println!("probe: {reason:?} after {echoed} of {sent} bytes, equal: {is_echo}");
            cx.stop(1);
        }
    }
}
