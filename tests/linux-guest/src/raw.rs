//! Frames as they stand, at the host's end of the wire: such as no IP socket would send or show.

use std::io::{self, Read};
use std::mem::size_of;
use std::time::Duration;

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

const AF_PACKET: u16 = 17;
/// Longer than any frame of the tests.
const MAX_FRAME_BYTES: usize = 16 << 10;

/// A link-layer address (packet(7)); only the interface counts for sending, and for receiving the
/// protocol too.
#[repr(C)]
#[derive(Clone, Copy)]
struct SockaddrLl {
    family: u16,
    protocol: u16,
    interface: i32,
    hardware_type: u16,
    packet_type: u8,
    address_length: u8,
    address: [u8; 8],
}

/// Sends frames through one interface.
#[derive(Debug)]
pub struct RawSender {
    socket: Socket,
    to: SockAddr,
}

impl RawSender {
    /// For `interface`; to be called in its namespace.
    pub fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0: nothing is received.
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
        let to = address(&socket, interface, 0)?;
        Ok(Self { socket, to })
    }

    /// Sends one frame, without FCS.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &self.to).map(drop)
    }
}

/// Receives the frames of one EtherType that come in through one interface.
#[derive(Debug)]
pub struct RawReceiver {
    socket: Socket,
}

impl RawReceiver {
    /// For `interface`; to be called in its namespace. A frame is waited for `patience` long.
    pub fn open(interface: &str, ethertype: u16, patience: Duration) -> io::Result<Self> {
        // A protocol other than "all" leaves out what goes out through the interface.
        let protocol = Protocol::from(i32::from(ethertype.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        socket.bind(&address(&socket, interface, ethertype)?)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self { socket })
    }

    /// The next frame, without FCS.
    pub fn receive(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0; MAX_FRAME_BYTES];
        let length = (&self.socket).read(&mut frame)?;
        frame.truncate(length);
        Ok(frame)
    }
}

fn address(socket: &Socket, interface: &str, ethertype: u16) -> io::Result<SockAddr> {
    let interface = name_to_index(socket, interface)?;
    let mut storage = SockAddrStorage::zeroed();
    let length = size_of::<SockaddrLl>();
    // SAFETY: `SockaddrLl` has integer fields only, any bytes of the zeroed storage are valid for
    // it, and the storage is larger and aligned for every kind of address.
    let link = unsafe { storage.view_as::<SockaddrLl>() };
    link.family = AF_PACKET;
    link.protocol = ethertype.to_be();
    link.interface = i32::try_from(interface).map_err(io::Error::other)?;
    // SAFETY: the storage holds an address of the family that it names, and `length` is its size.
    Ok(unsafe { SockAddr::new(storage, length as _) })
}
