//! What the peer has not acknowledged yet, as Linux tells it in `/proc/net/tcp`.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Bytes in the send queue of the connection with these end points, FIN included; 0 if the
/// connection no longer exists.
pub(crate) fn bytes(local: SocketAddr, remote: SocketAddr) -> io::Result<u64> {
    // Of the thread, which may be in another network namespace than the process's first one.
    let table = fs::read_to_string(match local {
        SocketAddr::V4(_) => "/proc/thread-self/net/tcp",
        SocketAddr::V6(_) => "/proc/thread-self/net/tcp6",
    })?;
    Ok(find(&table, &hex(local), &hex(remote)).unwrap_or(0))
}

/// An end point as the table has it: the address in words of the processor's byte order.
fn hex(address: SocketAddr) -> String {
    let words: String = match address.ip() {
        IpAddr::V4(ip) => word(ip.octets()),
        IpAddr::V6(ip) => ip
            .octets()
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(word)
            .collect(),
    };
    format!("{words}:{:04X}", address.port())
}

fn word(octets: [u8; 4]) -> String {
    format!("{:08X}", u32::from_ne_bytes(octets))
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
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_send_queue_is_found_by_the_end_points() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
                     0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000\n\
                     1: 0100007F:1F90 0100007F:C000 01 0000002A:00000001 01:00000014\n";
        assert_eq!(find(table, "0100007F:1F90", "0100007F:C000"), Some(42));
        assert_eq!(find(table, "0100007F:1F90", "0100007F:C001"), None);
    }

    #[test]
    fn what_a_peer_has_not_read_is_not_acknowledged_in_both_families() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).expect("a loopback address");
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (local, remote) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            assert_eq!(bytes(local, remote).unwrap(), 0);
            stream.set_nonblocking(true).unwrap();
            while (&stream).write(&[7; 65_536]).is_ok() {}
            assert!(bytes(local, remote).unwrap() > 0, "{listen}");
        }
    }
}
