//! Clients that die in mid-transfer: they send, read nothing, and reset the connection.

use std::time::{Duration, Instant};

use mio::Events;
use socket2::SockRef;

use crate::connections::{Connections, SCRATCH_BYTES};
use crate::error::LoadError;
use crate::options;
use crate::report::KillReport;

/// Carries out `ixload kill`.
pub fn run(options: &options::Kill) -> Result<KillReport, LoadError> {
    let mut bytes_sent = 0;
    for number in 0..options.connections.get() {
        bytes_sent += kill_one(options, number)?;
    }
    Ok(KillReport {
        server: options.target.connect,
        connections: options.connections.get(),
        bytes_sent,
    })
}

/// A sender that gets nothing out for so long has filled both windows.
const STALLED_AFTER: Duration = Duration::from_millis(200);

/// One connection from its opening to its reset. Returns the bytes that went out.
fn kill_one(options: &options::Kill, number: u64) -> Result<u64, LoadError> {
    let mut connections = Connections::open(&options.target, number, 1)?;
    let mut scratch = vec![0; SCRATCH_BYTES];
    let mut events = Events::with_capacity(4);
    let goal = options.after.get();
    loop {
        let connection = &mut connections.all[0];
        connection.send_up_to(goal, &mut scratch)?;
        let is_stalled = connection.moved.elapsed() >= STALLED_AFTER;
        // One byte that came back shows that the server is at it; the rest stays unread.
        if (connection.sent >= goal || is_stalled) && connection.received == 0 {
            connection.receive(goal, &mut scratch[..1])?;
        }
        if connection.received > 0 {
            break;
        }
        connection.check_silence(Instant::now(), options.target.timeout)?;
        connections.wait(&mut events)?;
    }
    let connection = &connections.all[0];
    // Closing with a linger time of zero resets (tcp(7), SO_LINGER).
    SockRef::from(&connection.stream)
        .set_linger(Some(Duration::ZERO))
        .map_err(|error| connection.broken(error))?;
    Ok(connection.sent)
}
