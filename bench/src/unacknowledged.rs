//! What the peer has not acknowledged yet, as Linux tells it in `/proc/net/tcp`.

use std::fs;
use std::io;
use std::net::SocketAddr;

/// Bytes in the send queue of the connection with these end points, FIN included; 0 if the
/// connection no longer exists.
pub(crate) fn bytes(local: SocketAddr, remote: SocketAddr) -> io::Result<u64> {
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else {
        return Err(io::Error::other("only IPv4 is looked up"));
    };
    let hex = |address: std::net::SocketAddrV4| {
        let octets = u32::from_ne_bytes(address.ip().octets());
        format!("{octets:08X}:{:04X}", address.port())
    };
    // Of the thread, which may be in another network namespace than the process's first one.
    let table = fs::read_to_string("/proc/thread-self/net/tcp")?;
    Ok(find(&table, &hex(local), &hex(remote)).unwrap_or(0))
}

/// A line is `slot: local remote state tx_queue:rx_queue ...`, in hexadecimal.
fn find(table: &str, local: &str, remote: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next()? == local && fields.next()? == remote;
        let queues = fields.nth(1)?;
        let (transmit, _) = queues.split_once(':')?;
        is_it.then(|| u64::from_str_radix(transmit, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_queue_is_found_by_the_end_points() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
                     0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000\n\
                     1: 0100007F:1F90 0100007F:C000 01 0000002A:00000001 01:00000014\n";
        assert_eq!(find(table, "0100007F:1F90", "0100007F:C000"), Some(42));
        assert_eq!(find(table, "0100007F:1F90", "0100007F:C001"), None);
    }
}
