//! Echo server (RFC 862) for TCP and UDP: every byte goes back to its sender, out of the buffer that
//! the NIC wrote it to.
//!
//! Arguments: the port, 7 unless given.

#![cfg_attr(bare, no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(test)]
mod tests;

use libix::{Connection, Context, Datagram, EXIT_USAGE, Knock, Received, Service, println};

/// The service; connections need no state.
struct Echo {
    port: u16,
}

impl Service for Echo {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(self.port);
        cx.udp_bind(self.port);
        println!("echo on port {}", self.port);
    }

    fn on_knock(&mut self, _cx: &mut Context<()>, _knock: &Knock) -> Option<()> {
        Some(())
    }

    /// The buffer returns to the kernel when the peer has acknowledged the echo; so a peer that
    /// does not read fills its own window and stops, and nothing piles up here.
    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        if connection.send(data).is_err() {
            connection.abort();
        }
    }

    /// The peer has sent everything: close, which happens after the last echo.
    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, ()>) {
        connection.close();
    }

    /// Datagrams between echo services would go on for ever, so those from our port are dropped.
    fn on_datagram(&mut self, cx: &mut Context<()>, datagram: Datagram) {
        if datagram.peer.port() != self.port {
            cx.send_datagram(datagram.local_port, datagram.peer, datagram.data);
        }
    }
}

fn start(arguments: &[&str]) -> i32 {
    let port = match arguments {
        [] => Some(7),
        [port] => port.parse().ok().filter(|&port| port != 0),
        _ => None,
    };
    let Some(port) = port else {
        println!("usage: echo [PORT], with a port between 1 and 65535");
        return EXIT_USAGE;
    };
    libix::run(Echo { port })
}

libix::main!(start);
