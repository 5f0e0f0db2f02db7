//! A flood of SYNs from addresses that do not exist, from a raw socket that writes the IP header
//! itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Addresses for benchmarks (RFC 2544): 2^17 of them, which the dataplane reaches by its gateway.
const SPOOFED: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const SPOOFED_BITS: u32 = 17;
const IPV4: usize = 20;
const TCP: usize = 20;

/// Sends SYNs to one port, each from an address and port of its own.
pub struct SynFlood {
    socket: Socket,
    guest: Ipv4Addr,
    port: u16,
    sent: u32,
}

impl SynFlood {
    /// Opens the socket; to be called inside the namespace.
    pub fn open(guest: Ipv4Addr, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        socket.set_header_included_v4(true)?;
        Ok(Self {
            socket,
            guest,
            port,
            sent: 0,
        })
    }

    /// Sends the next SYN, unless the wire has no room for it; returns whether it was sent.
    pub fn send(&mut self) -> io::Result<bool> {
        let packet = self.packet();
        let to = SocketAddr::from((self.guest, 0)).into();
        match self.socket.send_to(&packet, &to) {
            Ok(_) => self.sent += 1,
            Err(error) if error.raw_os_error() == Some(NO_BUFFERS) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// How many have been sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// The next SYN. Linux fills in the IP header's length and checksum.
    fn packet(&self) -> [u8; IPV4 + TCP] {
        // An odd factor visits every address once before the first comes again.
        let index = self.sent.wrapping_mul(0x9e37_79b1);
        let source = SPOOFED | index >> (32 - SPOOFED_BITS);
        let source_port = 1024 + (index & 0x7fff) as u16;
        let mut packet = [0; IPV4 + TCP];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&source.to_be_bytes());
        packet[16..20].copy_from_slice(&self.guest.octets());
        packet[20..22].copy_from_slice(&source_port.to_be_bytes());
        packet[22..24].copy_from_slice(&self.port.to_be_bytes());
        packet[24..28].copy_from_slice(&index.to_be_bytes());
        packet[32] = 5 << 4;
        packet[33] = SYN;
        packet[34..36].copy_from_slice(&0xffff_u16.to_be_bytes());
        // Pseudo-header (RFC 9293 3.1): both addresses, the protocol and the length.
        let pseudo = words(&packet[12..20]) + 6 + TCP as u32;
        let checksum = !fold(pseudo + words(&packet[20..]));
        packet[36..38].copy_from_slice(&checksum.to_be_bytes());
        packet
    }
}

const SYN: u8 = 2;
/// `ENOBUFS`: the interface's queue is full.
const NO_BUFFERS: i32 = 105;

fn words(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<2>();
    words
        .iter()
        .map(|&word| u32::from(u16::from_be_bytes(word)))
        .sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}
