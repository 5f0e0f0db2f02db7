//! ICMP echo from a raw socket: the `ping` program is not on every machine.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of an echo header (RFC 792, RFC 4443 4.1).
const HEADER: usize = 8;
/// Longest IP packet.
const PACKET: usize = 65_535;

/// Sends ICMP echo requests and checks the replies.
pub struct Pinger {
    socket: Socket,
    guest: SocketAddr,
    timeout: Duration,
}

impl Pinger {
    /// Opens the socket; to be called inside the namespace.
    pub fn open(guest: impl Into<IpAddr>, timeout: Duration) -> io::Result<Self> {
        Self::open_at(SocketAddr::new(guest.into(), 0), timeout)
    }

    /// The same for an address that needs an interface to be one.
    pub fn open_at(guest: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let protocol = match guest {
            SocketAddr::V4(_) => Protocol::ICMPV4,
            SocketAddr::V6(_) => Protocol::ICMPV6,
        };
        let socket = Socket::new(Domain::for_address(guest), Type::RAW, Some(protocol))?;
        socket.set_read_timeout(Some(timeout))?;
        Ok(Self {
            socket,
            guest,
            timeout,
        })
    }

    /// Sends `payload` as request number `sequence` and waits for the same payload to come back.
    pub fn ping(&self, sequence: u16, payload: &[u8]) -> io::Result<Duration> {
        let (request_type, reply_type) = if self.guest.is_ipv4() {
            (8, 0)
        } else {
            (128, 129)
        };
        let mut request = vec![request_type, 0, 0, 0, 0x49, 0x58];
        request.extend(sequence.to_be_bytes());
        request.extend(payload);
        if self.guest.is_ipv4() {
            // Over IPv6 Linux computes it itself (RFC 3542 3.1).
            let checksum = internet_checksum(&request);
            request[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        let start = Instant::now();
        self.socket.send_to(&request, &self.guest.into())?;
        let mut buffer = vec![0; PACKET];
        // Other messages may keep coming, which the socket's own timeout does not notice.
        while start.elapsed() < self.timeout {
            let len = (&self.socket).read(&mut buffer)?;
            let reply = self.message(&buffer[..len]);
            if reply[0] == reply_type && reply[4..HEADER] == request[4..HEADER] {
                assert_eq!(&reply[HEADER..], payload, "the reply's payload differs");
                return Ok(start.elapsed());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// The ICMP message in what the socket gives: over IPv4 a packet, whose message is to be
    /// checked; over IPv6 a message that Linux has checked.
    fn message<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        if self.guest.is_ipv6() {
            return bytes;
        }
        let message = &bytes[usize::from(bytes[0] & 15) * 4..];
        assert_eq!(internet_checksum(message), 0, "a checksum is wrong");
        message
    }
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
