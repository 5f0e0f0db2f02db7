//! `half-close`: an echo server that sends FIN after so many bytes on each connection, and goes on
//! receiving until the peer's FIN. Then it says how many bytes came.

use libix::{CloseReason, Connection, ConnectionId, Context, Knock, Received, Service, println};

/// Serves on that port; returns the exit code.
pub fn run(port: u16, echo_bytes: usize) -> i32 {
    libix::run(HalfClose { port, echo_bytes })
}

/// The service.
pub struct HalfClose {
    /// Port that it serves.
    pub port: u16,
    /// Bytes echoed on each connection.
    pub echo_bytes: usize,
}

/// What a connection has received.
#[derive(Default)]
pub struct Count {
    received: usize,
}

impl Service for HalfClose {
    type State = Count;

    fn on_start(&mut self, cx: &mut Context<Count>) {
        cx.listen(self.port);
    }

    fn on_knock(&mut self, _: &mut Context<Count>, _: &Knock) -> Option<Count> {
        Some(Count::default())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, Count>, mut data: Received) {
        let before = connection.state.received;
        connection.state.received += data.len();
        if before >= self.echo_bytes {
            return;
        }
        data.truncate(self.echo_bytes - before);
        if connection.send(data).is_err() {
            connection.abort();
        }
        if connection.state.received >= self.echo_bytes {
            connection.shutdown();
        }
    }

    fn on_close(
        &mut self,
        _: &mut Context<Count>,
        _: ConnectionId,
        count: Count,
        reason: CloseReason,
    ) {
        println!("probe: half-close received {} {reason:?}", count.received);
    }
}
