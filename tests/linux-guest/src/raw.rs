//! Frames as they stand, sent from the host's end of the wire: such as no IP socket would send.

use std::io;
use std::mem::size_of;

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

const AF_PACKET: u16 = 17;

/// A link-layer address (packet(7)); only the interface counts for sending.
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
        let index = name_to_index(&socket, interface)?;
        let to = address(i32::try_from(index).map_err(io::Error::other)?);
        Ok(Self { socket, to })
    }

    /// Sends one frame, without FCS.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_to(frame, &self.to).map(drop)
    }
}

fn address(interface: i32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    let length = size_of::<SockaddrLl>();
    // SAFETY: `SockaddrLl` has integer fields only, any bytes of the zeroed storage are valid for
    // it, and the storage is larger and aligned for every kind of address.
    let link = unsafe { storage.view_as::<SockaddrLl>() };
    link.family = AF_PACKET;
    link.interface = interface;
    // SAFETY: the storage holds an address of the family that it names, and `length` is its size.
    unsafe { SockAddr::new(storage, length as _) }
}
