//! Congestion control: how the congestion window grows, and what loss does to it.

use crate::config::CongestionControl;
use crate::tcp::connection::Connection;

impl CongestionControl {
    /// New data was acknowledged while no loss is known. `flight` is what was in flight before.
    #[inline]
    pub(crate) fn acknowledged(self, connection: &mut Connection, acked: u32, flight: u32) {
        // A window that was not used says nothing about the path: it does not grow (RFC 7661).
        if flight * 2 <= connection.cwnd {
            return;
        }
        match self {
            Self::NewReno => new_reno_acknowledged(connection, acked, flight),
        }
    }

    /// Loss was found by duplicate acknowledgements: what `ssthresh` becomes (RFC 5681 3.2).
    pub(crate) fn after_loss(self, connection: &Connection) -> u32 {
        let mss = u32::from(connection.mss);
        match self {
            Self::NewReno => (connection.in_flight() / 2).max(2 * mss),
        }
    }
}

/// Cold, as [`Connection::release_acknowledged`]'s detour is: most windows are not used up.
#[cold]
fn new_reno_acknowledged(connection: &mut Connection, acked: u32, flight: u32) {
    let mss = u32::from(connection.mss);
    if connection.cwnd < connection.ssthresh {
        // Slow start counts all bytes acknowledged (RFC 3465 with no limit L, as RFC 9438 does):
        // a peer that works in batches acknowledges a whole batch at once.
        connection.cwnd = (connection.cwnd + acked).min(1 << 30);
        return;
    }
    if flight + mss <= connection.cwnd {
        return;
    }
    connection.cwnd_credit += acked;
    if connection.cwnd_credit >= connection.cwnd {
        connection.cwnd_credit -= connection.cwnd;
        connection.cwnd = (connection.cwnd + mss).min(1 << 30);
    }
}
