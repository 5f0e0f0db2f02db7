//! ICMP echo from a raw socket: the `ping` program is not on every machine.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of an ICMP echo header (RFC 792).
const HEADER: usize = 8;

/// Sends ICMP echo requests and checks the replies.
pub struct Pinger {
    socket: Socket,
    guest: SocketAddrV4,
}

impl Pinger {
    /// Opens the socket; to be called inside the namespace.
    pub fn open(guest: Ipv4Addr, timeout: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_read_timeout(Some(timeout))?;
        Ok(Self {
            socket,
            guest: SocketAddrV4::new(guest, 0),
        })
    }

    /// Sends `payload` as request number `sequence` and waits for the same payload to come back.
    pub fn ping(&self, sequence: u16, payload: &[u8]) -> io::Result<Duration> {
        let mut request = vec![8, 0, 0, 0, 0x49, 0x58];
        request.extend(sequence.to_be_bytes());
        request.extend(payload);
        let checksum = internet_checksum(&request);
        request[2..4].copy_from_slice(&checksum.to_be_bytes());
        let start = Instant::now();
        self.socket.send_to(&request, &self.guest.into())?;
        loop {
            let mut buffer = [0; 2048];
            let len = (&self.socket).read(&mut buffer)?;
            let packet = &buffer[..len];
            let header_len = usize::from(packet[0] & 15) * 4;
            let reply = &packet[header_len..];
            if reply[0] == 0 && reply[4..HEADER] == request[4..HEADER] {
                assert_eq!(internet_checksum(reply), 0, "the reply's checksum is wrong");
                assert_eq!(&reply[HEADER..], payload, "the reply's payload differs");
                return Ok(start.elapsed());
            }
        }
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
