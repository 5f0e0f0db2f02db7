//! `connect`: opens a connection to an echo server, sends a message, awaits it back, and closes.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use libix::{CloseReason, Connection, ConnectionId, Context, Received, Service, println};

/// Talks to the server at that address; returns the exit code.
pub fn run(address: Ipv4Addr, port: u16, message: &str) -> i32 {
    libix::run(Talk {
        server: SocketAddrV4::new(address, port),
        message: message.as_bytes().to_vec(),
        echoed: Vec::new(),
    })
}

struct Talk {
    server: SocketAddrV4,
    message: Vec<u8>,
    echoed: Vec<u8>,
}

impl Service for Talk {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.connect(self.server, ());
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
